//! The rules of the core, without a wire: commands in, frames out, time as it is said.

mod fuzz;

use amq_protocol::{
    protocol::{
        BasicProperties, basic, basic::AMQPMethod as Basic, channel, confirm, exchange as ex, queue as q,
        queue::AMQPMethod as Queue,
    },
    types::{AMQPValue, ShortString},
};
use bytes::Bytes;

use super::{death::Reason, message::Message, *};

/// A broker with one client on one channel that confirms.
struct Bench {
    core: Core,
    client: ConnectionId,
    now: u64,
    log: Vec<Record>,
}

/// What a client saw, short: `deliver 1 body`, `ack 1`, `nack 2`, `return body`, `close 404`.
type Seen = Vec<String>;

impl Bench {
    fn new() -> Self {
        let mut core = Core::new(1);
        let client = connect(&mut core);
        let mut bench = Self { core, client, now: 1_000, log: vec![] };
        bench.seen();
        bench
    }

    fn method(&mut self, method: AMQPClass) -> Seen {
        self.core.handle(self.now, self.client, Input::Method(1, method));
        self.seen()
    }

    fn queue(&mut self, name: &str, arguments: &[(&str, AMQPValue)]) -> Seen {
        let declare = q::Declare {
            queue: name.into(),
            passive: false,
            durable: true,
            exclusive: false,
            auto_delete: false,
            nowait: false,
            arguments: table(arguments),
        };
        self.method(AMQPClass::Queue(Queue::Declare(declare)))
    }

    fn publish(&mut self, queue: &str, body: &str, properties: BasicProperties) -> Seen {
        self.publish_to("", queue, body, properties)
    }

    fn publish_to(&mut self, exchange: &str, key: &str, body: &str, properties: BasicProperties) -> Seen {
        let method = basic::Publish {
            exchange: exchange.into(),
            routing_key: key.into(),
            mandatory: true,
            immediate: false,
        };
        let publication = Publication { method, properties, body: Bytes::copy_from_slice(body.as_bytes()) };
        self.core.handle(self.now, self.client, Input::Publish(1, Box::new(publication)));
        self.seen()
    }

    fn consume(&mut self, queue: &str, tag: &str) -> Seen {
        let consume = basic::Consume {
            queue: queue.into(),
            consumer_tag: tag.into(),
            no_local: false,
            no_ack: false,
            exclusive: false,
            nowait: false,
            arguments: FieldTable::default(),
        };
        self.method(AMQPClass::Basic(Basic::Consume(consume)))
    }

    fn prefetch(&mut self, prefetch_count: u16) {
        self.method(AMQPClass::Basic(Basic::Qos(basic::Qos { prefetch_count, global: false })));
    }

    fn get(&mut self, queue: &str) -> Seen {
        let get = basic::Get { queue: queue.into(), no_ack: false };
        self.method(AMQPClass::Basic(Basic::Get(get)))
    }

    fn ack(&mut self, delivery_tag: u64) -> Seen {
        self.method(AMQPClass::Basic(Basic::Ack(basic::Ack { delivery_tag, multiple: false })))
    }

    fn reject(&mut self, delivery_tag: u64, requeue: bool) -> Seen {
        self.method(AMQPClass::Basic(Basic::Reject(basic::Reject { delivery_tag, requeue })))
    }

    /// Time passes, as the engine would let it.
    fn wait(&mut self, millis: u64) -> Seen {
        let end = self.now + millis;
        while let Some(at) = self.core.next_timer().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.core.tick(self.now);
        }
        self.now = end;
        self.seen()
    }

    fn seen(&mut self) -> Seen {
        let output = self.core.take_output();
        self.log.extend(output.records);
        output.frames.into_iter().filter_map(|(_, out)| shown(&out)).collect()
    }

    /// The broker after `kill -9`: what the log says, and the same client again.
    fn restarted(self) -> Self {
        let mut core = recovered(2, self.now, &self.log);
        core.take_output();
        // The snapshot says the same as the long log.
        let short = recovered(2, self.now, &core.snapshot());
        let view = |core: &Core| core.queues_view(None);
        assert_eq!(view(&short), view(&core));
        let client = connect(&mut core);
        core.take_output();
        Self { core, client, now: self.now, log: self.log }
    }

    fn messages(&self, queue: &str) -> u64 {
        let view = self.core.queues_view(None);
        let queue = view.as_array().unwrap().iter().find(|view| view["name"] == queue);
        queue.map_or(u64::MAX, |queue| queue["messages"].as_u64().unwrap())
    }
}

