//! A message comes in: checked, routed, put into queues, returned or confirmed.
//! <https://www.rabbitmq.com/docs/publishers>

use std::{collections::BTreeSet, sync::Arc};

use amq_protocol::{
    protocol::{AMQPClass, basic},
    types::{AMQPValue, FieldTable, ShortString},
};

use super::{
    ConnectionId, Core, Extra, Out, Publication, QueueId,
    arguments::{Kind, MOST_MILLIS, Overflow},
    exchange::Destination,
    message::{Entry, Message, short, text, type_name},
    record::Record,
    refusal::Refusal,
};

impl Core {
    pub(super) fn publish(
        &mut self,
        id: ConnectionId,
        channel: u16,
        publication: Publication,
    ) -> Result<(), Refusal> {
        let Publication { method, properties, body } = publication;
        if method.immediate {
            return Err(Refusal::not_implemented("immediate=true"));
        }
        let vhost = self.vhost_of(id);
        self.check_publication(id, &vhost, &method, &properties)?;
        let mut message = Message {
            exchange: method.exchange,
            keys: vec![method.routing_key],
            properties,
            body,
            dead_lettered: false,
        };
        self.set_reply_address(id, channel, &mut message)?;
        let blind_copies = take_copies(&mut message)?;
        let seq = {
            let channel = self.channel(id, channel)?;
            channel.published += u64::from(channel.confirms);
            channel.confirms.then_some(channel.published)
        };
        let mut queues = BTreeSet::new();
        for key in message.keys.iter().chain(&blind_copies) {
            self.route(&vhost, message.exchange.as_str(), key.as_str(), &message.headers(), &mut queues);
        }
        let message = Arc::new(message);
        if message.exchange.as_str().is_empty() {
            self.reply(&message);
        }
        let mut accepted = true;
        if queues.is_empty() && method.mandatory {
            // The return goes out before the confirm, and nothing of this channel between them.
            self.flush_confirms(id, channel);
            let back = basic::Return {
                reply_code: 312,
                reply_text: "NO_ROUTE".into(),
                exchange: message.exchange.clone(),
                routing_key: message.routing_key().clone(),
            };
            let back = AMQPClass::Basic(basic::AMQPMethod::Return(back));
            self.send(id, Out::Content(channel, back, Arc::clone(&message), Extra::None));
        } else {
            accepted = self.put_into(&queues, &message, 0);
        }
        if let Some(seq) = seq {
            self.confirm(id, channel, seq, accepted);
        }
        Ok(())
    }

    fn check_publication(
        &mut self,
        id: ConnectionId,
        vhost: &str,
        method: &basic::Publish,
        properties: &amq_protocol::protocol::BasicProperties,
    ) -> Result<(), Refusal> {
        let name = method.exchange.as_str();
        match self.vhost(vhost).exchanges.get(name) {
            None => return Err(Refusal::no_exchange(name, vhost)),
            Some(exchange) if exchange.internal => {
                return Err(Refusal::access_refused(format!(
                    "cannot publish to internal exchange '{name}' in vhost '{vhost}'"
                )));
            }
            Some(_) => {}
        }
        if let Some(user) = properties.user_id() {
            let login = &self.connections[&id].peer.user;
            if user.as_str() != login {
                return Err(Refusal::precondition(format!(
                    "user_id property set to '{user}' but authenticated user was '{login}'"
                )));
            }
        }
        if let Some(expiration) = properties.expiration() {
            let why = expiration_error(expiration.as_str());
            return why.map_or(Ok(()), |why| {
                Err(Refusal::precondition(format!("invalid expiration '{expiration}': {why}")))
            });
        }
        Ok(())
    }

