//! Every damage to a small journal: what it costs, and that it is reported.

use super::*;
use crate::segment::{Name, Record};

type Files = BTreeMap<String, Vec<u8>>;
type Entries = BTreeMap<u64, Vec<u8>>;

/// Returns a journal of a few files, and its entries. Some were removed, and one is parked.
async fn journal(is_closed: bool) -> (Files, Entries) {
    let disk = Disk::default();
    let (journal, _) = open(&disk);
    let mut left = append(&journal, 0..40).await;
    let removed: Vec<_> = left.keys().copied().filter(|number| number % 4 == 0).collect();
    journal.remove(&removed);
    journal.park(3, b"parked".to_vec()).await.unwrap();
    left.retain(|number, _| !removed.contains(number));
    left.insert(3, b"parked".to_vec());
    if is_closed {
        journal.close().await.unwrap();
    }
    drop(journal);
    let files = disk.files();
    assert!(files.len() > 3, "{:?}", files.keys());
    (files, left)
}

fn read(files: &Files) -> (Entries, Vec<Damage>) {
    let recovered = recover(&Disk::with(files)).unwrap();
    let all = [State::Waiting, State::Parked].map(|state| recovered.index.after(0, state, usize::MAX));
    let entries = all.iter().flatten().map(|reading| match reading.read().unwrap() {
        Record::Entry { number, body, .. } => (number, body),
        Record::Removed(_) => unreachable!("it is no entry"),
    });
    (entries.collect(), recovered.damage)
}

/// Reads damaged files, checks that nothing is made up and nothing is missing or there again without a word, and returns how
/// many entries are missing.
fn check(what: &str, files: &Files, whole: &Entries) -> usize {
    let (found, damage) = read(files);
    let mut missing = 0;
    for (number, body) in whole {
        match found.get(number) {
            Some(found) => assert!(found == body || *number == 3, "{what}: entry {number} is another one"),
            None => missing += 1,
        }
    }
    assert!(
        found == *whole || !damage.is_empty(),
        "{what}: {missing} of {} are missing, and no word",
        whole.len()
    );
    missing
}

#[tokio::test]
async fn a_whole_journal_is_read_without_a_word() {
    for is_closed in [false, true] {
        let (files, whole) = journal(is_closed).await;
        assert_eq!(read(&files), (whole, vec![]));
    }
}

/// Bits between two that are flipped: each has its turn in `HOPS_TESTS=full`.
#[expect(clippy::disallowed_methods, reason = "a test run is told by its environment")]
fn step() -> usize {
    if std::env::var("HOPS_TESTS").is_ok_and(|part| part == "full") { 1 } else { 7 }
}

#[tokio::test]
async fn a_flipped_bit_costs_at_most_one_entry_and_is_reported() {
    let (files, whole) = journal(false).await;
    let mut cost = [0; 2];
    for (name, bytes) in &files {
        let mut damaged = files.clone();
        for bit in (0..bytes.len() * 8).step_by(step()) {
            let byte = &mut damaged.get_mut(name).unwrap()[bit / 8];
            *byte ^= 1 << (bit % 8);
            let missing = check(&format!("bit {bit} of {name}"), &damaged, &whole);
            damaged.get_mut(name).unwrap()[bit / 8] ^= 1 << (bit % 8);
            cost[missing] += 1;
        }
    }
    assert!(cost.iter().all(|count| *count > 700), "{cost:?}");
}

#[tokio::test]
async fn a_file_that_is_cut_anywhere_or_missing_is_reported() {
    for is_closed in [false, true] {
        let (files, whole) = journal(is_closed).await;
        for (name, bytes) in &files {
            for length in 0..bytes.len() {
                let mut damaged = files.clone();
                damaged.get_mut(name).unwrap().truncate(length);
                check(&format!("{name} cut at {length}"), &damaged, &whole);
            }
            let mut damaged = files.clone();
            damaged.remove(name);
            let missing = check(&format!("{name} is missing"), &damaged, &whole);
            assert!(missing > 0 || name == "manifest", "{name}");
            assert_ne!(read(&damaged).1, [], "{name}");
        }
    }
}

#[tokio::test]
async fn zeros_anywhere_are_reported_if_the_journal_was_closed() {
    // Without its end, zeros from one record's border to the end look like a journal that was killed earlier.
    let (files, whole) = journal(true).await;
    for (name, bytes) in &files {
        for at in 0..bytes.len() {
            let mut damaged = files.clone();
            damaged.get_mut(name).unwrap()[at..].fill(0);
            check(&format!("{name} is zero from {at} on"), &damaged, &whole);
            let end = bytes.len().min(at + 64);
            let mut damaged = files.clone();
            damaged.get_mut(name).unwrap()[at..end].fill(0);
            check(&format!("64 bytes of {name} are zero from {at} on"), &damaged, &whole);
        }
    }
}

#[tokio::test]
async fn a_damaged_file_is_kept_when_its_entries_are_gone() {
    let (mut files, whole) = journal(false).await;
    let name = files.keys().find(|name| Name::parse(name).is_some()).unwrap().clone();
    files.get_mut(&name).unwrap()[50] ^= 1;
    let damaged = files[&name].clone();
    let disk = Disk::with(&files);
    let (journal, damage) = open(&disk);
    assert_eq!((damage.len(), journal.kept_files()), (1, 0));
    assert!(damage[0].to_string().contains(&name), "{}", damage[0]);
    let all: Vec<_> = whole.into_keys().collect();
    journal.remove(&all);
    append(&journal, 0..20).await;
    drop(journal);
    assert_eq!(disk.files()[&format!("{name}.damaged")], damaged);
    let (journal, damage) = open(&disk);
    assert_eq!((damage, journal.kept_files()), (vec![], 1));
}

#[tokio::test]
async fn an_entry_that_is_damaged_after_the_start_is_named_and_can_be_given_up() {
    let disk = Disk::default();
    let (journal, _) = open(&disk);
    let appended = append(&journal, 0..3).await;
    let name = disk.names().unwrap().into_iter().find(|name| Name::parse(name).is_some()).unwrap();
    disk.open(&name).unwrap().write_all_at(b"?", 40).unwrap();
    let read = journal.after(0, State::Waiting, 10);
    let why = read[0].1.clone().unwrap_err().to_string();
    assert!(why.contains(&name) && why.contains("checksum"), "{why}");
    journal.give_up(read[0].0);
    assert_eq!((waiting(&journal).len(), journal.len()), (2, 2));
    let rest: Vec<_> = appended.into_keys().chain(append(&journal, 3..40).await.into_keys()).collect();
    journal.remove(&rest);
    append(&journal, 40..43).await;
    drop(journal);
    assert!(disk.names().unwrap().contains(&format!("{name}.damaged")), "{:?}", disk.names());
}

#[test]
fn a_journal_of_another_version_is_refused() {
    let mut other = vec![];
    frames::Framing::new(0x686f_7073_2061_3121).append(&mut other, 0, |payload| payload.push(2));
    other.resize(1024, 0);
    let error = recover(&Disk::with(&BTreeMap::from([("manifest".to_owned(), other)]))).unwrap_err();
    assert!(error.to_string().contains("another version"), "{error}");
}
