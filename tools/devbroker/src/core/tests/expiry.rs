//! Messages with a time to live of their own.

use super::{publish::parse_expiration, *};

#[test]
fn an_expiration_is_a_number_of_milliseconds() {
    let invalid = |why: &str| Err(why.to_owned());
    for (text, expected) in [
        ("0", Ok(0)),
        ("50", Ok(50)),
        ("+50", Ok(50)),
        ("-0", Ok(0)),
        ("0000000000000000000000007", Ok(7)),
        ("315360000000", Ok(315_360_000_000)),
        ("315360000001", invalid("{value_too_large,315360000001}")),
        ("99999999999999999999", invalid("{value_too_large,99999999999999999999}")),
        ("-1", invalid("{value_negative,-1}")),
        ("-99999999999999999999", invalid("{value_negative,-99999999999999999999}")),
        ("", invalid("no_integer")),
        ("-", invalid("no_integer")),
        ("soon", invalid("no_integer")),
        (" 1", invalid("no_integer")),
        ("1.5", invalid("{leftover_string,\".5\"}")),
        ("-1s", invalid("{leftover_string,\"s\"}")),
    ] {
        assert_eq!(parse_expiration(text), expected, "{text:?}");
    }
    let mut bench = Bench::new();
    bench.queue("q", &[]);
    assert_eq!(bench.publish("q", "", expiring("soon")), ["close 406"]);
}

#[test]
fn the_shorter_of_a_messages_and_the_queues_time_counts_over_a_restart_too() {
    for queue_type in ["classic", "quorum"] {
        for (of_queue, of_message, lives) in
            [(None, "100", 100), (Some(50), "100", 50), (Some(200), "100", 100), (Some(50), "+0100", 50)]
        {
            let mut arguments = vec![of_type(queue_type)];
            arguments.extend(of_queue.map(|ttl| ("x-message-ttl", count(ttl))));
            let mut bench = Bench::new();
            bench.queue("q", &arguments);
            bench.publish("q", "", expiring(of_message).with_delivery_mode(2));
            bench.wait(lives / 2);
            let mut bench = bench.restarted();
            bench.wait(lives / 2 - 1);
            assert_eq!(bench.messages("q"), 1, "{queue_type}: {of_queue:?}, {of_message}");
            bench.wait(1);
            assert_eq!(bench.messages("q"), 0, "{queue_type}: {of_queue:?}, {of_message}");
        }
    }
}

#[test]
fn a_message_expires_at_the_head_and_is_not_delivered_after_its_time() {
    for (queue_type, behind) in [("classic", 1), ("quorum", 2)] {
        let mut bench = Bench::new();
        let to = [("x-dead-letter-exchange", word("")), ("x-dead-letter-routing-key", word("dead"))];
        bench.queue("dead", &[]);
        bench.queue("q", &[&to[..], &[of_type(queue_type)]].concat());
        let fill = |bench: &mut Bench| {
            bench.publish("q", "stays", plain());
            bench.publish("q", "short", expiring("50"));
            bench.publish("q", "after", plain());
            bench.wait(100);
        };
        fill(&mut bench);
        assert_eq!((bench.messages("q"), bench.messages("dead")), (3, 0), "{queue_type}");
        // A consumer gets what is left, and the expired message goes on the way.
        assert_eq!(bench.consume("q", "one"), ["one gets 1 stays", "one gets 2 after"], "{queue_type}");
        assert_eq!((bench.messages("q"), bench.messages("dead")), (2, 1), "{queue_type}");
        bench.cancel("one");
        bench.ack(1);
        bench.ack(2);
        fill(&mut bench);
        let get = basic::Get { queue: "q".into(), no_ack: true };
        let get = Input::Method(1, AMQPClass::Basic(Basic::Get(get)));
        bench.core.handle(bench.now, bench.client, get);
        let counted = bench.core.take_output().frames.into_iter().find_map(|(_, out)| match out {
            Outgoing::Content(_, AMQPClass::Basic(Basic::GetOk(ok)), ..) => Some(ok.message_count),
            _ => None,
        });
        assert_eq!(counted, Some(behind), "{queue_type}: a quorum queue drops it later");
        assert_eq!((bench.messages("q"), bench.messages("dead")), (1, 2), "{queue_type}");
        assert_eq!(bench.get("q"), ["got 4 after"], "{queue_type}");
    }
}

#[test]
fn each_priority_of_a_quorum_queue_has_a_head_and_a_classic_queue_has_one() {
    for (argument, left) in [(("x-max-priority", count(9)), 3), (quorum(), 2)] {
        let mut bench = Bench::new();
        bench.queue("q", &[argument]);
        bench.publish("q", "high", plain().with_priority(9));
        bench.publish("q", "low", expiring("50").with_priority(1));
        bench.publish("q", "low too", plain().with_priority(1));
        bench.wait(51);
        assert_eq!(bench.messages("q"), left);
        assert_eq!(bench.consume("q", "one"), ["one gets 1 high", "one gets 2 low too"]);
    }
}

#[test]
fn a_time_of_zero_is_enough_for_a_consumer_with_room() {
    for queue_type in ["classic", "quorum"] {
        let mut bench = Bench::new();
        bench.queue("q", &[of_type(queue_type)]);
        bench.prefetch(1);
        bench.publish("q", "nobody", expiring("0"));
        assert_eq!(bench.consume("q", "one"), [""; 0], "{queue_type}");
        assert_eq!(bench.publish("q", "in time", expiring("0"))[0], "one gets 1 in time", "{queue_type}");
        bench.publish("q", "no room", expiring("0"));
        assert_eq!(bench.ack(1), [""; 0], "{queue_type}");
    }
}

#[test]
fn a_delivery_does_not_expire_before_it_comes_back() {
    for queue_type in ["classic", "quorum"] {
        let mut bench = Bench::new();
        bench.queue("q", &[of_type(queue_type)]);
        bench.publish("q", "late", expiring("50"));
        bench.get("q");
        bench.wait(100);
        assert_eq!(bench.messages("q"), 1, "{queue_type}: it is in flight");
        bench.reject(1, true);
        assert_eq!(bench.messages("q"), 0, "{queue_type}");
    }
}

#[test]
fn a_stream_keeps_a_message_whatever_its_expiration_says() {
    let mut bench = Bench::new();
    bench.queue("s", &[of_type("stream")]);
    bench.publish("s", "", expiring("1"));
    bench.wait(100);
    assert_eq!(bench.messages("s"), 1);
}
