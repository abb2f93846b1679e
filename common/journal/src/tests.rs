//! A journal in a folder, and on a disk in memory that fails, loses power, and is damaged.

mod memory;
mod damage;
mod power;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use self::memory::{Disk, Op};
use super::*;
use crate::segment::Name;

const SMALL: Options = Options { sync: SyncTo::Disk, max_waiting: 10_000, segment_bytes: 1024 };

fn body(n: u64) -> Vec<u8> {
    format!("entry {n} {}", "x".repeat(usize::try_from(n % 50).unwrap())).into_bytes()
}

fn open(disk: &Disk) -> (Journal, Vec<Damage>) {
    Journal::open_in(Arc::new(disk.clone()), "the journal".into(), SMALL, ()).unwrap()
}

fn entries(journal: &Journal, state: State) -> BTreeMap<u64, Vec<u8>> {
    let entries = journal.after(0, state, usize::MAX).into_iter();
    entries.map(|(number, body)| (number, body.unwrap())).collect()
}

fn waiting(journal: &Journal) -> BTreeMap<u64, Vec<u8>> {
    entries(journal, State::Waiting)
}

/// Appends entries with the bodies of these numbers, one after the other, and returns them with their own numbers.
async fn append(journal: &Journal, numbers: std::ops::Range<u64>) -> BTreeMap<u64, Vec<u8>> {
    let mut appended = BTreeMap::new();
    for n in numbers {
        appended.insert(journal.append(body(n)).await.unwrap(), body(n));
    }
    appended
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let until = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), until).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn entries_are_there_after_a_restart_and_removed_ones_are_not() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("journal");
    let options = Options::new(SyncTo::Disk, 100);
    let (journal, damage) = Journal::open(&path, options).unwrap();
    assert_eq!((journal.len(), damage), (0, vec![]));
    assert!(std::fs::read_dir(&path).unwrap().count() == 1, "nothing but the lock before the first entry");
    let mut appended = append(&journal, 0..10).await;
    let first = *appended.keys().next().unwrap();
    appended.remove(&first);
    journal.remove(&[first, first]);
    assert_eq!(waiting(&journal), appended);
    assert_eq!(Journal::open(&path, options).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
    drop(journal);

    let (journal, damage) = Journal::open(&path, options).unwrap();
    assert_eq!((waiting(&journal), journal.len(), damage), (appended.clone(), 9, vec![]));
    appended.extend(append(&journal, 10..12).await);
    journal.close().await.unwrap();
    assert!(matches!(journal.append(vec![]).await, Err(AppendError::Unwritable(_))));
    drop(journal);
    assert_eq!(waiting(&Journal::open(&path, options).unwrap().0), appended);
}

#[tokio::test]
async fn a_parked_entry_waits_no_longer_and_is_still_there() {
    let disk = Disk::default();
    let (journal, _) = open(&disk);
    let mut appended = append(&journal, 0..3).await;
    let number = *appended.keys().nth(1).unwrap();
    journal.park(number, b"why, and what".to_vec()).await.unwrap();
    appended.remove(&number);
    assert_eq!((waiting(&journal), journal.len(), journal.parked_len()), (appended.clone(), 2, 1));
    drop(journal);
    let (journal, _) = open(&disk);
    assert_eq!((waiting(&journal), journal.len()), (appended, 2));
    assert_eq!(entries(&journal, State::Parked), BTreeMap::from([(number, b"why, and what".to_vec())]));
    journal.remove(&[number]);
    assert_eq!((journal.len(), journal.parked_len()), (2, 0));
}

