//! The handshake of a connection: version, login, limits and vhost.
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
    core::{Outgoing, Peer, error::AmqpError, method::ServerMethod},
    wire::{self, FRAME_MAX},
};

const HEADER: [u8; 8] = *b"AMQP\0\0\x09\x01";
const CHANNEL_MAX: u16 = 2047;
/// Smallest frame size that a client may ask for; AMQP has 4096, RabbitMQ twice that.
const FRAME_MIN: u32 = 8192;
/// The only user and its password, as in a new RabbitMQ.
const USER: &str = "guest";

/// Limits that the client and the broker have negotiated.
#[derive(Debug, Clone, Copy)]
pub(super) struct Negotiated {
    pub(super) channel_max: u16,
    pub(super) frame_max: u32,
    pub(super) heartbeat: Option<Duration>,
}

/// Negotiates with a client. Returns `None` if that fails; the client has been sent the error then.
pub(super) async fn negotiate(
    reader: &mut OwnedReadHalf,
    writer: &mut OwnedWriteHalf,
    buffer: &mut BytesMut,
    node: &str,
    heartbeat: u16,
) -> Option<(Peer, Negotiated)> {
    while buffer.len() < HEADER.len() {
        if reader.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
        let known = buffer.len().min(HEADER.len());
        if buffer[..known] != HEADER[..known] {
            // AMQP's answer to another protocol or version: our header, and then the end of the connection.
            let _ = writer.write_all(&HEADER).await;
            return None;
        }
    }
    buffer.advance(HEADER.len());
    send(writer, start(node)).await?;
    let connection::AMQPMethod::StartOk(start_ok) = receive(reader, writer, buffer).await? else {
        return fail(writer, &AmqpError::command_invalid("expected 'connection.start_ok'"), (0, 0)).await;
    };
    let properties = start_ok.client_properties.clone();
    let mut peer =
        Peer { vhost: "".into(), user: USER.into(), address: String::new(), channel_max: 0, properties };
    if !may_log_in(&start_ok) {
        // A client without this capability learns from the closed connection that its login was refused.
        if start_ok.mechanism.as_str() == "PLAIN" && peer.has_capability("authentication_failure_close") {
            let why = "Login was refused using authentication mechanism PLAIN. For details see the broker \
                       logfile.";
            return fail(writer, &AmqpError::access_refused(why), (0, 0)).await;
        }
        return None;
    }
    let tune = connection::Tune { channel_max: CHANNEL_MAX, frame_max: FRAME_MAX, heartbeat };
    send(writer, tune).await?;
    let connection::AMQPMethod::TuneOk(tune_ok) = receive(reader, writer, buffer).await? else {
        return fail(writer, &AmqpError::command_invalid("expected 'connection.tune_ok'"), (0, 0)).await;
    };
    // RabbitMQ disconnects without an error when a client asks for more than was offered.
    let negotiated = accept_limits(&tune_ok)?;
    let connection::AMQPMethod::Open(open) = receive(reader, writer, buffer).await? else {
        return fail(writer, &AmqpError::command_invalid("expected 'connection.open'"), (0, 0)).await;
    };
    if open.virtual_host.as_str().is_empty() {
        return fail(writer, &AmqpError::not_allowed("vhost  not found"), (10, 40)).await;
    }
    (peer.vhost, peer.channel_max) = (open.virtual_host.as_str().into(), negotiated.channel_max);
    Some((peer, negotiated))
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

/// Checks a PLAIN login: a zero byte, the user, a zero byte, the password.
fn may_log_in(start_ok: &connection::StartOk) -> bool {
    let guest = format!("\0{USER}\0{USER}");
    start_ok.mechanism.as_str() == "PLAIN" && start_ok.response.as_bytes() == guest.as_bytes()
}

fn accept_limits(tune_ok: &connection::TuneOk) -> Option<Negotiated> {
    let is_within_limits = (FRAME_MIN..=FRAME_MAX).contains(&tune_ok.frame_max)
        && (1..=CHANNEL_MAX).contains(&tune_ok.channel_max);
    let heartbeat = (tune_ok.heartbeat > 0).then(|| Duration::from_secs(tune_ok.heartbeat.into()));
    is_within_limits.then_some(Negotiated {
        channel_max: tune_ok.channel_max,
        frame_max: tune_ok.frame_max,
        heartbeat,
    })
}

pub(super) async fn send(writer: &mut OwnedWriteHalf, method: impl ServerMethod) -> Option<()> {
    let mut buffer = vec![];
    wire::encode(&Outgoing::Method(0, method.class()), FRAME_MAX, &mut buffer);
    writer.write_all(&buffer).await.ok()
}

/// Receives the next method of the connection; heartbeats may come before it.
async fn receive(
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
                    _ => {
                        return fail(writer, &AmqpError::command_invalid("unexpected frame"), (0, 0)).await;
                    }
                }
            }
            Ok(None) => {
                if reader.read_buf(buffer).await.ok()? == 0 {
                    return None;
                }
            }
            Err((error, about)) => return fail(writer, &error, about).await,
        }
    }
}

/// Sends an error, after which nothing follows.
pub(super) async fn fail<T>(writer: &mut OwnedWriteHalf, error: &AmqpError, about: (u16, u16)) -> Option<T> {
    let _ = send(writer, error.close_of_connection(about)).await;
    None
}
