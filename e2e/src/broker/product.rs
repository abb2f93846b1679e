//! Which broker it is that answers: the first frame that it sends says so, before anybody has logged in.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use amq_protocol::{
    frame::{AMQPFrame, parse_frame},
    protocol::{AMQPClass, connection},
};
use lapin::types::FieldTable;

/// Protocol header of AMQP 0-9-1, which a client sends first.
const GREETING: &[u8] = b"AMQP\0\0\x09\x01";

/// A healthy broker greets at once.
const LIMIT: Duration = Duration::from_secs(10);

/// A broker as it names itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Product {
    /// RabbitMQ, with its version.
    RabbitMq {
        /// As it writes it: `4.0.5`.
        version: String,
    },
    /// `tools/devbroker`.
    DevBroker,
}

impl Product {
    /// The broker that listens there; `None` when none greets. Panics when it is neither of the two.
    pub fn at(address: SocketAddr) -> Option<Self> {
        let properties = server_properties(address)?;
        let text = |name| Some(properties.inner().get(name)?.as_long_string()?.to_string());
        let (product, version) = (text("product")?, text("version").unwrap_or_default());
        match product.as_str() {
            "RabbitMQ" => Some(Self::RabbitMq { version }),
            "devbroker" => Some(Self::DevBroker),
            _ => panic!("the broker at {address} is a {product} {version}: nobody has tried the tests on it"),
        }
    }
}

fn server_properties(address: SocketAddr) -> Option<FieldTable> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT).ok()?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    stream.write_all(GREETING).ok()?;
    let (mut bytes, mut chunk) = (vec![], [0; 4096]);
    loop {
        let count = stream.read(&mut chunk).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&chunk[..count]);
        // Anything else than a whole frame is taken for the beginning of one; the time limit ends it.
        if let Ok((_, AMQPFrame::Method(0, AMQPClass::Connection(method)))) = parse_frame(&bytes[..]) {
            let connection::AMQPMethod::Start(start) = method else { return None };
            return Some(start.server_properties);
        }
    }
}
