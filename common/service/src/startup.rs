//! From the command line to a listening process with a name of its own; every failure is one line that
//! says what is wrong and what to type.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use hops_config::{LiveSettings, ServiceSettings, SettingsError, SharedSettings, Sources};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{net::TcpListener, runtime::Builder};
use tokio_util::sync::CancellationToken;

use crate::{shutdown, telemetry};

/// Open files that are no connections of clients: the store, the broker, the log, and room to accept one more.
const OWN_FILES: usize = 64;

/// How the process ends: its exit code, for scripts and for who starts it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done, or stopped in order.
    Done = 0,
    /// It could not start, or something was left at its end.
    Failed = 1,
    /// The command line was wrong.
    Usage = 2,
    /// A second signal.
    AtOnce = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// How long a thread for blocking work waits for more of it.
const IDLE_THREAD: Duration = Duration::from_secs(1);

/// Why the process ends.
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

/// Runs a service to its end, and says how it ended: what `main` is made of.
pub fn run(service: &str, started: impl Future<Output = Result<(), Failure>>) -> ExitCode {
    raise_file_limit();
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

/// As many open files as the system lets us have: each connection is one, and the usual 1024 are few.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // If it cannot be, `affordable_connections` says so.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// As many connections as are wanted, or as this process may have open files for; then the log says so.
#[must_use]
pub fn affordable_connections(wanted: usize) -> usize {
    let files = getrlimit(Resource::Nofile).current;
    let affordable = affordable(wanted, files);
    if affordable < wanted {
        tracing::warn!(
            "connection_limit is {wanted}, but this process may have only {} open files: at most {affordable} \
             connections at a time; raise its hard limit (`ulimit -Hn`), or lower connection_limit",
            files.unwrap_or_default(),
        );
    }
    affordable
}

fn affordable(connections: usize, files: Option<u64>) -> usize {
    let files = files.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    connections.min(files.saturating_sub(OWN_FILES)).max(1)
}

/// Says why on standard error, and gives the exit code. Help goes to standard output and is no error.
fn report(service: &str, result: Result<(), Failure>) -> ExitCode {
    let (text, exit) = match result {
        Ok(()) => return Exit::Done.into(),
        Err(Failure::Settings(SettingsError::Usage(error))) if !error.use_stderr() => {
            let _ = error.print();
            return Exit::Done.into();
        }
        Err(Failure::Settings(SettingsError::Usage(error))) => (one_line(&error.to_string()), Exit::Usage),
        Err(error @ Failure::Settings(SettingsError::UnknownFlag { .. })) => {
            (format!("{error} (`{service} --help` lists the keys)"), Exit::Usage)
        }
        Err(error) => (error.to_string(), Exit::Failed),
    };
    let _ = writeln!(io::stderr(), "error: {text}");
    exit.into()
}

/// What clap says in several lines, without its advice at the end.
fn one_line(usage: &str) -> String {
    let lines = usage.lines().map(str::trim);
    let lines = lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let text: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    text.join(" ").trim_start_matches("error: ").replace(" tip: ", "; ")
}

/// What a service has before it runs.
#[derive(Debug)]
pub struct Begun<S> {
    /// Its settings, and who is told of new ones.
    pub live: LiveSettings<S>,
    /// Who it is.
    pub instance: Instance,
    /// Where it listens.
    pub listener: TcpListener,
    /// When it is to end.
    pub stop: CancellationToken,
}

/// Loads the settings, opens the log, and listens where the settings say, or on the service's usual `port`. `None` for
/// who is told to stop meanwhile.
///
/// # Errors
/// The settings', the instance's, or what is in the way of the port, with the command that works.
pub async fn begin<S: ServiceSettings>(sources: Sources, port: u16) -> Result<Option<Begun<S>>, Failure> {
    // First of all, since a config server may be waited for.
    let stop = shutdown::signals().map_err(|e| format!("cannot listen to signals: {e}"))?;
    let (profile, given) = (sources.profile.clone(), sources.instance_name().map(str::to_owned));
    let Some(loaded) = stop.run_until_cancelled(sources.load_live::<S>()).await else { return Ok(None) };
    let live = loaded?;
    let settings = live.now();
    let shared = settings.shared();
    let instance = Instance::new(S::SERVICE, &profile, given.as_deref(), &shared.data_dir)?;
    let filter = telemetry::init(S::SERVICE, &instance.name, shared.log_level, shared.log_format);
    let live = live.on_apply(move |settings| filter.set(settings.shared().log_level));
    let listener = listen(S::SERVICE, shared, port).await?;
    live.announce();
    Ok(Some(Begun { live, instance, listener, stop }))
}

/// Who this process is.
#[derive(Debug)]
pub struct Instance {
    /// As in `vipservice.2`: in every log line, as `servedBy`, at the broker.
    pub name: String,
    /// What this instance keeps is in here.
    pub folder: PathBuf,
    /// Keeps the number ours for as long as we live.
    _number: Option<File>,
}

impl Instance {
    /// The name that was given; else, in profile `dev`, the service's name with the first number that is free
    /// on this machine; else, in a container, the host's name.
    ///
    /// # Errors
    /// A name that cannot be one, or a folder that cannot be written.
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

    /// The instance of this name, or of the host's name, whether or not it runs.
    ///
    /// # Errors
    /// A name that cannot be one.
    pub fn named(given: Option<&str>, data: &Path) -> Result<Self, String> {
        let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        let name = given.map_or_else(host, str::to_owned);
        if !is_name(&name) {
            return Err(format!("INSTANCE_NAME: `{name}` is no name: use 1 to 64 of A-Z a-z 0-9 . _ -"));
        }
        Ok(Self { folder: data.join(&name), name, _number: None })
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=64).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(allowed)
}

/// The first number whose lock nobody holds. The kernel frees it when its process ends, however it ends.
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

async fn listen(service: &str, settings: &SharedSettings, port: u16) -> Result<TcpListener, String> {
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
    fn there_are_never_more_connections_than_open_files() {
        for (wanted, files, expected) in [
            (10_000, Some(20_000), 10_000),
            (10_000, None, 10_000),
            (10_000, Some(1024), 960),
            (100, Some(256), 100),
            (100, Some(10), 1),
        ] {
            assert_eq!(affordable(wanted, files), expected, "{wanted} of {files:?}");
        }
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
        let error = listen("accountservice", &SharedSettings::default(), port).await.unwrap_err();
        assert!(
            error.contains(&port.to_string()) && error.contains("accountservice --server-port 0"),
            "{error}"
        );
    }
}
