//! Power losses: the disk as it may be after each operation, with only what was synced, and with a part of the rest.

use super::*;
use crate::segment::Record;

/// Runs whose power fails, at every point or at many.
const RUNS: u64 = 30;
/// A disk writes sectors as a whole.
const SECTOR: usize = 512;

/// Returns the files after a power loss behind these operations. What was not synced is there as far as `survives` says; a name
/// counts only once its folder is synced.
fn after_power_loss(ops: &[Op], mut survives: impl FnMut() -> bool) -> BTreeMap<String, Vec<u8>> {
    let last = |wanted: &Op| ops.iter().rposition(|op| op == wanted);
    // A write counts if the next wait for its file succeeded.
    let is_written = |file: usize, place: usize| {
        let waits = |op: &&Op| matches!(op, Op::Sync(_) | Op::Failed(_)) && op.file() == Some(file);
        matches!(ops[place..].iter().find(waits), Some(Op::Sync(_)))
    };
    let (mut names, mut files) = (BTreeMap::new(), BTreeMap::<usize, Vec<u8>>::new());
    let folder = last(&Op::SyncFolder);
    for (place, op) in ops.iter().enumerate() {
        let is_named = folder.is_some_and(|synced| place < synced) || survives();
        match op {
            Op::Create(file, name, length) => {
                let is_synced = last(&Op::Sync(*file)).is_some();
                let length = if is_synced || survives() { usize::try_from(*length).unwrap() } else { 0 };
                files.insert(*file, vec![0; length]);
                if is_named {
                    names.insert(name.clone(), *file);
                }
            }
            Op::Write(file, at, bytes) => {
                let is_synced = is_written(*file, place);
                // Sectors of the file, of which each is written or not.
                let mut start = 0;
                while start < bytes.len() {
                    let sector = SECTOR - (usize::try_from(*at).unwrap() + start) % SECTOR;
                    let end = bytes.len().min(start + sector);
                    if is_synced || survives() {
                        let file = files.get_mut(file).unwrap();
                        memory::write(file, &bytes[start..end], at + start as u64);
                    }
                    start = end;
                }
            }
            Op::Rename(from, to) if is_named => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Op::Remove(name) if is_named => drop(names.remove(name)),
            _ => {}
        }
    }
    names.into_iter().map(|(name, file)| (name, files[&file].clone())).collect()
}

