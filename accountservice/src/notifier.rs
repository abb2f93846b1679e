//! Hop 4, notify: the read of a VIP's account becomes a message in the outbox, on disk.
//!
//! It does no messaging: whether and when the broker gets the message is the outbox's business.

use std::sync::Arc;

use contracts::topology::VIP_QUEUE;
use contracts::{RequestContext, VIP_NOTIFICATION, VipNotification};
use jiff::Timestamp;
use outbox::{Outbox, OutboxError};

use crate::account::Account;

/// Writer of notifications: one for each read of a VIP's account.
#[derive(Debug, Clone)]
pub struct Notifier {
    outbox: Arc<Outbox>,
}

impl Notifier {
    /// Writes to `outbox`.
    #[must_use]
    pub fn new(outbox: Arc<Outbox>) -> Self {
        Self { outbox }
    }

    /// Puts a notification into the outbox if the account is a VIP's. `Ok` means that it is on disk, or that the
    /// account is not a VIP's.
    ///
    /// # Errors
    /// The outbox is full or cannot be written, or the message is invalid.
    pub async fn notify_if_vip(
        &self,
        account: &Account,
        context: &RequestContext,
    ) -> Result<(), OutboxError> {
        if !account.vip {
            return Ok(());
        }
        let id = account.id.as_str();
        let body = VipNotification { account_id: id.to_owned(), read_at: Timestamp::now() };
        let message = contracts::event(VIP_NOTIFICATION, "accountservice", id, context, &body)?;
        self.outbox.append(VIP_QUEUE, &message).await?;
        tracing::info!(
            hop = 4,
            name = "notify",
            request = context.request_id.as_str(),
            trace = context.trace.id(),
            account.id = id,
            message.id = message.shown_id(),
            "account {id} is a VIP: notification {} is in the outbox",
            message.shown_id(),
        );
        Ok(())
    }
}
