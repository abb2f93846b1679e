//! What the small programs share, so that each of them shows its pattern and nothing else.
//!
//! - [`run`] and [`Terminal`]: what a person typed, the connection, and the end by Ctrl-C,
//! - [`amqp`]: AMQP in fewer words, for the programs that use lapin plainly,
//! - [`system`]: the client of `messaging`, for the patterns that the system has too,
//! - [`Failure`]: what went wrong and what to do, as one sentence.
//!
//! No pattern is in here: which exchange, which queue and which arguments stands in the program that shows
//! it.

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

/// Where `cargo hops` has its broker, if the port is free; `HOPS_PORT_BASE` is added to it.
const PORT: u16 = 5672;
/// No broker that is well takes longer for an answer.
const LIMIT: Duration = Duration::from_secs(10);

/// Prints a line, as `println!` does, but does not panic when nobody reads any more.
#[macro_export]
macro_rules! say {
    ($($line:tt)*) => { $crate::print(&format!($($line)*)) };
}

/// What a program has of the person who typed its name, and of the broker that they meant.
#[derive(Debug)]
pub struct Terminal {
    words: Vec<String>,
    amqp: String,
    stop: CancellationToken,
    /// Whether it waits for Ctrl-C, and has something to finish then.
    listens: AtomicBool,
    connection: OnceCell<Connection>,
    client: OnceCell<AmqpClient>,
}

/// Runs a program: exit code 0 when it is done, or has listened until Ctrl-C; 1 when it failed, 2 when it was
/// called in a way it does not know, 130 when Ctrl-C came before it was done, or a second time. `source` is its
/// own text: `--help` prints the header.
pub async fn run(source: &str, example: impl AsyncFnOnce(&Terminal) -> Result) -> ExitCode {
    #[expect(clippy::disallowed_methods, reason = "this is the main function of every program")]
    let port_base = std::env::var("HOPS_PORT_BASE").ok();
    let terminal = match Terminal::read(std::env::args().skip(1), port_base.as_deref()) {
        Ok(Some(terminal)) => terminal,
        Ok(None) => {
            print(&header(source));
            return ExitCode::SUCCESS;
        }
        Err(failure) => return failure.exit(),
    };
    let work = async {
        let code = tokio::select! {
            result = example(&terminal) => result.map_or_else(|failure| failure.exit(), |()| ExitCode::SUCCESS),
            () = terminal.given_up() => ExitCode::from(130),
        };
        terminal.close().await;
        code
    };
    tokio::select! {
        code = work => code,
        () = terminal.interrupted_twice() => ExitCode::from(130),
    }
}

impl Terminal {
    /// From the words of a command line; `None` when it asks for help.
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

    /// What was typed after the program's name.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// All words as one text, or this one when none was typed.
    pub fn text(&self, default: &str) -> String {
        if self.words.is_empty() { default.to_owned() } else { self.words.join(" ") }
    }

    /// Waits for Ctrl-C, after which the program goes on, to finish what is in hand.
    pub async fn stopped(&self) {
        self.listens.store(true, Ordering::Relaxed);
        self.stop.cancelled().await;
    }

    /// Waits for a Ctrl-C after which there is nothing to finish.
    async fn given_up(&self) {
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
            let _ = writeln!(io::stderr(), "finishing what is in hand; Ctrl-C once more ends it at once");
        }
        let _ = ctrl_c().await;
    }

    /// Says goodbye to the broker, which else would note a connection that broke.
    async fn close(&self) {
        // One that takes no messages hears nothing at all.
        if let Some(connection) = self.connection.get().filter(|connection| !connection.status().blocked()) {
            let _ = timeout(LIMIT, connection.close(200, "bye".into())).await;
        }
        if let Some(client) = self.client.get() {
            client.close().await;
        }
    }
}

/// What the broker answers, if it does within ten seconds. One that is short of memory or disk takes no messages,
/// and would be waited for as long as it is.
///
/// # Errors
/// The broker's own, or that there was no answer.
pub async fn within<T, E>(answer: impl Future<Output = std::result::Result<T, E>>) -> Result<T>
where
    Failure: From<E>,
{
    let late =
        |_| Failure::new("the broker has not answered within 10 s: perhaps it is short of memory or disk");
    Ok(timeout(LIMIT, answer).await.map_err(late)??)
}

/// Where the broker of `cargo hops` is: `HOPS_PORT_BASE` is added to each of its ports.
fn address_of_hops(port_base: Option<&str>) -> Result<String> {
    let base = port_base.unwrap_or("0");
    match base.parse::<u16>() {
        Ok(base @ 0..=50_000) => Ok(format!("amqp://127.0.0.1:{}", PORT + base)),
        _ => Err(Failure::new(&format!("HOPS_PORT_BASE: `{base}` is no number from 0 to 50000"))),
    }
}

/// The lines of a program's header, as text.
fn header(source: &str) -> String {
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    let lines = lines.map(|line| line.strip_prefix(' ').unwrap_or(line));
    lines.filter(|line| !line.starts_with("```")).collect::<Vec<_>>().join("\n")
}

/// What `say!` expands to.
#[doc(hidden)]
pub fn print(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
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
