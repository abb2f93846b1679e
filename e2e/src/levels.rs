//! Resources that a service holds - threads, open files, memory - and whether they are back at the level before a fault.
//!
//! Read from `/proc`, so of the process as it is. What comes and goes with the load and not with faults is told apart
//! by name, see [`Levels::of`]; only memory has a slack.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, thread,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::{
    process::Service,
    wait::{PATIENCE, until},
};

/// By how much the memory may have grown: views keep offers, and allocators keep small blocks that were freed.
const SLACK_KIB: u64 = 16 * 1024;
/// The largest number of threads that sled's pool has.
const SLED_POOL: usize = 128;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// The name of tokio's threads, of both kinds.
const TOKIO: &str = "tokio-rt-worker";
/// The thread of lapin's own runtime, as far as the kernel keeps names, and what else belongs to that.
const OWN_RUNTIME: &str = "async-compat/to";
const OWN_RUNTIME_FILES: [(&str, usize); 3] =
    [("anon_inode:[eventpoll]", 2), ("anon_inode:[eventfd]", 1), ("socket", 1)];

/// Resources of one process at one moment.
#[derive(Debug, Clone)]
pub struct Levels {
    service: String,
    pid: u32,
    port: u16,
    held: Held,
}

/// Counts by name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    threads: BTreeMap<String, usize>,
    files: BTreeMap<String, usize>,
    sled_threads: usize,
    /// Connections that clients have opened.
    clients: usize,
    rss_kib: u64,
}

impl Levels {
    /// The levels of a service whose clients have gone, which is waited for. To be taken after a load.
    ///
    /// These are told apart:
    /// - tokio's worker threads, one per core, stay; its blocking threads have the same name, come with look-ups of
    ///   names, and go after an idle second. So the level of that name is the number of cores.
    /// - sled starts another thread whenever fewer than seven of its pool wait, and lets it go when it has had five
    ///   tasks: how many there are follows the load, up to 128.
    /// - lapin makes one runtime of its own for a stream that is used outside of ours; whether and when is chance,
    ///   and it is one for the life of the process: a thread and four files.
    pub async fn of(service: &Service) -> Self {
        let (name, pid, port) = (service.name().to_owned(), service.pid(), service.address().port());
        let mut held = until("its clients are gone", PATIENCE, async || {
            let held = Held::by(pid, port).expect("the process runs");
            (held.clients == 0).then_some(held)
        })
        .await;
        let cores = thread::available_parallelism().map_or(1, usize::from);
        held.threads.entry(TOKIO.into()).and_modify(|threads| *threads = cores.min(*threads));
        Self { service: name, pid, port, held }
    }

    /// [`Self::until_back`] for several services, one after the other.
    pub async fn until_all_back(levels: &[Self]) {
        for levels in levels {
            levels.until_back().await;
        }
    }

    /// Waits until the process holds no more than at the time of [`Self::of`]; panics with both when that takes too long.
    pub async fn until_back(&self) {
        self.until(|now| now.over(&self.held)).await;
    }

    /// The same for the threads of one name, while a fault lasts.
    pub async fn until_threads_are_back(&self, name: &str) {
        let count = |held: &Held| held.threads.get(name).copied().unwrap_or_default();
        let before = count(&self.held);
        self.until(|now| match count(now) {
            now if now > before => format!("threads {name}: {now}, were {before}\n"),
            _ => String::new(),
        })
        .await;
    }

