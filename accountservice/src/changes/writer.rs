//! A write: appended to the stream as a change, and answered when this replica has applied it.
//!
//! There is no outbox in between: a write that the broker has not put into its order is no write, since another one may win.

use std::{sync::Arc, time::Duration};

use backoff::Backoff;
use contracts::{RequestContext, event_with_id, topology::ACCOUNT_CHANGES};
use hops_config::Live;
use messaging::{Message, MessagingClient, PublishError};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::{
    replica::Replica,
    rule::{CHANGE, Change, Outcome, RENEWAL, Renewal},
};

/// Name of this service in its messages.
const APP_ID: &str = "accountservice";

/// Wait until the stream is read again, before something is appended to it.
const READING_DELAY: Duration = Duration::from_millis(20);

/// Appends changes to the stream.
#[derive(Clone)]
pub struct Writer {
    client: Arc<dyn MessagingClient>,
    replica: Arc<Replica>,
    is_reading: Arc<dyn Fn() -> bool + Send + Sync>,
    timeout: Live<Duration>,
}

/// Nobody knows whether the change counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no outcome in time")]
pub struct UnknownOutcome;

impl Writer {
    /// Returns a writer; `timeout` is the limit for an outcome, and `is_reading` says whether the broker delivers the stream.
    #[must_use]
    pub fn new(
        client: Arc<dyn MessagingClient>,
        replica: Arc<Replica>,
        is_reading: impl Fn() -> bool + Send + Sync + 'static,
        timeout: Live<Duration>,
    ) -> Self {
        Self { client, replica, is_reading: Arc::new(is_reading), timeout }
    }

    /// Returns the replica.
    #[must_use]
    pub fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }

    /// Returns whether there is a broker at the moment.
    #[must_use]
    pub fn has_broker(&self) -> bool {
        self.client.status().check().is_ok()
    }

    /// Appends a change and returns its outcome, once this replica has applied it. What the broker does not confirm is appended
    /// again: the second entry with the change's id changes nothing. The writer names the stream.
    ///
    /// # Errors
    /// [`UnknownOutcome`] when the time is over, since the change may be in the stream.
    pub async fn write(&self, change: Change, context: &RequestContext) -> Result<Outcome, UnknownOutcome> {
        let outcome = self.replica.wait_for(&change.change_id);
        let (id, account) = (&change.change_id, &change.account_id);
        tracing::info!(
            request = context.request_id.as_str(),
            trace = context.trace.id(),
            account.id = %account,
            change.id = id,
            change.step = "append",
            "the writer appends {id} to {ACCOUNT_CHANGES}: account {account}, base {}",
            change.base
        );
        let append = async {
            self.append(context, |stream| change_entry(&change, stream, context)).await;
            // Its outcome comes from the stream.
            std::future::pending().await
        };
        let written = async {
            tokio::select! {
                outcome = outcome => outcome.map_err(|_| UnknownOutcome),
                never = append => never,
            }
        };
        timeout(self.timeout.get(), written).await.unwrap_or(Err(UnknownOutcome))
    }

    /// Appends a change that nobody waits for, until the broker has confirmed it or the client is closed.
    pub async fn append_change(&self, change: Change) {
        let context = RequestContext::from_parts_or_new(None, None, None);
        self.append(&context, |stream| change_entry(&change, stream, &context)).await;
    }

    /// Appends a renewal, until the broker has confirmed it or the client is closed.
    pub async fn renew(&self, renewal: Renewal) {
        let context = RequestContext::from_parts_or_new(None, None, None);
        let id = Uuid::now_v7().to_string();
        let entry = |stream| {
            let renewal = Renewal { stream, ..renewal.clone() };
            event_with_id(&id, RENEWAL, APP_ID, renewal.account_id.as_str(), &context, &renewal)
        };
        self.append(&context, entry).await;
    }

    /// Appends an entry that is made for the stream with this name. Only while the stream is read: after it was lost, its name is
    /// another one.
    async fn append(
        &self,
        context: &RequestContext,
        entry: impl Fn(String) -> Result<Message, PublishError>,
    ) {
        let request = context.request_id.as_str();
        let mut backoff = Backoff::default();
        loop {
            while !(self.is_reading)() {
                sleep(READING_DELAY).await;
            }
            let appended = match entry(self.stream_name()) {
                Ok(message) => self.client.append(ACCOUNT_CHANGES, message).await,
                Err(error) => Err(error),
            };
            match appended {
                Ok(()) | Err(PublishError::Closed) => return,
                Err(PublishError::Invalid(why)) => {
                    return tracing::error!(request, "a change to an account cannot be appended: {why}");
                }
                Err(error) => tracing::debug!(request, "a change is appended again: {error}"),
            }
            backoff.wait().await;
        }
    }

    /// Returns the name of the stream; an empty one gets a name.
    fn stream_name(&self) -> String {
        let named = self.replica.progress().borrow().position.stream.clone();
        named.unwrap_or_else(|| format!("{:08x}", rand::random::<u32>()))
    }
}

fn change_entry(change: &Change, stream: String, context: &RequestContext) -> Result<Message, PublishError> {
    let change = Change { stream, ..change.clone() };
    event_with_id(&change.change_id, CHANGE, APP_ID, change.account_id.as_str(), context, &change)
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("replica", &self.replica).finish_non_exhaustive()
    }
}
