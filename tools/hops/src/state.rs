//! What stays known when a process ends without a word: who runs, and whether it still does.
//!
//! A process number says little, since the system gives it to the next one. So each task's log file carries a
//! lock that its process inherits with its standard output, and that the kernel frees when the process ends,
//! however it ends: while the lock is held, the number is the task's. The supervisor has a lock of its own.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::{
    failure::{Doing as _, Failure, Result},
    plan::Plan,
    project::{Project, write_whole},
};

const PLAN: &str = "run/plan.json";
const LOCK: &str = "run/supervisor.lock";
const TASKS: &str = "run/tasks";
/// How long a process may take from its start to its number, on a busy machine.
const SAYS_ITS_NUMBER: Duration = Duration::from_secs(10);
/// Between two looks at a lock.
const PAUSE: Duration = Duration::from_millis(20);

/// What is written down about a task while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// As in `vipservice.2`.
    pub name: String,
    /// The file that its process writes its number to before it does anything else.
    pub pid_file: PathBuf,
    /// The file that its process keeps locked.
    pub log: PathBuf,
    /// From SIGTERM to SIGKILL.
    pub grace: Duration,
    /// Whether others need it to end well.
    pub is_broker: bool,
}

/// Makes the folder for all this, which is for its owner alone.
///
/// # Errors
/// It cannot be written.
pub fn prepare(project: &Project) -> Result<()> {
    let run = project.folder("run")?;
    project.folder(TASKS)?;
    fs::set_permissions(&run, fs::Permissions::from_mode(0o700)).doing(|| format!("guard {}", run.display()))
}

/// Takes the supervisor's lock, which is held while the value lives.
///
/// # Errors
/// Another one has it.
pub fn become_supervisor(project: &Project) -> Result<File> {
    let path = project.path(LOCK);
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let mut file = file.doing(|| format!("write {}", path.display()))?;
    // Whoever looks whether the lock is held holds it for that moment.
    for _ in 0..50 {
        match file.try_lock() {
            Ok(()) => {
                let number = std::process::id().to_string();
                let written = file.set_len(0).and_then(|()| file.write_all(number.as_bytes()));
                return written.map(|()| file).doing(|| format!("write {}", path.display()));
            }
            Err(TryLockError::WouldBlock) => std::thread::yield_now(),
            Err(TryLockError::Error(error)) => {
                return Err(Failure::Why(format!("cannot lock {}: {error}", path.display())));
            }
        }
        wait();
    }
    Err("this checkout is up already: `cargo hops status`".into())
}

#[expect(clippy::disallowed_methods, reason = "there is no runtime yet, and nothing else to do")]
fn wait() {
    std::thread::sleep(PAUSE);
}

/// Whether a supervisor runs.
#[must_use]
pub fn is_supervised(project: &Project) -> bool {
    is_held(&project.path(LOCK))
}

/// The supervisor's process, while there is one.
#[must_use]
pub fn supervisor(project: &Project) -> Option<i32> {
    is_supervised(project).then(|| fs::read_to_string(project.path(LOCK)).ok()?.trim().parse().ok())?
}

