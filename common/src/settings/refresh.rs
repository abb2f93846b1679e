//! The bus says that settings have changed: they are read again, checked as a whole, and taken over or refused.
//!
//! A new version goes the same way as the first one. A refused one changes nothing. Events that come while there is
//! no connection are lost, so each new connection is a reason to read, too.

use std::{sync::Arc, time::Duration};

use futures_util::future::{OptionFuture, join_all};
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use tokio::{sync::mpsc, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    LiveSettings, ServiceSettings, is_live,
    live::{State, Version},
    server::Failed,
    shown::changed,
};
use crate::{
    backoff::Backoff,
    bus::{self, BusId, Event},
    messaging::{
        ConsumeOptions, Delivery, Handler, MessagingClient, Outcome, Subscription, topology::EVERYTHING,
    },
    metrics::counter,
};

/// One push is several events, and one event reaches many instances: each waits for so long, and up to twice.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// More events than this at a time are acted on, and not acknowledged to the bus.
const EVENTS: usize = 64;
/// The first wait before a server that was away is asked again, at most.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait between two attempts while the server is away.
const LONGEST: Duration = Duration::from_secs(30);
/// How long an acknowledgment may take; nobody depends on it.
const ACK: Duration = Duration::from_secs(5);

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reloaded {
    /// Taken over.
    New,
    /// A person has to act.
    Refused,
    /// The server is not there, and may be.
    Later,
}

/// What follows the bus.
struct Refresh<S> {
    settings: LiveSettings<S>,
    client: Arc<dyn MessagingClient>,
    id: BusId,
    exchange: String,
    reloads: Counter,
    refusals: Counter,
}

impl<S: ServiceSettings> LiveSettings<S> {
    /// Reads the settings again whenever the bus says so, and whenever the connection to it is new. What was
    /// started ends as a consumer does; none is, where the settings come from nothing that could change.
    #[must_use]
    pub fn follow(
        &self,
        client: &Arc<dyn MessagingClient>,
        instance: &str,
        registry: &mut Registry,
    ) -> Option<Subscription> {
        let sources = &self.sources;
        let help = "Settings that were read again and taken over";
        let reloads = counter(registry, "settings_reloads", help);
        let help = "Settings that were read again and refused: those before them go on";
        let refusals = counter(registry, "settings_refusals", help);
        if !sources.can_change() {
            return None;
        }
        let id = BusId::new(S::SERVICE, &sources.profile, instance);
        let exchange = self.now().shared().config_event_bus.clone();
        let (sender, events) = mpsc::channel(EVENTS);
        let options = ConsumeOptions { prefetch: 10, handler_timeout: ACK.into(), ladder: None };
        let bus = client.subscribe(&exchange, EVERYTHING, options, handler(id.clone(), sender));
        let (settings, client) = (self.again(), Arc::clone(client));
        let refresh = Refresh { settings, client, id, exchange, reloads, refusals };
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (subscription, activity) = Subscription::new(stop.clone(), tasks.clone());
        tasks.spawn(async move {
            activity.set_active(true);
            stop.run_until_cancelled(refresh.run(events, &bus)).await;
            bus.cancel();
            bus.finished().await;
        });
        Some(subscription)
    }
}

/// Hands over the events that are meant for this instance. Each delivery is done with that: an event that is not
/// understood today is not tomorrow.
fn handler(id: BusId, events: mpsc::Sender<Event>) -> Handler {
    Arc::new(move |Delivery { message, .. }| {
        match Event::read(&message.body) {
            Ok(event) if event.is_for(&id) => {
                // With so many waiting, what is read next is new enough for this one, too.
                let _ = events.try_send(event);
            }
            Ok(_) => {}
            Err(why) => tracing::debug!(message.id = message.shown_id(), "passed over: {why}"),
        }
        Box::pin(std::future::ready(Outcome::Ack))
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
                Reloaded::New => {
                    waits = None;
                    if self.settings.now().shared().config_ack {
                        self.acknowledge(&heard).await;
                    }
                    heard.clear();
                }
                Reloaded::Refused => {
                    waits = None;
                    heard.clear();
                }
                Reloaded::Later => {
                    waits.get_or_insert_with(|| Backoff::new(FIRST, LONGEST));
                    heard.truncate(EVENTS);
                }
            }
        }
    }

    /// Reads the settings, and takes them over if they are good. A server that is not there is logged and counted when
    /// it was there before, and not each time that it is asked `again`.
    async fn reload(&self, is_again: bool) -> Reloaded {
        let (state, origin) = (&self.settings.state, self.settings.sources.origin());
        let (why, reloaded) = match self.settings.sources.load_again::<S>().await {
            // For a moment a folder may be empty: that is no reason to fall back on the defaults.
            Ok(loaded) if !loaded.is_known && state.borrow().now.is_known => {
                (format!("{}; it is asked again", self.settings.sources.unknown::<S>()), Reloaded::Later)
            }
            Ok(loaded) => {
                let new = Version::new(loaded);
                let mut changes = Changes::default();
                state.send_modify(|state| changes = take_over(state, new));
                self.reloads.inc();
                self.settings.log.set(self.settings.now().shared().log_level);
                changes.tell(&origin);
                return Reloaded::New;
            }
            Err(Failed::Refused(why)) => (why, Reloaded::Refused),
            Err(Failed::Later(why)) => (format!("{why}; it is asked again"), Reloaded::Later),
        };
        let is_news = state.borrow().told.as_ref() != Some(&why);
        if reloaded == Reloaded::Refused || is_news || !is_again {
            self.refusals.inc();
        }
        if is_news {
            tracing::warn!("settings could not be read again, nothing has changed: {why}");
        }
        state.send_modify(|state| (state.refused, state.told) = (Some(why.clone()), Some(why)));
        reloaded
    }

    async fn acknowledge(&self, heard: &[Event]) {
        join_all(heard.iter().map(async |event| {
            if let Err(why) = bus::send(&self.client, &self.exchange, &event.ack(&self.id), ACK).await {
                tracing::debug!("the bus does not hear that its event was acted on: {why}");
            }
        }))
        .await;
    }
}

/// What a new version has changed, by key.
#[derive(Default)]
struct Changes {
    live: Vec<&'static str>,
    at_next_start: Vec<&'static str>,
}

fn take_over<S: ServiceSettings>(state: &mut State<S>, new: Arc<Version<S>>) -> Changes {
    let (live, other): (Vec<_>, Vec<_>) =
        changed(&state.now, &new).into_iter().partition(|key| is_live::<S>(key));
    let pending = changed(&state.started, &new);
    let at_next_start = other.into_iter().filter(|key| pending.contains(key)).collect();
    (state.now, state.refused, state.told) = (new, None, None);
    Changes { live, at_next_start }
}

impl Changes {
    /// Names only: values may be secrets.
    fn tell(&self, origin: &str) {
        if !self.live.is_empty() {
            tracing::info!("settings from {origin} are new: {}", self.live.join(", "));
        }
        for key in &self.at_next_start {
            tracing::warn!("{key}: takes effect at next start");
        }
    }
}

#[cfg(test)]
mod tests;