fn recovered(nonce: u64, now: u64, log: &[Record]) -> Core {
    let mut recovery = recover::Recovery::new(Core::new(nonce));
    log.iter().for_each(|record| recovery.take(record.clone()));
    recovery.finish(now)
}

fn connect(core: &mut Core) -> ConnectionId {
    let mut capabilities = FieldTable::default();
    capabilities.insert("consumer_cancel_notify".into(), AMQPValue::Boolean(true));
    let properties = table(&[("capabilities", AMQPValue::FieldTable(capabilities))]);
    let peer =
        Peer { vhost: "/".into(), user: "guest".into(), address: String::new(), channel_max: 10, properties };
    let client = core.connect(1_000, peer).unwrap();
    let open = AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}));
    core.handle(1_000, client, Input::Method(1, open));
    let select = AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select { nowait: false }));
    core.handle(1_000, client, Input::Method(1, select));
    client
}

fn shown(out: &Out) -> Option<String> {
    match out {
        Out::Content(_, AMQPClass::Basic(method), message, extra) => {
            let body = String::from_utf8_lossy(&message.body);
            let again = |redelivered: bool| if redelivered { " again" } else { "" };
            let extra = match extra {
                Extra::None => String::new(),
                Extra::DeliveryCount(count) => format!(" count {count}"),
                Extra::StreamOffset(offset) => format!(" offset {offset}"),
            };
            Some(match method {
                Basic::Deliver(it) => {
                    let (tag, to) = (it.delivery_tag, &it.consumer_tag);
                    format!("{to} gets {tag} {body}{}{extra}", again(it.redelivered))
                }
                Basic::GetOk(it) => format!("got {} {body}{}{extra}", it.delivery_tag, again(it.redelivered)),
                _ => format!("returned {body}"),
            })
        }
        Out::Method(_, AMQPClass::Basic(Basic::Ack(ack))) => {
            Some(format!("ack {}{}", ack.delivery_tag, if ack.multiple { " and before" } else { "" }))
        }
        Out::Method(_, AMQPClass::Basic(Basic::Nack(nack))) => Some(format!("nack {}", nack.delivery_tag)),
        Out::Method(_, AMQPClass::Basic(Basic::GetEmpty(_))) => Some("nothing".into()),
        Out::Method(_, AMQPClass::Basic(Basic::Cancel(it))) => {
            Some(format!("{} is cancelled", it.consumer_tag))
        }
        Out::Method(_, AMQPClass::Channel(channel::AMQPMethod::Close(it))) => {
            Some(format!("close {}", it.reply_code))
        }
        Out::Method(_, AMQPClass::Connection(connection::AMQPMethod::Close(it))) => {
            Some(format!("hang up {} {}", it.reply_code, it.reply_text))
        }
        _ => None,
    }
}

fn table(pairs: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in pairs {
        table.insert((*name).into(), value.clone());
    }
    table
}

