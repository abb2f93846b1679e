//! The records of a file, each with the next number, and the numbers of those that are missing.

use std::{
    io::{self, Read},
    ops::Range,
};

use crate::{Found, Reader};

/// Next item of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A record.
    Record {
        /// Place of its frame in the file.
        at: u64,
        /// Number of the record.
        number: u64,
        /// Its payload.
        payload: Vec<u8>,
    },
    /// Records that cannot be read, before one that can.
    Lost {
        /// Place of the first byte that cannot be read.
        at: u64,
        /// Number of bytes there that are no record.
        length: u64,
        /// Numbers of the records; none if the bytes were in no record.
        numbers: Range<u64>,
    },
    /// Bytes at the end that are no record: a write was interrupted there, or the end is damaged. The two look the same.
    Torn {
        /// Place of the first byte.
        at: u64,
        /// Number of bytes.
        length: u64,
    },
}

/// Reader of a file whose records are numbered without a gap.
#[derive(Debug)]
pub struct Records<R> {
    frames: Reader<R>,
    next: u64,
    /// Place and number of the bytes before the next record that are no record.
    damaged: Option<(u64, u64)>,
    /// A record that follows lost ones.
    held: Option<Item>,
}

impl<R: Read> Records<R> {
    /// Reads records from `first` on.
    pub fn new(frames: Reader<R>, first: u64) -> Self {
        Self { frames, next: first, damaged: None, held: None }
    }

    /// Returns the number after that of the last record.
    pub fn next_number(&self) -> u64 {
        self.next
    }

    fn item(&mut self) -> io::Result<Option<Item>> {
        if self.held.is_some() {
            return Ok(self.held.take());
        }
        while let Some(found) = self.frames.next().transpose()? {
            match found {
                Found::Damage { at, length, .. } => {
                    let from = self.damaged.map_or(at, |(from, _)| from);
                    self.damaged = Some((from, at + length - from));
                }
                Found::Record { at, number, payload } => {
                    let record = Item::Record { at, number, payload };
                    let numbers = self.next..number;
                    self.next = number + 1;
                    if self.damaged.is_none() && numbers.is_empty() {
                        return Ok(Some(record));
                    }
                    self.held = Some(record);
                    let (at, length) = self.damaged.take().unwrap_or((at, 0));
                    return Ok(Some(Item::Lost { at, length, numbers }));
                }
            }
        }
        Ok(self.damaged.take().map(|(at, length)| Item::Torn { at, length }))
    }
}

/// The error of an item is the source's own.
impl<R: Read> Iterator for Records<R> {
    type Item = io::Result<Item>;

    fn next(&mut self) -> Option<Self::Item> {
        self.item().transpose()
    }
}
