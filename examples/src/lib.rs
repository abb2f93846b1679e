//! Code that the small programs share, so that each of them shows only its pattern.
//!
//! - [`run`] and [`Terminal`]: the command line, the connection to the broker, and Ctrl-C,
//! - [`amqp`]: shorter forms of AMQP operations, for the programs that use lapin directly,
//! - [`system`]: the client of `messaging`, for the patterns that the system uses, too,
//! - [`Failure`]: an error as one sentence that says what is wrong and what to do.
//!
//! It contains no pattern: each program itself names its exchanges, queues and arguments.

pub mod amqp;
pub mod system;
mod failure;

use std::{
    future::pending,
    io::{self, Write as _},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use lapin::Connection;
use messaging::{MessagingClient as _, amqp::AmqpClient};
use tokio::{
    signal::ctrl_c,
    sync::OnceCell,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

pub use self::failure::{Failure, Result};

/// Port of the broker that `cargo hops` starts; `HOPS_PORT_BASE` is added to it.
const BROKER_PORT: u16 = 5672;
/// Time limit for one answer of the broker, which no healthy broker exceeds.
const BROKER_TIMEOUT: Duration = Duration::from_secs(10);

/// Prints a line, as `println!` does, but does not panic if that fails. Then the program's exit code is 1.
#[macro_export]
macro_rules! say {
    ($($line:tt)*) => { $crate::print(&format!($($line)*)) };
}

/// Command line of a program, its connection to the broker, and its stop signal.
#[derive(Debug)]
pub struct Terminal {
    words: Vec<String>,
    amqp: String,
    stop: CancellationToken,
    /// True if the program runs until Ctrl-C, and may then have a message to finish.
    listens: AtomicBool,
    connection: OnceCell<Connection>,
    client: OnceCell<AmqpClient>,
}

/// Runs a program. The exit code is 0 if it is done, or if Ctrl-C stopped a consumer; 1 if it failed; 2 if its
/// command line is wrong; and 130 if Ctrl-C came before it was done, or a second time. `source` is the program's
/// source text, whose header `--help` prints.
pub async fn run(source: &str, example: impl AsyncFnOnce(&Terminal) -> Result) -> ExitCode {
    #[expect(clippy::disallowed_methods, reason = "this is the main function of every program")]
    let port_base = std::env::var("HOPS_PORT_BASE").ok();
    let terminal = match Terminal::read(std::env::args().skip(1), port_base.as_deref()) {
        Ok(Some(terminal)) => terminal,
        Ok(None) => {
            print(&header(source));
            return exit(Ok(()));
        }
        Err(failure) => return failure.exit(),
    };
    let work = async {
        let code = tokio::select! {
            result = example(&terminal) => exit(result),
            () = terminal.aborted() => ExitCode::from(130),
        };
        terminal.close().await;
        code
    };
    tokio::select! {
        code = work => code,
        () = terminal.interrupted_twice() => ExitCode::from(130),
    }
}

/// Returns the exit code, after the failure is printed.
fn exit(result: Result) -> ExitCode {
    let result = result.and_then(|()| output::finish().map_err(|why| Failure::new(&why)));
    result.map_or_else(|failure| failure.exit(), |()| ExitCode::SUCCESS)
}

impl Terminal {
    /// Parses a command line; returns `None` if it asks for help.
    fn read(mut typed: impl Iterator<Item = String>, port_base: Option<&str>) -> Result<Option<Self>> {
        let (mut words, mut amqp) = (vec![], None);
        while let Some(word) = typed.next() {
            match word.split_once('=').unwrap_or((&word, "")) {
                ("-h" | "--help", _) => return Ok(None),
                ("--amqp", "") => {
                    let url = typed.next().ok_or_else(|| Failure::usage("--amqp: the address is missing"))?;
                    amqp = Some(url);
                }
                ("--amqp", url) => amqp = Some(url.to_owned()),
                (flag, _) if flag.starts_with("--") => {
                    return Err(Failure::usage(&format!("{flag}: the only flags are --amqp URL and --help")));
                }
                _ => words.push(word),
            }
        }
        let amqp = amqp.map_or_else(|| address_of_hops(port_base), Ok)?;
        let (stop, listens) = (CancellationToken::new(), AtomicBool::new(false));
        let (connection, client) = (OnceCell::new(), OnceCell::new());
        Ok(Some(Self { words, amqp, stop, listens, connection, client }))
    }

    /// Returns the words of the command line, without flags.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// Returns the address of the broker: that of `--amqp`, or that of the broker of `cargo hops`.
    pub fn amqp(&self) -> &str {
        &self.amqp
    }

    /// Returns all words as one text, or `default` if there are none.
    pub fn text(&self, default: &str) -> String {
        if self.words.is_empty() { default.to_owned() } else { self.words.join(" ") }
    }

    /// Waits for Ctrl-C; the program then continues, to finish its messages in flight.
    pub async fn stopped(&self) {
        self.listens.store(true, Ordering::Relaxed);
        self.stop.cancelled().await;
    }

    /// Waits for Ctrl-C; never returns if the program is a consumer, which has to finish first.
    async fn aborted(&self) {
        self.stop.cancelled().await;
        if self.listens.load(Ordering::Relaxed) {
            pending().await
        }
    }

    async fn interrupted_twice(&self) {
        let _ = ctrl_c().await;
        self.stop.cancel();
        tokio::select! {
            _ = ctrl_c() => return,
            () = sleep(Duration::from_secs(1)) => {}
        }
        if self.listens.load(Ordering::Relaxed) {
            let _ = writeln!(
                io::stderr(),
                "finishing the message in flight; press Ctrl-C once more to stop at once"
            );
        }
        let _ = ctrl_c().await;
    }

    /// Closes the connection in an orderly way; otherwise the broker would log an error.
    async fn close(&self) {
        // A broker that blocks publishers does not read from this connection at all.
        if let Some(connection) = self.connection.get().filter(|connection| !connection.status().blocked()) {
            let _ = timeout(BROKER_TIMEOUT, connection.close(200, "bye".into())).await;
        }
        if let Some(client) = self.client.get() {
            client.close().await;
        }
    }
}

/// Waits for the broker's answer, for ten seconds at most. Without this limit a program would wait as long as the
/// broker is short of memory or disk, since it then accepts no messages.
///
/// # Errors
/// The broker's answer is an error, or there is none in time.
pub async fn within<T, E>(answer: impl Future<Output = std::result::Result<T, E>>) -> Result<T>
where
    Failure: From<E>,
{
    let late =
        |_| Failure::new("the broker has not answered within 10 s: perhaps it is short of memory or disk");
    Ok(timeout(BROKER_TIMEOUT, answer).await.map_err(late)??)
}

/// Returns the address of the broker of `cargo hops`, with `HOPS_PORT_BASE` added to its port.
fn address_of_hops(port_base: Option<&str>) -> Result<String> {
    let base = port_base.unwrap_or("0");
    match base.parse::<u16>() {
        Ok(base @ 0..=50_000) => Ok(format!("amqp://127.0.0.1:{}", BROKER_PORT + base)),
        _ => Err(Failure::new(&format!("HOPS_PORT_BASE: `{base}` is not a number from 0 to 50000"))),
    }
}

/// Returns a program's header as text, without comment marks.
fn header(source: &str) -> String {
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    let lines = lines.map(|line| line.strip_prefix(' ').unwrap_or(line));
    lines.filter(|line| !line.starts_with("```")).collect::<Vec<_>>().join("\n")
}

/// Implements `say!`.
#[doc(hidden)]
pub fn print(line: &str) {
    output::lines(line);
}

#[cfg(test)]
mod tests {
    use super::*;

    const AMQP: &str = "amqp://127.0.0.1:5672";

    fn read(line: &str) -> Result<Option<Terminal>> {
        Terminal::read(line.split_whitespace().map(str::to_owned), None)
    }

    #[test]
    fn a_command_line_has_words_and_a_broker() {
        for (line, text, amqp) in [
            ("", "nothing", AMQP),
            ("Hello, rabbit", "Hello, rabbit", AMQP),
            ("--amqp amqp://h:1 Hello", "Hello", "amqp://h:1"),
            ("one --amqp=amqp://h:1 two", "one two", "amqp://h:1"),
            ("a=b -1", "a=b -1", AMQP),
        ] {
            let terminal = read(line).unwrap().unwrap();
            assert_eq!((terminal.text("nothing").as_str(), terminal.amqp.as_str()), (text, amqp), "{line}");
        }
        assert!(read("Hello --help").unwrap().is_none());
        for (line, says) in
            [("--amqp", "the address is missing"), ("--ampq h", "the only flags are --amqp URL")]
        {
            assert!(read(line).unwrap_err().to_string().contains(says), "{line}");
        }
    }

    #[test]
    fn the_broker_of_cargo_hops_has_a_higher_port_with_a_base() {
        for (base, address) in [
            (None, Some(AMQP)),
            (Some("0"), Some(AMQP)),
            (Some("10000"), Some("amqp://127.0.0.1:15672")),
            (Some("50000"), Some("amqp://127.0.0.1:55672")),
            (Some("50001"), None),
            (Some("-1"), None),
            (Some(""), None),
        ] {
            assert_eq!(address_of_hops(base).ok().as_deref(), address, "{base:?}");
        }
    }

    #[test]
    fn help_is_the_header_without_its_marks() {
        let source = "//! One.\n//!\n//! ```text\n//! two\n//! ```\n\nuse three;\n//! four";
        assert_eq!(header(source), "One.\n\ntwo");
    }
}
