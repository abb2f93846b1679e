//! Tests of whole files, and of every damage to a small one.

use super::*;

const FRAMING: Framing = Framing::new(0x5eed_0123_4567_89ab);
const LARGEST: usize = 1 << 20;

/// Payloads of different lengths and contents: none, text, zeros, marks, and a frame of another file.
fn payloads() -> Vec<Vec<u8>> {
    let mut foreign = vec![];
    Framing::new(7).append(&mut foreign, 3, |payload| payload.extend_from_slice(b"forged"));
    vec![vec![], b"one".to_vec(), vec![0; 40], MARK.repeat(10), foreign, b"the last".to_vec()]
}

fn file(framing: Framing, payloads: &[Vec<u8>]) -> Vec<u8> {
    let mut file = vec![];
    for (number, payload) in payloads.iter().enumerate() {
        framing.append(&mut file, number as u64, |buffer| buffer.extend_from_slice(payload));
    }
    file
}

fn read(framing: Framing, file: &[u8]) -> Vec<Found> {
    Reader::new(file, framing, 0, LARGEST).map(Result::unwrap).collect()
}

/// Returns the numbers of the records, after a check that each is one that was written.
fn numbers(found: &[Found], payloads: &[Vec<u8>]) -> Vec<u64> {
    let record = |found: &Found| match found {
        Found::Record { number, payload, .. } => {
            assert_eq!(
                *payload,
                payloads[usize::try_from(*number).unwrap()],
                "record {number} is another one"
            );
            Some(*number)
        }
        Found::Damage { .. } => None,
    };
    found.iter().filter_map(record).collect()
}

fn damages(found: &[Found]) -> Vec<(u64, u64, Option<u64>)> {
    let damage = |found: &Found| match *found {
        Found::Damage { at, length, number } => Some((at, length, number)),
        Found::Record { .. } => None,
    };
    found.iter().filter_map(damage).collect()
}

#[test]
fn records_are_read_as_they_were_written_with_their_places() {
    let mut payloads = payloads();
    payloads.push(vec![1; 600_000]);
    payloads.push(b"behind a large one".to_vec());
    let file = file(FRAMING, &payloads);
    let found = read(FRAMING, &file);
    assert_eq!(numbers(&found, &payloads), (0..payloads.len() as u64).collect::<Vec<_>>());
    let mut place = 0;
    for (found, payload) in found.iter().zip(&payloads) {
        assert!(matches!(found, Found::Record { at, .. } if *at == place), "{place}");
        place += (payload.len() + OVERHEAD) as u64;
    }
    assert_eq!(place, file.len() as u64);
}

#[test]
fn zeros_at_the_end_are_space_that_is_reserved() {
    let payloads = payloads();
    let file = [file(FRAMING, &payloads), vec![0; 10_000]].concat();
    let found = read(FRAMING, &file);
    assert_eq!((numbers(&found, &payloads).len(), damages(&found)), (payloads.len(), vec![]));
    assert_eq!(read(FRAMING, &[0; 100]), []);
    assert_eq!(read(FRAMING, &[]), []);
}

#[test]
fn a_file_that_is_cut_anywhere_has_all_records_before_the_cut_and_one_damage() {
    let payloads = payloads();
    let whole = file(FRAMING, &payloads);
    let mut ends = vec![0];
    payloads.iter().for_each(|payload| ends.push(ends[ends.len() - 1] + payload.len() + OVERHEAD));
    for cut in 0..=whole.len() {
        // As a file that grows ends, and as one with reserved space does.
        for reserved in [0, 5000] {
            let file = [&whole[..cut], &vec![0; reserved]].concat();
            let found = read(FRAMING, &file);
            let complete = ends.iter().filter(|end| **end <= cut).count() as u64 - 1;
            assert_eq!(numbers(&found, &payloads), (0..complete).collect::<Vec<_>>(), "cut at {cut}");
            let is_at_border = ends.contains(&cut);
            let damages = damages(&found);
            assert!(damages.len() <= 1 && (is_at_border || damages.len() == 1), "cut at {cut}: {damages:?}");
            assert!(matches!(found.last(), Some(Found::Damage { .. })) != is_at_border, "cut at {cut}");
        }
    }
}

