//! The view as steps of a replay fill it, of a whole stream and of a part of one.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn entry(offset: u64, id: &str, account: &str, replica: &str) -> Replay {
    let body = format!(
        r#"{{"id":"{id}","accountId":"{account}","text":"t","readAt":"2026-11-20T06:27:33.757Z",
        "madeAt":"2026-11-20T06:27:34Z","validUntil":"2026-11-27T06:27:33Z","requestId":"r-{id}",
        "madeBy":"{replica}","ofANewerVersion":true}}"#
    );
    Replay::Entry(offset, Message { body: body.into(), ..Message::default() })
}

fn view(max: usize, steps: impl IntoIterator<Item = Replay>) -> View {
    let view = View::new(max, &mut Registry::default());
    view.apply(Replay::Restarted { end: None });
    steps.into_iter().for_each(|step| view.apply(step));
    view
}

fn offsets(view: &View) -> Vec<u64> {
    view.read(|rows| rows.page(None, None, 1000)).unwrap().iter().map(|answer| answer.offset).collect()
}

#[test]
fn nothing_is_answered_before_all_that_was_there_is_applied() {
    let view = view(10, [entry(0, "a", "1", "v.1")]);
    assert!(view.read(|_| ()).is_none());
    assert_eq!(view.check().unwrap_err(), "replaying");
    view.apply(Replay::CaughtUp);
    assert_eq!(offsets(&view), [0]);
}

#[test]
fn of_several_entries_with_one_id_the_lowest_offset_wins() {
    let steps =
        [entry(0, "a", "1", "v.1"), entry(1, "a", "1", "v.2"), entry(2, "b", "1", "v.2"), Replay::CaughtUp];
    let view = view(10, steps);
    assert_eq!(offsets(&view), [0, 2]);
    assert_eq!(view.read(|rows| rows.find("a").unwrap().offer.made_by.clone()).unwrap(), "v.1");
    let counts = view.read(Rows::by_replica).unwrap();
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [("v.1".into(), 1), ("v.2".into(), 1)]);
    assert_eq!(view.duplicates.get(), 1);
}

#[test]
fn the_newest_are_kept_in_every_index() {
    let steps =
        (0..5).map(|n| entry(n, &format!("id-{n}"), "1", &format!("v.{n}"))).chain([Replay::CaughtUp]);
    let view = view(2, steps);
    assert_eq!(offsets(&view), [3, 4]);
    assert!(view.read(|rows| rows.find("id-2")).unwrap().is_none());
    let known = |id: &str| view.read(|rows| rows.knows(id)).unwrap();
    assert_eq!((known("id-4"), known("id-2")), (Some(true), None), "nobody can say");
    assert_eq!(view.read(Rows::by_replica).unwrap().len(), 2);
}

#[test]
fn a_page_goes_on_after_an_offset_and_can_be_of_one_account() {
    let steps =
        (0..6).map(|n| entry(n, &n.to_string(), &(n % 2).to_string(), "v.1")).chain([Replay::CaughtUp]);
    let view = view(10, steps);
    let page = |after, account, limit| {
        let page = view.read(|rows| rows.page(after, account, limit)).unwrap();
        page.iter().map(|answer| answer.offset).collect::<Vec<_>>()
    };
    assert_eq!(page(None, None, 2), [0, 1]);
    assert_eq!(page(Some(1), None, 2), [2, 3]);
    assert_eq!(page(Some(1), Some("0"), 9), [2, 4]);
    assert_eq!(page(Some(5), None, 9), [0_u64; 0]);
}

#[test]
fn an_entry_that_is_not_an_offer_is_ignored_and_a_new_stream_replaces_the_view() {
    let strange = Replay::Entry(0, Message { body: "hello".into(), ..Message::default() });
    let Replay::Entry(_, newer) = entry(0, "z", "1", "v.1") else { unreachable!() };
    let newer = Replay::Entry(0, Message { kind: Some("offer.v2".into()), ..newer });
    let view = view(10, [strange, newer, entry(1, "a", "1", "v.1"), Replay::CaughtUp]);
    assert_eq!(offsets(&view), [1]);
    view.apply(Replay::Restarted { end: None });
    assert!(view.read(|_| ()).is_none());
    view.apply(entry(0, "b", "1", "v.1"));
    view.apply(Replay::CaughtUp);
    assert_eq!(offsets(&view), [0]);
}