    /// Waits until `over`, which says what there is too much of, says nothing.
    async fn until(&self, over: impl Fn(&Held) -> String) {
        let start = Instant::now();
        loop {
            let held = Held::by(self.pid, self.port)
                .unwrap_or_else(|| panic!("{} is not the process {} any more", self.service, self.pid));
            let over = over(&held);
            if over.is_empty() {
                return;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{} holds more than before, for {PATIENCE:?} now:\n{over}before: {:#?}\nnow: {held:#?}",
                self.service,
                self.held
            );
            sleep(PAUSE).await;
        }
    }
}

impl Held {
    /// Reads the resources of a process; `None` if the process does not exist.
    fn by(pid: u32, port: u16) -> Option<Self> {
        let clients = connections_to(pid, port)?;
        let mut held = Self {
            threads: BTreeMap::new(),
            files: BTreeMap::new(),
            sled_threads: 0,
            clients: 0,
            rss_kib: rss_kib(pid)?,
        };
        let mut has_own_runtime = false;
        for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
            // It may have ended since.
            let Ok(name) = fs::read_to_string(thread.path().join("comm")) else { continue };
            match name.trim_end() {
                OWN_RUNTIME => has_own_runtime = true,
                name if name.starts_with("sled-io-") => held.sled_threads += 1,
                name => *held.threads.entry(name.to_owned()).or_default() += 1,
            }
        }
        for file in fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten() {
            let Ok(target) = fs::read_link(file.path()) else { continue };
            let target = target.to_string_lossy();
            if clients.iter().any(|client| *client == target) {
                held.clients += 1;
                continue;
            }
            let kind = match target.split_once(":[") {
                Some((kind @ ("socket" | "pipe"), _)) => kind,
                _ => &target,
            };
            *held.files.entry(kind.to_owned()).or_default() += 1;
        }
        if has_own_runtime {
            for (kind, count) in OWN_RUNTIME_FILES {
                held.files.entry(kind.to_owned()).and_modify(|files| *files = files.saturating_sub(count));
            }
        }
        Some(held)
    }

    /// In words, what there is more of than there was; nothing when there is no more.
    fn over(&self, before: &Self) -> String {
        let mut text = String::new();
        for (what, now, before) in
            [("threads", &self.threads, &before.threads), ("files", &self.files, &before.files)]
        {
            for (name, now) in now {
                let before = before.get(name).copied().unwrap_or_default();
                if *now > before {
                    let _ = writeln!(text, "{what} {name}: {now}, were {before}");
                }
            }
        }
        if self.clients > 0 {
            let _ = writeln!(text, "{} connections of clients", self.clients);
        }
        if self.sled_threads > SLED_POOL {
            let _ = writeln!(text, "{} threads of sled", self.sled_threads);
        }
        if self.rss_kib > before.rss_kib + SLACK_KIB {
            let _ = writeln!(text, "memory: {} KiB, was {}", self.rss_kib, before.rss_kib);
        }
        text
    }
}

/// The resident memory.
fn rss_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The sockets, as `/proc/PID/fd` shows them, that clients have opened to a local port: all but the listening one.
fn connections_to(pid: u32, port: u16) -> Option<Vec<String>> {
    const LISTEN: &str = "0A";
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).ok()?;
    let local = format!(":{port:04X}");
    let connection = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (address, state, inode) = (words.next()?, words.nth(1)?, words.nth(5)?);
        (address.ends_with(&local) && state != LISTEN).then(|| format!("socket:[{inode}]"))
    };
    Some(table.lines().filter_map(connection).collect())
}

#[cfg(test)]
mod tests {
    use std::{fs::File, net::TcpListener, net::TcpStream, process};

    use super::Held;

    #[test]
    fn what_is_held_more_than_before_is_named_and_clients_are_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let held = || Held::by(process::id(), address.port()).expect("this process runs");
        let (before, path) = (held(), std::env::current_exe().expect("a path"));
        assert_eq!(before.clients, 0);

        let client = TcpStream::connect(address).expect("it listens");
        let served = listener.accept().expect("a client");
        let file = File::open(&path).expect("it is there");
        let now = held();
        assert_eq!(now.clients, 1);
        let over = now.over(&before);
        assert!(over.contains(&format!("files {}: 1, were 0", path.display())), "{over}");
        assert!(over.contains("1 connections of clients"), "{over}");

        drop((client, served, file));
        assert!(!held().over(&before).contains(&*path.to_string_lossy()));
    }
}
