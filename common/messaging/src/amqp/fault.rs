//! Failures of requests to the broker, by what has to happen next; and a time limit for each request.

use std::{io, time::Duration};

use lapin::{
    Channel, Error, ErrorKind,
    protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError},
    types::ShortString,
};
use tls_advice::{TlsKeys, advice};
use tokio::time::timeout;

/// Time limit for closing a channel or a connection in order. It may be short: what is unsettled goes back to its
/// queue with the socket, too.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

const TLS_KEYS: TlsKeys =
    TlsKeys { address: "amqp_server_url", ca_file: "amqp_ca_file", plain_scheme: "amqp://" };

/// Why there is no connection, or why a request on it failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A person has to act: the broker refuses who we are or what we declare.
    #[error("{0}")]
    Refused(String),
    /// 404: the queue or the exchange does not exist.
    #[error("{0}")]
    NotFound(String),
    /// 405: another connection has the queue for itself.
    #[error("{0}")]
    Locked(String),
    /// 406: what is declared exists and differs, or the request does not fit the channel's state.
    #[error("{0}")]
    Precondition(String),
    /// It may work the next time.
    #[error("{0}")]
    Transient(String),
}

impl Fault {
    /// Explains a refused declaration. A queue or an exchange that exists with other arguments stays as it is until
    /// a person acts; the broker's text has its name, what we declared and what is there.
    pub(super) fn of_declaration(self) -> Self {
        match self {
            Self::Precondition(text) => Self::Refused(format!(
                "{text}: it exists with other arguments than this service declares; delete it when it is empty, or \
                 set what it has"
            )),
            other => other,
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match advice(&error, TLS_KEYS) {
            Some(advice) => Self::Refused(advice),
            None => Error::from(error).into(),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let amqp = match error.kind() {
            ErrorKind::ProtocolError(amqp) => amqp,
            ErrorKind::ParsingError(_) => {
                return Self::Transient(format!(
                    "what answers there does not speak AMQP: if the port is one for TLS, write amqps:// in amqp_server_url \
                     ({error})"
                ));
            }
            _ => return Self::Transient(error.to_string()),
        };
        let text = amqp.get_message().to_string();
        match amqp.kind() {
            // RabbitMQ answers 403 both to a login and to a missing permission.
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => Self::Refused(format!(
                "{text}: check APP_AMQP_USERNAME, APP_AMQP_PASSWORD and the user's permissions"
            )),
            AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => Self::Refused(format!(
                "{text}: create the vhost and let the user in, or correct amqp_server_url"
            )),
            AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => Self::NotFound(text),
            AMQPErrorKind::Soft(AMQPSoftError::RESOURCELOCKED) => Self::Locked(text),
            AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => Self::Precondition(text),
            _ => Self::Transient(text),
        }
    }
}

/// Runs a request to the broker within a time limit.
pub(super) async fn within<T>(
    limit: Duration,
    what: &str,
    request: impl Future<Output = Result<T, impl Into<Fault>>>,
) -> Result<T, Fault> {
    match timeout(limit, request).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(Fault::Transient(format!("no answer to {what} within {limit:?}"))),
    }
}

/// Closes a channel, unless that takes long.
pub async fn close_channel(channel: &Channel) {
    let _ = within(CLOSE_TIMEOUT, "channel.close", channel.close(200, "done".into())).await;
}

/// Converts a name to AMQP's short string; lapin's own conversion panics above 255 bytes.
///
/// # Errors
/// [`Fault::Refused`] for a longer name.
pub fn short(text: &str) -> Result<ShortString, Fault> {
    ShortString::try_new(text)
        .map_err(|_| Fault::Refused(format!("the name {text:.20}... is over 255 bytes")))
}
