//! Consumes VIP notifications in competition with its replicas, and makes offers.
//!
//! In the order of the walk:
//! - [`consumer`]: hop 7, a delivery becomes an outcome
//! - [`offer`]: hop 8, the rule, pure
//! - [`offers`]: hop 9, the stream of offers and every replica's view of it
//!
//! Around them: [`operator`], the dead letters of the work queue, over HTTP and from a shell, and [`settings`].
//! It keeps nothing on disk: its data is in the stream.

pub mod consumer;
pub mod offer;
pub mod offers;
pub mod operator;
pub mod settings;

use std::{ffi::OsString, sync::Arc};

use contracts::topology::{self, OFFERS, VIP_QUEUE};
use dead_letters::DeadLetters;
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
    offers::{Offers, view::View},
    settings::Settings,
};

/// Default port.
const PORT: u16 = 6868;

/// Runs the service, or one of its verbs, as the command line and the environment ask for.
///
/// # Errors
/// A sentence that says what is wrong.
pub async fn start(
    args: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), Failure> {
    let command = command::<Settings>()
        .about("Consumes vip_queue, in competition with its replicas, and makes offers")
        .subcommand(operator::command())
        .subcommand(healthcheck::command());
    let (sources, matches) = Sources::parse::<Settings>(command, args, environment)?;
    if let Some(verb) = matches.subcommand_matches(healthcheck::VERB) {
        return healthcheck::of_service::<Settings>(verb, sources, PORT).await;
    }
    if let Some(verb) = matches.subcommand_matches(operator::NAME) {
        return Ok(operator::run(verb, &sources.load().await?).await?);
    }
    let Some(begun) = startup::begin::<Settings>(sources, PORT).await? else { return Ok(()) };
    let Begun { live, instance, listener, stop } = begun;
    let settings = live.now();
    let shared = &settings.shared;
    let topology = topology::vip_queue(shared.vip_queue_max_length)
        .with_retry_queues(&settings.retry_policy())
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
/// Work that was left at the end of the grace period.
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
    // It runs until the client is closed: requests are answered from the view to the last.
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
    let policy = settings.retry_policy();
    let counting = dead_letters::http::count(Arc::clone(&browser), &policy, &mut registry);
    let publish_timeout = live.live(|settings| settings.shared.request_timeout);
    let letters =
        DeadLetters::new(Arc::clone(&client), browser, policy, Arc::clone(&view) as _, publish_timeout);
    let routes = offers::router(view)
        .merge(dead_letters::http::router(letters))
        .merge(http::settings::router(live.effective(), Access::new(&settings.shared)?));
    let router = http::router(routes, live.shared(), &health, registry);
    let subscriptions = [consuming, counting].into_iter().chain(following).collect();
    Service { listener, router, health, client, subscriptions, outbox: None }.run(live.shared(), stop).await
}
