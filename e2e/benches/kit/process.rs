//! A process under measurement: on which core it runs, what it has used of it, and its memory.
#![allow(dead_code, reason = "each benchmark uses its part of it")]

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::Path,
    process::{self, Child, Command, Stdio},
    time::Duration,
};

use e2e::environment;
use rustix::process::{Pid, Signal, kill_process};

/// The core of what is measured.
pub(crate) const SERVER_CORE: &str = "0";
/// The core of everything else: the load, and the broker as far as its container is told so.
pub(crate) const LOAD_CORE: &str = "1";

/// Moves this process to a core. To be called before it has threads.
pub(crate) fn pin_this(core: &str) {
    let moved = Command::new("taskset").args(["-cp", core, &process::id().to_string()]).output();
    let moved = moved.expect("taskset is there (package util-linux)");
    assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
}

/// A child, killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// Starts a program on a core, or on all of them, with its standard output in a file.
    pub(crate) fn start<A: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        core: Option<&str>,
        output: &Path,
    ) -> Self {
        let mut command = match core {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.args(["-c", core]).arg(program);
                command
            }
            None => Command::new(program),
        };
        for name in environment::settings_of_services() {
            command.env_remove(name);
        }
        let output = File::create(output).expect("the folder for temporary files can be written");
        command.args(arguments).stdin(Stdio::null()).stdout(output);
        Self(command.spawn().unwrap_or_else(|e| panic!("cannot start {}: {e}", program.display())))
    }

    /// Stops it where it is; what was sent to it waits in its sockets.
    pub(crate) fn freeze(&self) {
        kill_process(Pid::from_child(&self.0), Signal::STOP).expect("the process runs");
    }

    /// The CPU time that it has used: all its threads, those that ended too.
    pub(crate) fn cpu(&self) -> Duration {
        cpu_of(self.0.id())
    }

    /// Its resident memory, in MB of 1024 * 1024 bytes.
    pub(crate) fn memory(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kib.expect("Linux shows VmRSS in KiB") / 1024.0
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) {
        let status = self.0.wait().expect("a child can be waited for");
        assert!(status.success(), "a measured process ended with {status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The CPU time of a process, in steps of 10 ms.
pub(crate) fn cpu_of(id: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).expect("the process runs");
    // The name in parentheses may hold spaces; after it utime and stime are the 12th and 13th field, in
    // hundredths of a second on every Linux (proc_pid_stat(5), USER_HZ).
    let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
