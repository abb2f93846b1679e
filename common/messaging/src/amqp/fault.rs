//! What can go wrong with a request to the broker, by what has to happen next; and no request without a limit.

use std::{fmt, time::Duration};

use lapin::{
    Channel, Error, ErrorKind,
    protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError},
    types::ShortString,
};
use tokio::time::timeout;

/// How long a goodbye may take. It is a courtesy: what is unsettled goes back to the queue with the socket.
pub(super) const GOODBYE: Duration = Duration::from_secs(1);

/// Why there is no connection, or why a request on it failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// A person has to act: the broker refuses who we are or what we declare.
    Refused(String),
    /// It may work the next time.
    Broken(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Refused(why) | Self::Broken(why)) = self;
        f.write_str(why)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let ErrorKind::ProtocolError(amqp) = error.kind() else { return Self::Broken(error.to_string()) };
        let text = amqp.get_message();
        match amqp.kind() {
            // RabbitMQ answers 403 both to a login and to a missing permission.
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => Self::Refused(format!(
                "{text}: check APP_AMQP_USERNAME, APP_AMQP_PASSWORD and the user's permissions"
            )),
            AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => Self::Refused(format!(
                "{text}: create the vhost and let the user in, or correct amqp_server_url"
            )),
            // The broker's text has the entity, what we wanted and what is there. Other 406s pass by themselves.
            AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED)
                if text.as_str().contains("inequivalent arg") =>
            {
                Self::Refused(format!(
                    "{text}: it exists with other arguments than this service declares; delete it when it is \
                     empty, or set what it has"
                ))
            }
            _ => Self::Broken(text.to_string()),
        }
    }
}

/// Runs a request to the broker, bounded.
pub(super) async fn within<T>(
    limit: Duration,
    what: &str,
    request: impl Future<Output = lapin::Result<T>>,
) -> Result<T, Fault> {
    match timeout(limit, request).await {
        Ok(answer) => answer.map_err(Fault::from),
        Err(_) => Err(Fault::Broken(format!("no answer to {what} within {limit:?}"))),
    }
}

/// Closes a channel, if that goes quickly.
pub(super) async fn say_goodbye(channel: &Channel) {
    let _ = within(GOODBYE, "channel.close", channel.close(200, "done".into())).await;
}

/// A name as AMQP's short string; lapin's own conversion panics above 255 bytes.
pub(super) fn short(text: &str) -> Result<ShortString, Fault> {
    ShortString::try_new(text)
        .map_err(|_| Fault::Refused(format!("the name {text:.20}... is over 255 bytes")))
}
