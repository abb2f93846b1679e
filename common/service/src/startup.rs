//! A process: its threads, its port and its exit code; every failure is one line that says what is wrong and what to
//! type.

use std::{
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use documented::DocumentedFields;
use hops_config::{Section, SettingsError};
use output::{printable, printable_lines};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use tokio::{net::TcpListener, runtime::Builder};

use crate::exit::Exit;

/// The settings of the process.
#[derive(Debug, Clone, Deserialize, Serialize, DocumentedFields)]
#[serde(default)]
pub struct Settings {
    /// The name shown in the log when the settings are loaded (default: the service's)
    pub server_name: String,
    /// The address to listen on (default "127.0.0.1": this machine only; "0.0.0.0" in a container)
    #[serde(deserialize_with = "ip_address")]
    pub server_host: IpAddr,
    /// The port to listen on; 0 takes a free one and prints it (default: the service's own)
    pub server_port: Option<u16>,
    /// The folder for the service's data (default ".hops/data"; each instance has its own below it)
    pub data_dir: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server_name: String::new(),
            server_host: Ipv4Addr::LOCALHOST.into(),
            server_port: None,
            data_dir: ".hops/data".into(),
        }
    }
}

impl Section for Settings {}

/// Reads an address; the error quotes the text, which that of `IpAddr` does not.
fn ip_address<'de, D: Deserializer<'de>>(from: D) -> Result<IpAddr, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(|_| D::Error::custom(format!("`{text}` is not an IP address, such as 127.0.0.1")))
}

/// Time after which an idle thread for blocking work exits.
const IDLE_THREAD: Duration = Duration::from_secs(1);

/// A failure of the process.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Anything else, as a sentence.
    #[error("{0}")]
    Other(String),
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self::Other(why)
    }
}

/// Runs a service to its end and returns the exit code.
pub(crate) fn run(started: impl Future<Output = Result<(), Failure>>) -> ExitCode {
    accept::raise_file_limit();
    // A thread that has looked up a name, and has nothing more to do, goes soon.
    let runtime = Builder::new_multi_thread().enable_all().thread_keep_alive(IDLE_THREAD).build();
    let runtime = runtime.map_err(|error| Failure::Other(format!("no threads can be started: {error}")));
    let ended = runtime.and_then(|runtime| {
        let ended = runtime.block_on(started);
        // All that matters is finished; a name that is still being looked up must not hold the process.
        runtime.shutdown_background();
        ended
    });
    report(ended)
}

/// Prints an error to standard error and returns the exit code. Help goes to standard output and is no error.
fn report(result: Result<(), Failure>) -> ExitCode {
    let result = match result {
        Err(Failure::Settings(SettingsError::Help(help))) => {
            output::print(&help.to_string());
            Ok(())
        }
        other => other,
    };
    let (error, exit) = match result.and_then(|()| Ok(output::finish()?)) {
        Ok(()) => return Exit::Done.into(),
        Err(error @ Failure::Settings(SettingsError::Usage(_))) => (error, Exit::Usage),
        Err(error) => (error, Exit::Failed),
    };
    // It may quote a server's answer. The advice on how a command is used has lines.
    let text = error.to_string();
    let text = if exit == Exit::Usage { printable_lines(&text) } else { printable(&text).into_owned() };
    let _ = writeln!(io::stderr(), "error: {text}");
    exit.into()
}

/// Listens where the settings say, or on the service's default `port`.
///
/// # Errors
/// The error for a port that cannot be listened on, with the command that works.
pub(crate) async fn listen(service: &str, settings: &Settings, port: u16) -> Result<TcpListener, String> {
    let (host, port) = (settings.server_host, settings.server_port.unwrap_or(port));
    TcpListener::bind((host, port)).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("port {port} is taken: stop what listens there, or run `{service} --server-port 0` for a free one")
        }
        io::ErrorKind::PermissionDenied => {
            format!("port {port} needs more rights: run `{service} --server-port 0` for a free one")
        }
        _ => format!("cannot listen on {host} port {port}: {error}; set --server-host to an address of this machine"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named_with_the_command_that_works() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = listen("accountservice", &Settings::default(), port).await.unwrap_err();
        assert!(
            error.contains(&port.to_string()) && error.contains("accountservice --server-port 0"),
            "{error}"
        );
    }
}
