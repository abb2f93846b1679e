//! Signals that stop a command in the foreground: Ctrl-C, SIGTERM, and SIGHUP, which the end of its terminal sends.

use std::fs;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Result;

/// Signals that ask this process to stop.
#[derive(Debug)]
pub(crate) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    /// `None` if it is ignored.
    hangup: Option<Signal>,
}

impl StopSignals {
    /// Listens from now on; a signal before the first call of [`StopSignals::received`] is kept for it. If this process
    /// was started with SIGHUP ignored, as by `nohup`, it stays ignored.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        let hangup = (!is_hangup_ignored()).then(|| listen(SignalKind::hangup()));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: hangup.transpose()?,
        })
    }

    /// Waits for the next signal, and returns its name.
    pub(crate) async fn received(&mut self) -> &'static str {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = hangup => "SIGHUP",
        }
    }
}

fn is_hangup_ignored() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangup(&status))
}

/// Returns true if SIGHUP, which is signal 1, is in the set of ignored signals of proc(5).
fn ignores_hangup(status: &str) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).is_some_and(|set| set & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_hangup_is_the_first_signal_of_the_set() {
        for (status, expected) in [
            ("Name:\thops\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\n", true),
            ("Name:\thops\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001002\n", false),
            ("Name:\thops\n", false),
        ] {
            assert_eq!(ignores_hangup(status), expected, "{status}");
        }
    }
}
