//! Messages that expire, are rejected, or go round.

use super::*;

#[test]
fn a_rung_gives_its_message_back_after_its_time_and_holds_it_while_the_target_is_full() {
    let mut bench = Bench::new();
    let to = |queue: &str| {
        vec![
            quorum(),
            ("x-max-length", count(1)),
            ("x-overflow", word("reject-publish")),
            ("x-dead-letter-exchange", word("")),
            ("x-dead-letter-routing-key", word(queue)),
            ("x-dead-letter-strategy", word("at-least-once")),
        ]
    };
    bench.queue("work", &to("dead"));
    let mut rung = to("work");
    rung.push(("x-message-ttl", count(500)));
    bench.queue("rung", &rung);
    assert_eq!(bench.publish("work", "first", plain()), ["ack 1"]);
    assert_eq!(bench.publish("work", "second", plain()), ["nack 2"], "it is full");
    assert_eq!(bench.publish("rung", "later", plain()), ["ack 3"]);
    bench.wait(5_000);
    assert_eq!((bench.messages("rung"), bench.messages("work")), (1, 1), "held");
    // Held over a restart too.
    let mut bench = bench.restarted();
    bench.wait(5_000);
    assert_eq!(bench.get("work"), ["got 1 first"]);
    bench.wait(1_001);
    assert_eq!((bench.messages("rung"), bench.messages("work")), (0, 2));
    assert_eq!(bench.get("work"), ["got 2 later"]);
    bench.reject(2, false);
    assert_eq!(bench.messages("work"), 2, "its next queue is not there");
    bench.queue("dead", &[quorum()]);
    bench.wait(1_001);
    assert_eq!((bench.messages("work"), bench.messages("dead")), (1, 1));
}

#[test]
fn a_time_of_nothing_is_enough_for_a_consumer_that_waits() {
    let mut bench = Bench::new();
    bench.queue("q", &[("x-message-ttl", count(0))]);
    bench.publish("q", "nobody", plain());
    assert_eq!(bench.consume("q", "one"), [""; 0]);
    assert_eq!(bench.publish("q", "there", plain())[0], "one gets 1 there");
}

#[test]
fn a_message_that_goes_in_circles_is_dropped() {
    let mut bench = Bench::new();
    let back = [
        ("x-message-ttl", count(10)),
        ("x-dead-letter-exchange", word("")),
        ("x-dead-letter-routing-key", word("q")),
    ];
    bench.queue("q", &back);
    bench.publish("q", "dizzy", plain());
    bench.wait(100);
    assert_eq!(bench.messages("q"), 0);
}

#[test]
fn deaths_are_counted_by_queue_and_reason_and_the_latest_stands_first() {
    let start = Message {
        exchange: "first".into(),
        routing_key: "key".into(),
        properties: plain().with_headers(table(&[("x-death", word("made up")), ("mine", word("kept"))])),
        body: Bytes::new(),
        dead_lettered: false,
    };
    let once = dead_letter::with_death(&start, "a", Reason::Expired, 1_000);
    let twice = dead_letter::with_death(&once, "b", Reason::Rejected, 2_000);
    let thrice = dead_letter::with_death(&twice, "a", Reason::Expired, 3_000);
    let headers = thrice.headers();
    let headers = headers.inner();
    for (name, value) in [
        ("mine", "kept"),
        ("x-first-death-queue", "a"),
        ("x-first-death-reason", "expired"),
        ("x-first-death-exchange", "first"),
        ("x-last-death-queue", "a"),
    ] {
        assert_eq!(headers[name], word(value), "{name}");
    }
    let AMQPValue::FieldArray(deaths) = &headers["x-death"] else { panic!("no array") };
    let brief = deaths.as_slice().iter().map(|death| match death {
        AMQPValue::FieldTable(death) => (death.inner()["queue"].clone(), death.inner()["count"].clone()),
        _ => panic!("no table"),
    });
    assert_eq!(brief.collect::<Vec<_>>(), [(word("a"), count(2)), (word("b"), count(1))]);
    let AMQPValue::FieldTable(first) = &deaths.as_slice()[0] else { panic!("no table") };
    assert_eq!(first.inner()["time"], AMQPValue::Timestamp(1), "when it died there first");
}

