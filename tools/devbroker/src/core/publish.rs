//! Publishing: messages are checked, routed, enqueued, and returned or confirmed.
//! <https://www.rabbitmq.com/docs/publishers>, <https://www.rabbitmq.com/docs/ttl#per-message-ttl-in-publishers>

use std::{collections::BTreeSet, sync::Arc};

use amq_protocol::{
    protocol::{BasicProperties, basic},
    types::FieldTable,
};

use super::{
    ChannelId, Core, DeliveryHeader, Outgoing, Publication, QueueId,
    error::AmqpError,
    exchange::ALTERNATE,
    firehose::{Event, TRACE},
    message::{Entry, Message},
    method::ServerMethod as _,
    queue_options::{QueueKind, TEN_YEARS},
    record::{Position, Record},
    value::{Name, short_string, text_of},
};

impl Core {
    pub(super) fn publish(&mut self, at: ChannelId, publication: Publication) -> Result<(), AmqpError> {
        if self.channel(at)?.closing {
            return Ok(());
        }
        let Publication { method, properties, body } = publication;
        let exchange = self.name_at(at, method.exchange.as_str());
        if !self.exchanges.contains_key(&exchange) {
            return Err(AmqpError::no_exchange(&exchange));
        }
        if exchange.name == TRACE {
            let why = format!("cannot publish to internal exchange {exchange}");
            return Err(AmqpError::access_refused(why));
        }
        let properties = self.checked_properties(at, &method, properties)?;
        let (exchange, vhost) = (method.exchange, exchange.vhost);
        let routing_key = method.routing_key;
        let mut message = Message { exchange, routing_key, properties, body, dead_lettered: false };
        self.set_reply_address(at, &mut message)?;
        let message = Arc::new(message);
        let queues = self.route(&vhost, &message);
        self.trace(at, &message, &Event::Published(&queues));
        let is_reply = self.reply(&message);
        if queues.is_empty() && method.mandatory && !is_reply {
            // The return is sent right before the confirm, so the earlier confirms of the channel go first.
            self.flush_confirms(at);
            let back = basic::Return {
                reply_code: 312,
                reply_text: "NO_ROUTE".into(),
                exchange: message.exchange.clone(),
                routing_key: message.routing_key.clone(),
            };
            let back =
                Outgoing::Content(at.channel, back.class(), Arc::clone(&message), DeliveryHeader::None);
            self.send(at.connection, back);
        }
        let accepted = self.enqueue(&queues, &message, 0);
        self.confirm(at, accepted)
    }

    /// Returns the properties as consumers get them, or the error if they are refused.
    fn checked_properties(
        &self,
        at: ChannelId,
        method: &basic::Publish,
        mut properties: BasicProperties,
    ) -> Result<BasicProperties, AmqpError> {
        let has = |name| properties.headers().as_ref().is_some_and(|headers| headers.contains_key(name));
        for (name, is_used) in [
            ("immediate=true", method.immediate),
            ("the header CC", has("CC")),
            ("the header BCC", has("BCC")),
        ] {
            if is_used {
                return Err(AmqpError::not_implemented(name));
            }
        }
        if let Some(text) = properties.expiration().clone() {
            let invalid = |why| AmqpError::precondition(format!("invalid expiration '{text}': {why}"));
            let millis = parse_expiration(text.as_str()).map_err(invalid)?;
            // RabbitMQ normalizes the number: `+050` becomes `50`.
            properties = properties.with_expiration(short_string(&millis.to_string()));
        }
        let user = properties.user_id().as_ref().map(|user| user.as_str());
        let login = &self.connections[&at.connection].peer.user;
        match user {
            Some(user) if user != login => Err(AmqpError::precondition(format!(
                "user_id property set to '{user}' but authenticated user was '{login}'"
            ))),
            _ => Ok(properties),
        }
    }

    /// Returns the queues to which a message is routed; without any, those of the alternate exchange.
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

    /// Enqueues a message, which has `failed` so many times in the queues in which it died. Returns `false` if one of the queues is
    /// full.
    pub(super) fn enqueue(
        &mut self,
        queues: &BTreeSet<QueueId>,
        message: &Arc<Message>,
        failed: u32,
    ) -> bool {
        let mut positions = vec![];
        let mut accepted = true;
        for id in queues {
            let Some(queue) = self.queues.get_mut(id) else { continue };
            if queue.is_full() {
                accepted = false;
                continue;
            }
            self.dirty.insert(*id);
            if queue.kind() == QueueKind::Stream {
                let offset = queue.stream.append(Arc::clone(message));
                positions.push(Position::of(*id, &Entry::new(offset, message)));
                continue;
            }
            let is_quorum = queue.kind() == QueueKind::Quorum;
            let ttl = [queue.options.message_ttl, message.ttl()].into_iter().flatten().min();
            let entry = Entry {
                priority: queue.priority_of(message),
                expires_at: ttl.map(|ttl| self.now.saturating_add(ttl)),
                failed,
                persisted: is_quorum || queue.is_persisted() && message.is_persistent(),
                ..Entry::new(queue.take_position(), message)
            };
            if entry.persisted {
                positions.push(Position::of(*id, &entry));
            }
            queue.put(entry);
        }
        if !positions.is_empty() {
            self.log(Record::Message { positions, message: Arc::clone(message) });
        }
        accepted
    }
}

/// Parses a message's expiration into milliseconds; the error is the reason in RabbitMQ's text.
pub(super) fn parse_expiration(text: &str) -> Result<i64, String> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = unsigned.find(|c: char| !c.is_ascii_digit()).unwrap_or(unsigned.len());
    let (digits, rest) = unsigned.split_at(end);
    // There may be more digits than any integer has, so errors show them as text.
    let number = Some(digits.trim_start_matches('0')).filter(|number| !number.is_empty()).unwrap_or("0");
    if digits.is_empty() {
        return Err("no_integer".into());
    }
    if !rest.is_empty() {
        return Err(format!("{{leftover_string,{rest:?}}}"));
    }
    if text.starts_with('-') && number != "0" {
        return Err(format!("{{value_negative,-{number}}}"));
    }
    let millis = number.parse().ok().filter(|millis| *millis <= TEN_YEARS);
    millis.ok_or_else(|| format!("{{value_too_large,{number}}}"))
}
