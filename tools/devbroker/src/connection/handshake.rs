//! The beginning of a connection: versions, login, limits, vhost.
//! <https://www.rabbitmq.com/docs/access-control>, <https://www.rabbitmq.com/docs/heartbeats>

use std::time::Duration;

use amq_protocol::{
    frame::AMQPFrame,
    protocol::{AMQPClass, connection},
    types::{AMQPValue, FieldTable},
};
use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
};

use crate::{
    core::{Out, Peer, method::Say, refusal::Refusal},
    wire::{self, FRAME_MAX},
};

const HEADER: [u8; 8] = *b"AMQP\0\0\x09\x01";
const CHANNEL_MAX: u16 = 2047;
/// The smallest frame that AMQP allows to ask for.
const FRAME_MIN: u32 = 4096;
/// The only user, as in a RabbitMQ that was just installed.
const USER: &str = "guest";

/// What was agreed on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Agreed {
    pub(super) channel_max: u16,
    pub(super) frame_max: u32,
    pub(super) heartbeat: Option<Duration>,
}

/// Comes to an agreement with a client; `None` if there is none, of which the client is told.
pub(super) async fn greet(
    reader: &mut OwnedReadHalf,
    writer: &mut OwnedWriteHalf,
    buffer: &mut BytesMut,
    node: &str,
    heartbeat: u16,
) -> Option<(Peer, Agreed)> {
    while buffer.len() < HEADER.len() {
        if reader.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
        let known = buffer.len().min(HEADER.len());
        if buffer[..known] != HEADER[..known] {
            // What AMQP wants for another protocol or another version: ours, and the end.
            let _ = writer.write_all(&HEADER).await;
            return None;
        }
    }
    buffer.advance(HEADER.len());
    say(writer, start(node)).await?;
    let connection::AMQPMethod::StartOk(start_ok) = hear(reader, writer, buffer).await? else {
        return refuse(writer, &Refusal::command_invalid("expected 'connection.start_ok'"), (0, 0)).await;
    };
    let properties = start_ok.client_properties.clone();
    let mut peer =
        Peer { vhost: "".into(), user: USER.into(), address: String::new(), channel_max: 0, properties };
    if !may_log_in(&start_ok) {
        // To a client that knows no better, the end of the connection says that its login was refused.
        if start_ok.mechanism.as_str() == "PLAIN" && peer.is_capable("authentication_failure_close") {
            let why = "Login was refused using authentication mechanism PLAIN. For details see the broker \
                       logfile.";
            return refuse(writer, &Refusal::access_refused(why), (0, 0)).await;
        }
        return None;
    }
    let tune = connection::Tune { channel_max: CHANNEL_MAX, frame_max: FRAME_MAX, heartbeat };
    say(writer, tune).await?;
    let connection::AMQPMethod::TuneOk(tune_ok) = hear(reader, writer, buffer).await? else {
        return refuse(writer, &Refusal::command_invalid("expected 'connection.tune_ok'"), (0, 0)).await;
    };
    // RabbitMQ 4.0 hangs up without a word on limits beyond its own.
    let agreed = agree(&tune_ok)?;
    let connection::AMQPMethod::Open(open) = hear(reader, writer, buffer).await? else {
        return refuse(writer, &Refusal::command_invalid("expected 'connection.open'"), (0, 0)).await;
    };
    if open.virtual_host.as_str().is_empty() {
        return refuse(writer, &Refusal::not_allowed("vhost  not found"), (10, 40)).await;
    }
    (peer.vhost, peer.channel_max) = (open.virtual_host.as_str().into(), agreed.channel_max);
    Some((peer, agreed))
}

fn start(node: &str) -> connection::Start {
    let word = |text: &str| AMQPValue::LongString(text.into());
    let mut capabilities = FieldTable::default();
    for name in [
        "publisher_confirms",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ] {
        capabilities.insert(name.into(), AMQPValue::Boolean(true));
    }
    let mut server_properties = FieldTable::default();
    server_properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
    server_properties.insert("cluster_name".into(), word(node));
    server_properties.insert("product".into(), word("devbroker"));
    server_properties.insert("version".into(), word(env!("CARGO_PKG_VERSION")));
    server_properties.insert("platform".into(), word("Rust"));
    server_properties.insert("information".into(), word("A development broker: not for production"));
    connection::Start {
        version_major: 0,
        version_minor: 9,
        server_properties,
        mechanisms: "PLAIN".into(),
        locales: "en_US".into(),
    }
}

/// PLAIN: a zero, the user, a zero, the password.
fn may_log_in(start_ok: &connection::StartOk) -> bool {
    let guest = format!("\0{USER}\0{USER}");
    start_ok.mechanism.as_str() == "PLAIN" && start_ok.response.as_bytes() == guest.as_bytes()
}

fn agree(tune_ok: &connection::TuneOk) -> Option<Agreed> {
    let sensible = (FRAME_MIN..=FRAME_MAX).contains(&tune_ok.frame_max)
        && (1..=CHANNEL_MAX).contains(&tune_ok.channel_max);
    let heartbeat = (tune_ok.heartbeat > 0).then(|| Duration::from_secs(tune_ok.heartbeat.into()));
    sensible.then_some(Agreed { channel_max: tune_ok.channel_max, frame_max: tune_ok.frame_max, heartbeat })
}

pub(super) async fn say(writer: &mut OwnedWriteHalf, method: impl Say) -> Option<()> {
    let mut buffer = vec![];
    wire::encode(&Out::Method(0, method.class()), FRAME_MAX, &mut buffer);
    writer.write_all(&buffer).await.ok()
}

/// The next method of the connection; heartbeats may come before.
async fn hear(
    reader: &mut OwnedReadHalf,
    writer: &mut OwnedWriteHalf,
    buffer: &mut BytesMut,
) -> Option<connection::AMQPMethod> {
    loop {
        match wire::take_frame(buffer, FRAME_MAX) {
            Ok(Some((length, frame))) => {
                buffer.advance(length);
                match frame {
                    AMQPFrame::Method(0, AMQPClass::Connection(method)) => return Some(method),
                    AMQPFrame::Heartbeat => {}
                    _ => return refuse(writer, &Refusal::command_invalid("unexpected frame"), (0, 0)).await,
                }
            }
            Ok(None) => {
                if reader.read_buf(buffer).await.ok()? == 0 {
                    return None;
                }
            }
            Err((refusal, about)) => return refuse(writer, &refusal, about).await,
        }
    }
}

/// Says no, after which nothing follows.
pub(super) async fn refuse<T>(
    writer: &mut OwnedWriteHalf,
    refusal: &Refusal,
    about: (u16, u16),
) -> Option<T> {
    let _ = say(writer, refusal.close_of_connection(about)).await;
    None
}
