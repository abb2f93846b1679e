//! Deliveries: their consumers, their order, and requeueing.

use super::*;

#[test]
fn a_return_goes_out_before_its_confirm_and_confirms_are_joined() {
    let mut bench = Bench::new();
    bench.queue("q", &[]);
    assert_eq!(bench.publish("nowhere", "lost", plain()), ["returned lost", "ack 1"]);
    for body in ["a", "b", "c"] {
        let method = basic::Publish {
            exchange: "".into(),
            routing_key: "q".into(),
            mandatory: true,
            immediate: false,
        };
        let publication = Publication { method, properties: plain(), body: Bytes::from(body) };
        bench.core.handle(bench.now, bench.client, Input::Publish(1, Box::new(publication)));
    }
    assert_eq!(bench.seen(), ["ack 4 and before"], "one for the turn");
}

#[test]
fn consumers_take_turns_as_far_as_their_prefetch_goes() {
    let mut bench = Bench::new();
    bench.queue("q", &[]);
    bench.prefetch(2);
    bench.consume("q", "one");
    bench.consume("q", "two");
    let mut seen = vec![];
    for body in ["a", "b", "c", "d", "e"] {
        seen.extend(bench.publish("q", body, plain()).into_iter().filter(|seen| seen.contains("gets")));
    }
    assert_eq!(seen, ["one gets 1 a", "two gets 2 b", "one gets 3 c", "two gets 4 d"]);
    assert_eq!(bench.ack(2), ["two gets 5 e"]);
}

#[test]
fn what_is_given_back_keeps_its_place_and_is_marked() {
    let mut bench = Bench::new();
    bench.queue("q", &[quorum(), ("x-delivery-limit", count(2))]);
    bench.publish("q", "a", plain());
    bench.publish("q", "b", plain());
    assert_eq!(bench.get("q"), ["got 1 a"]);
    bench.reject(1, true);
    assert_eq!(bench.get("q"), ["got 2 a again acquired 1 failed 1"]);
    bench.reject(2, true);
    assert_eq!(bench.get("q"), ["got 3 a again acquired 2 failed 2"]);
    bench.reject(3, true);
    assert_eq!(bench.get("q"), ["got 4 b"], "after the limit it is dropped");
}

#[test]
fn only_one_consumer_is_active_until_it_goes() {
    let mut bench = Bench::new();
    bench.queue("q", &[("x-single-active-consumer", AMQPValue::Boolean(true))]);
    bench.consume("q", "one");
    bench.consume("q", "two");
    for (tag, body) in [(1, "a"), (2, "b")] {
        let seen = bench.publish("q", body, plain());
        assert_eq!(seen[0], format!("one gets {tag} {body}"));
    }
    bench.cancel("one");
    assert_eq!(bench.publish("q", "c", plain())[0], "two gets 3 c");
}

#[test]
fn an_exclusive_consumer_of_a_classic_queue_is_the_only_one_until_it_goes() {
    let single = ("x-single-active-consumer", AMQPValue::Boolean(true));
    let (classic, stream) = (of_type("classic"), of_type("stream"));
    let (free, refused): (&[&str], &[&str]) = (&[], &["close 403"]);
    for (arguments, present, new, expected) in [
        (vec![classic.clone()], None, true, free),
        (vec![classic.clone()], Some(true), false, refused),
        (vec![classic.clone()], Some(true), true, refused),
        (vec![classic.clone()], Some(false), true, refused),
        (vec![classic.clone()], Some(false), false, free),
        (vec![classic.clone(), single.clone()], None, true, refused),
        (vec![classic, single.clone()], Some(false), false, free),
        (vec![quorum()], Some(true), true, free),
        (vec![quorum(), single], Some(true), true, free),
        (vec![stream], Some(true), true, free),
    ] {
        let row = format!("{arguments:?}, {present:?}, {new}");
        let mut bench = Bench::new();
        bench.prefetch(1);
        bench.queue("q", &arguments);
        if let Some(exclusive) = present {
            assert_eq!(bench.consume_with("q", "present", exclusive), [""; 0], "{row}");
        }
        assert_eq!(bench.consume_with("q", "new", new), expected, "{row}");
    }
    let mut bench = Bench::new();
    bench.queue("q", &[]);
    bench.prefetch(1);
    bench.consume_with("q", "first", true);
    assert_eq!(bench.publish("q", "a", plain())[0], "first gets 1 a");
    bench.publish("q", "b", plain());
    assert_eq!(bench.get("q"), ["got 2 b"], "a get needs no consumer");
    bench.cancel("first");
    bench.consume_with("q", "second", true);
    assert_eq!(bench.publish("q", "c", plain())[0], "second gets 3 c");
}

#[test]
fn high_priorities_go_first() {
    for argument in [("x-max-priority", count(9)), quorum()] {
        let mut bench = Bench::new();
        bench.queue("q", &[argument]);
        for body in ["l1", "h1", "l2", "h2", "h3"] {
            let priority = if body.starts_with('h') { 9 } else { 1 };
            bench.publish("q", body, plain().with_priority(priority));
        }
        let got: Vec<_> = (0..5).flat_map(|_| bench.get("q")).collect();
        let got: Vec<_> = got.iter().filter_map(|got| got.split(' ').nth(2)).collect();
        assert_eq!(got, ["h1", "h2", "h3", "l1", "l2"]);
    }
}

