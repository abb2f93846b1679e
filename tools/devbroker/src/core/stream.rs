//! A stream: a log with offsets, from which reading takes nothing away.
//! <https://www.rabbitmq.com/docs/streams#consuming>
//!
//! RabbitMQ reads a stream in chunks and begins at a chunk's start, so that `last` and a timestamp may give
//! entries from before; here a chunk is one entry. It is kept in memory.

use std::{collections::VecDeque, sync::Arc};

use amq_protocol::types::AMQPValue;

use super::{
    arguments::{Settings, age_millis},
    message::{Message, number, text},
    refusal::Refusal,
};

/// What a stream keeps at most, whatever its arguments say, since it is kept in memory.
const MOST_BYTES: u64 = 256 * 1024 * 1024;

/// The entries of a stream.
#[derive(Debug, Default)]
pub struct Log {
    entries: VecDeque<(u64, Arc<Message>)>,
    first: u64,
    bytes: u64,
    max_bytes: u64,
    max_age: Option<u64>,
}

impl Log {
    /// An empty one.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let max_bytes = settings.max_bytes.unwrap_or(MOST_BYTES).min(MOST_BYTES);
        Self { max_bytes, max_age: settings.max_age, ..Self::default() }
    }

    /// How many entries it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The offset of the first entry that it still has.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The offset that the next entry gets.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Appends, with the time in Unix milliseconds.
    pub fn append(&mut self, now: u64, message: Arc<Message>) -> u64 {
        self.bytes += message.cost() as u64;
        self.entries.push_back((now, message));
        self.end() - 1
    }

    /// An entry; `None` at the end.
    #[must_use]
    pub fn get(&self, offset: u64) -> Option<&Arc<Message>> {
        let index = usize::try_from(offset.checked_sub(self.first)?).ok()?;
        self.entries.get(index).map(|(_, message)| message)
    }

    /// All entries with their offsets and times.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64, &Arc<Message>)> {
        (self.first..).zip(&self.entries).map(|(offset, (at, message))| (offset, *at, message))
    }

    /// Lets go of what is too old or too much, never of the last; returns the bytes that this freed.
    pub fn trim(&mut self, now: u64) -> usize {
        let mut freed = 0;
        while self.entries.len() > 1 {
            let Some((at, message)) = self.entries.front() else { break };
            let old = self.max_age.is_some_and(|age| at.saturating_add(age) < now);
            if self.bytes <= self.max_bytes && !old {
                break;
            }
            freed += message.cost();
            self.bytes -= message.cost() as u64;
            self.entries.pop_front();
            self.first += 1;
        }
        freed
    }

    /// Begins at this offset, after a restart.
    pub fn begin_at(&mut self, offset: u64) {
        if self.entries.is_empty() {
            self.first = offset;
        }
    }

    /// Where a consumer begins: `x-stream-offset`.
    ///
    /// # Errors
    /// 541 for a value that means nothing, as RabbitMQ answers.
    pub fn start(&self, offset: Option<&AMQPValue>, now: u64) -> Result<u64, Refusal> {
        let since = |at: u64| {
            let place = self.entries.iter().position(|(time, _)| *time >= at);
            self.first + place.unwrap_or(self.entries.len()) as u64
        };
        let Some(value) = offset else { return Ok(self.end()) };
        if let AMQPValue::Timestamp(seconds) = value {
            return Ok(since(seconds.saturating_mul(1000)));
        }
        if let Some(n) = number(value) {
            return Ok(u64::try_from(n).unwrap_or(0).max(self.first));
        }
        match text(value).as_deref() {
            Some("first") => Ok(self.first),
            Some("last") => Ok(self.end().saturating_sub(1).max(self.first)),
            Some("next") => Ok(self.end()),
            Some(age) => {
                let age = age_millis(age).ok_or_else(Refusal::internal)?;
                Ok(since(now.saturating_sub(age)))
            }
            None => Err(Refusal::internal()),
        }
    }
}
