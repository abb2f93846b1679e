//! Consumes VIP notifications in competition with its replicas, and makes offers.
//!
//! In the order of the walk:
//! - [`consumer`]: hop 7, a delivery becomes an outcome
//! - [`offer`]: hop 8, the rule, pure
//! - [`offers`]: hop 9, the stream of offers and every replica's view of it
//!
//! Around them: [`dead_letters`], those that were given up, over HTTP and from a shell, and [`settings`].
//! It keeps nothing on disk: what it knows is in the stream.

pub mod consumer;
pub mod offer;
pub mod offers;
pub mod dead_letters;
pub mod settings;

use std::{ffi::OsString, sync::Arc};

use contracts::topology::{self, OFFERS, VIP_QUEUE};
use hops_config::{LiveSettings, Sources, command};
use messaging::{
    MessagingClient, QueueBrowser,
    amqp::{AmqpClient, AmqpOptions},
    metrics::Metrics,
};
use prometheus_client::registry::Registry;
use service::{
    healthcheck,
    http::{self, Access, Health},
    shutdown::Service,
    startup::{self, Begun, Failure},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    consumer::Consumer,
    dead_letters::{DeadLetters, page},
    offers::{Offers, view::View},
    settings::Settings,
};

/// Where it listens if nothing else is said.
const PORT: u16 = 6868;

/// From the command line and the environment to a running service, or to one of its verbs.
///
/// # Errors
/// What is wrong, in a sentence.
pub async fn start(
    args: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), Failure> {
    let command = command::<Settings>()
        .about("Consumes vip_queue, in competition with its replicas, and makes offers")
        .subcommand(dead_letters::command::command())
        .subcommand(healthcheck::command());
    let (sources, matches) = Sources::parse::<Settings>(command, args, environment)?;
    if let Some(verb) = matches.subcommand_matches(healthcheck::VERB) {
        return healthcheck::of_service::<Settings>(verb, sources, PORT).await;
    }
    if let Some(verb) = matches.subcommand_matches("dead-letters") {
        return Ok(dead_letters::command::run(verb, &sources.load().await?).await?);
    }
    let Some(begun) = startup::begin::<Settings>(sources, PORT).await? else { return Ok(()) };
    let Begun { live, instance, listener, stop } = begun;
    let settings = live.now();
    let shared = &settings.shared;
    let topology = topology::vip_queue(shared.vip_queue_max_length)
        .with_ladder(&settings.ladder())
        .with_queue(topology::offers(settings.offers_max_bytes))
        .with_exchange(&shared.config_event_bus);
    let options = AmqpOptions::new(live.shared(), &instance.name, topology)?;
    let mut registry = Registry::with_prefix("hops");
    let client = Arc::new(AmqpClient::new(options, Metrics::registered(&mut registry)));
    let browser = Arc::clone(&client);
    Ok(run(&live, &instance.name, listener, client, browser, registry, stop).await?)
}

/// Runs the service until `stop`.
///
/// # Errors
/// What was left at the end of the grace period.
pub async fn run(
    live: &LiveSettings<Settings>,
    instance: &str,
    listener: TcpListener,
    client: Arc<dyn MessagingClient>,
    browser: Arc<dyn QueueBrowser>,
    mut registry: Registry,
    stop: CancellationToken,
) -> Result<(), String> {
    let settings = live.now();
    let view = Arc::new(View::new(settings.offers_max, &mut registry));
    let offers = Offers::new(Arc::clone(&client), instance, &mut registry);
    let consumer = Arc::new(Consumer::new(live, offers, &mut registry));

    client.connect();
    // It goes on until the client is closed: requests are answered from the view to the last.
    client.replay(OFFERS, view.reader());
    let options = settings.consume_options(live.live(|settings| settings.handler_timeout));
    let consuming = client.subscribe_to_queue(VIP_QUEUE, options, consumer.handler());
    let following = config_bus::follow(live, &client, instance, &mut registry);
    let health = Health::default()
        .with("broker", {
            let client = Arc::clone(&client);
            move || client.status().check()
        })
        .with("consumer", {
            let consuming = consuming.clone();
            move || match consuming.is_active() {
                true => Ok(format!("subscribed to {VIP_QUEUE}")),
                false => Err(format!("not subscribed to {VIP_QUEUE}")),
            }
        })
        .with("offers", {
            let view = Arc::clone(&view);
            move || view.check()
        })
        .with_note("settings", live.note());
    let health = Arc::new(health);
    let counting = page::count(Arc::clone(&browser), &mut registry);
    let patience = live.live(|settings| settings.shared.request_timeout);
    let letters = DeadLetters::new(Arc::clone(&client), browser, Arc::clone(&view), patience);
    let routes = offers::router(view)
        .merge(page::router(letters))
        .merge(http::settings::router(live.effective(), Access::new(&settings.shared)?));
    let router = http::router(routes, live.shared(), &health, registry);
    let subscriptions = [consuming, counting].into_iter().chain(following).collect();
    Service { listener, router, health, client, subscriptions, outbox: None }.run(live.shared(), stop).await
}
