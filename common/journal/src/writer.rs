//! The thread that writes. It takes all that waits, writes it at once, waits for the disk once, and answers all of them.

use std::{io, mem, sync::Arc};

use frames::Framing;

use crate::{
    AppendError, Options, Shared, SyncTo,
    disk::{Folder, Stored},
    locked,
    manifest::{Content, Manifest},
    queue::{Closed, Put, Work},
    recovery::{KEPT, Recovered},
    segment::{Name, REMOVED_AT_ONCE, Record, Segment, State},
};

/// Segments below which none is emptied for its room.
const MIN_SEGMENTS: usize = 4;

/// The writer.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    folder: Arc<dyn Folder>,
    options: Options,
    manifest: Option<Manifest>,
    /// The newest segment and its size in bytes.
    newest: Option<(Name, u64)>,
    obsolete: Vec<Name>,
    /// Number of the next record.
    next: u64,
    /// Number of the next new entry. A failed write uses its numbers up: the file may have some of its entries.
    next_entry: u64,
    active: Option<Active>,
    /// Removals that are not written yet.
    removed: Vec<u64>,
    /// Whether an earlier process may have written what is not on disk.
    is_inherited: bool,
}

/// The segment that is written.
#[derive(Debug)]
struct Active {
    name: Name,
    file: Arc<dyn Stored>,
    framing: Framing,
    at: u64,
    length: u64,
    is_synced: bool,
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        folder: Arc<dyn Folder>,
        options: Options,
        recovered: Recovered,
    ) -> Self {
        *locked(&shared.index) = recovered.index;
        let Recovered { manifest, newest, obsolete, next, next_entry, .. } = recovered;
        Self {
            shared,
            folder,
            options,
            manifest,
            newest,
            obsolete,
            next,
            next_entry,
            active: None,
            removed: vec![],
            is_inherited: options.sync == SyncTo::Disk,
        }
    }

    /// Writes until the journal is closed.
    pub(crate) fn run(mut self) {
        // Whoever waits learns that nobody writes any more, however this ends.
        let shared = Arc::clone(&self.shared);
        let _closed = Closed(&shared);
        loop {
            let Work { puts, removed, closing, is_closed, .. } =
                self.shared.queue.take(self.shared.is_failing());
            self.removed.extend(removed);
            self.write_group(puts);
            self.drop_dead();
            if is_closed {
                let closed = self.close();
                if let Some(closing) = closing {
                    let _ = closing.send(closed);
                }
                return;
            }
        }
    }

    /// Writes a group, in a new file if the current one takes it no more, and answers all of it.
    fn write_group(&mut self, puts: Vec<Put>) {
        let mut records: Vec<_> =
            self.removed.chunks(REMOVED_AT_ONCE).map(|n| Record::Removed(n.to_vec())).collect();
        let removals = records.len();
        let first_new = self.next_entry;
        let mut answers = vec![];
        for Put { number, state, body, answer } in puts {
            let number = number.unwrap_or(self.next_entry);
            self.next_entry = self.next_entry.max(number + 1);
            records.push(Record::Entry { number, state, body });
            answers.push(answer);
        }
        if records.is_empty() {
            if !self.shared.is_failing() {
                return;
            }
            // It shows whether the disk takes something again.
            records.push(Record::Removed(vec![]));
        }
        let begun = self.active.is_some();
        let result = match self.write(&records, first_new) {
            // The kernel may have forgotten what it could not write, so another call for the same file would prove nothing.
            Err(error) if begun => {
                tracing::warn!("{}: {error}; going on with a new file", self.shared.shown);
                self.leave_active();
                self.write(&records, first_new)
            }
            result => result,
        };
        match result {
            Ok(()) => {
                self.removed.clear();
                self.shared.record_outcome(None);
                for (answer, record) in answers.into_iter().zip(&records[removals..]) {
                    if let Record::Entry { number, .. } = record
                        && answer.send(Ok(*number)).is_err()
                    {
                        self.shared.appended.notify_one();
                    }
                }
            }
            Err(error) => {
                self.leave_active();
                self.shared.record_outcome(Some(error.to_string()));
                for (answer, record) in answers.into_iter().zip(&records[removals..]) {
                    if matches!(record, Record::Entry { state: State::Waiting, .. }) {
                        self.shared.release(1);
                    }
                    let _ = answer.send(Err(AppendError::Unwritable(error.to_string())));
                }
            }
        }
    }

    /// Writes records to the active segment, or to a new one, waits for the disk, and puts the entries into the index. Entries
    /// below `first_new` are written again.
    fn write(&mut self, records: &[Record], first_new: u64) -> io::Result<()> {
        let needed = records.iter().map(Record::size).sum();
        let has_room = |active: &Active| active.length - active.at >= needed;
        if !self.active.as_ref().is_some_and(has_room) {
            self.begin(needed)?;
            self.empty_oldest()?;
            if !self.active.as_ref().is_some_and(has_room) {
                self.begin(needed)?;
            }
        }
        self.write_here(records, first_new)
    }

    fn write_here(&mut self, records: &[Record], first_new: u64) -> io::Result<()> {
        let Some(active) = &mut self.active else { return Err(io::Error::other("no segment is open")) };
        let mut buffer = vec![];
        let mut places = vec![];
        for (record, number) in records.iter().zip(self.next..) {
            let at = buffer.len();
            active.framing.append(&mut buffer, number, |payload| record.write(payload));
            places.push((active.at + at as u64, (buffer.len() - at) as u64));
        }
        active.file.write_all_at(&buffer, active.at)?;
        let has_entries = records.iter().any(|record| matches!(record, Record::Entry { .. }));
        if has_entries {
            failpoint::reach("outbox-written");
        }
        let is_waited_for = has_entries || self.shared.is_failing();
        active.is_synced = is_waited_for && self.options.sync == SyncTo::Disk;
        if active.is_synced {
            active.file.sync()?;
        }
        if has_entries {
            failpoint::reach("outbox-flushed");
        }
        active.at += buffer.len() as u64;
        self.next += records.len() as u64;
        let mut no_longer_waiting = 0;
        let mut index = locked(&self.shared.index);
        for (record, (at, length)) in records.iter().zip(places) {
            // An entry that was removed while it was written again stays removed.
            if let Record::Entry { number, state, .. } = record
                && (*number >= first_new || index.state(*number).is_some())
            {
                let before = index.insert(*number, *state, at, length);
                no_longer_waiting += usize::from(before == Some(State::Waiting) && *state == State::Parked);
            }
        }
        drop(index);
        self.shared.release(no_longer_waiting);
        Ok(())
    }

    /// Writes no more to the active segment. If nothing in it is acknowledged, it goes when another one is there.
    fn leave_active(&mut self) {
        if let Some(active) = self.active.take()
            && active.at == 0
        {
            locked(&self.shared.index).segments.pop_back();
            self.obsolete.push(active.name);
        }
    }

    /// Waits until what an earlier process has written is on disk: it is read already, and what is done now depends on it.
    fn sync_inherited(&mut self) -> io::Result<()> {
        if mem::take(&mut self.is_inherited) {
            let files: Vec<_> =
                locked(&self.shared.index).segments.iter().map(|segment| Arc::clone(&segment.file)).collect();
            let synced = files.iter().try_for_each(|file| file.sync()).and_then(|()| self.folder.sync());
            self.is_inherited = synced.is_err();
            return synced;
        }
        Ok(())
    }

    /// Begins a segment with room for so many bytes. Until the manifest names it, nothing in it is acknowledged.
    fn begin(&mut self, needed: u64) -> io::Result<()> {
        self.sync_inherited()?;
        self.sync_active();
        let is_synced = self.options.sync == SyncTo::Disk;
        if self.manifest.is_none() {
            let nothing = Content { first: self.first(), newest: None, end: None };
            self.manifest = Some(Manifest::create(&*self.folder, nothing, is_synced)?);
        }
        let name = Name { first: self.next, salt: rand::random() };
        let length = self.options.segment_bytes.max(needed);
        let file = self
            .folder
            .create(&name.to_string(), length)
            .inspect_err(|_| drop(self.folder.remove(&name.to_string())))?;
        // Until the next one is there: the manifest may name it.
        let obsolete = mem::replace(&mut self.obsolete, vec![name]);
        let is_on_disk = match is_synced {
            true => file.sync().and_then(|()| self.folder.sync()),
            false => Ok(()),
        };
        let newest = Some((name, length));
        let begun =
            is_on_disk.and_then(|()| self.write_manifest(Content { first: self.first(), newest, end: None }));
        if let Err(error) = begun {
            self.obsolete.extend(obsolete);
            return Err(error);
        }
        self.newest = newest;
        for obsolete in &obsolete {
            let _ = self.folder.remove(&obsolete.to_string());
        }
        // Before anything in the new one is acknowledged: they may begin with the same number.
        if is_synced && !obsolete.is_empty() {
            self.folder.sync()?;
        }
        self.obsolete.clear();
        let framing = name.framing();
        self.active = Some(Active { name, file: Arc::clone(&file), framing, at: 0, length, is_synced: true });
        let segment = Segment { name, file, living: 0, living_bytes: 0, is_damaged: false };
        locked(&self.shared.index).segments.push_back(segment);
        Ok(())
    }

    /// Waits until the last removals are on disk, so that only the newest segment can have a torn end.
    fn sync_active(&mut self) {
        if let Some(active) = self.active.take()
            && !active.is_synced
            && self.options.sync == SyncTo::Disk
            && let Err(error) = active.file.sync()
        {
            tracing::warn!("{}: {error}; entries that were removed may be there again", self.shared.shown);
        }
    }

    fn write_manifest(&mut self, content: Content) -> io::Result<()> {
        let is_synced = self.options.sync == SyncTo::Disk;
        self.manifest.as_mut().map_or(Ok(()), |manifest| manifest.write(content, is_synced))
    }

    /// Returns the number of the first record that is needed.
    fn first(&self) -> u64 {
        locked(&self.shared.index).segments.front().map_or(self.next, |oldest| oldest.name.first)
    }

    /// Writes the entries of the oldest segment again if most of the disk's room is that of removed ones: otherwise a single
    /// entry that stays would keep all that came after it.
    fn empty_oldest(&mut self) -> io::Result<()> {
        let readings = {
            let index = locked(&self.shared.index);
            let living: u64 = index.segments.iter().map(|segment| segment.living_bytes).sum();
            let room = index.segments.len() as u64 * self.options.segment_bytes;
            let is_sparse = index.segments.len() >= MIN_SEGMENTS && living < room / 4;
            if is_sparse { index.of_oldest() } else { vec![] }
        };
        // One that cannot be read stays where it is: whoever reads it finds that out.
        let records: Vec<_> = readings.iter().filter_map(|reading| reading.read().ok()).collect();
        let needed: u64 = records.iter().map(Record::size).sum();
        let has_room = |active: &Active| active.length - active.at >= needed;
        match self.active.as_ref().is_some_and(has_room) && !records.is_empty() {
            true => self.write_here(&records, u64::MAX),
            false => Ok(()),
        }
    }

    /// Drops the oldest segments without entries. Only the oldest: a removal is not forgotten before its entry is.
    fn drop_dead(&mut self) {
        let dead: Vec<(Name, bool)> = {
            let index = locked(&self.shared.index);
            let old = index.segments.len() - usize::from(self.active.is_some());
            let dead = index.segments.iter().take(old).take_while(|segment| segment.living == 0);
            dead.map(|segment| (segment.name, segment.is_damaged)).collect()
        };
        if dead.is_empty() || self.sync_inherited().is_err() {
            return;
        }
        let first =
            locked(&self.shared.index).segments.get(dead.len()).map_or(self.next, |left| left.name.first);
        let newest = self.newest.filter(|(newest, _)| dead.iter().all(|(name, _)| name != newest));
        // If that fails, it is tried again with the next group.
        if self.manifest.is_none() || self.write_manifest(Content { first, newest, end: None }).is_err() {
            return;
        }
        self.newest = newest;
        for (name, is_damaged) in dead {
            let name = name.to_string();
            let _ = match is_damaged {
                true => self.folder.rename(&name, &format!("{name}{KEPT}")).and_then(|()| self.folder.sync()),
                false => self.folder.remove(&name),
            };
            locked(&self.shared.index).drop_oldest();
        }
        if locked(&self.shared.index).segments.is_empty() {
            self.removed.clear();
        }
    }

    /// Writes what is left, and that this is the end.
    fn close(&mut self) -> io::Result<()> {
        if !self.removed.is_empty() {
            return Err(io::Error::other(format!(
                "{} removed entries are still in its files, and are there again at the next start",
                self.removed.len()
            )));
        }
        if let Some(active) = &self.active {
            active.file.sync()?;
        }
        match self.active.is_some() {
            true => self.write_manifest(Content {
                first: self.first(),
                newest: self.newest,
                end: Some(self.next),
            }),
            false => Ok(()),
        }
    }
}
