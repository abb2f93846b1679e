//! A system under measurement: services with their logs in files, asked over plain sockets.
#![allow(dead_code, reason = "each benchmark uses its part of it")]

use std::time::{Duration, Instant};

use e2e::{
    binaries::binary,
    broker::{SharedBroker, Vhost, free_port},
    repository,
    wait::PATIENCE,
};
use tempfile::TempDir;
use tokio::{net::TcpStream, time::sleep};

use crate::{load, process::Process};

/// A virtual host and a folder.
pub(crate) struct System {
    pub(crate) vhost: Vhost,
    data: TempDir,
}

/// A service that was started.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) port: u16,
    since: Instant,
}

impl System {
    /// In a virtual host of its own on the shared broker.
    pub(crate) async fn new() -> Self {
        Self::on(SharedBroker::from_environment().vhost().await)
    }

    /// On a given virtual host.
    pub(crate) fn on(vhost: Vhost) -> Self {
        let data = tempfile::tempdir().expect("the folder for temporary files can be written");
        Self { vhost, data }
    }

    /// Removes what a service has stored. It must not run.
    pub(crate) fn forget(&self, instance: &str) {
        let folder = self.data.path().join(instance);
        std::fs::remove_dir_all(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    }

    /// Starts a service.
    pub(crate) fn start(&self, name: &str) -> Server {
        self.start_with(name, &self.vhost.amqp_url(), &[])
    }

    /// Starts a service with flags beside the compiled defaults.
    pub(crate) fn start_flagged(&self, name: &str, flags: &[(&str, &str)]) -> Server {
        self.start_with(name, &self.vhost.amqp_url(), flags)
    }

    /// Starts a service whose broker nobody has started.
    pub(crate) fn start_alone(&self, name: &str) -> Server {
        self.start_with(name, &self.vhost.amqp_url_at(free_port()), &[])
    }

    fn start_with(&self, name: &str, broker: &str, more: &[(&str, &str)]) -> Server {
        let (port, data) = (free_port(), self.data.path().display().to_string());
        // What is measured are the compiled defaults; the configserver has to have something to serve.
        let repo = match name {
            "configserver" => repository::root().join("config-repo").display().to_string(),
            _ => data.clone(),
        };
        let flags = [
            ("server-port", port.to_string()),
            ("data-dir", data),
            ("config-repo", repo),
            ("amqp-server-url", broker.to_owned()),
        ];
        let more = more.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let flags: Vec<_> =
            flags.into_iter().chain(more).flat_map(|(name, value)| [format!("--{name}"), value]).collect();
        let (program, log) = (binary(name), self.data.path().join(format!("{name}-{port}.log")));
        let since = Instant::now();
        Server { process: Process::start(&program, flags, None, &log), port, since }
    }
}

impl Server {
    /// Asks every half millisecond; how long it took from the start.
    pub(crate) async fn first_answer(&self, path: &str) -> Duration {
        while self.ask(path).await.is_none() {
            assert!(self.since.elapsed() < PATIENCE, "no answer to {path}");
            sleep(Duration::from_micros(500)).await;
        }
        self.since.elapsed()
    }

    /// A number in `/metrics`, by its whole name; 0 before it listens.
    pub(crate) async fn metric(&self, name: &str) -> usize {
        let answer = self.ask("/metrics").await.unwrap_or_default();
        let value = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.trim().parse().expect("a number"))
    }

    /// An answer 200.
    pub(crate) async fn ask(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
        let mut buffer = vec![0; 64 * 1024];
        let answer = load::ask(&mut stream, request.as_bytes(), &mut buffer).await?;
        (load::status(answer) == Some(200)).then(|| String::from_utf8_lossy(answer).into_owned())
    }

    /// Memory that it holds when nothing has changed for a second, in MB.
    pub(crate) async fn settled_memory(&self) -> f64 {
        let mut last = (self.process.memory(), Instant::now());
        while last.1.elapsed() < Duration::from_secs(1) {
            sleep(Duration::from_millis(100)).await;
            let now = self.process.memory();
            if (now - last.0).abs() > f64::EPSILON {
                last = (now, Instant::now());
            }
        }
        last.0
    }
}
