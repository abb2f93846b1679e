//! Reading a journal that is there, and what is left of it after damage. It changes nothing.

use std::{io, sync::Arc};

use frames::{Item, Reader, Records};

use crate::{
    Damage,
    disk::{Folder, Sequential, Stored},
    index::Index,
    manifest::{Content, Manifest},
    segment::{Name, Record, Segment},
};

/// Largest payload of a record in bytes.
pub(crate) const MAX_PAYLOAD: usize = 1024 * 1024;
/// End of the names of segments that are no longer needed, but damaged.
pub(crate) const KEPT: &str = ".damaged";

/// A journal as it was read.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) index: Index,
    /// Number of the next record.
    pub(crate) next: u64,
    /// A number that no entry has had, nor any after it.
    pub(crate) next_entry: u64,
    pub(crate) manifest: Option<Manifest>,
    /// The newest segment and its size, as the manifest names it.
    pub(crate) newest: Option<(Name, u64)>,
    /// Segments that are not needed, whose removal was interrupted.
    pub(crate) obsolete: Vec<Name>,
    pub(crate) damage: Vec<Damage>,
}

/// Reads a journal.
pub(crate) fn recover(folder: &dyn Folder) -> io::Result<Recovered> {
    let mut damage = vec![];
    let mut names: Vec<_> = folder.names()?.iter().filter_map(|name| Name::parse(name)).collect();
    let manifest = Manifest::open(folder, &mut damage)?;
    let (manifest, content) = manifest.map_or((None, None), |(manifest, content)| (Some(manifest), content));
    // Of two that begin with the same number, the one that the manifest names is the newer one.
    let newest = content.and_then(|content| content.newest).map(|(newest, _)| newest);
    names.sort_unstable_by_key(|name| (name.first, Some(*name) == newest, name.salt));
    if content.is_none() && !names.is_empty() {
        damage.push(Damage::new("manifest", "it cannot be read, so a missing file would not be noticed"));
    }
    let first = names.first().map_or(1, |name| name.first);
    let content = content.unwrap_or(Content { first, newest: None, end: None });
    let needed = names.split_off(names.partition_point(|name| name.first < content.first));

    let mut scan = Scan { index: Index::default(), next_entry: 0, damage };
    let mut next = content.first;
    for name in &needed {
        if name.first > next {
            let missing = format!("{} before it are missing", records(next, name.first));
            scan.damage.push(Damage::new(&name.to_string(), &missing));
        }
        let file = folder.open(&name.to_string())?;
        let size = content.newest.filter(|(newest, _)| newest == name).map(|(_, size)| size);
        // What follows in this segment was not acknowledged, and was written again there.
        let later = needed.iter().map(|other| other.first).find(|first| *first > name.first);
        let end = scan.read(*name, file, size, later)?;
        next = next.max(end.min(later.unwrap_or(u64::MAX)));
    }
    if let Some((newest, _)) = content.newest.filter(|(newest, _)| !needed.contains(newest)) {
        let missing = format!("it is missing, with all records from record {} on", newest.first);
        scan.damage.push(Damage::new(&newest.to_string(), &missing));
    } else if let Some(end) = content.end.filter(|end| *end > next) {
        let file = needed.last().map_or_else(|| "manifest".to_owned(), Name::to_string);
        scan.damage.push(Damage::new(&file, &format!("{} at its end are missing", records(next, end))));
    }
    let next = next.max(content.end.unwrap_or(0)).max(content.newest.map_or(0, |(newest, _)| newest.first));
    let Scan { index, next_entry, damage } = scan;
    let next_entry = next_entry.max(next);
    Ok(Recovered { index, next, next_entry, manifest, newest: content.newest, obsolete: names, damage })
}

/// What was read so far.
struct Scan {
    index: Index,
    next_entry: u64,
    damage: Vec<Damage>,
}

impl Scan {
    /// Reads a segment up to the number with which a later one begins, and returns the number after that of its last record.
    /// `size` is what the manifest says of it.
    fn read(
        &mut self,
        name: Name,
        file: Arc<dyn Stored>,
        size: Option<u64>,
        later: Option<u64>,
    ) -> io::Result<u64> {
        let mut found = vec![];
        let length = file.length()?;
        if let Some(size) = size.filter(|size| *size > length) {
            found.push(format!("it has {length} bytes and should have {size}: the end is missing"));
        }
        let frames = Reader::new(Sequential::new(Arc::clone(&file)), name.framing(), 0, MAX_PAYLOAD);
        self.index.segments.push_back(Segment { name, file, living: 0, living_bytes: 0, is_damaged: false });
        let mut items = Records::new(frames, name.first);
        for item in &mut items {
            match item? {
                Item::Record { number, .. } if later.is_some_and(|later| number >= later) => break,
                Item::Record { at, number, payload } => match Record::read(&payload) {
                    Some(record) => self.take(record, at),
                    None => found.push(lost(at, payload.len() as u64, number, number + 1)),
                },
                Item::Lost { at, length, numbers } => found.push(lost(at, length, numbers.start, numbers.end)),
                // In an older segment, the number of the next one shows whether a record is missing.
                Item::Torn { at, length } if later.is_none() => found.push(format!(
                    "the last {length} bytes, from byte {at} on, are no whole record: a write was interrupted there, or the \
                     end is damaged"
                )),
                Item::Torn { .. } => {}
            }
        }
        if let (false, Some(segment)) = (found.is_empty(), self.index.segments.back_mut()) {
            segment.is_damaged = true;
        }
        self.damage.extend(found.iter().map(|what| Damage::new(&name.to_string(), what)));
        Ok(items.next_number())
    }

    fn take(&mut self, record: Record, at: u64) {
        let size = record.size();
        match record {
            Record::Entry { number, state, .. } => {
                self.next_entry = self.next_entry.max(number + 1);
                // The copy of an entry that is still there may not be on disk.
                if self.index.state(number) != Some(state) {
                    self.index.insert(number, state, at, size);
                }
            }
            Record::Removed(numbers) => {
                for number in numbers {
                    self.index.remove(number);
                }
            }
        }
    }
}

fn lost(at: u64, length: u64, first: u64, end: u64) -> String {
    let lost = if first < end { records(first, end) } else { "no record".to_owned() };
    format!("{length} bytes from byte {at} on are damaged, and {lost} cannot be read")
}

fn records(first: u64, end: u64) -> String {
    match end - first {
        1 => format!("record {first}"),
        count => format!("{count} records from record {first} on"),
    }
}
