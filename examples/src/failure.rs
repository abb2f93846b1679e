//! Errors of the programs: one sentence that says what is wrong and what to do.

use std::{
    fmt,
    io::{self, Write as _},
    process::ExitCode,
};

use messaging::{PublishError, amqp::Settings, broker::BrokerUrls};

/// Result of a program.
pub type Result<T = ()> = std::result::Result<T, Failure>;

/// Reason why a program stops before it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    sentence: String,
    is_usage: bool,
}

impl Failure {
    /// Creates a failure with this sentence.
    pub fn new(sentence: &str) -> Self {
        Self { sentence: sentence.to_owned(), is_usage: false }
    }

    /// Creates a failure for a wrong command line, which exits with code 2.
    pub fn usage(sentence: &str) -> Self {
        Self { sentence: format!("{sentence} (see --help)"), is_usage: true }
    }

    /// Creates a failure to connect to the broker at `address`; `why` is the error of lapin or the broker.
    pub(crate) fn connecting(address: &str, why: &str) -> Self {
        let sentence = if why.contains("ACCESS_REFUSED") {
            format!(
                "the broker at {address} refuses the login: write user and password into the address, as in \
                 --amqp amqp://USER:PASSWORD@HOST:PORT"
            )
        } else if why.contains("NOT_ALLOWED") {
            format!(
                "the broker at {address} has no such virtual host for this user: create it, or name another one"
            )
        } else if let Some(advice) = advice(why) {
            advice
        } else {
            format!(
                "no broker at {address}: `cargo hops up -d` starts one, and `cargo hops status` prints its \
                 address for --amqp URL ({why})"
            )
        };
        Self::new(&sentence)
    }

    /// Prints the sentence, and returns the exit code.
    pub(crate) fn exit(&self) -> ExitCode {
        let _ = writeln!(io::stderr(), "error: {self}");
        ExitCode::from(if self.is_usage { 2 } else { 1 })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl From<lapin::Error> for Failure {
    fn from(error: lapin::Error) -> Self {
        let text = error.to_string();
        let is_lost = text.contains("IO error") || text.contains("CONNECTION_FORCED");
        Self::new(&advice(&text).unwrap_or_else(|| match is_lost {
            true => format!("the connection to the broker is lost: start the program again ({text})"),
            false => format!("the broker: {text}"),
        }))
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        Self::new(&error.to_string())
    }
}

/// Returns what to do about an error of the broker, if that is known.
fn advice(answer: &str) -> Option<String> {
    // The broker's text names the queue or exchange, and the requested and the existing value.
    let found = answer.find("inequivalent arg")?;
    let text = answer[found..].split(": it exists").next().unwrap_or_default().trim();
    Some(format!(
        "it exists with other arguments ({text}): delete it, or use a virtual host of your own, as in \
         --amqp amqp://HOST:PORT/mine"
    ))
}

/// Returns the address without credentials, so that it can be shown.
pub(crate) fn address(amqp: &str) -> Result<String> {
    let amqp_server_url = BrokerUrls::parse(amqp)
        .map_err(|why| Failure::usage(&format!("the address of the broker: {why}")))?;
    let settings = Settings { amqp_server_url, ..Settings::default() };
    let broker = settings.broker().map_err(|_| {
        Failure::usage(
            "only a broker on this machine accepts guest: write the address as amqp://USER:PASSWORD@HOST:PORT",
        )
    })?;
    match broker.addresses() {
        [(url, _)] => Ok(url.to_string()),
        _ => Err(Failure::usage("only one address of a broker is allowed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_to_connect_says_what_to_do() {
        for (why, says) in [
            ("Connection refused (os error 111)", "`cargo hops up -d` starts one"),
            ("ACCESS_REFUSED - Login was refused", "amqp://USER:PASSWORD@HOST:PORT"),
            ("NOT_ALLOWED - access to vhost 'x' refused", "no such virtual host"),
            (
                "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'hello' in vhost '/': received 'true' \
                 but current is 'false': it exists with other arguments than this service declares; delete it",
                "other arguments (inequivalent arg 'durable' for queue 'hello' in vhost '/': received 'true' but ",
            ),
        ] {
            let sentence = Failure::connecting("amqp://h:5672", why).to_string();
            assert!(sentence.contains(says), "{why}: {sentence}");
        }
    }

    #[test]
    fn an_address_is_shown_without_its_password_and_a_wrong_one_is_explained() {
        assert_eq!(address("amqp://u:hunter2@h:5672/v").unwrap(), "amqp://h:5672/v");
        for (amqp, says) in [
            ("localhost:5672", "amqp://localhost:5672"),
            ("amqp://h:5672/", "empty vhost"),
            ("amqp://rabbit.example", "USER:PASSWORD"),
            ("amqp://localhost,amqp://localhost", "only one address"),
        ] {
            let sentence = address(amqp).unwrap_err().to_string();
            assert!(sentence.contains(says), "{amqp}: {sentence}");
        }
    }
}