#[tokio::test]
async fn a_full_journal_refuses_and_takes_entries_again_when_there_is_room() {
    let options = Options { max_waiting: 2, ..SMALL };
    let disk = Arc::new(Disk::default());
    let (journal, _) = Journal::open_in(disk, String::new(), options, ()).unwrap();
    let appended = append(&journal, 0..2).await;
    assert_eq!(journal.append(vec![]).await, Err(AppendError::Full(2)));
    journal.remove(&[*appended.keys().next().unwrap()]);
    journal.append(vec![]).await.unwrap();
    assert_eq!(journal.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_that_append_at_once_share_waits_for_the_disk() {
    let disk = Disk::default();
    let journal = Arc::new(open(&disk).0);
    // The first wait takes until all others are there.
    let others = Arc::clone(&journal);
    disk.on(move |op| {
        while matches!(op, Op::Sync(_)) && others.len() < 500 {
            std::thread::yield_now();
        }
        None
    });
    let mut appends = tokio::task::JoinSet::new();
    for n in 0..500 {
        let journal = Arc::clone(&journal);
        appends.spawn(async move { journal.append(body(n)).await.unwrap() });
    }
    let numbers: std::collections::BTreeSet<_> = appends.join_all().await.into_iter().collect();
    assert_eq!((numbers.len(), waiting(&journal).len()), (500, 500));
    let waits = disk.ops().iter().filter(|op| matches!(op, Op::Sync(_))).count();
    assert!(waits < 20, "{waits} waits for 500 entries");
    disk.on(|_| None);
}

#[tokio::test]
async fn an_append_whose_caller_is_gone_is_written_and_counted() {
    let disk = Disk::default();
    let (journal, _) = open(&disk);
    for n in 0..20 {
        let _gone = tokio::time::timeout(Duration::ZERO, journal.append(body(n))).await;
    }
    until("all are written", || waiting(&journal).len() == 20).await;
    assert_eq!(journal.len(), 20);
    tokio::time::timeout(Duration::from_secs(60), journal.appended()).await.expect("the relay is woken");
}

#[tokio::test]
async fn files_without_entries_go_and_one_that_stays_keeps_no_others() {
    let disk = Disk::default();
    let (journal, _) = open(&disk);
    let stays = append(&journal, 0..1).await;
    for round in 0..200 {
        let numbers: Vec<_> = append(&journal, round..round + 5).await.into_keys().collect();
        journal.remove(&numbers);
    }
    let segments = || disk.names().unwrap().iter().filter(|name| Name::parse(name).is_some()).count();
    assert!(segments() <= 6, "{} files", segments());
    assert_eq!(waiting(&journal), stays);
    drop(journal);
    let (journal, damage) = open(&disk);
    assert_eq!((waiting(&journal), damage), (stays, vec![]));
}

#[tokio::test]
async fn an_entry_that_is_removed_while_it_is_written_again_stays_removed() {
    let disk = Disk::default();
    let (journal, _) = open(&disk);
    let journal = Arc::new(journal);
    let first = *append(&journal, 0..1).await.keys().next().unwrap();
    let remover = Arc::clone(&journal);
    let is_copied = Arc::new(AtomicBool::new(false));
    let copied = Arc::clone(&is_copied);
    disk.on(move |op| {
        let is_copy = |bytes: &[u8]| bytes.windows(8).any(|part| part == b"entry 0 ");
        if matches!(op, Op::Write(_, _, bytes) if is_copy(bytes)) {
            copied.store(true, Ordering::SeqCst);
            remover.remove(&[first]);
        }
        None
    });
    for round in 1..200 {
        let numbers: Vec<_> = append(&journal, round * 50 + 1..round * 50 + 6).await.into_keys().collect();
        journal.remove(&numbers);
    }
    assert!(is_copied.load(Ordering::SeqCst), "it was never written again");
    assert_eq!((waiting(&journal).len(), journal.len()), (0, 0));
    disk.on(|_| None);
    drop(journal);
    assert_eq!(waiting(&open(&disk).0).len(), 0);
}

#[tokio::test]
async fn an_entry_that_the_disk_does_not_give_is_no_damage_and_is_read_later() {
    let disk = Disk::default();
    let (journal, _) = open(&disk);
    let appended = append(&journal, 0..3).await;
    disk.set_unreadable(true);
    let read = journal.after(0, State::Waiting, 10);
    assert_eq!(read.len(), 3);
    for (_, body) in read {
        assert!(matches!(body, Err(Unreadable::Disk(why)) if why.contains("os error 5")));
    }
    disk.set_unreadable(false);
    assert_eq!(waiting(&journal), appended);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_takes_files_and_no_data_is_not_filled_with_files() {
    let disk = Disk::default();
    let (journal, _) = open(&disk);
    let appended = append(&journal, 0..2).await;
    let is_failing = Arc::new(AtomicBool::new(true));
    let failing = Arc::clone(&is_failing);
    let manifest = disk.file_of("manifest");
    disk.on(move |op| {
        let is_data = matches!(op, Op::Write(..)) && op.file() != manifest;
        (is_data && failing.load(Ordering::SeqCst)).then(|| io::Error::from_raw_os_error(28))
    });
    for n in 2..40 {
        assert!(journal.append(body(n)).await.is_err());
        assert!(journal.error().is_some(), "{n}");
    }
    let segments = || disk.names().unwrap().iter().filter(|name| Name::parse(name).is_some()).count();
    assert!(segments() <= 4, "{} files", segments());
    drop(journal);
    let (journal, damage) = open(&disk);
    assert_eq!((waiting(&journal), damage), (appended, vec![]));
    is_failing.store(false, Ordering::SeqCst);
    append(&journal, 50..52).await;
    assert!(segments() <= 3, "{} files", segments());
}

#[tokio::test]
async fn a_journal_whose_writer_is_gone_says_so_and_keeps_nobody_waiting() {
    let disk = Disk::default();
    let (journal, _) = open(&disk);
    append(&journal, 0..2).await;
    disk.on(|_| panic!("a bug"));
    let patience = Duration::from_secs(60);
    for n in 2..4 {
        assert!(tokio::time::timeout(patience, journal.append(body(n))).await.expect("an answer").is_err());
    }
    until("it says so", || journal.error().is_some_and(|why| why.contains("restart"))).await;
    for _ in 0..2 {
        assert!(tokio::time::timeout(patience, journal.close()).await.expect("an answer").is_err());
    }
}

#[tokio::test]
async fn what_was_refused_is_not_there_after_the_next_entry() {
    let disk = Disk::default();
    let (journal, _) = open(&disk);
    let mut appended = append(&journal, 0..2).await;
    let manifest = disk.file_of("manifest");
    disk.on(move |op| {
        let is_data = matches!(op, Op::Sync(_)) && op.file() != manifest;
        is_data.then(|| io::Error::from_raw_os_error(5))
    });
    assert!(journal.append(body(7)).await.is_err());
    disk.on(|_| None);
    appended.extend(append(&journal, 8..10).await);
    let (again, damage) = open(&disk.after_kill());
    assert_eq!((waiting(&again), damage), (appended, vec![]));
}

/// What fails, once or as long as it lasts.
type Fault = fn(&Op) -> bool;

#[tokio::test]
async fn after_an_error_of_the_disk_a_new_file_takes_what_was_not_acknowledged() {
    let faults: [(&str, Fault); 2] =
        [("write", |op| matches!(op, Op::Write(..))), ("sync", |op| matches!(op, Op::Sync(_)))];
    for (what, is_hit) in faults {
        for nth in 0..40 {
            let disk = Disk::default();
            let (journal, _) = open(&disk);
            let mut appended = append(&journal, 0..3).await;
            let mut left = nth;
            disk.on(move |op| {
                left -= i64::from(is_hit(op));
                (left == -1 && is_hit(op)).then(|| io::Error::from_raw_os_error(5))
            });
            appended.extend(append(&journal, 3..20).await);
            assert_eq!(waiting(&journal), appended, "{what} {nth}");
            // The manifest is overwritten in place; no segment is.
            if let Some(failed) =
                disk.failed().filter(|failed| disk.ops()[*failed].file() != disk.file_of("manifest"))
            {
                let ops = disk.ops();
                let mut again = ops[failed + 1..].iter().filter(|op| op.file() == ops[failed].file());
                assert_eq!(again.next(), None, "{what} {nth}: the file is used again");
            }
            assert_eq!(journal.error(), None);
            drop(journal);
            assert_eq!(waiting(&open(&disk).0), appended, "{what} {nth}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_entries_and_takes_them_again_when_there_is_room() {
    let disk = Disk::default();
    let (journal, _) = open(&disk);
    let is_full = Arc::new(AtomicBool::new(false));
    let full = Arc::clone(&is_full);
    disk.on(move |op| {
        let takes_room = matches!(op, Op::Create(..)) && full.load(Ordering::SeqCst);
        takes_room.then(|| io::Error::from_raw_os_error(28))
    });
    let mut appended = append(&journal, 0..5).await;
    is_full.store(true, Ordering::SeqCst);
    let mut refused = 0;
    for n in 5..40 {
        match journal.append(body(n)).await {
            Ok(number) => drop(appended.insert(number, body(n))),
            Err(error) => {
                assert!(error.to_string().contains("No space left"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 10 && journal.error().is_some());
    assert_eq!((waiting(&journal), journal.len()), (appended.clone(), appended.len()));
    // What was acknowledged can be read and removed; then there is nothing left to remember.
    let (first, rest): (Vec<_>, Vec<_>) = appended.keys().partition(|number| **number == 1);
    journal.remove(&rest);
    is_full.store(false, Ordering::SeqCst);
    let until_writable = async {
        while journal.error().is_some() {
            tokio::task::yield_now().await;
        }
    };
    until_writable.await;
    let after = append(&journal, 50..51).await;
    drop(journal);
    let (journal, damage) = open(&disk);
    let left: Vec<_> = waiting(&journal).into_keys().collect();
    assert_eq!((left, damage), ([first, after.into_keys().collect()].concat(), vec![]));
}

#[tokio::test]
async fn a_disk_that_is_full_for_ever_can_be_emptied() {
    let disk = Disk::default();
    let appended = append(&open(&disk).0, 0..40).await;
    disk.on(|op| matches!(op, Op::Create(..)).then(|| io::Error::from_raw_os_error(28)));
    let (journal, _) = open(&disk);
    assert_eq!(waiting(&journal), appended);
    journal.remove(&appended.into_keys().collect::<Vec<_>>());
    journal.close().await.unwrap();
    drop(journal);
    let (journal, damage) = open(&disk);
    assert_eq!((waiting(&journal).len(), damage), (0, vec![]));
}

#[tokio::test]
async fn a_disk_that_may_only_be_read_can_be_read() {
    let disk = Disk::default();
    let appended = append(&open(&disk).0, 0..40).await;
    disk.on(|_| Some(io::ErrorKind::ReadOnlyFilesystem.into()));
    let (journal, damage) = open(&disk);
    assert_eq!((waiting(&journal), damage), (appended.clone(), vec![]));
    journal.remove(&appended.into_keys().collect::<Vec<_>>());
    let why = journal.close().await.unwrap_err().to_string();
    assert!(why.contains("40 removed entries"), "{why}");
}
