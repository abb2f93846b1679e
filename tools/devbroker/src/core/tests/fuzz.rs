//! Clients that do anything at all, in any order, with a seed that a failure names.

use amq_protocol::protocol::{
    basic::AMQPMethod as Basic, exchange::AMQPMethod as Ex, queue::AMQPMethod as Queue,
};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::*;

const NAMES: [&str; 8] = ["", "a", "b", "c", "#", "amq.topic", "amq.rabbitmq.trace", "amq.rabbitmq.reply-to"];

fn name(rng: &mut StdRng) -> ShortString {
    (*NAMES.choose(rng).unwrap()).into()
}

fn arguments(rng: &mut StdRng) -> FieldTable {
    let all = [
        ("x-queue-type", word("quorum")),
        ("x-queue-type", word("stream")),
        ("x-message-ttl", count(rng.random_range(0..50))),
        ("x-expires", count(rng.random_range(1..500))),
        ("x-max-length", count(rng.random_range(0..5))),
        ("x-dead-letter-exchange", word("")),
        ("x-dead-letter-routing-key", word(NAMES[rng.random_range(1..4)])),
        ("x-dead-letter-strategy", word("at-least-once")),
        ("x-delivery-limit", count(1)),
        ("x-max-priority", count(4)),
        ("x-single-active-consumer", AMQPValue::Boolean(true)),
        ("alternate-exchange", word("b")),
        ("x-stream-offset", word("first")),
        ("x-match", word("any")),
        ("x-death", word("mine")),
        ("x-max-length-bytes", count(2_000)),
    ];
    let chosen = rng.random_range(0..5);
    let mut chosen = table(&(0..chosen).map(|_| all.choose(rng).unwrap().clone()).collect::<Vec<_>>());
    // What would be refused, and end the connection, is rare enough as it is.
    if chosen.contains_key("x-max-length") || chosen.contains_key("x-dead-letter-strategy") {
        chosen.insert("x-overflow".into(), word("reject-publish"));
    }
    if chosen.contains_key("x-max-length-bytes") {
        chosen.insert("x-queue-type".into(), word("stream"));
    }
    chosen
}

fn method(rng: &mut StdRng) -> AMQPClass {
    let mut flag = || rng.random_bool(0.3);
    let (passive, durable, exclusive, auto_delete, multiple, requeue) =
        (flag(), !flag(), flag(), flag(), flag(), !flag());
    let nowait = false;
    let delivery_tag = rng.random_range(0..20);
    let (one, two, three, arguments) = (name(rng), name(rng), name(rng), arguments(rng));
    match rng.random_range(0..20) {
        0..4 => AMQPClass::Queue(Queue::Declare(q::Declare {
            queue: one,
            passive,
            durable,
            exclusive,
            auto_delete,
            nowait,
            arguments,
        })),
        4 => AMQPClass::Queue(Queue::Delete(q::Delete {
            queue: one,
            if_unused: passive,
            if_empty: multiple,
            nowait,
        })),
        5 => AMQPClass::Queue(Queue::Purge(q::Purge { queue: one, nowait })),
        6 => AMQPClass::Queue(Queue::Bind(q::Bind {
            queue: one,
            exchange: two,
            routing_key: three,
            nowait,
            arguments,
        })),
        7 => AMQPClass::Queue(Queue::Unbind(q::Unbind {
            queue: one,
            exchange: two,
            routing_key: three,
            arguments,
        })),
        8 => AMQPClass::Exchange(Ex::Declare(ex::Declare {
            exchange: one,
            kind: (*["direct", "fanout", "topic", "headers"].choose(rng).unwrap()).into(),
            passive,
            durable,
            auto_delete,
            internal: false,
            nowait,
            arguments,
        })),
        9 | 10 => AMQPClass::Exchange(Ex::Delete(ex::Delete { exchange: one, if_unused: passive, nowait })),
        11 => AMQPClass::Basic(Basic::Qos(basic::Qos { prefetch_count: 3, global: false })),
        12 | 13 => AMQPClass::Basic(Basic::Consume(basic::Consume {
            queue: one,
            consumer_tag: two,
            no_local: false,
            no_ack: passive,
            exclusive: auto_delete,
            nowait,
            arguments,
        })),
        14 => AMQPClass::Basic(Basic::Cancel(basic::Cancel { consumer_tag: one, nowait })),
        15 => AMQPClass::Basic(Basic::Get(basic::Get { queue: one, no_ack: passive })),
        16 => AMQPClass::Basic(Basic::Ack(basic::Ack { delivery_tag, multiple })),
        17 => AMQPClass::Basic(Basic::Nack(basic::Nack { delivery_tag, multiple, requeue })),
        18 => AMQPClass::Basic(Basic::Reject(basic::Reject { delivery_tag, requeue })),
        _ => close(),
    }
}

