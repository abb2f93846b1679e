//! Files that show which processes run, even after the supervisor was killed.
//!
//! A process id alone does not show that, since the system reuses it. So each task's log file is locked; the task's
//! process inherits the lock with its standard output, and the kernel releases it when the process exits for whatever
//! reason. While the lock is held, the id is the task's. The supervisor has a lock of its own.
//!
//! Whoever frees disk space deletes logs. A task whose log or record is gone is found by its standard output, in proc(5).

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::{
    failure::Result,
    plan::Plan,
    project::{Project, write_atomically},
};

const PLAN: &str = "run/plan.json";
const LOCK: &str = "run/supervisor.lock";
const TASKS: &str = "run/tasks";
/// Time within which a started process writes its id, even on a busy machine.
const PID_FILE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time from SIGTERM to SIGKILL for a task whose record is gone.
const GRACE_WITHOUT_RECORD: Duration = Duration::from_secs(20);
/// Beginning of the name of the broker's task, whose record may be gone.
const BROKER: &str = "rabbitmq.";
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Record of a running task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// Name of the task, as in `vipservice.2`.
    pub name: String,
    /// File to which the process writes its id first of all.
    pub pid_file: PathBuf,
    /// File that is locked while the process runs.
    pub log: PathBuf,
    /// Time from SIGTERM to SIGKILL.
    pub grace: Duration,
    /// True for the broker, which the services need for their shutdown.
    pub is_broker: bool,
}

/// Creates the folders for these files, for logs and for volumes, which only their owner can read.
///
/// # Errors
/// A folder cannot be written.
pub fn prepare(project: &Project) -> Result<()> {
    for folder in ["run", TASKS, "logs", "volumes"] {
        project.create_private_folder(folder)?;
    }
    Ok(())
}

/// Takes the supervisor's lock, which is held until the file is dropped.
///
/// # Errors
/// Another supervisor holds it.
pub fn lock_supervisor(project: &Project) -> Result<File> {
    lock(&project.path(LOCK), "this checkout is up already: `cargo hops status`")
}