#[test]
fn a_death_takes_the_expiration_away_and_keeps_its_value() {
    let all = plain()
        .with_content_type("type".into())
        .with_content_encoding("encoding".into())
        .with_delivery_mode(2)
        .with_priority(3)
        .with_correlation_id("correlation".into())
        .with_reply_to("reply".into())
        .with_message_id("id".into())
        .with_timestamp(4)
        .with_type("kind".into())
        .with_user_id("guest".into())
        .with_app_id("app".into())
        .with_cluster_id("cluster".into());
    for reason in [Reason::Expired, Reason::Rejected, Reason::DeliveryLimit] {
        let start = Message {
            exchange: "".into(),
            routing_key: "a".into(),
            properties: all.clone().with_expiration("50".into()),
            body: Bytes::new(),
            dead_lettered: false,
        };
        let once = dead_letter::with_death(&start, "a", reason, 1_000);
        let others = once.properties.clone().with_headers(FieldTable::default());
        assert_eq!(others, all.clone().with_headers(FieldTable::default()), "{reason:?}");
        let later = ["b", "a"]
            .iter()
            .fold(once, |message, queue| dead_letter::with_death(&message, queue, reason, 2_000));
        let headers = later.headers();
        let AMQPValue::FieldArray(deaths) = &headers.inner()["x-death"] else { panic!("no array") };
        let original = deaths.as_slice().iter().map(|death| match death {
            AMQPValue::FieldTable(death) => death.inner().get("original-expiration").cloned(),
            _ => panic!("no table"),
        });
        assert_eq!(original.collect::<Vec<_>>(), [Some(word("50")), None], "{reason:?}: of a, of b");
    }
}

#[test]
fn a_dead_letter_that_nobody_takes_does_not_keep_others_back() {
    let mut bench = Bench::new();
    let arguments = [
        quorum(),
        ("x-dead-letter-exchange", word("amq.direct")),
        ("x-dead-letter-strategy", word("at-least-once")),
        ("x-overflow", word("reject-publish")),
    ];
    let bind = |queue: &str, exchange: &str| {
        AMQPClass::Queue(Queue::Bind(q::Bind {
            queue: queue.into(),
            exchange: exchange.into(),
            routing_key: "known".into(),
            nowait: false,
            arguments: FieldTable::default(),
        }))
    };
    bench.queue("q", &arguments);
    bench.method(bind("q", "amq.topic"));
    bench.publish("q", "stuck", plain());
    bench.publish_to("amq.topic", "known", "goes", plain());
    for tag in [1, 2] {
        bench.get("q");
        bench.reject(tag, false);
    }
    assert_eq!(bench.messages("q"), 2);
    bench.queue("target", &[]);
    bench.method(bind("target", "amq.direct"));
    bench.wait(1_001);
    assert_eq!((bench.messages("q"), bench.messages("target")), (1, 1));
}

#[test]
fn an_unused_queue_goes_after_its_time_and_a_used_one_stays() {
    let mut bench = Bench::new();
    bench.queue("q", &[("x-expires", count(1_000))]);
    bench.wait(800);
    bench.get("q");
    bench.wait(800);
    assert_eq!(bench.messages("q"), 0, "it was looked at");
    bench.consume("q", "one");
    bench.wait(10_000);
    assert_eq!(bench.messages("q"), 0, "it has a consumer");
    bench.cancel("one");
    bench.wait(1_001);
    assert_eq!(bench.messages("q"), u64::MAX);
}

#[test]
fn a_held_dead_letter_shares_its_place_with_no_later_message() {
    let mut bench = Bench::new();
    let arguments = [
        quorum(),
        ("x-dead-letter-exchange", word("amq.direct")),
        ("x-dead-letter-strategy", word("at-least-once")),
        ("x-overflow", word("reject-publish")),
    ];
    bench.queue("q", &arguments);
    bench.publish("q", "held", plain());
    bench.get("q");
    bench.reject(1, false);
    let mut bench = bench.restarted();
    bench.publish("q", "later", plain());
    assert_eq!(bench.get("q"), ["got 1 later"]);
    bench.ack(1);
    assert_eq!(bench.restarted().messages("q"), 1, "the held one");
}
