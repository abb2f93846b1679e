//! Dead letters: what becomes of a message that expired, was rejected, came back too often, or was one too many.
//! <https://www.rabbitmq.com/docs/dlx>
//!
//! `at-least-once` (quorum queues): the message stays, held, until its next queue has it
//! (<https://www.rabbitmq.com/docs/quorum-queues#dead-lettering>). RabbitMQ tries again every three minutes,
//! this broker every second.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use amq_protocol::types::{AMQPValue, FieldTable};

use super::{
    Core, QueueId,
    arguments::{Kind, Overflow},
    message::{Entry, Message, number, short, text},
    record::Record,
};

/// How long a held dead letter waits for the next try, in milliseconds.
pub const TRY_AGAIN: u64 = 1_000;

/// How many may fail before a try is over; the next of them may have another target.
const TRIES: usize = 32;

/// What became of it.
enum Fate {
    /// It is in another queue, or rightly nowhere.
    Gone,
    /// Nobody would have it now.
    Held,
}

impl Core {
    /// Sends a message on its way, or lets it go if the queue has none.
    pub(super) fn dead_letter(&mut self, id: QueueId, entry: Entry, reason: &'static str) {
        if let Fate::Gone = self.try_dead_letter(id, &entry, reason) {
            self.remove(id, &entry);
            return;
        }
        if entry.persisted {
            self.output.records.push(Record::Held { queue: id, place: entry.seq, reason });
        }
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.held.push_back((entry, reason));
            self.dirty.insert(id);
        }
    }

    /// Tries those again that were held.
    pub(super) fn retry_held(&mut self, id: QueueId) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let mut held = std::mem::take(&mut queue.held);
        let mut still = VecDeque::new();
        while still.len() < TRIES
            && let Some((entry, reason)) = held.pop_front()
        {
            match self.try_dead_letter(id, &entry, reason) {
                Fate::Held => still.push_back((entry, reason)),
                Fate::Gone => self.remove(id, &entry),
            }
        }
        still.append(&mut held);
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.held = still;
        }
    }

    fn try_dead_letter(&mut self, id: QueueId, entry: &Entry, reason: &'static str) -> Fate {
        let Some(queue) = self.queues.get(&id) else { return Fate::Gone };
        let Some(exchange) = queue.settings.dead_letter_exchange.clone() else { return Fate::Gone };
        let at_least_once = queue.settings.at_least_once;
        let from_quorum = queue.kind() == Kind::Quorum;
        let keys = match &queue.settings.dead_letter_key {
            Some(key) => vec![short(key)],
            None => entry.message.keys.clone(),
        };
        let (vhost, name) = (queue.vhost.clone(), queue.name.clone());
        let mut message = died(&entry.message, &name, reason, self.now);
        message.exchange = short(&exchange);
        message.keys = keys;
        let mut reached = BTreeSet::new();
        for key in &message.keys {
            self.route(&vhost, &exchange, key.as_str(), &message.headers(), &mut reached);
        }
        let deaths = deaths(&message);
        let cycle = |to: &QueueId| self.queues.get(to).is_none_or(|queue| is_cycle(&deaths, &queue.name));
        let targets: BTreeSet<QueueId> = reached.iter().copied().filter(|to| !cycle(to)).collect();
        if at_least_once {
            let size = message.body.len();
            let full = |to: &QueueId| {
                let queue = &self.queues[to];
                queue.settings.overflow != Overflow::DropHead && queue.is_full(size)
            };
            if reached.is_empty() || targets.iter().any(full) {
                return Fate::Held;
            }
        }
        // RabbitMQ 4.0 takes the count along from one quorum queue to the next, and counts the rejection.
        let count = entry.delivery_count + u32::from(reason == "rejected");
        let count = if from_quorum { count } else { 0 };
        self.put_into(&targets, &Arc::new(message), count);
        Fate::Gone
    }
}

/// The message with this death in its headers, as RabbitMQ 4.0 writes them: `x-death` has an entry per queue and
/// reason, the latest first, with a count. One that a client made up is replaced.
#[must_use]
pub fn died(message: &Message, queue: &str, reason: &str, now: u64) -> Message {
    let word = |text: &str| AMQPValue::LongString(text.into());
    let mut deaths = deaths(message);
    let same = |death: &FieldTable| {
        let get = |name: &str| death.inner().get(name).and_then(text);
        get("queue").as_deref() == Some(queue) && get("reason").as_deref() == Some(reason)
    };
    let mut death = match deaths.iter().position(same) {
        Some(place) => deaths.remove(place),
        None => {
            let keys: Vec<_> = message.keys.iter().map(|key| word(key.as_str())).collect();
            let mut death = FieldTable::default();
            death.insert("reason".into(), word(reason));
            death.insert("queue".into(), word(queue));
            death.insert("time".into(), AMQPValue::Timestamp(now / 1000));
            death.insert("exchange".into(), word(message.exchange.as_str()));
            death.insert("routing-keys".into(), AMQPValue::FieldArray(keys.into()));
            if let Some(expiration) = message.properties.expiration() {
                death.insert("original-expiration".into(), word(expiration.as_str()));
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
            headers.insert(short(&format!("x-first-death-{name}")), word(value));
        }
        headers.insert(short(&format!("x-last-death-{name}")), word(value));
    }
    let mut message = message.clone();
    message.properties = without_expiration(&message.properties).with_headers(headers);
    message.dead_lettered = true;
    message
}

/// The deaths in a message's headers, latest first; what a client made up does not count.
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

/// A message that would come to a queue in which it has died before, with no client's rejection since then, goes in
/// circles and is dropped.
fn is_cycle(deaths: &[FieldTable], queue: &str) -> bool {
    let is = |death: &FieldTable, name: &str, value: &str| {
        death.inner().get(name).and_then(text).as_deref() == Some(value)
    };
    let Some(last) = deaths.iter().position(|death| is(death, "queue", queue)) else { return false };
    !deaths[..=last].iter().any(|death| is(death, "reason", "rejected"))
}

fn without_expiration(
    properties: &amq_protocol::protocol::BasicProperties,
) -> amq_protocol::protocol::BasicProperties {
    if properties.expiration().is_none() {
        return properties.clone();
    }
    let mut copy = amq_protocol::protocol::BasicProperties::default();
    macro_rules! keep {
        ($($get:ident => $with:ident),*) => {
            $(if let Some(value) = properties.$get().clone() { copy = copy.$with(value); })*
        };
    }
    keep!(content_type => with_content_type, content_encoding => with_content_encoding, headers => with_headers,
        delivery_mode => with_delivery_mode, priority => with_priority, correlation_id => with_correlation_id,
        reply_to => with_reply_to, message_id => with_message_id, timestamp => with_timestamp, kind => with_type,
        user_id => with_user_id, app_id => with_app_id, cluster_id => with_cluster_id);
    copy
}