/// Locks a file for this process, until the returned file is dropped; the file contains the process id.
///
/// # Errors
/// Another process holds the lock: `taken` says so.
pub(crate) fn lock(path: &Path, taken: &'static str) -> Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
    let cannot_write = || format!("cannot write {}", path.display());
    let mut file = file.with_context(cannot_write)?;
    // A command that checks the lock holds it for a moment.
    for _ in 0..50 {
        match file.try_lock() {
            Ok(()) => {
                let number = std::process::id().to_string();
                let written = file.set_len(0).and_then(|()| file.write_all(number.as_bytes()));
                return written.map(|()| file).with_context(cannot_write);
            }
            Err(TryLockError::WouldBlock) => std::thread::yield_now(),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        wait();
    }
    bail!(taken)
}

#[expect(clippy::disallowed_methods, reason = "a process that starts has nothing else to do yet")]
fn wait() {
    std::thread::sleep(LOCK_POLL_INTERVAL);
}

/// Returns true if a supervisor runs.
#[must_use]
pub fn is_supervisor_running(project: &Project) -> bool {
    is_locked(&project.path(LOCK))
}

/// Returns the id of the supervisor's process, if one runs.
#[must_use]
pub fn supervisor_pid(project: &Project) -> Option<i32> {
    lock_holder(&project.path(LOCK))
}

/// Returns the id of the process that holds the lock of a file, if one does.
pub(crate) fn lock_holder(path: &Path) -> Option<i32> {
    is_locked(path).then(|| fs::read_to_string(path).ok()?.trim().parse().ok())?
}

/// Returns true if a process holds the lock of a file. The check takes a shared lock, so that two checks at a time do not
/// see each other.
pub(crate) fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Waits until the folder is removed: then no command can find the supervisor any more.
pub async fn wait_until_removed(project: &Project) {
    let lock = project.path(LOCK);
    while lock.exists() {
        sleep(Duration::from_secs(1)).await;
    }
}

/// Stores the plan.
///
/// # Errors
/// The file cannot be written.
pub fn save_plan(project: &Project, plan: &Plan) -> Result<()> {
    let text = serde_json::to_vec_pretty(plan).context("cannot convert the plan to JSON")?;
    write_atomically(&project.path(PLAN), &text)
}

/// Reads the plan of the running system.
///
/// # Errors
/// Nothing is up, or another version of the tool has stored the plan.
pub fn load_plan(project: &Project) -> Result<Plan> {
    let text =
        fs::read(project.path(PLAN)).map_err(|_| anyhow!("nothing is up here: type `cargo hops up`"))?;
    serde_json::from_slice(&text).map_err(|_| {
        anyhow!(
            "the system was started by another version of the tool: `cargo hops down`, then `cargo hops up`"
        )
    })
}

/// Writes the record of a task, and returns its path. It is written before the task starts, so that no task ever runs
/// without one.
///
/// # Errors
/// The file cannot be written.
pub fn write_record(project: &Project, id: &str, task: &TaskRecord) -> Result<PathBuf> {
    let path = project.path(&format!("{TASKS}/{id}.json"));
    let text = serde_json::to_vec(task).context("cannot convert a task to JSON")?;
    write_atomically(&path, &text)?;
    Ok(path)
}

/// Returns the path of the file to which a task writes its process id.
#[must_use]
pub fn pid_file(project: &Project, id: &str) -> PathBuf {
    project.path(&format!("{TASKS}/{id}.pid"))
}

/// Removes the record of a task.
pub fn remove_record(record: &Path) {
    let _ = (fs::remove_file(record), fs::remove_file(record.with_extension("pid")));
}

/// Returns the tasks that run; without a supervisor, they are orphans.
#[must_use]
pub fn orphans(project: &Project) -> Vec<TaskRecord> {
    let entries = fs::read_dir(project.path(TASKS)).into_iter().flatten().flatten();
    let records = entries.filter_map(|entry| {
        let record = serde_json::from_slice::<TaskRecord>(&fs::read(entry.path()).ok()?).ok()?;
        if !is_running(&record) {
            remove_record(&entry.path());
            return None;
        }
        Some(record)
    });
    let mut tasks: Vec<_> = records.collect();
    let logs = project.path("logs");
    let logs = logs.canonicalize().unwrap_or(logs);
    for (_, log) in outputs().into_iter().filter(|(_, log)| log.starts_with(&logs)) {
        if !tasks.iter().any(|task| task.log.file_name() == log.file_name()) {
            let file = log.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // As in `vipservice.2.1764450000000-39bf5b7b3254.log`.
            let name = file.split('.').take(2).collect::<Vec<_>>().join(".");
            tasks.push(TaskRecord {
                is_broker: name.starts_with(BROKER),
                name,
                pid_file: PathBuf::new(),
                log,
                grace: GRACE_WITHOUT_RECORD,
            });
        }
    }
    tasks
}

fn is_running(task: &TaskRecord) -> bool {
    if task.log.exists() { is_locked(&task.log) } else { writer(&task.log).is_some() }
}

/// Returns the process whose standard output is a log, by the name of the file, which contains a random id.
fn writer(log: &Path) -> Option<Pid> {
    outputs().into_iter().find_map(|(pid, output)| (output.file_name() == log.file_name()).then_some(pid))
}

/// Returns all processes that this user may see, each with the file that is its standard output. The file may be deleted.
fn outputs() -> Vec<(Pid, PathBuf)> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let outputs = processes.filter_map(|process| {
        let pid = Pid::from_raw(process.file_name().to_str()?.parse().ok()?)?;
        let output = fs::read_link(process.path().join("fd/1")).ok()?;
        let output = output.to_str()?;
        Some((pid, output.strip_suffix(" (deleted)").unwrap_or(output).into()))
    });
    outputs.collect()
}

/// Stops the tasks of a supervisor that was killed, the broker last, because the services need it for their shutdown.
/// Returns the names of the tasks.
///
/// # Errors
/// A task does not exit.
pub async fn stop_orphans(project: &Project) -> Result<Vec<String>> {
    let orphans = orphans(project);
    if orphans.is_empty() {
        return Ok(vec![]);
    }
    for is_broker in [false, true] {
        let tasks: Vec<_> = orphans.iter().filter(|task| task.is_broker == is_broker).collect();
        for task in &tasks {
            signal(task, Signal::TERM).await;
            // It may be paused; a process that runs ignores the signal.
            signal(task, Signal::CONT).await;
        }
        let grace = tasks.iter().map(|task| task.grace).max().unwrap_or_default();
        if wait_until_exited(&tasks, grace).await {
            continue;
        }
        for task in &tasks {
            signal(task, Signal::KILL).await;
        }
        if !wait_until_exited(&tasks, Duration::from_secs(10)).await {
            let pids = tasks.iter().filter_map(|task| writer(&task.log));
            let pids: Vec<_> = pids.map(|pid| pid.as_raw_nonzero().to_string()).collect();
            bail!("processes of an earlier run do not exit: `kill -9 {}`", pids.join(" "));
        }
    }
    Ok(orphans.into_iter().map(|task| task.name).collect())
}

