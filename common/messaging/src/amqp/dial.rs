//! From an address to a connection, within a time limit.

use std::{
    io,
    net::{Shutdown, TcpStream},
    os::fd::AsFd as _,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::broker::{BrokerUrl, Login};
use lapin::{
    Connection, ConnectionProperties,
    tcp::{AsyncTcpStream, OwnedTLSConfig},
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo},
};

use super::{
    AmqpOptions,
    fault::{Fault, within},
};

/// Largest frame in bytes, RabbitMQ's default. Without it lapin reserves 8 MB per connection.
const FRAME_MAX: u32 = 131_072;

/// A second handle of a connection's socket, which shuts it down when the connection is closed or abandoned. lapin has
/// no time-outs: a connection that hangs, in its handshake or while closing, would keep a thread and a socket forever.
#[derive(Debug)]
pub(super) struct SocketGuard(Option<TcpStream>);

impl SocketGuard {
    /// Shuts the socket down, which ends whatever waits for the broker.
    pub(super) fn shutdown(&self) {
        if let Some(socket) = &self.0 {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for SocketGuard {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// Connects and logs in, within the connect time-out.
pub(super) async fn dial(
    options: &AmqpOptions,
    (address, login): &(BrokerUrl, Login),
    role: &str,
) -> Result<(Connection, SocketGuard), Fault> {
    let runtime = lapin::runtime::default_runtime()?;
    let name = format!("{} ({role})", options.instance);
    let uri = to_uri(address, login, options.settings.amqp_heartbeat);
    let properties = ConnectionProperties::default().with_connection_name(name.as_str().into());
    let tls = OwnedTLSConfig { identity: None, cert_chain: options.ca.clone() };
    // lapin runs the handshake on a thread of its own, which does not stop when nobody waits for it any more.
    let mut guard = SocketGuard(None);
    let connector = async {
        // Connected here and not by lapin: where it cannot connect, lapin 4.12.3 leaks a task and its channels (13 KB),
        // and it reserves its 8 MB of buffers before it tries.
        let host = (address.host.clone(), address.port);
        let stream = AsyncTcpStream::connect(&runtime, runtime.to_socket_addrs(host)).await?;
        if let AsyncTcpStream::Plain(plain) = &stream {
            plain.get_ref().set_nodelay(true)?;
            guard.0 = Some(plain.get_ref().as_fd().try_clone_to_owned()?.into());
        }
        let stream = if address.tls { stream.into_tls(&address.host, tls.as_ref()).await? } else { stream };
        let stream = Mutex::new(Some(stream));
        let take = async move |_: AMQPUri, _| {
            let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
            Ok(stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?)
        };
        Ok::<_, Fault>(Connection::connector(uri, runtime, take, properties).await?)
    };
    let connection = within(options.settings.amqp_connect_timeout, "connecting", connector).await?;
    Ok((connection, guard))
}

fn to_uri(address: &BrokerUrl, login: &Login, heartbeat: Duration) -> AMQPUri {
    AMQPUri {
        scheme: if address.tls { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo {
                username: login.username.clone(),
                password: login.password.expose().to_owned(),
            },
            host: address.host.clone(),
            port: address.port,
        },
        vhost: address.vhost.clone(),
        query: AMQPQueryString {
            frame_max: Some(FRAME_MAX),
            heartbeat: Some(u16::try_from(heartbeat.as_secs()).unwrap_or(u16::MAX)),
            ..Default::default()
        },
    }
}
