//! What a replica appends to the stream by itself: the first accounts, and accounts whose entries the broker would drop.
//!
//! The stream is bounded, and the broker drops its oldest entries (<https://www.rabbitmq.com/docs/streams#retention>). So that no
//! account is dropped with them, an account whose newest entry is old is appended again, with its version: a renewal. Age is counted in
//! bytes of the stream, since that is what the broker counts. Every replica has the same need at the same time; a random wait lets one
//! of them come first, and the others see that it is done.
//!
//! If the stream is another one, since the broker's data was lost, all accounts are older than its first entry, and are renewed, too.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use jiff::Timestamp;
use rand::seq::SliceRandom as _;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::{
    rule::{Change, Renewal, Row},
    writer::Writer,
};
use crate::{account::AccountId, store::StoreError};

/// Longest wait before accounts are appended again.
const RENEWAL_WAIT: Duration = Duration::from_secs(3);
/// Longest wait before the first accounts are appended.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// Time limit for reading back what was appended; it is looked for again after that.
const APPLY_TIMEOUT: Duration = Duration::from_secs(10);
/// Renewals that are appended at a time. Those of another replica come back meanwhile.
const RENEWALS_AT_A_TIME: usize = 20;
/// Wait after a failure.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Bytes of the stream that the broker keeps, in parts.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Age in bytes at which an account is renewed: a quarter, so that it is in the stream three times before it would be dropped once.
    renew_at: u64,
    /// Bytes between two looks at all accounts.
    check_every: u64,
}

impl Bounds {
    /// Returns the bounds of a stream of which the broker keeps `max_bytes`.
    #[must_use]
    pub fn new(max_bytes: u64) -> Self {
        Self { renew_at: max_bytes / 4, check_every: max_bytes / 32 }
    }

    /// Returns whether an account is to be appended again, when so many bytes of the stream were read, and so many before its first
    /// entry.
    fn is_due(self, row: &Row, bytes: u64, began: u64) -> bool {
        row.renewed <= began || bytes.saturating_sub(row.renewed) >= self.renew_at
    }
}

/// Appends what is missing in the stream, until the caller cancels it.
pub async fn run(writer: &Writer, bounds: Bounds) {
    let replica = Arc::clone(writer.replica());
    let mut progress = replica.progress();
    let mut checked = None;
    loop {
        // Nobody drops the sender, which is in the replica.
        let Ok(now) =
            progress.wait_for(|progress| progress.is_caught_up).await.map(|now| now.position.clone())
        else {
            return;
        };
        if !replica.store().is_read() {
            match append_first_accounts(writer).await {
                Ok(true) => replica.set_read().await,
                Ok(false) => sleep(RETRY_DELAY).await,
                Err(error) => {
                    tracing::error!("the first accounts cannot be read: {error}");
                    sleep(RETRY_DELAY).await;
                }
            }
            continue;
        }
        let mark = (now.began, now.bytes / bounds.check_every);
        if checked == Some(mark) {
            if progress.changed().await.is_err() {
                return;
            }
            continue;
        }
        match renew(writer, bounds).await {
            Ok(()) => checked = Some(mark),
            Err(error) => {
                tracing::error!("the accounts cannot be read: {error}");
                sleep(RETRY_DELAY).await;
            }
        }
    }
}

/// Appends the first accounts that the stream knows nothing of. Returns whether all are applied here.
async fn append_first_accounts(writer: &Writer) -> Result<bool, StoreError> {
    let replica = writer.replica();
    let mut last = None;
    // Replicas that start together would append all of them twice.
    sleep(FIRST_WAIT.mul_f64(rand::random())).await;
    for account in replica.store().first_accounts()? {
        if replica.store().replicated().row(&account.id)?.is_some() {
            continue;
        }
        let (id, profile) = account.into_parts();
        let change = Change {
            stream: String::new(),
            change_id: Uuid::now_v7().to_string(),
            account_id: id,
            base: 0,
            account: Some(profile),
            request: String::new(),
            by: replica.name().to_owned(),
            at: Timestamp::now(),
        };
        last = Some(change.account_id.clone());
        writer.append_change(change).await;
    }
    match last {
        None => Ok(true),
        // All before it are applied, too.
        Some(id) => {
            let _ = timeout(APPLY_TIMEOUT, is_applied(writer, &id)).await;
            Ok(replica.store().replicated().row(&id)?.is_some())
        }
    }
}

/// Waits until an account is there, or the stream is read from its beginning again.
async fn is_applied(writer: &Writer, id: &AccountId) -> Result<(), StoreError> {
    let replica = writer.replica();
    let mut progress = replica.progress();
    while replica.store().replicated().row(id)?.is_none() && progress.borrow_and_update().is_caught_up {
        if progress.changed().await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Appends the accounts that are due after a random wait, unless another replica has done so.
async fn renew(writer: &Writer, bounds: Bounds) -> Result<(), StoreError> {
    let replica = writer.replica();
    let is_due = |row: &Row| {
        let progress = replica.progress();
        let position = &progress.borrow().position;
        bounds.is_due(row, position.bytes, position.began)
    };
    let mut due = vec![];
    for row in replica.store().replicated().rows() {
        let (id, row) = row?;
        if is_due(&row) {
            due.push(id);
        }
    }
    if due.is_empty() {
        return Ok(());
    }
    let mut progress = replica.progress();
    let latest = progress.borrow().position.bytes + bounds.check_every;
    // Not longer than the stream has time for.
    tokio::select! {
        () = sleep(RENEWAL_WAIT.mul_f64(rand::random())) => {}
        _ = progress.wait_for(|progress| progress.position.bytes >= latest) => {}
    }
    // In an order of its own: two replicas that begin together do not append the same ones together.
    due.shuffle(&mut rand::rng());
    let mut count = 0;
    for ids in due.chunks(RENEWALS_AT_A_TIME) {
        let mut appends = vec![];
        for id in ids {
            let Some(row) = replica.store().replicated().row(id)?.filter(is_due) else { continue };
            let Row { version, account, .. } = row;
            let (stream, account_id) = (String::new(), id.clone());
            appends.push(writer.renew(Renewal { stream, account_id, version, account }));
        }
        count += join_all(appends).await.len();
    }
    if count > 0 {
        tracing::info!(
            "accounts appended to the stream again, before the broker drops their entries: {count}"
        );
    }
    Ok(())
}
