//! The places of all entries, in memory.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::Arc,
};

use crate::{
    Unreadable,
    disk::Stored,
    segment::{Name, Record, Segment, State},
};

/// Place of an entry's frame.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Number of the segment, counted from the first one that this process has known.
    segment: u32,
    at: u32,
    length: u32,
    state: State,
}

/// Entries with their places, and the segments, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Index {
    entries: BTreeMap<u64, Place>,
    pub(crate) segments: VecDeque<Segment>,
    /// Number of segments that were dropped.
    dropped: u32,
    parked: usize,
}

impl Index {
    /// Adds an entry in the newest segment, or moves it there; returns its state before.
    pub(crate) fn insert(&mut self, number: u64, state: State, at: u64, length: u64) -> Option<State> {
        let before = self.remove(number);
        let segment = self.segments.back_mut()?;
        segment.living += 1;
        segment.living_bytes += length;
        self.parked += usize::from(state == State::Parked);
        let place = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let segment = self.dropped + u32::try_from(self.segments.len() - 1).unwrap_or(u32::MAX);
        self.entries.insert(number, Place { segment, at: place(at), length: place(length), state });
        before
    }

    /// Removes an entry, and returns its state.
    pub(crate) fn remove(&mut self, number: u64) -> Option<State> {
        let place = self.entries.remove(&number)?;
        self.parked -= usize::from(place.state == State::Parked);
        if let Some(segment) = self.segment_of(place) {
            segment.living -= 1;
            segment.living_bytes -= u64::from(place.length);
        }
        Some(place.state)
    }

    pub(crate) fn state(&self, number: u64) -> Option<State> {
        self.entries.get(&number).map(|place| place.state)
    }

    /// Marks the segment of an entry as damaged.
    pub(crate) fn mark_damaged(&mut self, number: u64) {
        let place = self.entries.get(&number).copied();
        if let Some(segment) = place.and_then(|place| self.segment_of(place)) {
            segment.is_damaged = true;
        }
    }

    fn segment_of(&mut self, place: Place) -> Option<&mut Segment> {
        self.segments.get_mut((place.segment - self.dropped) as usize)
    }

    /// Forgets the oldest segment, which has no entry.
    pub(crate) fn drop_oldest(&mut self) {
        self.dropped += u32::from(self.segments.pop_front().is_some());
    }

    pub(crate) fn waiting(&self) -> usize {
        self.entries.len() - self.parked
    }

    pub(crate) fn parked(&self) -> usize {
        self.parked
    }

    /// Returns readers of at most so many entries in this state behind `number`, in the order of their numbers.
    pub(crate) fn after(&self, number: u64, state: State, at_most: usize) -> Vec<Reading> {
        let entries = self.entries.range(number + 1..).filter(|(_, place)| place.state == state);
        entries.take(at_most).filter_map(|(number, place)| self.reading(*number, *place)).collect()
    }

    /// Returns readers of all entries in the oldest segment.
    pub(crate) fn of_oldest(&self) -> Vec<Reading> {
        let entries = self.entries.iter().filter(|(_, place)| place.segment == self.dropped);
        entries.filter_map(|(number, place)| self.reading(*number, *place)).collect()
    }

    fn reading(&self, number: u64, place: Place) -> Option<Reading> {
        let segment = self.segments.get((place.segment - self.dropped) as usize)?;
        let (name, file) = (segment.name, segment.file.clone());
        Some(Reading { number, name, file, at: place.at, length: place.length })
    }
}

/// File and place of an entry, for reading it also when its segment has been dropped meanwhile.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) number: u64,
    name: Name,
    file: Arc<dyn Stored>,
    at: u32,
    length: u32,
}

impl Reading {
    /// Reads the entry, and checks that it is what was written.
    pub(crate) fn read(&self) -> Result<Record, Unreadable> {
        let at = u64::from(self.at);
        let place =
            |why: &str| format!("entry {} in {} at byte {at} cannot be read: {why}", self.number, self.name);
        let damaged = |why| Unreadable::Damaged(place(why));
        let mut frame = vec![0; self.length as usize];
        let mut length = 0;
        while length < frame.len() {
            match self.file.read_at(&mut frame[length..], at + length as u64) {
                Ok(0) => return Err(damaged("the file has become shorter")),
                Ok(read) => length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Unreadable::Disk(place(&error.to_string()))),
            }
        }
        let record = self.name.framing().read(&frame).and_then(|(_, payload)| Record::read(payload));
        record
            .filter(|record| matches!(record, Record::Entry { number, .. } if *number == self.number))
            .ok_or_else(|| damaged("its checksum is wrong"))
    }
}
