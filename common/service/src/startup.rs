//! From the command line to a listening process with a name of its own; every failure is one line that
//! says what is wrong and what to type.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use documented::DocumentedFields;
use hops_config::{LiveSettings, Section, ServiceSettings, SettingsError, Sources};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use tokio::{net::TcpListener, runtime::Builder};
use tokio_util::sync::CancellationToken;

use crate::{exit::Exit, signals, telemetry};

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

/// Runs a service to its end and returns the exit code, for `main`.
pub fn run(service: &str, started: impl Future<Output = Result<(), Failure>>) -> ExitCode {
    accept::raise_file_limit();
    // A thread that has looked up a name, and has nothing more to do, goes soon.
    let runtime = Builder::new_multi_thread().enable_all().thread_keep_alive(IDLE_THREAD).build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            return report(service, Err(Failure::Other(format!("no threads can be started: {error}"))));
        }
    };
    let ended = runtime.block_on(started);
    // All that matters is finished; a name that is still being looked up must not hold the process.
    runtime.shutdown_background();
    report(service, ended)
}

/// Prints an error to standard error and returns the exit code. Help goes to standard output and is no error.
fn report(service: &str, result: Result<(), Failure>) -> ExitCode {
    let (text, exit) = match result {
        Ok(()) => return Exit::Done.into(),
        Err(Failure::Settings(SettingsError::Usage(error))) if !error.use_stderr() => {
            let _ = error.print();
            return Exit::Done.into();
        }
        Err(Failure::Settings(SettingsError::Usage(error))) => (one_line(&error.to_string()), Exit::Usage),
        Err(error @ Failure::Settings(SettingsError::SecretFlag { .. })) => (error.to_string(), Exit::Usage),
        Err(error @ Failure::Settings(SettingsError::UnknownFlag { .. })) => {
            (format!("{error} (`{service} --help` lists the keys)"), Exit::Usage)
        }
        Err(error) => (error.to_string(), Exit::Failed),
    };
    let _ = writeln!(io::stderr(), "error: {text}");
    exit.into()
}

/// Returns clap's error on one line, without its advice at the end.
fn one_line(usage: &str) -> String {
    let lines = usage.lines().map(str::trim);
    let lines = lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let text: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    text.join(" ").trim_start_matches("error: ").replace(" tip: ", "; ")
}

/// A process that is ready to run its service.
#[derive(Debug)]
pub struct Bootstrapped<S> {
    /// Its settings.
    pub settings: LiveSettings<S>,
    /// Its name and its folder.
    pub instance: Instance,
    /// The socket that it listens on.
    pub listener: TcpListener,
    /// Cancelled by the first stop signal.
    pub stop: CancellationToken,
}

/// Loads the settings, opens the log, and listens where the settings say, or on the service's default `port`. Returns
/// `None` if a stop signal arrived during start-up.
///
/// # Errors
/// The settings', the instance's, or what is in the way of the port, with the command that works.
pub async fn bootstrap<S>(sources: Sources, port: u16) -> Result<Option<Bootstrapped<S>>, Failure>
where
    S: ServiceSettings + AsRef<crate::Settings>,
{
    // First of all, since a config server may be waited for.
    let stop = signals::listen().map_err(|e| format!("cannot listen to signals: {e}"))?;
    let (profile, given) = (sources.profile.clone(), sources.instance_name().map(str::to_owned));
    let Some(loaded) = stop.run_until_cancelled(LiveSettings::<S>::load(sources)).await else {
        return Ok(None);
    };
    let live = loaded?;
    let started = live.started();
    let crate::Settings { process, .. } = (*started).as_ref();
    let log = live.section(|settings| &settings.as_ref().log);
    let instance = Instance::new(S::SERVICE, &profile, given.as_deref(), &process.data_dir)?;
    let level = log.live(|log, moment| *log.log_level.at(moment));
    let filter = telemetry::init(S::SERVICE, &instance.name, level.get(), log.started().log_format);
    let live = live.on_apply(move || filter.set(level.get()));
    let listener = listen(S::SERVICE, process, port).await?;
    live.announce(Some(process.server_name.as_str()).filter(|name| !name.is_empty()).unwrap_or(S::SERVICE));
    Ok(Some(Bootstrapped { settings: live, instance, listener, stop }))
}

