//! `SERVICE healthcheck`: a second process asks the service for its health over HTTP, for a container engine and scripts.
//!
//! An image of ours has neither a shell nor curl, so its one binary does it, as a second process.
//! It asks where the flags, the environment and the files say that the service listens; a config server is not asked,
//! since a service that lives must not be found dead because another one is away. Only `--settings` asks it, before the
//! services are told that it has something new.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use clap::{Arg, ArgAction, ArgMatches, Command};
use hops_config::{ServiceSettings, Sources};

use crate::startup::{self, Failure};

/// `healthcheck [--ready] [--settings]`.
#[must_use]
pub fn command() -> Command {
    let flag = |name| Arg::new(name).long(name).action(ArgAction::SetTrue);
    Command::new("healthcheck")
        .about("Asks the service on this machine whether it is alive, and exits with 0 if so, else with 1")
        .arg(flag("ready").help("Asks whether it can work, too (/readyz), and says which check fails"))
        .arg(
            flag("settings")
                .help("Asks instead whether it could start with the settings that it would get now"),
        )
}

/// Runs the verb of a service, which listens where its sources say, or on its default `port`. Prints the result in one line.
///
/// # Errors
/// The reason why it is not alive, or not ready; or the settings are invalid.
pub async fn of_service<S>(verb: &ArgMatches, sources: Sources, port: u16) -> Result<(), Failure>
where
    S: ServiceSettings + AsRef<crate::Settings>,
{
    if verb.get_flag("settings") {
        sources.load::<S>().await?;
        return Ok(());
    }
    let settings = Sources { server: None, ..sources }.load::<S>().await?;
    let address = address(&(*settings).as_ref().process, port)?;
    let path = if verb.get_flag("ready") { "/readyz" } else { "/livez" };
    output::line(&probe::health(address, path).await?);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::startup::Settings;

    #[test]
    fn it_asks_where_the_service_listens() {
        let settings = |host: &str, port| Settings {
            server_host: host.parse().unwrap(),
            server_port: Some(port),
            ..Settings::default()
        };
        for (host, port, expected) in
            [("0.0.0.0", 6767, "127.0.0.1:6767"), ("::", 6767, "[::1]:6767"), ("10.0.0.7", 80, "10.0.0.7:80")]
        {
            assert_eq!(address(&settings(host, port), 1).unwrap().to_string(), expected);
        }
        let usual = Settings { server_port: None, ..Settings::default() };
        assert_eq!(address(&usual, 6868).unwrap().to_string(), "127.0.0.1:6868");
        assert!(address(&settings("0.0.0.0", 0), 1).unwrap_err().contains("--server-port"));
    }
}
