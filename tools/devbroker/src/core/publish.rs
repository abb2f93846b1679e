//! Messages come in: checked, routed, put into queues, returned, confirmed.
//! <https://www.rabbitmq.com/docs/publishers>

use std::{collections::BTreeSet, sync::Arc};

use amq_protocol::{
    protocol::{BasicProperties, basic},
    types::FieldTable,
};

use super::{
    At, Core, Extra, Out, Publication, QueueId,
    arguments::Kind,
    exchange::ALTERNATE,
    message::{Entry, Message},
    method::Say as _,
    record::{Place, Record},
    refusal::Refusal,
    value::{Name, text_of},
};

impl Core {
    pub(super) fn publish(&mut self, at: At, publication: Publication) -> Result<(), Refusal> {
        if self.channel(at)?.closing {
            return Ok(());
        }
        let Publication { method, properties, body } = publication;
        let exchange = self.name_at(at, method.exchange.as_str());
        if !self.exchanges.contains_key(&exchange) {
            return Err(Refusal::no_exchange(&exchange));
        }
        self.check_publication(at, &method, &properties)?;
        let (exchange, vhost) = (method.exchange, exchange.vhost);
        let routing_key = method.routing_key;
        let mut message = Message { exchange, routing_key, properties, body, dead_lettered: false };
        self.set_reply_address(at, &mut message)?;
        let message = Arc::new(message);
        let queues = self.route(&vhost, &message);
        self.reply(&message);
        if queues.is_empty() && method.mandatory {
            // The return goes out before the confirm, and nothing of this channel between them.
            self.flush_confirms(at);
            let back = basic::Return {
                reply_code: 312,
                reply_text: "NO_ROUTE".into(),
                exchange: message.exchange.clone(),
                routing_key: message.routing_key.clone(),
            };
            let back = Out::Content(at.channel, back.class(), Arc::clone(&message), Extra::None);
            self.send(at.connection, back);
        }
        let accepted = self.put_into(&queues, &message, 0);
        self.confirm(at, accepted)
    }

    fn check_publication(
        &self,
        at: At,
        method: &basic::Publish,
        properties: &BasicProperties,
    ) -> Result<(), Refusal> {
        let has = |name| properties.headers().as_ref().is_some_and(|headers| headers.contains_key(name));
        for (name, is_used) in [
            ("immediate=true", method.immediate),
            ("a message's expiration", properties.expiration().is_some()),
            ("the header CC", has("CC")),
            ("the header BCC", has("BCC")),
        ] {
            if is_used {
                return Err(Refusal::not_implemented(name));
            }
        }
        let user = properties.user_id().as_ref().map(|user| user.as_str());
        let login = &self.connections[&at.connection].peer.user;
        match user {
            Some(user) if user != login => Err(Refusal::precondition(format!(
                "user_id property set to '{user}' but authenticated user was '{login}'"
            ))),
            _ => Ok(()),
        }
    }

    /// The queues that a message reaches from its exchange; if there are none, the alternate exchange is asked.
    pub(super) fn route(&self, vhost: &Arc<str>, message: &Message) -> BTreeSet<QueueId> {
        let none = FieldTable::default();
        let (key, headers) = (message.routing_key.as_str(), message.properties.headers());
        let headers = headers.as_ref().unwrap_or(&none);
        let named = |name: &str| Name { vhost: Arc::clone(vhost), name: name.to_owned() };
        let (mut next, mut asked) = (named(message.exchange.as_str()), BTreeSet::new());
        while !asked.contains(&next)
            && let Some(exchange) = self.exchanges.get(&next)
        {
            let queues: BTreeSet<QueueId> = match next.name.as_str() {
                "" => self.queue_ids.get(&named(key)).copied().into_iter().collect(),
                _ => {
                    exchange.matches(key, headers).filter_map(|to| self.queue_ids.get(to)).copied().collect()
                }
            };
            let alternate = text_of(&exchange.arguments, ALTERNATE);
            match alternate {
                Some(alternate) if queues.is_empty() => {
                    asked.insert(std::mem::replace(&mut next, named(&alternate)));
                }
                _ => return queues,
            }
        }
        BTreeSet::new()
    }

    /// Puts a message into queues; `false` if one of them would not have it. `count` is what quorum queues go on
    /// counting from.
    pub(super) fn put_into(
        &mut self,
        queues: &BTreeSet<QueueId>,
        message: &Arc<Message>,
        count: u32,
    ) -> bool {
        let mut places = vec![];
        let mut accepted = true;
        for id in queues {
            let Some(queue) = self.queues.get_mut(id) else { continue };
            if queue.is_full() {
                accepted = false;
                continue;
            }
            self.dirty.insert(*id);
            if queue.kind() == Kind::Stream {
                let offset = queue.stream.append(Arc::clone(message));
                places.push(Place { queue: *id, place: offset, expires_at: None, returned: None });
                continue;
            }
            let is_quorum = queue.kind() == Kind::Quorum;
            let delivery_count = if is_quorum { count } else { 0 };
            let entry = Entry {
                priority: queue.priority_of(message),
                expires_at: queue.settings.message_ttl.map(|ttl| self.now.saturating_add(ttl)),
                redelivered: delivery_count > 0,
                delivery_count,
                persisted: is_quorum || queue.is_persisted() && message.is_persistent(),
                ..Entry::new(queue.take_place(), message)
            };
            if entry.persisted {
                places.push(Place::of(*id, &entry));
            }
            queue.put(entry);
        }
        if !places.is_empty() {
            self.log(Record::Message { places, message: Arc::clone(message) });
        }
        accepted
    }
}