/// The identity of this process.
#[derive(Debug)]
pub struct Instance {
    /// A name such as `vipservice.2`: it is in every log line, in `servedBy`, and at the broker.
    pub name: String,
    /// The folder of its data.
    pub folder: PathBuf,
    /// The lock on the number, for as long as the process lives.
    _number: Option<File>,
}

impl Instance {
    /// Takes the name that was given; else, in profile `dev`, the service's name with the first number that is free
    /// on this machine; else, in a container, the host's name.
    ///
    /// # Errors
    /// An invalid name, or a folder that cannot be written.
    pub fn new(service: &str, profile: &str, given: Option<&str>, data: &Path) -> Result<Self, String> {
        if given.is_some() || profile != "dev" {
            return Self::named(given, data);
        }
        let (number, lock) = first_free(service, data).map_err(|e| {
            format!("data_dir: cannot write {}: {e}; choose another with --data-dir DIR", data.display())
        })?;
        let name = format!("{service}.{number}");
        Ok(Self { folder: data.join(&name), name, _number: Some(lock) })
    }

    /// Returns the instance of this name, or of the host's name, whether or not it runs.
    ///
    /// # Errors
    /// An invalid name.
    pub fn named(given: Option<&str>, data: &Path) -> Result<Self, String> {
        let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        let name = given.map_or_else(host, str::to_owned);
        if !is_name(&name) {
            return Err(format!(
                "INSTANCE_NAME: `{name}` is not a valid instance name: use 1 to 64 of A-Z a-z 0-9 . _ -"
            ));
        }
        Ok(Self { folder: data.join(&name), name, _number: None })
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=64).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(allowed)
}

/// Takes the first number whose lock is free. The kernel frees a lock when its process ends, however it ends.
fn first_free(service: &str, data: &Path) -> io::Result<(u32, File)> {
    fs::create_dir_all(data)?;
    for number in 1.. {
        let file = File::create(data.join(format!("{service}.{number}.lock")))?;
        match file.try_lock() {
            Ok(()) => return Ok((number, file)),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::other("no number is free"))
}

async fn listen(service: &str, settings: &Settings, port: u16) -> Result<TcpListener, String> {
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

    #[test]
    fn instances_on_one_machine_are_numbered_and_a_number_is_free_again() {
        let data = tempfile::TempDir::new().unwrap();
        let new = || Instance::new("vipservice", "dev", None, data.path()).unwrap();
        let (first, second) = (new(), new());
        assert_eq!((first.name.as_str(), second.name.as_str()), ("vipservice.1", "vipservice.2"));
        drop(first);
        assert_eq!(new().name, "vipservice.1");
    }

    #[test]
    fn a_given_name_is_used_and_one_that_is_no_name_is_refused() {
        let named = |name| Instance::new("s", "dev", Some(name), Path::new("data"));
        assert_eq!(named("accountservice.7").unwrap().folder, Path::new("data/accountservice.7"));
        for bad in ["", "..", ".hidden", "a/b", "a b", &"x".repeat(65)] {
            assert!(named(bad).unwrap_err().contains("INSTANCE_NAME"), "{bad}");
        }
    }

    #[test]
    fn in_a_container_it_is_the_hosts_name() {
        let instance = Instance::new("s", "test", None, Path::new("data")).unwrap();
        assert!(!instance.name.is_empty() && !instance.name.starts_with("s."));
    }

    #[test]
    fn a_wrong_command_line_is_one_line() {
        let usage = "error: invalid value 'prod' for '--profile <NAME>'\n  [possible values: dev, test]\n\n\
                     For more information, try '--help'.\n";
        assert_eq!(
            one_line(usage),
            "invalid value 'prod' for '--profile <NAME>' [possible values: dev, test]"
        );
    }

    #[test]
    fn a_verb_that_is_nearly_one_is_told_which() {
        let usage = "error: unrecognized subcommand 'lst'\n\n  tip: a similar subcommand exists: 'list'\n\nUsage: x\n";
        assert_eq!(one_line(usage), "unrecognized subcommand 'lst'; a similar subcommand exists: 'list'");
    }

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
