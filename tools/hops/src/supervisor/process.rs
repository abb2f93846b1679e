//! One process: started with a clean environment, watched to its end, ended within its grace period.

use std::{
    fs::{self, File},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{sync::watch, time::timeout};

use crate::{
    failure::{Doing as _, Failure, Result},
    plan::TaskPlan,
    project::Project,
    state::{self, TaskRecord},
};

/// What every program may know of the machine; all else in a task's environment is the compose file's.
const OF_THE_MACHINE: [&str; 5] = ["PATH", "HOME", "TMPDIR", "TZ", "RUST_BACKTRACE"];
/// The task itself says its number before it begins, so that it is known even if we end between starting it and
/// learning the number.
const SAY_NUMBER_AND_BECOME: &str = r#"echo $$ > "$1"; shift; exec "$@""#;
/// How many logs of a task's earlier lives are kept.
const LOGS_KEPT: usize = 5;

/// A process that was started.
#[derive(Debug)]
pub(crate) struct Process {
    pub pid: u32,
    pub log: PathBuf,
    record: PathBuf,
    exit: watch::Receiver<Option<ExitStatus>>,
}

/// Which process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct What<'a> {
    /// As in `vipservice.2`.
    pub name: &'a str,
    /// Unique.
    pub id: &'a str,
    pub binary: &'a Path,
    pub grace: Duration,
    pub is_broker: bool,
}

impl Process {
    /// Starts it, with its output in a log file of its own.
    pub(crate) fn start(project: &Project, what: What<'_>, plan: &TaskPlan) -> Result<Self> {
        for folder in &plan.folders {
            fs::create_dir_all(folder).doing(|| format!("make the folder {folder}"))?;
        }
        let log = new_log(project, what)?;
        let file = File::create_new(&log).doing(|| format!("write {}", log.display()))?;
        // The child inherits it, and with it the lock; see `state`.
        file.try_lock().doing(|| format!("lock {}", log.display()))?;
        let both = file.try_clone().doing(|| format!("open {} twice", log.display()))?;
        let pid_file = state::pid_file(project, what.id);
        let task = TaskRecord {
            name: what.name.to_owned(),
            pid_file: pid_file.clone(),
            log: log.clone(),
            grace: what.grace,
            is_broker: what.is_broker,
        };
        let record = state::record(project, what.id, &task)?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SAY_NUMBER_AND_BECOME, "sh"]).arg(pid_file).arg(what.binary);
        command.args(&plan.arguments).env_clear();
        command.envs(OF_THE_MACHINE.iter().filter_map(|name| Some((name, project.variable(name)?))));
        command.envs(plan.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(file).stderr(both);
        let mut child = command.spawn().doing(|| format!("start {}", what.binary.display()))?;
        let (pid, (done, exit)) = (child.id(), watch::channel(None));
        // A thread per process waits for it: nothing of it is lost, and no zombie stays.
        std::thread::spawn(move || done.send(child.wait().ok()));
        Ok(Self { pid, log, record, exit })
    }

    /// Waits for its end, and says how it ended.
    pub(crate) async fn ended(&mut self) -> Ended {
        let status = match self.exit.wait_for(Option::is_some).await {
            Ok(status) => *status,
            Err(_) => None,
        };
        state::forget(&self.record);
        Ended(status)
    }

    /// SIGTERM, and SIGKILL after the grace period; whether it ended by itself.
    pub(crate) async fn stop(&mut self, grace: Duration) -> (Ended, bool) {
        self.signal(Signal::TERM);
        if let Ok(ended) = timeout(grace, self.ended()).await {
            return (ended, true);
        }
        (self.kill().await, false)
    }

    /// SIGKILL.
    pub(crate) async fn kill(&mut self) -> Ended {
        self.signal(Signal::KILL);
        self.ended().await
    }

    fn signal(&self, signal: Signal) {
        let is_there = self.exit.borrow().is_none();
        if let Some(pid) = Pid::from_raw(self.pid.cast_signed()).filter(|_| is_there) {
            let _ = kill_process(pid, signal);
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended(Option<ExitStatus>);

impl Ended {
    pub(crate) fn is_success(self) -> bool {
        self.0.is_some_and(|status| status.success())
    }

    /// Whether it had something to say: who is killed has not.
    pub(crate) fn is_by_signal(self) -> bool {
        self.0.is_some_and(|status| status.signal().is_some())
    }

    /// As Docker says it: 128 and the signal's number, where a signal ended it.
    pub(crate) fn words(self) -> String {
        match self.0.map(|status| (status.code(), status.signal())) {
            Some((Some(0), _)) => "exit code 0".into(),
            Some((Some(code), _)) => format!("non-zero exit ({code})"),
            Some((_, Some(signal))) => format!("non-zero exit ({}): killed by signal {signal}", 128 + signal),
            _ => "it ended".into(),
        }
    }
}

/// The file's name sorts by time. The oldest logs of the task go.
fn new_log(project: &Project, what: What<'_>) -> Result<PathBuf> {
    let folder = project.folder("logs")?;
    let mut earlier: Vec<_> = crate::logs::of_task(&folder, what.name);
    earlier.sort();
    for old in earlier.iter().rev().skip(LOGS_KEPT) {
        let _ = fs::remove_file(old);
    }
    let millis = jiff::Timestamp::now().as_millisecond();
    Ok(folder.join(format!("{}.{millis}-{}.log", what.name, what.id)))
}

/// The last line of a log that is no log line: what a process says that cannot start.
pub(crate) fn last_words(log: &Path) -> Option<String> {
    let text = fs::read_to_string(log).ok()?;
    let plain = text.lines().rev().take(20).find(|line| !line.trim().is_empty() && !line.starts_with('{'))?;
    Some(plain.trim_start_matches("error: ").chars().take(300).collect())
}

/// The copy that a task is started from.
pub(crate) fn binary_of(folder: &str, name: &str) -> Result<PathBuf> {
    let path = Path::new(folder).join(name);
    match path.is_file() {
        true => Ok(path),
        false => {
            Err(Failure::Why(format!("{} is gone: `cargo hops down`, then `cargo hops up`", path.display())))
        }
    }
}
