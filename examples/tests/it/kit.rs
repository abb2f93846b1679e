//! A virtual host, and programs that meet there.

use e2e::{
    broker::{SharedBroker, Vhost},
    log::Stream,
    process::{Launch, Service},
    wait::{PATIENCE, until, until_true},
};

/// The path of a program, as cargo has built it for this test.
macro_rules! program {
    ($name:literal) => {
        env!(concat!("CARGO_BIN_EXE_", $name))
    };
}
pub(crate) use program;

/// Where the programs of one test meet, and nobody else.
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

    /// Starts a program that waits, and waits until it does.
    pub(crate) async fn listen(&self, program: &'static str, words: &str) -> Program {
        let program = self.start(program, words);
        until_true("it waits", PATIENCE, async || {
            program.lines().iter().any(|line| line.starts_with("waiting"))
        })
        .await;
        program
    }

    /// Runs a program to its end, which is to be a good one; its lines.
    pub(crate) async fn run(&self, program: &'static str, words: &str) -> Vec<String> {
        let mut program = self.start(program, words);
        assert_eq!(program.0.exit_code().await, Some(0), "{}", program.errors());
        program.lines()
    }

    /// Runs a program to its end, which is to be a bad one; its exit code and its one line.
    pub(crate) async fn fail(&self, program: &'static str, words: &str) -> (i32, String) {
        fail_at(&self.vhost.amqp_url(), program, words).await
    }

    /// Waits until nothing waits in a queue; what is acknowledged while its consumer ends takes a moment.
    pub(crate) async fn until_empty(&self, queue: &str) {
        until_true("the queue is empty", PATIENCE, async || self.vhost.ready(queue).await == Some(0)).await;
    }
}

/// A program that was started; killed when it is dropped.
pub(crate) struct Program(pub(crate) Service);

impl Program {
    /// What it printed so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.log().text(Stream::Out).lines().map(str::to_owned).collect()
    }

    /// The lines after the one that says that it waits, once there are so many.
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

    /// Ctrl-C, after which it ends well; all that it printed but that it waits.
    pub(crate) async fn interrupt(mut self) -> Vec<String> {
        self.0.sigint();
        assert_eq!(self.0.exit_code().await, Some(0), "{}", self.errors());
        self.heard(0).await
    }
}

/// A program that is to find its broker there. Words that belong together have a `_` in place of each space.
pub(crate) fn start_at(amqp: &str, program: &'static str, words: &str) -> Program {
    Program(launch(program, words).flag("amqp", amqp).spawn())
}

/// A program that is told of no broker, where the ports of `cargo hops` are so much higher.
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