#[test]
fn a_stream_drops_whole_segments_when_a_new_one_begins() {
    let mut bench = Bench::new();
    let segment = ("x-stream-max-segment-size-bytes", count(1_000));
    bench.queue("s", &[("x-queue-type", word("stream")), ("x-max-length-bytes", count(8_000)), segment]);
    let mut kept = vec![];
    for n in 0..200 {
        bench.publish("s", &n.to_string(), plain());
        kept.push(bench.messages("s"));
    }
    // It grows entry by entry, and shrinks by those of a segment.
    let drops: Vec<_> =
        kept.windows(2).filter(|pair| pair[1] != pair[0] + 1).map(|pair| pair[0] + 1 - pair[1]).collect();
    assert!(drops.len() > 5 && drops.iter().all(|dropped| *dropped > 1 && *dropped == drops[0]), "{drops:?}");
    let first = 200 - kept[199];
    let bench = bench.restarted();
    assert_eq!(200 - bench.messages("s"), first);
}

#[test]
fn a_stream_is_read_from_any_offset_and_keeps_its_end() {
    let mut bench = Bench::new();
    bench.queue("s", &[("x-queue-type", word("stream")), ("x-max-length-bytes", count(2_000))]);
    for n in 0..20 {
        bench.publish("s", &n.to_string(), plain());
    }
    let kept = bench.messages("s");
    assert!((1..20).contains(&kept), "{kept}");
    bench.prefetch(2);
    let first = 20 - kept;
    let seen = bench.consume("s", "next");
    assert_eq!(seen, [""; 0]);
    let from = |offset: AMQPValue| basic::Consume {
        queue: "s".into(),
        consumer_tag: "".into(),
        no_local: false,
        no_ack: false,
        exclusive: false,
        nowait: false,
        arguments: table(&[("x-stream-offset", offset)]),
    };
    for (offset, expected) in [(word("first"), first), (word("last"), 19), (count(18), 18), (count(0), first)]
    {
        let seen = bench.method(AMQPClass::Basic(Basic::Consume(from(offset))));
        assert!(seen[0].ends_with(&format!(" {expected} offset {expected}")), "{seen:?}");
        assert!(seen.len() <= 2, "no more than its prefetch: {seen:?}");
    }
    let mut bench = bench.restarted();
    assert_eq!(bench.messages("s"), kept);
    bench.prefetch(1);
    let seen = bench.method(AMQPClass::Basic(Basic::Consume(from(word("last")))));
    assert!(seen[0].ends_with(" 19 offset 19"), "{seen:?}");
}

#[test]
fn what_was_delivered_and_not_settled_comes_back_marked_and_counted() {
    let mut bench = Bench::new();
    bench.queue("quorum", &[quorum()]);
    bench.queue("classic", &[]);
    for queue in ["quorum", "classic"] {
        bench.publish(queue, "settled", plain().with_delivery_mode(2));
        bench.publish(queue, "seen", plain().with_delivery_mode(2));
        bench.publish(queue, "new", plain().with_delivery_mode(2));
        bench.publish(queue, "transient", plain());
        let settled = bench.get(queue);
        let tag = settled[0].split(' ').nth(1).unwrap().parse().unwrap();
        bench.get(queue);
        bench.ack(tag);
    }
    let mut bench = bench.restarted();
    assert_eq!(bench.get("quorum"), ["got 1 seen again acquired 1 failed 1"]);
    assert_eq!(bench.get("quorum"), ["got 2 new"]);
    assert_eq!(bench.get("quorum"), ["got 3 transient"], "a quorum queue keeps all");
    assert_eq!(bench.get("classic"), ["got 4 seen again"]);
    assert_eq!(bench.get("classic"), ["got 5 new"]);
    assert_eq!(bench.get("classic"), ["nothing"]);
}

#[test]
fn a_deleted_queue_tells_its_consumers() {
    let mut bench = Bench::new();
    bench.queue("q", &[]);
    bench.consume("q", "one");
    bench.publish("q", "a", plain());
    let delete = q::Delete { queue: "q".into(), if_unused: false, if_empty: false, nowait: false };
    assert_eq!(bench.method(AMQPClass::Queue(Queue::Delete(delete))), ["one is cancelled"]);
    assert_eq!(bench.ack(1), [""; 0], "what was delivered can still be settled");
}

#[test]
fn a_client_that_does_not_read_gets_no_more_until_it_does() {
    let mut bench = Bench::new();
    bench.queue("q", &[]);
    let mut delivered = bench.consume("q", "slow").len();
    for _ in 0..100 {
        delivered += bench.publish("q", &"x".repeat(50_000), plain()).len() - 1;
    }
    assert!((5..15).contains(&delivered), "{delivered}");
    assert!(bench.core.is_stalled(bench.client));
    let (now, client) = (bench.now, bench.client);
    bench.core.drained(now, client, 0);
    assert!((5..15).contains(&bench.seen().len()));
}
