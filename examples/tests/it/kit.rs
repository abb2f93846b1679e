//! Fixture: a virtual host, and programs that run on it.

use e2e::{
    broker::{SharedBroker, Vhost},
    log::Stream,
    process::{Launch, Service},
    wait::{PATIENCE, until, until_true},
};

/// Path of a program that cargo has built for this test.
macro_rules! program {
    ($name:literal) => {
        env!(concat!("CARGO_BIN_EXE_", $name))
    };
}
pub(crate) use program;

/// Virtual host for the programs of one test.
pub(crate) struct Place {
    pub(crate) vhost: Vhost,
}

impl Place {
    pub(crate) async fn new() -> Self {
        Self { vhost: SharedBroker::from_environment().vhost().await }
    }

    /// Starts a program.
    pub(crate) fn start(&self, program: &'static str, words: &str) -> Program {
        start_at(&self.vhost.amqp_url(), program, words)
    }

    /// Starts a consumer, and waits until it is ready.
    pub(crate) async fn listen(&self, program: &'static str, words: &str) -> Program {
        let program = self.start(program, words);
        until_true("it waits", PATIENCE, async || {
            program.lines().iter().any(|line| line.starts_with("waiting"))
        })
        .await;
        program
    }

    /// Runs a program until it exits with code 0, and returns its lines.
    pub(crate) async fn run(&self, program: &'static str, words: &str) -> Vec<String> {
        let mut program = self.start(program, words);
        assert_eq!(program.0.exit_code().await, Some(0), "{}", program.errors());
        program.lines()
    }

    /// Runs a program until it fails, and returns its exit code and its one line.
    pub(crate) async fn fail(&self, program: &'static str, words: &str) -> (i32, String) {
        fail_at(&self.vhost.amqp_url(), program, words).await
    }

    /// Waits until a queue is empty; the last acknowledgment of a consumer that stops takes a moment.
    pub(crate) async fn until_empty(&self, queue: &str) {
        until_true("the queue is empty", PATIENCE, async || self.vhost.ready(queue).await == Some(0)).await;
    }
}

/// Running program, which is killed on drop.
pub(crate) struct Program(pub(crate) Service);

impl Program {
    /// Returns the lines that it has printed so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.log().text(Stream::Out).lines().map(str::to_owned).collect()
    }

    /// Waits for this many lines after the line that begins with `waiting`, and returns them.
    pub(crate) async fn heard(&self, count: usize) -> Vec<String> {
        until(&format!("{count} lines"), PATIENCE, async || {
            let lines = self.lines().into_iter().filter(|line| !line.starts_with("waiting"));
            Some(lines.collect::<Vec<_>>()).filter(|lines| lines.len() >= count)
        })
        .await
    }

    pub(crate) fn errors(&self) -> String {
        self.0.log().text(Stream::Err)
    }

    /// Sends Ctrl-C, waits until it exits with code 0, and returns its lines except the one that begins with `waiting`.
    pub(crate) async fn interrupt(mut self) -> Vec<String> {
        self.0.sigint();
        assert_eq!(self.0.exit_code().await, Some(0), "{}", self.errors());
        self.heard(0).await
    }
}

/// Starts a program with the address of its broker. In `words`, `_` stands for a space inside a word.
pub(crate) fn start_at(amqp: &str, program: &'static str, words: &str) -> Program {
    Program(launch(program, words).flag("amqp", amqp).spawn())
}

/// Starts a program without an address, but with this port base of `cargo hops`.
pub(crate) fn start_with_port_base(base: &str, program: &'static str, words: &str) -> Program {
    Program(launch(program, words).env("HOPS_PORT_BASE", base).spawn())
}

fn launch(program: &'static str, words: &str) -> Launch {
    let name = program.rsplit('/').next().unwrap_or(program);
    let words = words.split_whitespace().map(|word| word.replace('_', " "));
    words.fold(Launch::new(program, name), |launch, word| launch.argument(&word))
}

pub(crate) async fn fail_at(amqp: &str, program: &'static str, words: &str) -> (i32, String) {
    let mut program = start_at(amqp, program, words);
    let code = program.0.exit_code().await.unwrap();
    let errors = program.errors();
    assert_eq!(errors.lines().count(), 1, "{errors}");
    (code, errors.trim_end().to_owned())
}
