//! Ports of this machine: which are free, and who has those that are not.

use std::{
    net::{Ipv4Addr, TcpListener},
    process::Command,
};

use rand::seq::IndexedRandom as _;

use crate::{
    failure::{Failure, Result},
    plan::Want,
};

/// Finds a port as it is wanted, for the service of that name.
///
/// # Errors
/// A fixed one that is taken, with who has it and what to type.
pub fn choose(want: Want, service: &str) -> Result<u16> {
    match want {
        Want::Rather(port) if is_free(port) => Ok(port),
        Want::Rather(_) => lasting(),
        Want::Fixed(port) if is_free(port) => Ok(port),
        Want::Fixed(port) => {
            let who = holder(port).unwrap_or_else(|| "another program".into());
            Err(Failure::Why(format!(
                "port {port}, where {service} is to be found, is taken by {who}: stop that, or type \
                 `HOPS_PORT_BASE=1000 cargo hops up` for ports that are 1000 higher"
            )))
        }
    }
}

fn is_free(port: u16) -> bool {
    // Nobody connects from outside: this machine's address is the one that counts.
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A free port for one task, which is started at once.
///
/// # Errors
/// The machine has none.
pub fn for_task() -> Result<u16> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    bound.map(|address| address.port()).map_err(|e| Failure::Why(format!("there is no free port: {e}")))
}

/// A free port that is still free after a restart: below the range that outgoing connections take theirs from.
fn lasting() -> Result<u16> {
    let candidates: Vec<u16> = (20_000..32_000).collect();
    let tries = candidates.sample(&mut rand::rng(), 200);
    tries
        .copied()
        .find(|port| is_free(*port))
        .ok_or_else(|| "there is no free port from 20000 to 32000".into())
}

/// Who listens there, as far as this person may know: `lsof` is on macOS and most of Linux, `ss` on the rest.
fn holder(port: u16) -> Option<String> {
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
    use super::*;

    #[test]
    fn a_taken_port_is_replaced_or_named_with_its_holder() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_ne!(choose(Want::Rather(port), "rabbitmq").unwrap(), port);
        let error = choose(Want::Fixed(port), "accountservice").unwrap_err().to_string();
        for part in [&port.to_string(), "accountservice", "HOPS_PORT_BASE=1000 cargo hops up"] {
            assert!(error.contains(part), "{error}");
        }
        let us = format!("process {}", std::process::id());
        assert!(error.contains(&us) || error.contains("another program"), "{error}");
        drop(taken);
        assert_eq!(choose(Want::Fixed(port), "accountservice").unwrap(), port);
    }
}
