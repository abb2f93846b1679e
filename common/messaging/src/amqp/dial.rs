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
    tcp::AsyncTcpStream,
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
        // A build without TLS has refused such an address before.
        #[cfg(feature = "tls")]
        let stream = match address.tls {
            true => stream.into_rustls(&tls_connector(options.ca.as_deref())?, &address.host).await?,
            false => stream,
        };
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

/// Returns what checks the broker's certificate. Whoever names an authority trusts it alone; otherwise those of the system count.
/// lapin's own way adds the one to the others, and fails in an image that has none.
#[cfg(feature = "tls")]
fn tls_connector(ca: Option<&str>) -> io::Result<lapin::tcp::RustlsConnector> {
    use lapin::tcp::RustlsConnectorConfig;
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};

    let trusted = match ca {
        None => RustlsConnectorConfig::new_with_native_certs()?,
        Some(pem) => {
            let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>();
            let mut trusted = RustlsConnectorConfig::default();
            trusted.add_parsable_certificates(certificates.map_err(io::Error::other)?);
            trusted
        }
    };
    trusted.connector_with_no_client_auth()
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
