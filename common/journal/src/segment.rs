//! A segment, one file of the journal, and its records.

use std::{fmt, sync::Arc};

use frames::{Framing, OVERHEAD};

use crate::disk::Stored;

/// Most numbers in one record of removals.
pub(crate) const REMOVED_AT_ONCE: usize = 4096;

const WAITING: u8 = 1;
const PARKED: u8 = 2;
const REMOVED: u8 = 3;

/// Name of a segment: the number of its first record, and the salt of its frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) first: u64,
    pub(crate) salt: u64,
}

impl Name {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (first, salt) = name.strip_suffix(".log")?.split_once('-')?;
        let number = |text: &str| {
            u64::from_str_radix(text, 16).ok().filter(|number| *text == format!("{number:016x}"))
        };
        Some(Self { first: number(first)?, salt: number(salt)? })
    }

    pub(crate) fn framing(self) -> Framing {
        Framing::new(self.salt)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}.log", self.first, self.salt)
    }
}

/// A segment, as far as it is known without reading it.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) name: Name,
    pub(crate) file: Arc<dyn Stored>,
    /// Number of entries in it that are not removed.
    pub(crate) living: usize,
    /// Number of bytes of their frames.
    pub(crate) living_bytes: u64,
    /// Whether a part of it cannot be read: it is kept for a person when it is no longer needed.
    pub(crate) is_damaged: bool,
}

/// State of an entry that is not removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It waits.
    Waiting,
    /// It is kept for a person.
    Parked,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    /// An entry, whose number stays when it is written again.
    Entry { number: u64, state: State, body: Vec<u8> },
    /// Entries that are removed.
    Removed(Vec<u64>),
}

impl Record {
    /// Returns the number of bytes of the record with its frame.
    pub(crate) fn size(&self) -> u64 {
        let payload = match self {
            Self::Entry { body, .. } => 9 + body.len(),
            Self::Removed(numbers) => 1 + 8 * numbers.len(),
        };
        (payload + OVERHEAD) as u64
    }

    pub(crate) fn write(&self, buffer: &mut Vec<u8>) {
        match self {
            Self::Entry { number, state, body } => {
                buffer.push(if *state == State::Waiting { WAITING } else { PARKED });
                buffer.extend_from_slice(&number.to_be_bytes());
                buffer.extend_from_slice(body);
            }
            Self::Removed(numbers) => {
                buffer.push(REMOVED);
                numbers.iter().for_each(|number| buffer.extend_from_slice(&number.to_be_bytes()));
            }
        }
    }

    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let (kind, rest) = payload.split_first()?;
        let state = match *kind {
            WAITING => State::Waiting,
            PARKED => State::Parked,
            REMOVED => {
                let (numbers, []) = rest.as_chunks() else { return None };
                return Some(Self::Removed(numbers.iter().copied().map(u64::from_be_bytes).collect()));
            }
            _ => return None,
        };
        let (number, body) = rest.split_first_chunk()?;
        Some(Self::Entry { number: u64::from_be_bytes(*number), state, body: body.to_vec() })
    }
}
