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

use std::{ffi::OsString, process::ExitCode, sync::Arc};

use contracts::topology::{self, OFFERS, VIP_QUEUE};
use dead_letters::DeadLetters;
use messaging::MessagingClient as _;
use service::{
    App, Parts, Program,
    http::{health, hosts},
};

use crate::{
    consumer::Consumer,
    offers::{Offers, view::View},
    settings::Settings,
};

/// Default port.
const PORT: u16 = 6868;

/// Runs the service, or one of its verbs, as the command line says, to the exit code.
pub fn start(
    args: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> ExitCode {
    Program::new(PORT, "Consumes vip_queue, in competition with its replicas, and makes offers")
        .verb(operator::command(), operator::run)
        .run(args, environment, run)
}

async fn run(mut app: App<Settings>) -> Result<(), String> {
    let settings = app.settings.started();
    let policy = settings.consumer.retry_policy();
    let topology = topology::vip_queue(settings.vip_queue.vip_queue_max_length)
        .with_retry_queues(&policy)
        .with_queue(topology::offers(settings.offers.offers_max_bytes));
    let client = app.connect(topology)?;
    let view = Arc::new(View::new(settings.offers.offers_max, &mut app.registry));
    // It runs until the client is closed: requests are answered from the view to the last.
    streams::replay(&client, OFFERS, view.replay_options(), view.reader());

    let offers = Offers::new(Arc::clone(&client) as _, &app.instance.name, &mut app.registry);
    let consumer = app.settings.section(|settings| &settings.consumer);
    let rules = app.settings.section(|settings| &settings.offer);
    let handler = Arc::new(Consumer::new(&consumer, &rules, offers, &mut app.registry)).handler();
    let options = consumer::Settings::consume_options(&consumer);
    let consuming = client.subscribe_to_queue(VIP_QUEUE, options, handler);
    let counting = dead_letters::http::count(Arc::clone(&client) as _, &policy, &mut app.registry);

    let health = app
        .health()
        .with("broker", health::broker(&client))
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
        .with_progress({
            let view = Arc::clone(&view);
            move || view.progress()
        });
    let http = app.settings.section(|settings| &settings.service.http);
    let publish_timeout = http.live(|http, moment| *http.request_timeout.at(moment));
    let (publisher, browser) = (Arc::clone(&client) as _, Arc::clone(&client) as _);
    let letters = DeadLetters::new(publisher, browser, policy, Arc::clone(&view) as _, publish_timeout);
    let routes =
        offers::router(view).merge(hosts::guard(dead_letters::http::router(letters), app.hosts_of_secrets()));
    let subscriptions = vec![consuming, counting];
    app.run(Parts { routes, subscriptions, ..Parts::new(client, health) }).await
}
