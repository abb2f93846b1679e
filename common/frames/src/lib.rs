//! Records in an append-only file, and what is left of them after damage: [`Framing`] writes them, [`Records`] reads them and
//! names those that are missing.
//!
//! | bytes | content |
//! | --- | --- |
//! | 4 | a fixed mark, by which the next frame is found behind damaged bytes |
//! | 4 | length of the payload |
//! | 8 | number of the record: each has the next one, so a gap says how many are missing |
//! | 4 | CRC-32 of the salt and of the bytes before this |
//! | n | the payload |
//! | 4 | CRC-32 of the salt, of the number and of the payload |
//!
//! Numbers are in big-endian order. A damaged payload costs one record, whose number is known, and reading goes on behind it.
//! The salt is random and differs from file to file: otherwise a payload that contains a frame would be read as one when
//! the head of its own frame is damaged, and so would an older file's rest in a block that a file system has used again.

mod reader;
mod records;

pub use self::{
    reader::{Found, Reader},
    records::{Item, Records},
};

/// First bytes of a frame.
const MARK: [u8; 4] = *b"\xf5rec";
/// Bytes before the payload.
const HEAD: usize = 20;
/// Bytes behind the payload.
const TAIL: usize = 4;
/// Bytes of a frame beside its payload.
pub const OVERHEAD: usize = HEAD + TAIL;

/// The way in which the records of one file are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framing {
    salt: u64,
}

/// Head of a frame, as far as it is not damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    number: u64,
    length: usize,
}

impl Framing {
    /// Returns the framing of a file with this salt, which the file has to keep outside of its frames.
    #[must_use]
    pub const fn new(salt: u64) -> Self {
        Self { salt }
    }

    /// Appends a frame to `buffer`. `write` appends its payload, of at most 4 GiB, and leaves what was there as it is.
    pub fn append(&self, buffer: &mut Vec<u8>, number: u64, write: impl FnOnce(&mut Vec<u8>)) {
        let start = buffer.len();
        buffer.extend_from_slice(&[0; HEAD]);
        write(buffer);
        let (frame, payload) = buffer[start..].split_at_mut(HEAD);
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        frame[..4].copy_from_slice(&MARK);
        frame[4..8].copy_from_slice(&length.to_be_bytes());
        frame[8..16].copy_from_slice(&number.to_be_bytes());
        let (head, payload) = (self.checksum(&[&frame[..16]]), self.checksum_of_payload(number, payload));
        frame[16..].copy_from_slice(&head.to_be_bytes());
        buffer.extend_from_slice(&payload.to_be_bytes());
    }

    /// Returns the number and the payload of the frame that `bytes` begins with, unless it is damaged.
    #[must_use]
    pub fn read<'a>(&self, bytes: &'a [u8]) -> Option<(u64, &'a [u8])> {
        let head = self.head(bytes)?;
        self.payload(head, bytes).map(|payload| (head.number, payload))
    }

    /// Reads the head of a frame at the beginning of `bytes`; `None` if there is none.
    fn head(&self, bytes: &[u8]) -> Option<Head> {
        let (mark, rest) = bytes.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (checksum, _) = rest.split_first_chunk()?;
        let is_whole = *mark == MARK && self.checksum(&[&bytes[..16]]) == u32::from_be_bytes(*checksum);
        let (number, length) = (u64::from_be_bytes(*number), u32::from_be_bytes(*length));
        is_whole.then_some(Head { number, length: length as usize })
    }

    /// Returns the payload of a frame with this head, unless it is damaged.
    fn payload<'a>(&self, head: Head, frame: &'a [u8]) -> Option<&'a [u8]> {
        let (payload, tail) = frame.get(HEAD..)?.split_at_checked(head.length)?;
        let (checksum, _) = tail.split_first_chunk()?;
        let is_whole = self.checksum_of_payload(head.number, payload) == u32::from_be_bytes(*checksum);
        is_whole.then_some(payload)
    }

    fn checksum_of_payload(&self, number: u64, payload: &[u8]) -> u32 {
        self.checksum(&[&number.to_be_bytes(), payload])
    }

    fn checksum(&self, parts: &[&[u8]]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.salt.to_be_bytes());
        parts.iter().for_each(|part| hasher.update(part));
        hasher.finalize()
    }
}

#[cfg(test)]
mod tests;
