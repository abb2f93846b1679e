//! How accounts change: through a stream, from which every replica fills a store of its own.
//!
//! A write is an entry of the stream, and the broker puts all entries into one order. Every replica reads them in that order and decides
//! by the same rule, so all come to the same accounts, and nobody has to be asked. In the order of a write:
//! - [`writer`]: the entry is appended, and its outcome awaited
//! - [`rule`]: what an entry is, and whether it counts; pure
//! - [`batch`]: entries that are applied together
//! - [`replica`]: the stream is applied to the store
//! - [`events`]: what others learn of it
//! - [`upkeep`]: what a replica appends by itself

pub mod writer;
pub mod rule;
pub mod batch;
pub mod replica;
pub mod events;
pub mod upkeep;

use std::sync::Arc;

use contracts::topology::ACCOUNT_CHANGES;
use hops_config::LiveSection;
use messaging::{Subscription, amqp::AmqpClient};
use streams::ReplayOptions;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{replica::Replica, upkeep::Bounds, writer::Writer};
use crate::settings::Accounts;

/// Largest body of an entry that is read, in bytes: the same on every replica.
const MAX_BODY: usize = 64 * 1024;

/// Starts to apply the stream to a replica, and the upkeep until `stop`; returns a writer of changes, and the reader of the stream.
pub fn start(
    client: &Arc<AmqpClient>,
    replica: &Arc<Replica>,
    settings: &LiveSection<Accounts>,
    stop: CancellationToken,
) -> (Writer, Subscription) {
    let after = replica.progress().borrow().position.last.clone();
    let reader = Arc::clone(replica);
    // It runs until the client is closed: writes are answered from what it has applied to the last.
    let behind = replica.behind();
    let options = ReplayOptions { after, max_body: MAX_BODY, behind, ..ReplayOptions::whole() };
    let reading = streams::replay_batches(client, ACCOUNT_CHANGES, options, move |steps| {
        let replica = Arc::clone(&reader);
        async move { replica.apply(steps).await }
    });
    let timeout = settings.live(|accounts, moment| *accounts.write_timeout.at(moment));
    let is_reading = {
        let reading = reading.clone();
        move || reading.is_active()
    };
    let writer = Writer::new(Arc::clone(client) as _, Arc::clone(replica), is_reading, timeout);
    let (appender, bounds) = (writer.clone(), Bounds::new(settings.started().account_changes_max_bytes));
    TaskTracker::new().spawn(async move { stop.run_until_cancelled(upkeep::run(&appender, bounds)).await });
    (writer, reading)
}