#[test]
fn a_flipped_bit_costs_one_record_and_is_reported() {
    let payloads = payloads();
    let whole = file(FRAMING, &payloads);
    for bit in 0..whole.len() * 8 {
        let mut file = whole.clone();
        file[bit / 8] ^= 1 << (bit % 8);
        let found = read(FRAMING, &file);
        let left = numbers(&found, &payloads);
        let lost: Vec<_> = (0..payloads.len() as u64).filter(|number| !left.contains(number)).collect();
        let damages = damages(&found);
        assert_eq!((lost.len(), damages.len()), (1, 1), "bit {bit}: {found:?}");
        let (at, length, number) = damages[0];
        assert!((at..at + length).contains(&(bit as u64 / 8)), "bit {bit}: {damages:?}");
        assert!(number.is_none_or(|number| number == lost[0]), "bit {bit}: {damages:?}");
        assert_eq!(
            length,
            (payloads[usize::try_from(lost[0]).unwrap()].len() + OVERHEAD) as u64,
            "bit {bit}"
        );
    }
}

#[test]
fn whatever_is_damaged_no_record_is_made_up_and_all_others_are_found() {
    let mut random = fastrand::Rng::with_seed(18);
    for round in 0..300 {
        let payloads: Vec<_> = (0..40).map(|_| vec![random.u8(..); random.usize(..900)]).collect();
        let mut file = file(FRAMING, &payloads);
        let (mut from, mut to) = (random.usize(..file.len()), random.usize(..file.len()));
        if to < from {
            std::mem::swap(&mut from, &mut to);
        }
        let to = to.min(from + 5000);
        match round % 4 {
            0 => file[from..to].fill(0),
            1 => file[from..to].iter_mut().for_each(|byte| *byte = random.u8(..)),
            2 => drop(file.drain(from..to)),
            _ => drop(file.splice(from..from, (0..to - from).map(|_| random.u8(..)))),
        }
        let mut place = 0;
        let is_untouched = |payload: &Vec<u8>| {
            let start = place;
            place += payload.len() + OVERHEAD;
            place <= from || (start >= to && round % 4 < 3) || (start >= from && round % 4 == 3)
        };
        let untouched: Vec<_> = payloads.iter().map(is_untouched).collect();
        let found = read(FRAMING, &file);
        let left = numbers(&found, &payloads);
        assert!(left.is_sorted(), "round {round}");
        for (number, untouched) in untouched.into_iter().enumerate() {
            assert!(!untouched || left.contains(&(number as u64)), "round {round}: {number} is lost");
        }
        assert!(from == to || left.len() == payloads.len() || !damages(&found).is_empty() || round % 4 == 2);
    }
}

#[test]
fn a_frame_inside_of_a_payload_is_no_record() {
    let mut inner = vec![];
    Framing::new(1).append(&mut inner, 1, |payload| payload.extend_from_slice(b"forged"));
    let payloads = vec![b"first".to_vec(), inner, b"last".to_vec()];
    let mut file = file(FRAMING, &payloads);
    file[payloads[0].len() + OVERHEAD] ^= 1;
    assert_eq!(numbers(&read(FRAMING, &file), &payloads), [0, 2]);
    // With the same salt it would be one: so files have different salts.
    assert_eq!(read(Framing::new(1), &file).len(), 3);
}

#[test]
fn a_length_beyond_the_limit_claims_no_memory() {
    let mut file = vec![];
    FRAMING.append(&mut file, 0, |payload| payload.extend(vec![7; LARGEST + 1]));
    FRAMING.append(&mut file, 1, |payload| payload.extend_from_slice(b"small"));
    let found = read(FRAMING, &file);
    assert_eq!(damages(&found), [(0, (LARGEST + 1 + OVERHEAD) as u64, None)]);
    assert!(matches!(&found[1], Found::Record { number: 1, payload, .. } if payload == b"small"));
}