/// Replays entries as the reader of a stream does: their offsets and ids.
fn replayed(entries: &[(u64, u8)], max: usize) -> Arc<View> {
    let view = Arc::new(View::new(max, &mut Registry::default()));
    let ReplayOptions { mut length, is_enough, .. } = view.replay_options();
    let (first, end) = (entries.first().map_or(0, |entry| entry.0), entries.last().map(|entry| entry.0));
    loop {
        let start = end.map_or(0, |end| (end + 1).saturating_sub(length)).max(first);
        apply_from(&view, entries, start);
        if start == first || is_enough(start) {
            view.apply(Replay::CaughtUp);
            return view;
        }
        length *= 2;
    }
}

fn apply_from(view: &View, entries: &[(u64, u8)], start: u64) {
    view.apply(Replay::Restarted { end: entries.last().map(|entry| entry.0) });
    for (offset, id) in entries.iter().filter(|entry| entry.0 >= start) {
        view.apply(entry(*offset, &id.to_string(), "1", &format!("v.{}", offset % 3)));
    }
}

fn shown(view: &View) -> (Vec<OfferAnswer>, BTreeMap<String, usize>) {
    view.read(|rows| (rows.page(None, None, usize::MAX), rows.by_replica())).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 100, ..ProptestConfig::default() })]

    /// Ids are few, so that there are duplicates across each place at which reading may begin; offsets have gaps.
    #[test]
    fn a_part_of_the_stream_gives_the_same_view_as_all_of_it(
        max in 1_usize..8,
        ids in 1_u8..30,
        entries in prop::collection::vec((1_u64..4, any::<u8>()), 0..200),
    ) {
        let mut next = 0;
        let entries: Vec<_> = entries
            .into_iter()
            .map(|(gap, id)| {
                next += gap;
                (next - 1, id % ids)
            })
            .collect();
        let whole = Arc::new(View::new(max, &mut Registry::default()));
        apply_from(&whole, &entries, 0);
        whole.apply(Replay::CaughtUp);

        let part = replayed(&entries, max);

        prop_assert_eq!(shown(&part), shown(&whole));
        let rows = shown(&part).0;
        prop_assert_eq!(rows.iter().map(|row| &row.offer.id).collect::<BTreeSet<_>>().len(), rows.len());
        for id in 0..ids {
            let known = |view: &View| view.read(|rows| rows.knows(&id.to_string())).unwrap();
            let (part, whole) = (known(&part), known(&whole));
            prop_assert!(part == whole || part.is_none(), "id {}: {:?} and {:?}", id, part, whole);
        }
    }
}

#[test]
fn a_long_stream_is_not_read_from_its_first_entry_and_older_offers_are_unknown() {
    let entries: Vec<_> = (0..250).map(|n| (u64::from(n), n)).collect();
    let view = replayed(&entries, 10);
    assert_eq!(view.entries.load(Ordering::Relaxed), 22, "twice as many as are shown, and a quarter");
    let known = |id: &str| view.read(|rows| rows.knows(id)).unwrap();
    assert_eq!((known("249"), known("0")), (Some(true), None), "nobody can say");
    assert_eq!(view.duplicates.get(), 0);
}

#[test]
fn duplicates_at_the_end_make_reading_begin_further_back() {
    let mut entries: Vec<_> = (0..100).map(|n| (u64::from(n), n)).collect();
    entries.extend((100..130).map(|offset| (offset, 99)));
    let view = replayed(&entries, 10);
    assert_eq!(offsets(&view), (90..100).collect::<Vec<_>>());
    assert_eq!(view.duplicates.get(), 30, "each duplicate is counted once, however often it is read");
}

#[test]
fn offers_that_a_stream_has_dropped_are_unknown() {
    let view = view(10, [entry(7, "a", "1", "v.1"), Replay::CaughtUp]);
    assert_eq!(view.read(|rows| (rows.knows("a"), rows.knows("b"))).unwrap(), (Some(true), None));
}

#[test]
fn a_replay_shows_how_far_it_has_come() {
    let view = view(10, []);
    view.apply(Replay::Restarted { end: Some(30_874) });
    view.apply(entry(12_000, "a", "1", "v.1"));
    assert_eq!(view.check().unwrap_err(), "replaying: at offset 12000 of 30874");
    assert_eq!(view.progress(), Some(1));
    view.apply(Replay::CaughtUp);
    assert_eq!(view.progress(), None);
}