/// Whether a process holds the lock of a file. Looking takes a shared lock, so that two who look see each other not.
fn is_held(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Waits until the folder of all this is removed: then no command finds us any more, and staying helps nobody.
pub async fn until_removed(project: &Project) {
    let lock = project.path(LOCK);
    while lock.exists() {
        sleep(Duration::from_secs(1)).await;
    }
}

/// Writes down what is to run.
///
/// # Errors
/// It cannot be written.
pub fn save_plan(project: &Project, plan: &Plan) -> Result<()> {
    let text = serde_json::to_vec_pretty(plan).doing(|| "put the plan into JSON".into())?;
    write_whole(&project.path(PLAN), &text)
}

/// What is to run, as it was written down.
///
/// # Errors
/// It was not, or by another version.
pub fn load_plan(project: &Project) -> Result<Plan> {
    let text = fs::read(project.path(PLAN))
        .map_err(|_| Failure::from("nothing is up here: type `cargo hops up`"))?;
    serde_json::from_slice(&text).map_err(|_| {
        Failure::from("what is up was started by another version: `cargo hops down`, then `cargo hops up`")
    })
}

/// Writes a task down before it is started, so that there is no moment in which it runs and is not known; the path
/// of its record.
///
/// # Errors
/// It cannot be written.
pub fn record(project: &Project, id: &str, task: &TaskRecord) -> Result<PathBuf> {
    let path = project.path(&format!("{TASKS}/{id}.json"));
    let text = serde_json::to_vec(task).doing(|| "put a task into JSON".into())?;
    write_whole(&path, &text)?;
    Ok(path)
}

/// Where a task writes its number.
#[must_use]
pub fn pid_file(project: &Project, id: &str) -> PathBuf {
    project.path(&format!("{TASKS}/{id}.pid"))
}

/// Forgets a task.
pub fn forget(record: &Path) {
    let _ = (fs::remove_file(record), fs::remove_file(record.with_extension("pid")));
}

/// Tasks that run although nobody watches them.
#[must_use]
pub fn orphans(project: &Project) -> Vec<TaskRecord> {
    let entries = fs::read_dir(project.path(TASKS)).into_iter().flatten().flatten();
    let records = entries.filter_map(|entry| {
        let record = serde_json::from_slice::<TaskRecord>(&fs::read(entry.path()).ok()?).ok()?;
        if !is_held(&record.log) {
            forget(&entry.path());
            return None;
        }
        Some(record)
    });
    records.collect()
}

/// Ends what an earlier supervisor has left: services first, and the broker that they need last.
/// The names of what was ended.
///
/// # Errors
/// One does not end.
pub async fn end_orphans_if_any(project: &Project) -> Result<Vec<String>> {
    let orphans = orphans(project);
    if orphans.is_empty() {
        return Ok(vec![]);
    }
    for is_broker in [false, true] {
        let these: Vec<_> = orphans.iter().filter(|task| task.is_broker == is_broker).collect();
        for task in &these {
            signal(task, Signal::TERM).await;
        }
        let grace = these.iter().map(|task| task.grace).max().unwrap_or_default();
        if until_gone(&these, grace).await {
            continue;
        }
        for task in &these {
            signal(task, Signal::KILL).await;
        }
        if !until_gone(&these, Duration::from_secs(10)).await {
            let numbers = these.iter().filter_map(|task| fs::read_to_string(&task.pid_file).ok());
            let numbers = numbers.collect::<String>().replace('\n', " ");
            let why = format!("processes of an earlier run do not end: `kill -9 {}`", numbers.trim());
            return Err(Failure::Why(why));
        }
    }
    Ok(orphans.into_iter().map(|task| task.name).collect())
}

/// Only while its lock is held: then the number is the task's own. One that was started in the supervisor's last
/// moment says its number in a moment.
async fn signal(task: &TaskRecord, signal: Signal) {
    let deadline = Instant::now() + SAYS_ITS_NUMBER;
    while is_held(&task.log) && Instant::now() < deadline {
        let text = fs::read_to_string(&task.pid_file).unwrap_or_default();
        let number = text.strip_suffix('\n').and_then(|number| Pid::from_raw(number.parse().ok()?));
        if let Some(pid) = number {
            let _ = kill_process(pid, signal);
            return;
        }
        sleep(PAUSE).await;
    }
}

async fn until_gone(tasks: &[&TaskRecord], limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while tasks.iter().any(|task| is_held(&task.log)) {
        if Instant::now() > deadline {
            return false;
        }
        sleep(PAUSE).await;
    }
    true
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        process::{Child, Command},
    };

    use super::*;

    /// A process as the supervisor starts it; `before` is what the shell does before it says its number.
    fn start(project: &Project, id: &str, before: &str) -> Child {
        let log = project.path(&format!("{id}.log"));
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
        record(project, id, &task).unwrap();
        let script = format!("{before} echo $$ > {}; exec sleep 100", pid_file.display());
        Command::new("sh").args(["-c", &script]).stdout(file).spawn().unwrap()
    }

    #[tokio::test]
    async fn what_runs_is_known_from_its_first_moment_and_what_has_ended_is_forgotten() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("docker-compose.yml"), "").unwrap();
        let project = Project::find(root.path(), BTreeMap::new()).unwrap();
        prepare(&project).unwrap();
        let mut at_once = start(&project, "at-once", "");
        let mut late = start(&project, "late", "sleep 0.3;");
        let mut dead = start(&project, "dead", "exit;");
        dead.wait().unwrap();
        let mut ended = end_orphans_if_any(&project).await.unwrap();
        ended.sort();
        assert_eq!(ended, ["at-once", "late"]);
        for child in [&mut at_once, &mut late] {
            assert!(!child.wait().unwrap().success(), "ended by a signal");
        }
        assert!(end_orphans_if_any(&project).await.unwrap().is_empty());
        assert_eq!(fs::read_dir(project.path(TASKS)).unwrap().count(), 0, "nothing of them is left");
    }

    #[test]
    fn there_is_one_supervisor_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("docker-compose.yml"), "").unwrap();
        let project = Project::find(root.path(), BTreeMap::new()).unwrap();
        prepare(&project).unwrap();
        assert!(!is_supervised(&project));
        let lock = become_supervisor(&project).unwrap();
        assert!(is_supervised(&project));
        assert_eq!(supervisor(&project), Some(std::process::id().cast_signed()));
        assert!(become_supervisor(&project).unwrap_err().to_string().contains("up already"));
        drop(lock);
        assert!(!is_supervised(&project));
    }
}
