//! Checks whether a task is alive and ready: a service over HTTP, a broker by its first AMQP frame.

use std::{net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::plan::Kind;

/// First bytes of a client of AMQP 0-9-1; a broker answers with a frame of type 1, `connection.start`.
const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";

/// Probe of one task. Each check opens a new connection, as a new client would.
#[derive(Debug)]
pub(crate) struct Probe {
    client: reqwest::Client,
    kind: Kind,
    port: u16,
}

impl Probe {
    pub(crate) fn new(kind: Kind, port: u16) -> Self {
        let client = reqwest::Client::builder().pool_max_idle_per_host(0).no_proxy().build();
        Self { client: client.unwrap_or_default(), kind, port }
    }

    /// Returns true if the task is ready for requests.
    pub(crate) async fn is_ready(&self, limit: Duration) -> bool {
        match self.kind {
            Kind::Service => self.answers_200("/readyz", limit).await,
            Kind::Broker => timeout(limit, self.sends_start_frame()).await.unwrap_or(false),
        }
    }

    /// Returns true if the task is alive, even if it is not ready because its broker is down.
    pub(crate) async fn is_alive(&self, limit: Duration) -> bool {
        match self.kind {
            Kind::Service => self.answers_200("/livez", limit).await,
            Kind::Broker => timeout(limit, self.sends_start_frame()).await.unwrap_or(false),
        }
    }

    async fn answers_200(&self, path: &str, limit: Duration) -> bool {
        let request = self.client.get(format!("http://127.0.0.1:{}{path}", self.port)).timeout(limit);
        request.send().await.is_ok_and(|answer| answer.status().is_success())
    }

    async fn sends_start_frame(&self) -> bool {
        let first_byte = async {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
            stream.write_all(PROTOCOL_HEADER).await?;
            stream.read_u8().await
        };
        first_byte.await.is_ok_and(|frame_type| frame_type == 1)
    }
}