/// Sends a signal to a task, but only while its lock is held, since only then the process id is the task's. A task that
/// was started in the supervisor's last moment has yet to write its id.
async fn signal(task: &TaskRecord, signal: Signal) {
    let deadline = Instant::now() + PID_FILE_TIMEOUT;
    while is_running(task) && Instant::now() < deadline {
        let text = fs::read_to_string(&task.pid_file).unwrap_or_default();
        let pid = text.strip_suffix('\n').and_then(|pid| Pid::from_raw(pid.parse().ok()?));
        if let Some(pid) = pid.or_else(|| writer(&task.log)) {
            let _ = kill_process(pid, signal);
            return;
        }
        sleep(LOCK_POLL_INTERVAL).await;
    }
}

async fn wait_until_exited(tasks: &[&TaskRecord], limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while tasks.iter().any(|task| is_running(task)) {
        if Instant::now() > deadline {
            return false;
        }
        sleep(LOCK_POLL_INTERVAL).await;
    }
    true
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        process::{Child, Command},
    };

    use e2e::wait::{PATIENCE, until_true};

    use super::*;

    /// Starts a process as the supervisor does; the shell runs `before` and then writes its process id.
    fn start(project: &Project, id: &str, before: &str) -> Child {
        let log = project.path(&format!("logs/{id}.log"));
        let file = File::create_new(&log).unwrap();
        file.try_lock().unwrap();
        let pid_file = pid_file(project, id);
        let task = TaskRecord {
            name: id.into(),
            pid_file: pid_file.clone(),
            log,
            grace: Duration::from_secs(10),
            is_broker: false,
        };
        write_record(project, id, &task).unwrap();
        let script = format!("{before} echo $$ > {}; exec sleep 100", pid_file.display());
        Command::new("sh").args(["-c", &script]).stdout(file).spawn().unwrap()
    }

    async fn until_written(file: &Path) {
        while fs::read_to_string(file).unwrap_or_default().is_empty() {
            sleep(LOCK_POLL_INTERVAL).await;
        }
    }

    #[tokio::test]
    async fn a_task_is_known_from_its_first_moment_and_forgotten_when_it_has_exited() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("docker-compose.yml"), "").unwrap();
        let project = Project::find(root.path(), BTreeMap::new()).unwrap();
        prepare(&project).unwrap();
        let mut at_once = start(&project, "at-once", "");
        let mut late = start(&project, "late", "sleep 0.3;");
        let mut dead = start(&project, "dead", "exit;");
        dead.wait().unwrap();
        // Somebody has deleted logs and damaged what is written about the processes.
        let [mut without_log, mut without_record, mut without_id] =
            ["without-log", "without-record", "without-id"].map(|id| start(&project, id, ""));
        for id in ["without-log", "without-record", "without-id"] {
            until_written(&pid_file(&project, id)).await;
        }
        fs::remove_file(project.path("logs/without-log.log")).unwrap();
        fs::write(project.path(&format!("{TASKS}/without-record.json")), "").unwrap();
        fs::write(pid_file(&project, "without-id"), "no number").unwrap();
        let mut stopped = stop_orphans(&project).await.unwrap();
        stopped.sort();
        assert_eq!(stopped, ["at-once", "late", "without-id", "without-log", "without-record.log"]);
        for child in [&mut at_once, &mut late, &mut without_log, &mut without_record, &mut without_id] {
            assert!(!child.wait().unwrap().success(), "stopped by a signal");
        }
        assert!(stop_orphans(&project).await.unwrap().is_empty());
        fs::remove_file(project.path(&format!("{TASKS}/without-record.json"))).unwrap();
        fs::remove_file(pid_file(&project, "without-record")).unwrap();
        assert_eq!(fs::read_dir(project.path(TASKS)).unwrap().count(), 0, "nothing of them is left");
    }

    #[tokio::test]
    async fn there_is_one_supervisor_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("docker-compose.yml"), "").unwrap();
        let project = Project::find(root.path(), BTreeMap::new()).unwrap();
        prepare(&project).unwrap();
        assert!(!is_supervisor_running(&project));
        let lock = lock_supervisor(&project).unwrap();
        assert!(is_supervisor_running(&project));
        assert_eq!(supervisor_pid(&project), Some(std::process::id().cast_signed()));
        assert!(lock_supervisor(&project).unwrap_err().to_string().contains("up already"));
        drop(lock);
        // A process that another test starts has the lock, too, until it becomes its program.
        until_true("the lock is free", PATIENCE, async || !is_supervisor_running(&project)).await;
    }
}
