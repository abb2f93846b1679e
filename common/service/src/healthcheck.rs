//! `SERVICE healthcheck`: a second process asks the service for its health over HTTP, for a container engine and scripts.
//!
//! An image of ours has neither a shell nor curl, so its one binary does it, as a second process.
//! It asks where the flags, the environment and the files say that the service listens; a config server is not asked,
//! since a service that lives must not be found dead because another one is away. Only `--settings` asks it, before the
//! services are told that it has something new.

use std::{
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use clap::{Arg, ArgAction, ArgMatches, Command};
use hops_config::{ServiceSettings, Sources};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::startup::{self, Failure};

/// The verb.
pub const VERB: &str = "healthcheck";

/// From connecting to the answer's end. An engine waits longer than that.
const LIMIT: Duration = Duration::from_secs(2);
/// No answer of ours about health is larger.
const LARGEST: u64 = 64 * 1024;

/// `healthcheck [--ready] [--settings]`.
#[must_use]
pub fn command() -> Command {
    let flag = |name| Arg::new(name).long(name).action(ArgAction::SetTrue);
    Command::new(VERB)
        .about("Asks the service that runs here whether it lives; exit code 0 if so, 1 if not")
        .arg(flag("ready").help("Asks whether it can work, too (/readyz), and says which check fails"))
        .arg(
            flag("settings")
                .help("Asks instead whether it could start with the settings that it would get now"),
        )
}

/// The verb of a service, on where its sources say that it listens.
///
/// # Errors
/// As [`run`], or the settings.
pub async fn of_service<S>(verb: &ArgMatches, sources: Sources, port: u16) -> Result<(), Failure>
where
    S: ServiceSettings + AsRef<crate::Settings>,
{
    if verb.get_flag("settings") {
        sources.load::<S>().await?;
        return Ok(());
    }
    let settings = Sources { server: None, ..sources }.load::<S>().await?;
    Ok(run(verb, &(*settings).as_ref().process, port).await?)
}

/// Sends the request and prints the result in one line. `port` is the service's default.
///
/// # Errors
/// Why it does not count as alive, or as ready.
pub async fn run(verb: &ArgMatches, settings: &startup::Settings, port: u16) -> Result<(), String> {
    let address = address(settings, port)?;
    let path = if verb.get_flag("ready") { "/readyz" } else { "/livez" };
    let result = match ask(address, "GET", path, LIMIT).await? {
        (200, _) => format!("http://{address}{path} answers 200"),
        (status, body) => return Err(format!("http://{address}{path} answers {status}{}", failing(&body))),
    };
    let _ = writeln!(io::stdout(), "{result}");
    Ok(())
}

/// Returns the address at which this machine reaches the service.
///
/// # Errors
/// A port that cannot be known.
pub fn address(settings: &startup::Settings, port: u16) -> Result<SocketAddr, String> {
    let host = match settings.server_host {
        IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(host) if host.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        host => host,
    };
    match settings.server_port.unwrap_or(port) {
        0 => Err("server_port: 0 does not tell which port the service has; set --server-port".into()),
        port => Ok(SocketAddr::new(host, port)),
    }
}

/// One request without a body, and the answer's status and body.
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
        stream.take(LARGEST).read_to_end(&mut answer).await?;
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
