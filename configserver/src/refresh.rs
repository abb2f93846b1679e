//! `configserver refresh`: an operator on the server's machine, or in its container, has it send refresh events.
//!
//! It calls the server that runs on this machine over HTTP, so it needs neither the broker's password nor the token.

use std::{net::SocketAddr, time::Duration};

use clap::{Arg, ArgMatches, Command};
use hops_config::Sources;
use service::{healthcheck, startup::Failure};

use crate::{PORT, monitor::CONFIRM_TIMEOUT, settings::Settings};

/// Returns the verb `refresh [DESTINATION]`.
#[must_use]
pub fn command() -> Command {
    let destination = Arg::new("destination").value_name("DESTINATION");
    Command::new("refresh")
        .about("Asks the server on this machine to send a refresh event, so that services read their settings again")
        .arg(
            destination
                .help("Services that read their settings again, such as accountservice or accountservice:test (default: all)"),
        )
}

/// Sends the request and prints the outcome.
///
/// # Errors
/// The reason why no event was sent.
pub async fn run(verb: ArgMatches, sources: Sources) -> Result<(), Failure> {
    let settings = sources.load::<Settings>().await?;
    Ok(send(&verb, healthcheck::address(&settings.service.process, PORT)?).await?)
}

async fn send(verb: &ArgMatches, address: SocketAddr) -> Result<(), String> {
    let destination = verb.get_one::<String>("destination");
    if let Some(destination) = destination.filter(|text| !text.bytes().all(is_of_a_name)) {
        return Err(format!(
            "`{destination}` is not a valid destination: write a service and perhaps a profile, as in accountservice:test"
        ));
    }
    let path = destination.map_or_else(String::new, |destination| format!("/{destination}"));
    let limit = CONFIRM_TIMEOUT + Duration::from_secs(3);
    match probe::ask(address, "POST", &format!("/actuator/busrefresh{path}"), limit).await? {
        (204, _) => {
            let destination = destination.map_or("all services", String::as_str);
            output::line(&format!("refresh event sent to {destination}"));
            Ok(())
        }
        (status, body) => Err(format!("the configserver answers {status}: {}", body.trim())),
    }
}

fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.:*/".contains(&byte)
}
