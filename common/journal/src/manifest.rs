//! The manifest: where the journal begins, its newest segment, and whether it was closed. It is what notices a missing file.
//!
//! It has two copies in one small file of a fixed size, which are overwritten in turn: so it needs no room on a full disk, and
//! an interrupted write leaves the copy before it.

use std::{io, sync::Arc};

use frames::Framing;

use crate::{
    Damage,
    disk::{Folder, Stored},
    segment::Name,
};

/// Name of the file.
const FILE: &str = "manifest";
/// Bytes of a copy: a sector, which a disk writes as a whole.
const COPY: usize = 512;
const FRAMING: Framing = Framing::new(0x686f_7073_2061_3121);
/// First byte of the content: version of the journal's format.
const VERSION: u8 = 1;

/// Content of the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Content {
    /// Number of the first record that is needed: segments before it are obsolete.
    pub(crate) first: u64,
    /// The newest segment, and its size in bytes.
    pub(crate) newest: Option<(Name, u64)>,
    /// Number after that of the last record, if the journal was closed.
    pub(crate) end: Option<u64>,
}

/// The manifest's file.
#[derive(Debug)]
pub(crate) struct Manifest {
    file: Arc<dyn Stored>,
    /// How often it was written; it says which copy is the newer one.
    written: u64,
}

impl Manifest {
    /// Creates the file, and waits until the disk has it if `is_synced`.
    pub(crate) fn create(folder: &dyn Folder, content: Content, is_synced: bool) -> io::Result<Self> {
        let made = folder.create(FILE, 2 * COPY as u64).and_then(|file| {
            let mut manifest = Self { file, written: 0 };
            manifest.write(content, is_synced)?;
            if is_synced {
                folder.sync()?;
            }
            Ok(manifest)
        });
        made.inspect_err(|_| drop(folder.remove(FILE)))
    }

    /// Opens the file and returns its content; `None` if there is no file, and no content if it cannot be read.
    pub(crate) fn open(
        folder: &dyn Folder,
        damage: &mut Vec<Damage>,
    ) -> io::Result<Option<(Self, Option<Content>)>> {
        let file = match folder.open(FILE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut bytes = [0; 2 * COPY];
        let mut length = 0;
        while let read @ 1.. = file.read_at(&mut bytes[length..], length as u64)? {
            length += read;
        }
        if bytes.iter().all(|byte| *byte == 0) {
            // Its creation was interrupted, or it is lost: the other files show which.
            return Ok(Some((Self { file, written: 0 }, None)));
        }
        let mut newest: Option<(u64, Content)> = None;
        for copy in bytes.chunks_exact(COPY) {
            match FRAMING.read(copy) {
                Some((written, payload)) => {
                    let content = read(payload)?;
                    newest = newest.filter(|(other, _)| *other > written).or(Some((written, content)));
                }
                None if copy.iter().all(|byte| *byte == 0) && newest.is_some() => {}
                None => damage.push(Damage::new(FILE, "one of its two copies cannot be read")),
            }
        }
        let (written, content) = newest.unzip();
        Ok(Some((Self { file, written: written.map_or(0, |written| written + 1) }, content)))
    }

    /// Overwrites the older copy.
    pub(crate) fn write(&mut self, content: Content, is_synced: bool) -> io::Result<()> {
        let mut copy = vec![];
        FRAMING.append(&mut copy, self.written, |payload| write(content, payload));
        copy.resize(COPY, 0);
        self.file.write_all_at(&copy, self.written % 2 * COPY as u64)?;
        if is_synced {
            self.file.sync()?;
        }
        self.written += 1;
        Ok(())
    }
}

fn write(content: Content, payload: &mut Vec<u8>) {
    let (Name { first, salt }, length) = content.newest.unwrap_or((Name { first: 0, salt: 0 }, 0));
    payload.push(VERSION);
    for number in [content.first, first, salt, length, content.end.unwrap_or(0)] {
        payload.extend_from_slice(&number.to_be_bytes());
    }
}

fn read(payload: &[u8]) -> io::Result<Content> {
    let other = || io::Error::other("it was written by another version of this program");
    let rest = payload.strip_prefix(&[VERSION]).ok_or_else(other)?;
    let (&[first, newest, salt, length, end], []) = rest.as_chunks() else { return Err(other()) };
    let [first, newest, salt, length, end] = [first, newest, salt, length, end].map(u64::from_be_bytes);
    Ok(Content {
        first,
        newest: (newest > 0).then_some((Name { first: newest, salt }, length)),
        end: (end > 0).then_some(end),
    })
}
