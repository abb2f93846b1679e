//! Reading, record by record, over whatever is damaged.

use std::io::{self, Read};

use crate::{Framing, HEAD, Head, MARK, OVERHEAD};

/// Bytes that are read at once.
const CHUNK: usize = 256 * 1024;
/// Compared with so many bytes at once, since reserved space may be long.
static ZEROS: [u8; 4096] = [0; 4096];

/// Finding at the next place of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A record.
    Record {
        /// Place of its frame in the file.
        at: u64,
        /// Number of the record.
        number: u64,
        /// Its payload.
        payload: Vec<u8>,
    },
    /// Bytes that are no record. If nothing follows, a write may have been interrupted there.
    Damage {
        /// Place of the first byte.
        at: u64,
        /// Number of bytes.
        length: u64,
        /// Number of the damaged record, if its head can be read.
        number: Option<u64>,
    },
}

/// Reader of a file's frames, from their first byte on. Zeros up to the end of the file, which a file with reserved space
/// has, are its end.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    framing: Framing,
    max_payload: usize,
    buffer: Vec<u8>,
    /// Number of bytes of the buffer that are done; the next one has the place `at`.
    done: usize,
    at: u64,
    is_at_end: bool,
}

impl<R: Read> Reader<R> {
    /// Reads from `source`, whose next byte has the place `at` in the file. A frame with a larger payload than
    /// `max_payload` is no frame.
    pub fn new(source: R, framing: Framing, at: u64, max_payload: usize) -> Self {
        Self { source, framing, max_payload, buffer: vec![], done: 0, at, is_at_end: false }
    }

    /// Returns what is found next; `None` at the end.
    fn find(&mut self) -> io::Result<Option<Found>> {
        self.fill(HEAD)?;
        if let Some(head) = self.head() {
            return self.frame(head).map(Some);
        }
        let damage = self.skip()?;
        Ok(damage.map(|(at, length)| Found::Damage { at, length, number: None }))
    }

    /// Reads the frame whose head is next.
    fn frame(&mut self, head: Head) -> io::Result<Found> {
        self.fill(head.length + OVERHEAD)?;
        let (at, number) = (self.at, head.number);
        if let Some(payload) = self.framing.payload(head, self.rest()).map(<[u8]>::to_vec) {
            self.take(head.length + OVERHEAD);
            return Ok(Found::Record { at, number, payload });
        }
        // If no bytes are missing, another frame follows, or the end of the file.
        let length = self.rest().len().min(head.length + OVERHEAD);
        let framing = self.framing;
        let is_followed = framing.head(self.after(length)?).is_some();
        let length = if is_followed { length } else { HEAD };
        self.take(length);
        let more = if is_followed { None } else { self.skip()? };
        Ok(Found::Damage {
            at,
            length: length as u64 + more.map_or(0, |(_, more)| more),
            number: Some(number),
        })
    }

    /// Skips bytes up to the next head, and returns their place and their number; `None` if only zeros are left.
    fn skip(&mut self) -> io::Result<Option<(u64, u64)>> {
        let (at, mut last_other) = (self.at, None);
        loop {
            self.fill(HEAD)?;
            if self.rest().is_empty() {
                return Ok(last_other.map(|last: u64| (at, last + 1 - at)));
            }
            if self.head().is_some() {
                return Ok((self.at > at).then(|| (at, self.at - at)));
            }
            if self.rest().chunks(ZEROS.len()).all(|part| ZEROS.starts_with(part)) {
                self.take(self.rest().len());
                continue;
            }
            let skipped = self.places_without_a_mark();
            let other = self.rest()[..skipped].iter().rposition(|byte| *byte != 0);
            last_other = other.map(|place| self.at + place as u64).or(last_other);
            self.take(skipped);
        }
    }

    /// Returns the number of bytes, at least one, up to the next byte with which a head may begin.
    fn places_without_a_mark(&self) -> usize {
        let next = self.rest()[1..].iter().position(|byte| *byte == MARK[0]);
        next.map_or(self.rest().len(), |place| place + 1)
    }

    fn head(&self) -> Option<Head> {
        self.framing.head(self.rest()).filter(|head| head.length <= self.max_payload)
    }

    /// Returns what follows behind `length` bytes, at least a head unless the file ends.
    fn after(&mut self, length: usize) -> io::Result<&[u8]> {
        self.fill(length + HEAD)?;
        Ok(&self.rest()[length..])
    }

    /// Reads until so many bytes are there, or the file ends.
    fn fill(&mut self, length: usize) -> io::Result<()> {
        while self.rest().len() < length && !self.is_at_end {
            self.buffer.drain(..self.done);
            self.done = 0;
            let wanted = CHUNK.max(length - self.buffer.len());
            let read = self.source.by_ref().take(wanted as u64).read_to_end(&mut self.buffer)?;
            self.is_at_end = read < wanted;
        }
        Ok(())
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.done..]
    }

    fn take(&mut self, length: usize) {
        self.done += length;
        self.at += length as u64;
    }
}

/// The error of an item is the source's own.
impl<R: Read> Iterator for Reader<R> {
    type Item = io::Result<Found>;

    fn next(&mut self) -> Option<Self::Item> {
        self.find().transpose()
    }
}
