//! A stream: an append-only log with offsets, whose entries stay when they are read.
//! <https://www.rabbitmq.com/docs/streams#consuming>
//!
//! RabbitMQ reads a stream in chunks and starts at the beginning of one, so `last` may deliver earlier entries; here
//! a chunk is one entry. The stream is kept in memory. Offsets by time and retention by age are not implemented.

use std::{collections::VecDeque, sync::Arc};

use amq_protocol::types::AMQPValue;

use super::{
    error::AmqpError,
    message::Message,
    value::{Name, number, text},
};

/// Largest size of a stream in bytes, whatever its arguments say, because it is kept in memory.
const MAX_STREAM_BYTES: u64 = 256 * 1024 * 1024;

/// The entries of a stream.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    entries: VecDeque<Arc<Message>>,
    /// Offset of the oldest entry.
    first: u64,
    bytes: u64,
    max_bytes: u64,
    /// Segments, the oldest first: they are dropped as a whole.
    segments: VecDeque<Segment>,
    /// Bytes after which a segment is full; with 0 each has one entry.
    segment_bytes: u64,
}

/// Numbers of entries and bytes of a segment.
#[derive(Debug, Default)]
struct Segment {
    entries: u64,
    bytes: u64,
}

impl Stream {
    pub(crate) fn new(max_bytes: Option<u64>, segment_bytes: Option<u64>) -> Self {
        Self {
            max_bytes: max_bytes.unwrap_or(MAX_STREAM_BYTES).min(MAX_STREAM_BYTES),
            segment_bytes: segment_bytes.unwrap_or(0),
            ..Self::default()
        }
    }

    /// Continues from an offset after a restart.
    pub(crate) fn begin_at(&mut self, offset: u64) {
        self.first = offset;
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Returns the offset of the next entry.
    fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Appends a message and returns its offset. When it begins a segment, the oldest segments above the limit are dropped.
    pub(crate) fn append(&mut self, message: Arc<Message>) -> u64 {
        let cost = message.cost() as u64;
        if self.segments.back().is_none_or(|newest| newest.bytes >= self.segment_bytes) {
            while self.bytes + cost > self.max_bytes
                && let Some(oldest) = self.segments.pop_front()
            {
                self.bytes -= oldest.bytes;
                self.first += oldest.entries;
                self.entries.drain(..usize::try_from(oldest.entries).unwrap_or(usize::MAX));
            }
            self.segments.push_back(Segment::default());
        }
        self.bytes += cost;
        if let Some(newest) = self.segments.back_mut() {
            newest.entries += 1;
            newest.bytes += cost;
        }
        self.entries.push_back(message);
        self.end() - 1
    }

    /// Returns the entry at an offset, or the oldest one if that is newer; `None` at the end.
    pub(crate) fn at_or_after(&self, offset: u64) -> Option<(u64, &Arc<Message>)> {
        let offset = offset.max(self.first);
        let index = usize::try_from(offset - self.first).ok()?;
        self.entries.get(index).map(|message| (offset, message))
    }

    /// Returns all entries with their offsets.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Arc<Message>)> {
        (self.first..).zip(&self.entries)
    }

    /// Returns the offset at which a consumer begins (`x-stream-offset`). Like RabbitMQ it answers 406 to a text and 541
    /// to anything else that is no offset.
    pub(crate) fn start(&self, queue: &Name, offset: Option<&AMQPValue>) -> Result<u64, AmqpError> {
        let Some(value) = offset else { return Ok(self.end()) };
        if let Some(n) = number(value) {
            return Ok(u64::try_from(n).unwrap_or(0));
        }
        match text(value).as_deref() {
            Some("first") => Ok(self.first),
            Some("last") => Ok(self.end().saturating_sub(1)),
            Some("next") => Ok(self.end()),
            _ if is_time(value) => Err(AmqpError::not_implemented("x-stream-offset of a time")),
            Some(other) => Err(AmqpError::precondition(format!(
                "invalid arg 'x-stream-offset' for queue {queue}: {{invalid_stream_offset_arg,{{longstr,<<\"{other}\">>}}}}"
            ))),
            None => Err(AmqpError::internal()),
        }
    }
}

/// Returns whether a value is a timestamp, or an age such as `1h`.
fn is_time(value: &AMQPValue) -> bool {
    let is_age = |text: String| text.strip_suffix(['Y', 'M', 'D', 'h', 'm', 's']).is_some_and(is_digits);
    matches!(value, AMQPValue::Timestamp(_)) || text(value).is_some_and(is_age)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