fn close() -> AMQPClass {
    AMQPClass::Channel(channel::AMQPMethod::Close(channel::Close::default()))
}

fn input(rng: &mut StdRng) -> Input {
    let number = rng.random_range(1..4);
    if rng.random_bool(0.4) {
        let method = basic::Publish {
            exchange: name(rng),
            routing_key: name(rng),
            mandatory: rng.random(),
            immediate: rng.random_bool(0.01),
        };
        let mut properties = plain().with_headers(arguments(rng)).with_priority(rng.random());
        if rng.random_bool(0.3) {
            properties = properties.with_expiration(rng.random_range(0..50).to_string().into());
        }
        if rng.random_bool(0.1) {
            properties = properties.with_reply_to("amq.rabbitmq.reply-to".into());
        }
        let body = Bytes::from(vec![b'x'; rng.random_range(0..100)]);
        return Input::Publish(number, Box::new(Publication { method, properties, body }));
    }
    Input::Method(number, method(rng))
}

/// Whatever clients do: no panic, a log that tells the same story, and nothing that nobody accounts for.
#[test]
fn clients_that_do_anything_break_nothing() {
    for seed in 0..150 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut core = Core::new(seed, MAX_CONNECTIONS);
        core.set_tracing("/", (seed % 2 == 0).then(|| "node".to_owned()));
        let (mut log, mut now) = (vec![], 1_000);
        let mut clients: Vec<_> = (0..3).map(|_| connect(&mut core)).collect();
        for _ in 0..400 {
            now += rng.random_range(0..20);
            core.tick(now);
            let n = rng.random_range(0..clients.len());
            let client = clients[n];
            for number in 1..4 {
                // A channel that was closed is opened again, as clients do, but not always at once.
                let close_ok = channel::AMQPMethod::CloseOk(channel::CloseOk {});
                let open = channel::AMQPMethod::Open(channel::Open {});
                if core
                    .channel(ChannelId { connection: client, channel: number })
                    .is_ok_and(|channel| channel.closing)
                    && rng.random_bool(0.5)
                {
                    core.handle(now, client, Input::Method(number, AMQPClass::Channel(close_ok)));
                }
                if core.channel(ChannelId { connection: client, channel: number }).is_err() {
                    core.handle(now, client, Input::Method(number, AMQPClass::Channel(open)));
                }
            }
            core.handle(now, client, input(&mut rng));
            if core.connections[&client].closing || rng.random_bool(0.01) {
                core.disconnect(now, client);
                clients[n] = connect(&mut core);
            }
            let output = core.take_output();
            log.extend(output.records);
            for client in &clients {
                core.drained(now, *client, 0);
            }
        }
        for client in clients {
            core.disconnect(now, client);
        }
        log.extend(core.take_output().records);
        recovered(seed, now, &log);
        // As of a time when nothing has expired: after a restart, another message may be at the head of a quorum queue.
        let again = recovered(seed, 0, &log);
        let durable = |core: &Core| {
            let view = core.snapshot();
            let queues = view.iter().filter(|record| matches!(record, Record::Queue { .. })).count();
            let positions = view.iter().flat_map(|record| match record {
                Record::Message { positions, .. } => {
                    positions.iter().map(|at| (at.queue, at.position)).collect()
                }
                _ => vec![],
            });
            let messages: BTreeSet<_> = positions.collect();
            (queues, messages)
        };
        assert_eq!(durable(&again), durable(&core), "seed {seed}");
        let all: Vec<_> = core.queues.keys().copied().collect();
        all.into_iter().for_each(|queue| core.delete_queue(queue));
        assert!(
            core.consumers.is_empty() && core.replies.is_empty() && core.timers.is_empty(),
            "seed {seed}"
        );
    }
}
