//! From an address to a connection, bounded in time.

use std::{
    net::{Shutdown, TcpStream},
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lapin::{
    Connection, ConnectionProperties,
    tcp::{AsyncTcpStream, OwnedTLSConfig},
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo},
};

use super::{
    AmqpOptions,
    fault::{Fault, within},
};
use crate::settings::broker::{BrokerUrl, Login};

/// The largest frame, in bytes: RabbitMQ's own default. Without it lapin reserves 8 MB per connection.
const FRAME_MAX: u32 = 131_072;

/// A copy of a connection's socket, to shut it down: when the connection is over, or when it is dropped.
/// lapin has no time-out of its own for connecting, and a connection that was given up, or that hangs in
/// its close, keeps a thread and a socket for ever.
#[derive(Debug)]
pub(super) struct Hangup(Arc<Mutex<Option<OwnedFd>>>);

impl Hangup {
    pub(super) fn hang_up(&self) {
        if let Some(fd) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = TcpStream::from(fd).shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Hangup {
    fn drop(&mut self) {
        self.hang_up();
    }
}

/// Dials and shakes hands, within the connect time-out.
pub(super) async fn dial(
    options: &AmqpOptions,
    (address, login): &(BrokerUrl, Login),
    role: &str,
) -> Result<(Connection, Hangup), Fault> {
    let runtime = lapin::runtime::default_runtime()?;
    let name = format!("{} ({role})", options.instance);
    let properties = ConnectionProperties::default().with_connection_name(name.as_str().into());
    let tls = OwnedTLSConfig { identity: None, cert_chain: options.ca.clone() };
    let socket = Arc::new(Mutex::new(None));
    let hangup = Hangup(Arc::clone(&socket));
    let connector = Connection::connector(
        to_uri(address, login, options.heartbeat),
        runtime,
        async move |uri: AMQPUri, runtime| {
            let host = (uri.authority.host.clone(), uri.authority.port);
            let stream = AsyncTcpStream::connect(&runtime, runtime.to_socket_addrs(host)).await?;
            if let AsyncTcpStream::Plain(plain) = &stream {
                plain.get_ref().set_nodelay(true)?;
                let copy = plain.get_ref().as_fd().try_clone_to_owned()?;
                *socket.lock().unwrap_or_else(PoisonError::into_inner) = Some(copy);
            }
            Ok(match uri.scheme {
                AMQPScheme::AMQP => stream,
                AMQPScheme::AMQPS => stream.into_tls(&uri.authority.host, tls.as_ref()).await?,
            })
        },
        properties,
    );
    let connection = within(options.connect_timeout, "connecting", connector).await?;
    Ok((connection, hangup))
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
