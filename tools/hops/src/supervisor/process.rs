//! One process: started with a clean environment, and stopped within its grace period.

use std::{
    fs::{self, File},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{sync::watch, time::timeout};

use crate::{
    failure::Result,
    plan::TaskPlan,
    project::Project,
    state::{self, TaskRecord},
};

/// Variables that a task inherits; the rest of its environment is from the compose file.
const INHERITED_VARIABLES: [&str; 5] = ["PATH", "HOME", "TMPDIR", "TZ", "RUST_BACKTRACE"];
/// Shell script that writes its process id to a file and then becomes the binary. So the id is known even if the supervisor
/// is killed while it starts the task.
const WRITE_PID_AND_EXEC: &str = r#"echo $$ > "$1"; shift; exec "$@""#;
/// Number of logs of a task's earlier processes that are kept.
const LOGS_KEPT: usize = 5;

/// Process of a task.
#[derive(Debug)]
pub(crate) struct Process {
    pub pid: u32,
    pub log: PathBuf,
    record: PathBuf,
    exit: watch::Receiver<Option<ExitStatus>>,
}

/// Identity and binary of a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessSpec<'a> {
    /// Name of the task, as in `vipservice.2`.
    pub task: &'a str,
    /// Unique id of the process.
    pub id: &'a str,
    pub binary: &'a Path,
    pub grace: Duration,
    pub is_broker: bool,
}

impl Process {
    /// Starts a process, with its output in a log file of its own.
    pub(crate) fn start(project: &Project, spec: ProcessSpec<'_>, plan: &TaskPlan) -> Result<Self> {
        for folder in &plan.folders {
            fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {folder}"))?;
        }
        let log = new_log(project, spec.task, spec.id)?;
        let file = File::create_new(&log).with_context(|| format!("cannot write {}", log.display()))?;
        // The child inherits the file, and with it the lock: see `state`.
        file.try_lock().with_context(|| format!("cannot lock {}", log.display()))?;
        let errors = file.try_clone().with_context(|| format!("cannot open {} twice", log.display()))?;
        let pid_file = state::pid_file(project, spec.id);
        let task = TaskRecord {
            name: spec.task.to_owned(),
            pid_file: pid_file.clone(),
            log: log.clone(),
            grace: spec.grace,
            is_broker: spec.is_broker,
        };
        let record = state::write_record(project, spec.id, &task)?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", WRITE_PID_AND_EXEC, "sh"]).arg(pid_file).arg(spec.binary);
        command.args(&plan.arguments).env_clear();
        command.envs(INHERITED_VARIABLES.iter().filter_map(|name| Some((name, project.variable(name)?))));
        command.envs(plan.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(file).stderr(errors);
        let mut child = command.spawn().with_context(|| format!("cannot start {}", spec.binary.display()))?;
        let (pid, (exited, exit)) = (child.id(), watch::channel(None));
        // A thread waits for the process, so that no zombie stays.
        std::thread::spawn(move || exited.send(child.wait().ok()));
        Ok(Self { pid, log, record, exit })
    }

    /// Waits until the process exits.
    pub(crate) async fn wait(&self) -> Exit {
        let status = match self.exit.clone().wait_for(Option::is_some).await {
            Ok(status) => *status,
            Err(_) => None,
        };
        state::remove_record(&self.record);
        Exit(status)
    }

    /// Sends SIGTERM, and SIGKILL after the grace period. Returns false if SIGKILL was necessary.
    pub(crate) async fn stop(&self, grace: Duration) -> (Exit, bool) {
        self.signal(Signal::TERM);
        if let Ok(exit) = timeout(grace, self.wait()).await {
            return (exit, true);
        }
        (self.kill().await, false)
    }

    /// Sends SIGKILL, and waits until the process exits.
    pub(crate) async fn kill(&self) -> Exit {
        self.signal(Signal::KILL);
        self.wait().await
    }

    /// Sends a signal, unless the process has exited.
    pub(crate) fn signal(&self, signal: Signal) {
        let is_running = self.exit.borrow().is_none();
        if let Some(pid) = Pid::from_raw(self.pid.cast_signed()).filter(|_| is_running) {
            let _ = kill_process(pid, signal);
        }
    }
}

/// Exit status of a process, if it is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exit(Option<ExitStatus>);

impl Exit {
    pub(crate) fn is_success(self) -> bool {
        self.0.is_some_and(|status| status.success())
    }

    pub(crate) fn is_by_signal(self) -> bool {
        self.0.is_some_and(|status| status.signal().is_some())
    }

    /// Describes the exit as Docker does: with 128 plus the number of a signal.
    pub(crate) fn description(self) -> String {
        match self.0.map(|status| (status.code(), status.signal())) {
            Some((Some(0), _)) => "exit code 0".into(),
            Some((Some(code), _)) => format!("non-zero exit ({code})"),
            Some((_, Some(signal))) => format!("non-zero exit ({}): killed by signal {signal}", 128 + signal),
            _ => "exited".into(),
        }
    }
}

/// Returns the path of a new log of a task's process, whose name sorts by time. Removes the oldest logs of the task.
pub(crate) fn new_log(project: &Project, task: &str, id: &str) -> Result<PathBuf> {
    let folder = project.create_folder("logs")?;
    let mut earlier: Vec<_> = crate::logs::of_task(&folder, task);
    earlier.sort();
    for old in earlier.iter().rev().skip(LOGS_KEPT) {
        let _ = fs::remove_file(old);
    }
    let millis = jiff::Timestamp::now().as_millisecond();
    Ok(folder.join(format!("{task}.{millis}-{id}.log")))
}

/// Returns the last plain line of a log: the error of a process that cannot start.
pub(crate) fn last_error(log: &Path) -> Option<String> {
    let text = fs::read_to_string(log).ok()?;
    let plain = text.lines().rev().take(20).find(|line| !line.trim().is_empty() && !line.starts_with('{'))?;
    Some(plain.trim_start_matches("error: ").chars().take(300).collect())
}

/// Returns the path of a binary.
///
/// # Errors
/// The file is gone.
pub(crate) fn binary_in(folder: &str, name: &str) -> Result<PathBuf> {
    let path = Path::new(folder).join(name);
    match path.is_file() {
        true => Ok(path),
        false => Err(anyhow!("{} is gone: `cargo hops down`, then `cargo hops up`", path.display())),
    }
}