    /// Adds the queues that a message reaches from an exchange; if there are none, the alternate exchange is asked.
    pub(super) fn route(
        &self,
        vhost: &str,
        exchange: &str,
        key: &str,
        headers: &FieldTable,
        queues: &mut BTreeSet<QueueId>,
    ) {
        let Some(vhost) = self.vhosts.get(vhost) else { return };
        if exchange.is_empty() {
            queues.extend(vhost.queues.get(key));
            return;
        }
        let mut seen = BTreeSet::new();
        let mut ahead = vec![exchange.to_owned()];
        while let Some(name) = ahead.pop() {
            let Some(exchange) = vhost.exchanges.get(&name) else { continue };
            if !seen.insert(name) {
                continue;
            }
            let mut matched = false;
            for to in exchange.matches(key, headers) {
                matched = true;
                match to {
                    Destination::Queue(name) => queues.extend(vhost.queues.get(name)),
                    Destination::Exchange(name) => ahead.push(name.clone()),
                }
            }
            if !matched {
                ahead.extend(exchange.alternate());
            }
        }
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
            if queue.settings.overflow != Overflow::DropHead && queue.is_full(message.body.len()) {
                accepted = false;
                if queue.settings.overflow == Overflow::RejectPublishDlx {
                    let entry = Entry::new(0, message, false);
                    self.memory += message.cost();
                    self.dead_letter(*id, entry, "maxlen");
                }
                continue;
            }
            self.memory += message.cost();
            self.dirty.insert(*id);
            if queue.kind() == Kind::Stream {
                let offset = queue.log.append(self.now, Arc::clone(message));
                places.push((*id, offset, Some(self.now)));
                self.memory = self.memory.saturating_sub(queue.log.trim(self.now));
                continue;
            }
            let ttl = message.properties.expiration().as_ref().and_then(|ms| ms.as_str().parse::<u64>().ok());
            let ttl = ttl.into_iter().chain(queue.settings.message_ttl).min();
            let persisted = match queue.kind() {
                Kind::Classic => queue.durable && queue.owner.is_none() && message.persistent(),
                _ => true,
            };
            let count = if queue.kind() == Kind::Quorum { count } else { 0 };
            let entry = Entry {
                priority: queue.priority_of(message),
                expires_at: ttl.map(|ttl| self.now.saturating_add(ttl)),
                redelivered: count > 0,
                delivery_count: count,
                ..Entry::new(queue.take_seq(), message, persisted)
            };
            if persisted {
                places.push((*id, entry.seq, entry.expires_at));
            }
            queue.put(entry);
        }
        if !places.is_empty() {
            let counted = places.iter().filter(|_| count > 0).map(|(queue, place, _)| (*queue, *place));
            let counted: Vec<_> = counted.collect();
            self.output.records.push(Record::Message { message: Arc::clone(message), places });
            for (queue, place) in counted {
                if self.queues.get(&queue).is_some_and(|queue| queue.kind() == Kind::Quorum) {
                    self.output.records.push(Record::Requeued { queue, place, count });
                }
            }
        }
        accepted
    }
}

impl Entry {
    /// An entry without the marks that only some have.
    #[must_use]
    pub fn new(seq: u64, message: &Arc<Message>, persisted: bool) -> Self {
        Self {
            seq,
            message: Arc::clone(message),
            priority: 0,
            expires_at: None,
            redelivered: false,
            delivery_count: 0,
            persisted,
        }
    }
}

/// What is wrong with an expiration, as Erlang reads numbers: as far as it goes.
fn expiration_error(text: &str) -> Option<String> {
    let sign = usize::from(text.starts_with(['-', '+']));
    let digits = text[sign..].bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(sign + digits);
    match number.parse::<i128>() {
        Err(_) => Some("no_integer".to_owned()),
        Ok(_) if !rest.is_empty() => Some(format!("{{leftover_string,\"{rest}\"}}")),
        Ok(n) if n < 0 => Some(format!("{{value_negative,{n}}}")),
        Ok(n) if n > MOST_MILLIS.into() => Some(format!("{{value_too_large,{n}}}")),
        Ok(_) => None,
    }
}

/// The headers `CC` and `BCC` are further routing keys; the latter is taken off.
/// <https://www.rabbitmq.com/docs/sender-selected>
fn take_copies(message: &mut Message) -> Result<Vec<ShortString>, Refusal> {
    let Some(headers) = message.properties.headers() else { return Ok(vec![]) };
    if !headers.contains_key("CC") && !headers.contains_key("BCC") {
        return Ok(vec![]);
    }
    let keys = |name: &str| match headers.inner().get(name) {
        None => Ok(vec![]),
        Some(AMQPValue::FieldArray(keys)) => {
            Ok(keys.as_slice().iter().filter_map(text).map(|key| short(&key)).collect())
        }
        Some(value) => Err(Refusal::precondition(format!(
            "invalid message: {{unacceptable_type_in_header,\"{name}\",{}}}",
            type_name(value)
        ))),
    };
    let (copies, blind): (Vec<ShortString>, Vec<ShortString>) = (keys("CC")?, keys("BCC")?);
    let kept = headers.inner().iter().filter(|(name, _)| name.as_str() != "BCC");
    let kept: std::collections::BTreeMap<_, _> = kept.map(|(k, v)| (k.clone(), v.clone())).collect();
    message.properties = message.properties.clone().with_headers(kept.into());
    message.keys.extend(copies);
    Ok(blind)
}
