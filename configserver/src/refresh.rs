//! `configserver refresh`: an operator beside the server, as in its container, has it tell the services to read again.
//!
//! It asks the server that runs on this machine by HTTP, so it needs neither the broker's password nor the token.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use clap::{Arg, ArgMatches, Command};
use hops_config::SharedSettings;
use service::healthcheck;

use crate::monitor::PATIENCE;

/// The verb.
pub const VERB: &str = "refresh";

/// `refresh [DESTINATION]`.
#[must_use]
pub fn command() -> Command {
    let destination = Arg::new("destination").value_name("DESTINATION");
    Command::new(VERB)
        .about("Has the server that runs here tell the services to read their settings again")
        .arg(
            destination
                .help("Those that are told, as in accountservice or accountservice:test (default: all)"),
        )
}

/// Asks, and says what came of it. `port` is the server's usual one.
///
/// # Errors
/// Why nobody was told.
pub async fn run(verb: &ArgMatches, settings: &SharedSettings, port: u16) -> Result<(), String> {
    let address = healthcheck::address(settings, port)?;
    let destination = verb.get_one::<String>("destination");
    if let Some(destination) = destination.filter(|text| !text.bytes().all(is_of_a_name)) {
        return Err(format!("`{destination}` is no destination: write it as in accountservice:test"));
    }
    let path = destination.map_or_else(String::new, |destination| format!("/{destination}"));
    let limit = PATIENCE + Duration::from_secs(3);
    match healthcheck::ask(address, "POST", &format!("/actuator/busrefresh{path}"), limit).await? {
        (204, _) => {
            let told = destination.map_or("all services", String::as_str);
            let _ = writeln!(io::stdout(), "{told} were told to read their settings again");
            Ok(())
        }
        (status, body) => Err(format!("the configserver answers {status}: {}", body.trim())),
    }
}

fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.:*/".contains(&byte)
}
