//! A program in a terminal of its own.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::{PATIENCE, until};

type Lines = Arc<Mutex<Vec<String>>>;

/// A process that the page has started; killed when dropped.
pub(super) struct Running {
    pub(super) program: String,
    child: Child,
    log: Lines,
    readers: Vec<JoinHandle<()>>,
    /// Number of its lines that the page has shown.
    pub(super) shown: usize,
    pub(super) is_killed: bool,
}

impl Running {
    pub(super) fn start(program: &str, mut command: Command) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("bash can be started");
        let log = Lines::default();
        let (out, err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let readers = vec![reader(&log, out), reader(&log, err)];
        Self { program: program.into(), child, log, readers, shown: 0, is_killed: false }
    }

    /// All lines so far.
    pub(super) fn printed(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_some()
    }

    /// Ctrl-C, and what it comes to.
    pub(super) async fn interrupted(&mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("we have not waited for it");
        let ended = async || self.child.try_wait().expect("it is our child");
        let status = until("the process ends", PATIENCE, ended).await;
        self.readers.drain(..).for_each(|reader| reader.join().expect("BUG: a reader does not panic"));
        status
    }
}

fn reader(log: &Lines, source: impl Read + Send + 'static) -> JoinHandle<()> {
    let log = Arc::clone(log);
    thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            log.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    })
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
