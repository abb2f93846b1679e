//! Refresh: when the bus announces that settings have changed, they are read again, checked as a whole, and applied or
//! refused.
//!
//! A new version goes the same way as the first one. A refused one changes nothing. Events that come while there is
//! no connection are lost, so each new connection is a reason to read, too.

use std::{sync::Arc, time::Duration};

use backoff::Backoff;
use futures_util::future::{OptionFuture, join_all};
use hops_config::{LiveSettings, Reloaded, ServiceSettings};
use messaging::{
    ConsumeOptions, Delivery, Handler, MessagingClient, Outcome, Subscription, metrics::counter,
    topology::EVERYTHING,
};
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use tokio::{sync::mpsc, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    SPRING_CLOUD_BUS,
    address::BusId,
    event::{self, Event},
};

/// One push is several events, and one event reaches many instances: each waits for so long, and up to twice.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// More events than this at a time are acted on, and not acknowledged to the bus.
const EVENTS: usize = 64;
/// The first wait before a server that was away is asked again, at most.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait between two attempts while the server is away.
const LONGEST: Duration = Duration::from_secs(30);
/// Time limit for one acknowledgment; nobody depends on it.
const ACK: Duration = Duration::from_secs(5);

/// A service that reloads its settings as the bus announces changes.
struct Refresh<S> {
    settings: LiveSettings<S>,
    client: Arc<dyn MessagingClient>,
    id: BusId,
    reloads: Counter,
    refusals: Counter,
}

/// Reloads the settings whenever an event announces a change, and whenever the connection to the bus is new.
/// The subscription stops as a consumer does. Returns `None` where the settings come from nothing that can change.
#[must_use]
pub fn follow<S: ServiceSettings>(
    live: &LiveSettings<S>,
    client: &Arc<dyn MessagingClient>,
    instance: &str,
    registry: &mut Registry,
) -> Option<Subscription> {
    let help = "Settings that were read again and taken over";
    let reloads = counter(registry, "settings_reloads", help);
    let help = "Settings that were read again and refused: those before them go on";
    let refusals = counter(registry, "settings_refusals", help);
    if !live.sources().can_change() {
        return None;
    }
    let id = BusId::new(S::SERVICE, &live.sources().profile, instance);
    let (sender, events) = mpsc::channel(EVENTS);
    let options = ConsumeOptions { prefetch: 10, handler_timeout: ACK.into(), retry_policy: None };
    let bus = client.subscribe(SPRING_CLOUD_BUS, EVERYTHING, options, handler(id.clone(), sender));
    let (settings, client) = (live.clone(), Arc::clone(client));
    let refresh = Refresh { settings, client, id, reloads, refusals };
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let (subscription, state) = Subscription::new(stop.clone(), tasks.clone());
    tasks.spawn(async move {
        state.set_active(true);
        stop.run_until_cancelled(refresh.run(events, &bus)).await;
        bus.cancel();
        bus.finished().await;
    });
    Some(subscription)
}

/// Hands over the events that are meant for this instance. Each delivery is done with that: an event that is not
/// understood today is not tomorrow.
fn handler(id: BusId, events: mpsc::Sender<Event>) -> Handler {
    messaging::handler(move |Delivery { message, .. }| {
        match Event::read(&message.body) {
            Ok(event) if event.is_for(&id) => {
                // With so many waiting, what is read next is new enough for this one, too.
                let _ = events.try_send(event);
            }
            Ok(_) => {}
            Err(why) => tracing::debug!(message.id = message.shown_id(), "passed over: {why}"),
        }
        std::future::ready(Outcome::Ack)
    })
}

impl<S: ServiceSettings> Refresh<S> {
    async fn run(self, mut events: mpsc::Receiver<Event>, bus: &Subscription) {
        let (mut connections, mut heard) = (0, vec![]);
        // At the start, too: the server may have been away, and the broker may still be.
        let mut waits = Some(Backoff::new(FIRST, LONGEST));
        loop {
            tokio::select! {
                Some(event) = events.recv() => heard.push(event),
                () = bus.started_after(connections) => {}
                Some(()) = OptionFuture::from(waits.as_mut().map(Backoff::wait)) => {}
            }
            sleep(DEBOUNCE.mul_f64(rand::random_range(1.0..=2.0))).await;
            while let Ok(event) = events.try_recv() {
                heard.push(event);
            }
            connections = bus.starts();
            match self.reload(waits.is_some()).await {
                Reloaded::Applied => {
                    waits = None;
                    self.acknowledge(&heard).await;
                    heard.clear();
                }
                Reloaded::Refused => {
                    waits = None;
                    heard.clear();
                }
                Reloaded::Unavailable { .. } => {
                    waits.get_or_insert_with(|| Backoff::new(FIRST, LONGEST));
                    heard.truncate(EVENTS);
                }
            }
        }
    }

    /// Reloads the settings, and counts it: that the server is away is counted once, not each time it is asked again.
    async fn reload(&self, is_again: bool) -> Reloaded {
        let reloaded = self.settings.reload().await;
        match reloaded {
            Reloaded::Applied => self.reloads.inc(),
            Reloaded::Unavailable { is_news: false } if is_again => 0,
            Reloaded::Refused | Reloaded::Unavailable { .. } => self.refusals.inc(),
        };
        reloaded
    }

    async fn acknowledge(&self, heard: &[Event]) {
        join_all(heard.iter().map(async |event| {
            if let Err(why) = event::send(&self.client, &event.ack(&self.id), ACK).await {
                tracing::debug!("the bus does not hear that its event was acted on: {why}");
            }
        }))
        .await;
    }
}

#[cfg(test)]
mod tests;
