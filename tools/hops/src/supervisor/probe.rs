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

/// State of a task, as it reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// It is ready for requests.
    Ready,
    /// It is not ready yet, and reports this number, which grows while it gets ready.
    Progress(u64),
    /// It is not ready, or does not answer.
    NotReady,
}

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

    /// Returns whether the task is ready for requests, and how far it is on its way.
    pub(crate) async fn readiness(&self, limit: Duration) -> Readiness {
        let progress = match self.kind {
            Kind::Service => match self.get("/readyz", limit).await {
                Ok(answer) if answer.status().is_success() => return Readiness::Ready,
                Ok(answer) => answer.bytes().await.ok().and_then(|report| progress_in(&report)),
                Err(_) => None,
            },
            Kind::Broker if timeout(limit, self.sends_start_frame()).await.unwrap_or(false) => {
                return Readiness::Ready;
            }
            Kind::Broker => None,
        };
        progress.map_or(Readiness::NotReady, Readiness::Progress)
    }

    /// Returns true if the task is ready, and none of its checks fails: a configserver is ready without its broker, too.
    pub(crate) async fn is_connected(&self, limit: Duration) -> bool {
        let Kind::Service = self.kind else { return self.is_alive(limit).await };
        let answer = self.get("/readyz", limit).await.and_then(reqwest::Response::error_for_status);
        let Ok(answer) = answer else { return false };
        answer.bytes().await.is_ok_and(|report| all_up(&report))
    }

    /// Returns true if the task is alive, even if it is not ready because its broker is down.
    pub(crate) async fn is_alive(&self, limit: Duration) -> bool {
        match self.kind {
            Kind::Service => self.get("/livez", limit).await.is_ok_and(|answer| answer.status().is_success()),
            Kind::Broker => timeout(limit, self.sends_start_frame()).await.unwrap_or(false),
        }
    }

    async fn get(&self, path: &str, limit: Duration) -> reqwest::Result<reqwest::Response> {
        self.client.get(format!("http://127.0.0.1:{}{path}", self.port)).timeout(limit).send().await
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

/// Returns the number `progress` of a report of `/readyz`.
fn progress_in(report: &[u8]) -> Option<u64> {
    serde_json::from_slice::<serde_json::Value>(report).ok()?.get("progress")?.as_u64()
}

/// Returns true if no check of a report of `/readyz` fails.
fn all_up(report: &[u8]) -> bool {
    let report = serde_json::from_slice::<serde_json::Value>(report).unwrap_or_default();
    let checks = report["checks"].as_object();
    checks.into_iter().flat_map(|checks| checks.values()).all(|check| check["status"] == "UP")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_service_without_its_broker_is_not_connected() {
        let report =
            |broker: &str| format!(r#"{{"status":"UP","checks":{{"broker":{{"status":"{broker}"}}}}}}"#);
        assert!(all_up(report("UP").as_bytes()) && !all_up(report("DOWN").as_bytes()));
    }

    #[test]
    fn progress_is_read_from_a_report_that_has_it() {
        let report = br#"{"status":"DOWN","progress":12000,"checks":{"offers":{"status":"DOWN"}}}"#;
        assert_eq!(progress_in(report), Some(12_000));
        for report in [br#"{"status":"DOWN"}"#.as_slice(), br#"{"progress":"many"}"#, b"", b"<html>"] {
            assert_eq!(progress_in(report), None);
        }
    }
}