/// Appends in groups, removes most, parks some, rotates and drops files, is killed now and then, and has errors of the disk;
/// what was acknowledged is among the operations.
async fn record(seed: u64) -> (Disk, BTreeMap<u64, Vec<u8>>) {
    let mut random = fastrand::Rng::with_seed(seed);
    let fail = |disk: &Disk, mut random: fastrand::Rng| {
        disk.on(move |op| {
            let is_hit = !seed.is_multiple_of(3) && op.file().is_some() && random.u8(..100) < 5;
            is_hit.then(|| io::Error::from_raw_os_error(5))
        });
    };
    let mut disk = Disk::default();
    fail(&disk, random.fork());
    let mut journal = Arc::new(open(&disk).0);
    let mut appended = BTreeMap::new();
    for round in 0..30 {
        let mut group = tokio::task::JoinSet::new();
        for n in 0..random.u64(1..5) {
            let (journal, disk, body) = (Arc::clone(&journal), disk.clone(), body(round * 10 + n));
            group.spawn(async move {
                let number = journal.append(body.clone()).await.ok()?;
                disk.record(Op::Acknowledged(number)).unwrap();
                Some((number, body))
            });
        }
        appended.extend(group.join_all().await.into_iter().flatten());
        let waiting = journal.after(0, State::Waiting, usize::MAX);
        let removed: Vec<_> =
            waiting.iter().map(|(number, _)| *number).filter(|_| random.u8(..10) < 8).collect();
        removed.iter().for_each(|number| disk.record(Op::Removed(*number)).unwrap());
        journal.remove(&removed);
        if random.u8(..10) < 2 {
            // Removals are written meanwhile.
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        if random.u8(..10) < 2 {
            // Killed: what was written and not waited for is still there, for now.
            disk = disk.after_kill();
            fail(&disk, random.fork());
            journal = Arc::new(open(&disk).0);
        }
    }
    let journal = Arc::into_inner(journal).unwrap();
    if seed.is_multiple_of(2) {
        let _ = journal.close().await;
    }
    drop(journal);
    (disk, appended)
}

fn check(ops: &[Op], files: &BTreeMap<String, Vec<u8>>, appended: &BTreeMap<u64, Vec<u8>>) {
    let recovered = recover(&Disk::with(files)).unwrap();
    let found: BTreeMap<_, _> =
        recovered.index.after(0, State::Waiting, usize::MAX).iter().map(read).collect();
    let has = |wanted: Op| ops.contains(&wanted);
    for (number, body) in appended {
        // The number of one that was refused may be another's later.
        let is_acknowledged = has(Op::Acknowledged(*number));
        let is_needed = is_acknowledged && !has(Op::Removed(*number));
        assert!(!is_needed || found.get(number) == Some(body), "entry {number}: {:?}", recovered.damage);
        let is_same = found.get(number).is_none_or(|found| found == body);
        assert!(!is_acknowledged || is_same, "entry {number} is another one");
    }
    let torn = |damage: &Damage| damage.to_string().contains("a write was interrupted there");
    let manifest = |damage: &Damage| damage.to_string().starts_with("manifest: one of its two copies");
    // Bytes of several sectors that were not acknowledged: what is behind a sector that is missing looks damaged.
    let unsynced = |damage: &Damage| damage.to_string().contains("are damaged, and");
    // A record that the disk had refused, and that a process read from the kernel's memory before the power loss.
    let refused = |damage: &Damage| {
        let has_failed = ops.iter().any(|op| matches!(op, Op::Failed(_)));
        has_failed && damage.to_string().contains("before it are missing")
    };
    let is_expected =
        |damage: &Damage| torn(damage) || manifest(damage) || unsynced(damage) || refused(damage);
    assert!(recovered.damage.iter().all(is_expected), "a false alarm: {:?}", recovered.damage);
}

fn read(reading: &Reading) -> (u64, Vec<u8>) {
    match reading.read().unwrap() {
        Record::Entry { number, body, .. } => (number, body),
        Record::Removed(_) => unreachable!("it is no entry"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_power_loss_takes_an_acknowledged_entry_or_makes_one_up() {
    let mut states = 0;
    let mut runs = tokio::task::JoinSet::new();
    (0..RUNS).for_each(|seed| drop(runs.spawn(record(seed))));
    for (seed, (disk, appended)) in (0_usize..).zip(runs.join_all().await) {
        let ops = disk.ops();
        let mut random = fastrand::Rng::with_seed(seed as u64);
        for end in (seed % 4..=ops.len()).step_by(4) {
            check(&ops[..end], &after_power_loss(&ops[..end], || false), &appended);
            for _ in 0..2 {
                let odds = random.u8(..100);
                check(&ops[..end], &after_power_loss(&ops[..end], || random.u8(..100) < odds), &appended);
            }
            states += 3;
        }
    }
    assert!(states > 3000, "{states}");
}

/// Without it the test above could pass for a journal that never waits for the disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_does_not_wait_for_the_disk_loses_entries_in_a_power_loss() {
    let disk = Disk::default();
    let options = Options { sync: SyncTo::Os, ..SMALL };
    let (journal, _) = Journal::open_in(Arc::new(disk.clone()), String::new(), options, ()).unwrap();
    append(&journal, 0..20).await;
    assert_eq!(waiting(&journal).len(), 20);
    let files = after_power_loss(&disk.ops(), || false);
    assert_eq!(files, BTreeMap::new());
    drop(journal);
    assert_eq!(waiting(&open(&disk).0).len(), 20, "a killed process takes nothing");
}

#[tokio::test]
async fn after_a_power_loss_the_journal_goes_on_and_loses_nothing_in_the_next_one() {
    let disk = Disk::default();
    let (journal, _) = open(&disk);
    let mut appended = append(&journal, 0..12).await;
    drop(journal);
    for round in 1..20 {
        let mut random = fastrand::Rng::with_seed(round);
        let survivor = Disk::with(&after_power_loss(&disk.ops(), || random.bool()));
        let (journal, _) = open(&survivor);
        assert_eq!(waiting(&journal), appended, "round {round}");
        drop(journal);
        let (journal, damage) = open(&disk);
        assert_eq!((waiting(&journal), damage), (appended.clone(), vec![]), "round {round}");
        appended.extend(append(&journal, round * 100..round * 100 + 3).await);
        drop(journal);
    }
}
