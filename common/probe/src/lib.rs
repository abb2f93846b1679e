//! Asks a running service over HTTP, once: for its health, or for what an operator wants of it.
//!
//! It is for verbs that run as a second process beside the service: an image of ours has neither a shell nor curl.

use std::{io, net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// Time limit for an answer about health. A container engine waits longer than that.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);
/// The largest answer, in bytes: none of ours is larger.
const ANSWER_LIMIT: u64 = 64 * 1024;

/// Asks for the health at `path`, such as `/readyz`, and returns that it is good, in one line.
///
/// # Errors
/// The reason why it is not, with the checks that fail.
pub async fn health(address: SocketAddr, path: &str) -> Result<String, String> {
    match ask(address, "GET", path, HEALTH_TIMEOUT).await? {
        (200, _) => Ok(format!("http://{address}{path} answers 200")),
        (status, body) => Err(format!("http://{address}{path} answers {status}{}", failing(&body))),
    }
}

/// Sends one request without a body, and returns the answer's status and body. `limit` is the time from connecting to the
/// answer's end.
///
/// # Errors
/// There is no answer, or not in time, or not in HTTP.
pub async fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    limit: Duration,
) -> Result<(u16, String), String> {
    let asking = async {
        let mut stream = TcpStream::connect(address).await?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        let mut answer = vec![];
        stream.take(ANSWER_LIMIT).read_to_end(&mut answer).await?;
        io::Result::Ok(answer)
    };
    let url = format!("http://{address}{path}");
    let answer =
        timeout(limit, asking).await.map_err(|_| format!("{url} has not answered within {limit:?}"))?;
    let answer = answer.map_err(|e| format!("{url} does not answer: {e}"))?;
    read(&String::from_utf8_lossy(&answer)).ok_or_else(|| format!("{url} does not answer in HTTP"))
}

fn read(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?;
    Some((status.parse().ok()?, body.to_owned()))
}

/// The checks that fail, by name; or nothing, if the body lists none.
fn failing(body: &str) -> String {
    let report: Value = serde_json::from_str(body).unwrap_or_default();
    let checks = report["checks"].as_object().into_iter().flatten();
    let failing = checks.filter(|(_, check)| check["status"] != "UP");
    let mut said: Vec<_> = failing
        .map(|(name, check)| format!("{name}: {}", check["detail"].as_str().unwrap_or("no reason given")))
        .collect();
    if report["draining"] == true {
        said.push("it is stopping".into());
    }
    if said.is_empty() { String::new() } else { format!(": {}", said.join("; ")) }
}

#[cfg(test)]
mod tests;
