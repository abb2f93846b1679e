//! Is it alive, and can it work? A service says so over HTTP, a broker by its first frame.

use std::{net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::plan::Kind;

/// What a client of AMQP 0-9-1 says first, and a broker answers with a frame of type 1, `connection.start`.
const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";

/// Asks one task, without keeping a connection: each look is a new one, as a new client's would be.
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

    /// Whether it does its work now.
    pub(crate) async fn is_ready(&self, limit: Duration) -> bool {
        match self.kind {
            Kind::Service => self.answers_200("/readyz", limit).await,
            Kind::Broker => timeout(limit, self.greets()).await.unwrap_or(false),
        }
    }

    /// Whether it lives: a broker that is away is no fault of the service's.
    pub(crate) async fn is_alive(&self, limit: Duration) -> bool {
        match self.kind {
            Kind::Service => self.answers_200("/livez", limit).await,
            Kind::Broker => timeout(limit, self.greets()).await.unwrap_or(false),
        }
    }

    async fn answers_200(&self, path: &str, limit: Duration) -> bool {
        let request = self.client.get(format!("http://127.0.0.1:{}{path}", self.port)).timeout(limit);
        request.send().await.is_ok_and(|answer| answer.status().is_success())
    }

    async fn greets(&self) -> bool {
        let greeted = async {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
            stream.write_all(PROTOCOL_HEADER).await?;
            stream.read_u8().await
        };
        greeted.await.is_ok_and(|frame| frame == 1)
    }
}
