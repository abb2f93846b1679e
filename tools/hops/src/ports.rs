//! Finds free ports of this machine, listens on them, and finds the process that uses one.
//!
//! `localhost` is 127.0.0.1 and `::1`, and a client may try either first. So a port is free if it is free on both, and what
//! is published listens on both: otherwise another program could answer in the place of a service.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener},
    ops::{Range, RangeInclusive},
    process::Command,
};

use anyhow::{Context as _, bail};
use rand::seq::IndexedRandom as _;
use tokio::net::TcpListener as AsyncListener;

use crate::{failure::Result, plan::Want};

/// Addresses of `localhost`, of which tasks themselves have the first.
pub(crate) const LOCALHOST: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Ports for services whose own port is taken: below the range of outgoing connections, so that they are still free when the
/// service restarts.
pub(crate) const STABLE: Range<u16> = 24_000..32_000;

/// Seats of a class that shares one machine; each has a checkout and ports of its own.
pub(crate) const SEATS: RangeInclusive<u16> = 1..=20;

/// Returns the `HOPS_PORT_BASE` of a seat. No two ports of a checkout differ by a multiple of 20 up to 400, so no two seats share one.
#[must_use]
pub fn base_of(seat: u16) -> u16 {
    20 * seat
}

/// Finds a port for a service.
///
/// # Errors
/// A fixed port is in use; the error names the process that uses it, and says what to type.
pub fn choose(want: Want, service: &str) -> Result<u16> {
    match want {
        Want::Fixed(port) | Want::Preferred(port) if is_free(port) => Ok(port),
        Want::Preferred(_) => stable_port(),
        Want::Fixed(port) => {
            let user = user(port).unwrap_or_else(|| "another program".into());
            let is_v6_only = !is_taken(LOCALHOST[0], port);
            let address = if is_v6_only { " on ::1, an address of localhost" } else { "" };
            bail!(
                "port {port}, which {service} needs, is used by {user}{address}: stop that program, or type \
                 `HOPS_PORT_BASE=1000 cargo hops up` for ports that are 1000 higher"
            )
        }
    }
}

/// Listens on a port at these addresses, apart from those that this machine does not have.
///
/// # Errors
/// Another program has the port.
pub async fn listen(addresses: &[IpAddr], port: u16) -> io::Result<Vec<AsyncListener>> {
    let mut listeners = vec![];
    for address in addresses {
        match AsyncListener::bind((*address, port)).await {
            Ok(listener) => listeners.push(listener),
            Err(error) if is_other_than_missing(*address, &error) => return Err(error),
            Err(_) => {}
        }
    }
    Ok(listeners)
}

fn is_free(port: u16) -> bool {
    LOCALHOST.iter().all(|address| !is_taken(*address, port))
}

fn is_taken(address: IpAddr, port: u16) -> bool {
    TcpListener::bind((address, port)).is_err_and(|error| is_other_than_missing(address, &error))
}

/// Returns true unless the error says that this machine has no IPv6.
fn is_other_than_missing(address: IpAddr, error: &io::Error) -> bool {
    address.is_ipv4() || error.kind() == io::ErrorKind::AddrInUse
}

/// Returns a free port for a task that is started at once.
///
/// # Errors
/// The machine has no free port.
pub fn for_task() -> Result<u16> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    bound.map(|address| address.port()).context("this machine has no free port")
}

/// Returns a free port of [`STABLE`].
fn stable_port() -> Result<u16> {
    let candidates: Vec<u16> = STABLE.collect();
    let tries = candidates.sample(&mut rand::rng(), 200);
    tries.copied().find(|port| is_free(*port)).context("this machine has no free port from 24000 to 32000")
}

/// Returns the process that listens on a port, if the current user may see it. macOS and most Linux systems have `lsof`,
/// the others `ss`.
fn user(port: u16) -> Option<String> {
    let pid = pid_by_lsof(port).or_else(|| pid_by_ss(port))?;
    let command = output("ps", &["-o", "args=", "-p", &pid]).unwrap_or_default();
    let command: String = command.trim().chars().take(120).collect();
    Some(format!("process {pid} ({command})"))
}

fn pid_by_lsof(port: u16) -> Option<String> {
    let found = output("lsof", &["-nP", &format!("-iTCP:{port}"), "-sTCP:LISTEN", "-t"])?;
    found.lines().next().map(str::to_owned)
}

fn pid_by_ss(port: u16) -> Option<String> {
    let found = output("ss", &["-Hltnp", &format!("sport = :{port}")])?;
    let pid: String = found.split_once("pid=")?.1.chars().take_while(char::is_ascii_digit).collect();
    (!pid.is_empty()).then_some(pid)
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (!text.trim().is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    // Neither from the range of outgoing connections nor from that of tasks: other tests have both at the same time.
    use e2e::{
        broker::free_port,
        wait::{PATIENCE, until_true},
    };

    use super::*;

    /// Closes the socket. A process that another test starts has it, too, until it becomes its program.
    async fn freed(used: TcpListener, port: u16) {
        drop(used);
        until_true("the port is free", PATIENCE, async || is_free(port)).await;
    }

    #[tokio::test]
    async fn a_used_port_is_replaced_or_refused_with_the_process_that_uses_it() {
        let port = free_port();
        let used = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert_ne!(choose(Want::Preferred(port), "rabbitmq").unwrap(), port);
        let error = choose(Want::Fixed(port), "accountservice").unwrap_err().to_string();
        for part in [&port.to_string(), "accountservice", "HOPS_PORT_BASE=1000 cargo hops up"] {
            assert!(error.contains(part), "{error}");
        }
        let this = format!("process {}", std::process::id());
        assert!(error.contains(&this) || error.contains("another program"), "{error}");
        freed(used, port).await;
        assert_eq!(choose(Want::Fixed(port), "accountservice").unwrap(), port);
    }

    #[tokio::test]
    async fn a_port_is_free_if_nobody_has_it_on_any_address_of_localhost() {
        let port = free_port();
        let Ok(used) = TcpListener::bind((Ipv6Addr::LOCALHOST, port)) else {
            return eprintln!("NOT TESTED: this machine has no IPv6");
        };
        assert_ne!(choose(Want::Preferred(port), "rabbitmq").unwrap(), port);
        let error = choose(Want::Fixed(port), "accountservice").unwrap_err().to_string();
        assert!(error.contains("on ::1, an address of localhost"), "{error}");
        assert!(listen(&LOCALHOST, port).await.is_err());
        freed(used, port).await;
        let listeners = listen(&LOCALHOST, port).await.unwrap();
        let addresses: Vec<_> =
            listeners.iter().map(|listener| listener.local_addr().unwrap().ip()).collect();
        assert_eq!(addresses, LOCALHOST);
    }
}
