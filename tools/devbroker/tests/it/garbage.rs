//! Clients that are none: whatever they send, the broker lives, keeps little of it, and says goodbye where it can.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use amq_protocol::{
    frame::{AMQPFrame, WriteContext, gen_frame, parse_frame},
    protocol::{AMQPClass, basic, channel, connection},
    types::{AMQPValue, FieldTable},
};
use devbroker::Options;
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

use crate::kit::*;

/// A client that writes what it likes.
pub(crate) struct Raw(TcpStream);

impl Raw {
    pub(crate) fn connect(url: &str) -> Self {
        let socket = TcpStream::connect(url.strip_prefix("amqp://").unwrap()).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket.set_write_timeout(Some(LIMIT)).unwrap();
        Self(socket)
    }

    /// Through the handshake, with channel 1 open.
    pub(crate) fn open(url: &str) -> Self {
        let mut raw = Self::connect(url);
        raw.0.write_all(b"AMQP\0\0\x09\x01").unwrap();
        let start_ok = connection::StartOk {
            client_properties: FieldTable::default(),
            mechanism: "PLAIN".into(),
            response: "\0guest\0guest".into(),
            locale: "en_US".into(),
        };
        let tune_ok = connection::TuneOk { channel_max: 10, frame_max: 131_072, heartbeat: 0 };
        let open = connection::Open { virtual_host: "/".into() };
        for method in [
            connection::AMQPMethod::StartOk(start_ok),
            connection::AMQPMethod::TuneOk(tune_ok),
            connection::AMQPMethod::Open(open),
        ] {
            raw.send(&AMQPFrame::Method(0, AMQPClass::Connection(method)));
        }
        raw.send(&AMQPFrame::Method(1, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}))));
        // Greeting, limits, open-ok, and the channel's open-ok.
        let mut seen = vec![];
        while frames(&seen).len() < 4 {
            let mut chunk = [0; 1];
            raw.0.read_exact(&mut chunk).unwrap();
            seen.extend(chunk);
        }
        raw
    }

    pub(crate) fn consume_without_acks(&self, queue: &str) {
        let consume = basic::Consume {
            queue: queue.into(),
            consumer_tag: "".into(),
            no_local: false,
            no_ack: true,
            exclusive: false,
            nowait: false,
            arguments: FieldTable::default(),
        };
        self.send(&AMQPFrame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Consume(consume))));
    }

    fn send(&self, frame: &AMQPFrame) {
        (&self.0).write_all(&bytes(frame)).unwrap();
    }

    /// Returns what the broker still sends until it closes the connection.
    fn rest(mut self) -> Vec<AMQPFrame> {
        let _ = self.0.shutdown(Shutdown::Write);
        let mut rest = vec![];
        // A reset counts as an end.
        let _ = self.0.read_to_end(&mut rest);
        frames(&rest)
    }
}

fn bytes(frame: &AMQPFrame) -> Vec<u8> {
    gen_frame(frame)(WriteContext::from(vec![])).unwrap().into_inner().0
}

fn frames(mut bytes: &[u8]) -> Vec<AMQPFrame> {
    let mut frames = vec![];
    while let Ok((rest, frame)) = parse_frame(bytes) {
        frames.push(frame);
        bytes = rest;
    }
    frames
}

fn is_close(frame: &AMQPFrame) -> bool {
    matches!(frame, AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::Close(_))))
}

