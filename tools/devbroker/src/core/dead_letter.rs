//! Dead-letters messages that expired, were rejected, or were requeued too often.
//! <https://www.rabbitmq.com/docs/dlx>
//!
//! With `at-least-once` (quorum queues) the message is held in its queue until the target queue has it
//! (<https://www.rabbitmq.com/docs/quorum-queues#dead-lettering>). RabbitMQ retries every three minutes,
//! this broker every second.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use amq_protocol::{
    protocol::BasicProperties,
    types::{AMQPValue, FieldTable},
};

use super::{
    Core, QueueId,
    message::{Entry, Message, Reason},
    record::Record,
    value::{long_string, number, short_string, text_of},
};

/// Interval between two attempts to dead-letter a held message, in milliseconds.
pub(super) const HELD_RETRY_MILLIS: u64 = 1_000;

/// Failures that end an attempt. It goes on after the first, because the next message may have another target.
const MAX_FAILED_RETRIES: usize = 32;

impl Core {
    /// Dead-letters an entry that was taken from its queue; without a dead-letter exchange the message is dropped.
    pub(super) fn dead_letter(&mut self, id: QueueId, entry: Entry, reason: Reason) {
        if self.try_dead_letter(id, &entry, reason) {
            self.remove(id, &entry);
            return;
        }
        if entry.persisted {
            let Entry { position, acquired, failed, .. } = entry;
            self.log(Record::Returned { queue: id, position, acquired, failed });
            self.log(Record::Held { queue: id, position, reason });
        }
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.held.push_back((entry, reason));
            self.dirty.insert(id);
        }
    }

    /// Retries the held messages of a queue.
    pub(super) fn retry_held(&mut self, id: QueueId) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let mut held = std::mem::take(&mut queue.held);
        let mut still = VecDeque::new();
        while still.len() < MAX_FAILED_RETRIES
            && let Some((entry, reason)) = held.pop_front()
        {
            if self.try_dead_letter(id, &entry, reason) {
                self.remove(id, &entry);
            } else {
                still.push_back((entry, reason));
            }
        }
        still.append(&mut held);
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.held = still;
        }
    }

    /// Routes a dead letter. Returns `false` if the message has to be held and retried.
    fn try_dead_letter(&mut self, id: QueueId, entry: &Entry, reason: Reason) -> bool {
        let Some(queue) = self.queues.get(&id) else { return true };
        let Some(exchange) = &queue.options.dead_letter_exchange else { return true };
        let mut message = with_death(&entry.message, &queue.name.name, reason, self.now);
        message.exchange = short_string(exchange);
        if let Some(key) = &queue.options.dead_letter_key {
            message.routing_key = short_string(key);
        }
        let reached = self.route(&queue.name.vhost, &message);
        let deaths = deaths(&message);
        let goes_round = |to: &QueueId| is_cycle(&deaths, &self.queues[to].name.name);
        let targets: BTreeSet<QueueId> = reached.iter().copied().filter(|to| !goes_round(to)).collect();
        let is_full = |to: &QueueId| self.queues[to].is_full();
        if queue.options.at_least_once && (reached.is_empty() || targets.iter().any(is_full)) {
            return false;
        }
        self.enqueue(&targets, &Arc::new(message), entry.failed);
        true
    }
}

/// Returns the message with this death in its headers, as RabbitMQ writes them: `x-death` has an entry per queue and
/// reason, the latest first, with a count. An `x-death` that a client has written is replaced. The expiration moves into the entry,
/// so that the message does not expire in its next queue.
pub(super) fn with_death(message: &Message, queue: &str, reason: Reason, now: u64) -> Message {
    let reason = reason.name();
    let mut deaths = deaths(message);
    let same = |death: &FieldTable| {
        let [its_queue, its_reason] = ["queue", "reason"].map(|field| text_of(death, field));
        its_queue.as_deref() == Some(queue) && its_reason.as_deref() == Some(reason)
    };
    let mut death = match deaths.iter().position(same) {
        Some(position) => deaths.remove(position),
        None => {
            let keys = vec![long_string(message.routing_key.as_str())];
            let mut death = FieldTable::default();
            death.insert("reason".into(), long_string(reason));
            death.insert("queue".into(), long_string(queue));
            death.insert("time".into(), AMQPValue::Timestamp(now / 1000));
            death.insert("exchange".into(), long_string(message.exchange.as_str()));
            death.insert("routing-keys".into(), AMQPValue::FieldArray(keys.into()));
            if let Some(expiration) = message.properties.expiration() {
                death.insert("original-expiration".into(), long_string(expiration.as_str()));
            }
            death
        }
    };
    let count = death.inner().get("count").and_then(number).unwrap_or(0);
    death.insert("count".into(), AMQPValue::LongLongInt(count + 1));
    deaths.insert(0, death);
    let mut headers = message.headers();
    let deaths: Vec<_> = deaths.into_iter().map(AMQPValue::FieldTable).collect();
    headers.insert("x-death".into(), AMQPValue::FieldArray(deaths.into()));
    let last = [("exchange", message.exchange.as_str()), ("queue", queue), ("reason", reason)];
    for (name, value) in last {
        if !message.dead_lettered {
            headers.insert(short_string(&format!("x-first-death-{name}")), long_string(value));
        }
        headers.insert(short_string(&format!("x-last-death-{name}")), long_string(value));
    }
    let properties = without_expiration(&message.properties).with_headers(headers);
    Message { properties, dead_lettered: true, ..message.clone() }
}

/// Copies all properties but the expiration and the headers: the codec's type has no method that clears one.
fn without_expiration(properties: &BasicProperties) -> BasicProperties {
    let mut copy = BasicProperties::default();
    macro_rules! copy {
        ($($property:ident $with:ident)*) => {
            $(if let Some(value) = properties.$property().clone() {
                copy = copy.$with(value);
            })*
        };
    }
    copy! {
        content_type with_content_type
        content_encoding with_content_encoding
        delivery_mode with_delivery_mode
        priority with_priority
        correlation_id with_correlation_id
        reply_to with_reply_to
        message_id with_message_id
        timestamp with_timestamp
        kind with_type
        user_id with_user_id
        app_id with_app_id
        cluster_id with_cluster_id
    }
    copy
}

/// Returns the entries of `x-death`, the latest first, if this broker wrote them.
fn deaths(message: &Message) -> Vec<FieldTable> {
    let headers = message.properties.headers().as_ref();
    match headers.and_then(|headers| headers.inner().get("x-death")) {
        Some(AMQPValue::FieldArray(deaths)) if message.dead_lettered => {
            let table = |value: &AMQPValue| match value {
                AMQPValue::FieldTable(table) => Some(table.clone()),
                _ => None,
            };
            deaths.as_slice().iter().filter_map(table).collect()
        }
        _ => vec![],
    }
}

/// Returns whether a dead letter goes in circles, and is to be dropped: it has died in this queue before, and no client has
/// rejected it since then.
fn is_cycle(deaths: &[FieldTable], queue: &str) -> bool {
    let is = |death: &FieldTable, field, value| text_of(death, field).as_deref() == Some(value);
    let Some(last) = deaths.iter().position(|death| is(death, "queue", queue)) else { return false };
    !deaths[..=last].iter().any(|death| is(death, "reason", "rejected"))
}
