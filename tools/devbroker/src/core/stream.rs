//! A stream: a log with offsets, from which reading takes nothing away.
//! <https://www.rabbitmq.com/docs/streams#consuming>
//!
//! RabbitMQ reads a stream in chunks and begins at a chunk's start, so that `last` may give entries from before; here
//! a chunk is one entry. It is kept in memory. There are no offsets that are times, and no retention by age.

use std::{collections::VecDeque, sync::Arc};

use amq_protocol::types::AMQPValue;

use super::{
    message::Message,
    refusal::Refusal,
    value::{number, text},
};

/// What a stream keeps at most, whatever its arguments say, since it is kept in memory.
const MOST_BYTES: u64 = 256 * 1024 * 1024;

/// The entries of a stream.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    entries: VecDeque<Arc<Message>>,
    /// The offset of the first entry that it still has.
    first: u64,
    bytes: u64,
    max_bytes: u64,
}

impl Stream {
    pub(crate) fn new(max_bytes: Option<u64>) -> Self {
        Self { max_bytes: max_bytes.unwrap_or(MOST_BYTES).min(MOST_BYTES), ..Self::default() }
    }

    /// Begins at this offset, after a restart.
    pub(crate) fn begin_at(&mut self, offset: u64) {
        self.first = offset;
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The offset that the next entry gets.
    fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Appends, and lets go of the oldest if there is too much, never of the last. Returns the offset.
    pub(crate) fn append(&mut self, message: Arc<Message>) -> u64 {
        self.bytes += message.cost() as u64;
        self.entries.push_back(message);
        while self.bytes > self.max_bytes && self.entries.len() > 1 {
            self.bytes -= self.entries.pop_front().map_or(0, |oldest| oldest.cost() as u64);
            self.first += 1;
        }
        self.end() - 1
    }

    /// The entry at this offset, or the first after it that is still there; `None` at the end.
    pub(crate) fn at_or_after(&self, offset: u64) -> Option<(u64, &Arc<Message>)> {
        let offset = offset.max(self.first);
        let index = usize::try_from(offset - self.first).ok()?;
        self.entries.get(index).map(|message| (offset, message))
    }

    /// All entries with their offsets.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Arc<Message>)> {
        (self.first..).zip(&self.entries)
    }

    /// Where a consumer begins: `x-stream-offset`. RabbitMQ answers 541 to a value that means nothing.
    pub(crate) fn start(&self, offset: Option<&AMQPValue>) -> Result<u64, Refusal> {
        let Some(value) = offset else { return Ok(self.end()) };
        if let Some(n) = number(value) {
            return Ok(u64::try_from(n).unwrap_or(0));
        }
        match text(value).as_deref() {
            Some("first") => Ok(self.first),
            Some("last") => Ok(self.end().saturating_sub(1)),
            Some("next") => Ok(self.end()),
            _ if is_time(value) => Err(Refusal::not_implemented("x-stream-offset of a time")),
            _ => Err(Refusal::internal()),
        }
    }
}

/// A timestamp, or an age such as `1h`.
fn is_time(value: &AMQPValue) -> bool {
    let is_age = |text: String| text.strip_suffix(['Y', 'M', 'D', 'h', 'm', 's']).is_some_and(is_digits);
    matches!(value, AMQPValue::Timestamp(_)) || text(value).is_some_and(is_age)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