/// Frames that a client might send, some of them broken.
fn noise(rng: &mut StdRng) -> Vec<u8> {
    let mut frame = match rng.random_range(0..5) {
        0 => {
            let mut payload = vec![0; rng.random_range(0..200)];
            rng.fill_bytes(&mut payload);
            AMQPFrame::Body(rng.random_range(0..4), payload)
        }
        1 => {
            let publish = basic::Publish {
                exchange: "".into(),
                routing_key: "q".into(),
                mandatory: rng.random(),
                immediate: false,
            };
            AMQPFrame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Publish(publish)))
        }
        2 => AMQPFrame::Heartbeat,
        3 => AMQPFrame::Method(1, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}))),
        _ => AMQPFrame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Ack(basic::Ack::default()))),
    };
    if let AMQPFrame::Body(_, payload) = &mut frame {
        payload.truncate(rng.random_range(0..200));
    }
    let mut bytes = bytes(&frame);
    match rng.random_range(0..4) {
        0 => {
            let position = rng.random_range(0..bytes.len());
            bytes[position] = rng.random();
        }
        1 => bytes.truncate(rng.random_range(0..bytes.len())),
        _ => {}
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_mean_nothing_harm_nobody() {
    let broker = broker(Options::default()).await;
    let url = broker.url();
    let (_connection, channel) = channel(&url).await;
    declare(&channel, "q", "classic").await;
    for seed in 0..200 {
        let url = url.clone();
        let client = tokio::task::spawn_blocking(move || {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut raw = if seed % 2 == 0 { Raw::open(&url) } else { Raw::connect(&url) };
            if seed % 4 == 1 {
                raw.0.write_all(b"AMQP\0\0\x09\x01").unwrap();
            }
            for _ in 0..rng.random_range(1..20) {
                let noise = noise(&mut rng);
                // The broker may have hung up.
                if raw.0.write_all(&noise).is_err() {
                    break;
                }
            }
            let _ = raw.rest();
        });
        client.await.unwrap();
        assert_eq!(publish(&channel, "q", b"well").await.unwrap(), Confirmation::Ack(None), "seed {seed}");
    }
    let admin = broker.admin_address().unwrap();
    until("the end of all of them", async || {
        (ask(admin, "GET", "/status").await.1["connections"] == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_frame_is_answered_with_a_close() {
    let broker = broker(Options::default()).await;
    let url = broker.url();
    let deep = {
        let mut value = AMQPValue::FieldTable(FieldTable::default());
        for _ in 0..100 {
            let mut table = FieldTable::default();
            table.insert("".into(), value);
            value = AMQPValue::FieldTable(table);
        }
        let AMQPValue::FieldTable(arguments) = value else { unreachable!() };
        let declare = amq_protocol::protocol::queue::Declare { arguments, ..Default::default() };
        bytes(&AMQPFrame::Method(
            1,
            AMQPClass::Queue(amq_protocol::protocol::queue::AMQPMethod::Declare(declare)),
        ))
    };
    // So deep that the codec would run out of stack.
    let mut abyss = vec![1, 0, 1, 0, 1, 0xff, 0, 0, 50, 0, 10, 0, 0, 0, 0];
    let mut left: u32 = 0x1ff00 - 8;
    while left > 16 {
        left -= 6;
        abyss.extend((left - 4).to_be_bytes());
        abyss.extend([0, b'F']);
    }
    abyss.resize(7 + 0x1ff00, 0);
    abyss.push(206);
    for (what, sent, code) in [
        ("an unknown frame type", vec![9, 0, 1, 0, 0, 0, 0, 206], 501),
        ("a frame without its end", vec![8, 0, 0, 0, 0, 0, 0, 0], 501),
        ("a frame of 4 GB", vec![3, 0, 1, 255, 255, 255, 255], 501),
        ("a body before its method", bytes(&AMQPFrame::Body(1, vec![1])), 505),
        ("tables in tables", deep, 502),
        ("an abyss", abyss, 502),
    ] {
        let url = url.clone();
        let rest = tokio::task::spawn_blocking(move || {
            let mut raw = Raw::open(&url);
            raw.0.write_all(&sent).unwrap();
            let mut close = vec![];
            while !frames(&close).iter().any(is_close) {
                let mut chunk = [0; 1];
                raw.0.read_exact(&mut chunk).unwrap();
                close.extend(chunk);
            }
            let ok = connection::AMQPMethod::CloseOk(connection::CloseOk {});
            raw.send(&AMQPFrame::Method(0, AMQPClass::Connection(ok)));
            assert_eq!(raw.rest(), [], "nothing follows");
            frames(&close)
        });
        let rest = tokio::time::timeout(Duration::from_secs(20), rest).await.expect(what).unwrap();
        let Some(AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::Close(close)))) =
            rest.last()
        else {
            panic!("{what}: {rest:?}");
        };
        assert_eq!(close.reply_code, code, "{what}: {}", close.reply_text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_never_end_are_kept_within_bounds() {
    let broker = broker(Options::default()).await;
    let url = broker.url();
    let closed = tokio::task::spawn_blocking(move || {
        let mut raw = Raw::open(&url);
        for number in 1..=8_u16 {
            if number > 1 {
                let open = channel::AMQPMethod::Open(channel::Open {});
                raw.send(&AMQPFrame::Method(number, AMQPClass::Channel(open)));
            }
            let publish = basic::AMQPMethod::Publish(basic::Publish::default());
            raw.send(&AMQPFrame::Method(number, AMQPClass::Basic(publish)));
            let header = amq_protocol::frame::AMQPContentHeader {
                class_id: 60,
                body_size: 16 * 1024 * 1024,
                properties: BasicProperties::default(),
            };
            raw.send(&AMQPFrame::Header(number, header));
            let part = bytes(&AMQPFrame::Body(number, vec![0; 131_000]));
            for _ in 0..127 {
                if raw.0.write_all(&part).is_err() {
                    return true;
                }
            }
        }
        raw.rest().iter().any(is_close)
    });
    assert!(closed.await.unwrap(), "eight messages of 16 MiB, none of them whole");
}