fn word(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn count(n: i64) -> AMQPValue {
    AMQPValue::LongLongInt(n)
}

fn plain() -> BasicProperties {
    BasicProperties::default()
}

fn quorum() -> (&'static str, AMQPValue) {
    ("x-queue-type", word("quorum"))
}

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
    assert_eq!(bench.get("q"), ["got 2 a again count 1"]);
    bench.reject(2, true);
    assert_eq!(bench.get("q"), ["got 3 a again count 2"]);
    bench.reject(3, true);
    assert_eq!(bench.get("q"), ["got 4 b"], "after the limit it is dropped");
}

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
    let once = death::died(&start, "a", Reason::Expired, 1_000);
    let twice = death::died(&once, "b", Reason::Rejected, 2_000);
    let thrice = death::died(&twice, "a", Reason::Expired, 3_000);
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
fn only_one_consumer_is_active_until_it_goes() {
    let mut bench = Bench::new();
    bench.queue("q", &[("x-single-active-consumer", AMQPValue::Boolean(true))]);
    bench.consume("q", "one");
    bench.consume("q", "two");
    for (tag, body) in [(1, "a"), (2, "b")] {
        let seen = bench.publish("q", body, plain());
        assert_eq!(seen[0], format!("one gets {tag} {body}"));
    }
    let cancel = basic::Cancel { consumer_tag: "one".into(), nowait: false };
    bench.method(AMQPClass::Basic(Basic::Cancel(cancel)));
    assert_eq!(bench.publish("q", "c", plain())[0], "two gets 3 c");
}

#[test]
fn high_priorities_go_first() {
    // A quorum queue gives two of the high ones to one of the others.
    let cases = [
        (("x-max-priority", count(9)), ["h1", "h2", "h3", "l1", "l2"]),
        (quorum(), ["h1", "h2", "l1", "h3", "l2"]),
    ];
    for (argument, expected) in cases {
        let mut bench = Bench::new();
        bench.queue("q", &[argument]);
        for body in ["l1", "h1", "l2", "h2", "h3"] {
            let priority = if body.starts_with('h') { 9 } else { 1 };
            bench.publish("q", body, plain().with_priority(priority));
        }
        let got: Vec<_> = (0..5).flat_map(|_| bench.get("q")).collect();
        let got: Vec<_> = got.iter().filter_map(|got| got.split(' ').nth(2)).collect();
        assert_eq!(got, expected);
    }
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
    assert_eq!(bench.get("quorum"), ["got 1 seen again count 1"]);
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
    let cancel = basic::Cancel { consumer_tag: "one".into(), nowait: false };
    bench.method(AMQPClass::Basic(Basic::Cancel(cancel)));
    bench.wait(1_001);
    assert_eq!(bench.messages("q"), u64::MAX);
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
fn what_this_broker_does_not_do_is_refused_by_its_name() {
    let copies = |name: &str| {
        let keys = AMQPValue::FieldArray(vec![word("other")].into());
        plain().with_headers(table(&[(name, keys)]))
    };
    for (properties, name) in [
        (copies("CC"), "the header CC"),
        (copies("BCC"), "the header BCC"),
        (plain().with_expiration("5".into()), "a message's expiration"),
    ] {
        let mut bench = Bench::new();
        assert_eq!(bench.publish("q", "", properties), [format!("hang up 540 NOT_IMPLEMENTED - {name}")]);
    }
    for (arguments, name) in [
        (vec![("x-max-length", count(1))], "x-max-length without x-overflow=reject-publish"),
        (vec![("x-max-length-bytes", count(1))], "x-max-length-bytes"),
        (vec![("x-overflow", word("drop-head"))], "x-overflow other than reject-publish"),
        (vec![("x-queue-type", word("stream")), ("x-max-age", word("1D"))], "x-max-age"),
    ] {
        let mut bench = Bench::new();
        assert_eq!(bench.queue("q", &arguments), [format!("hang up 540 NOT_IMPLEMENTED - {name}")]);
    }
    let bind = ex::AMQPMethod::Bind(ex::Bind::default());
    for (method, name) in [
        (AMQPClass::Exchange(bind), "exchange.bind"),
        (AMQPClass::Basic(Basic::Recover(basic::Recover { requeue: true })), "basic.recover"),
        (
            AMQPClass::Basic(Basic::Qos(basic::Qos { prefetch_count: 1, global: true })),
            "basic.qos with global=true",
        ),
    ] {
        let mut bench = Bench::new();
        assert_eq!(bench.method(method), [format!("hang up 540 NOT_IMPLEMENTED - {name}")]);
    }
}
