//! order_events: a shop's events, and four services that receive them.
//!
//! The order service and the payment service publish events, each under its type, to a topic exchange. They do not
//! know their subscribers: a new service that needs the events changes neither of the two.
//!
//! ```text
//! cargo run --bin order_events
//! ```
//!
//! It plays all services and prints who receives which event, six lines such as `email received order.created`.
//! They receive only events that occur while they are connected. To miss none, use a durable queue: see `receive`.

use std::{process::ExitCode, time::Duration};

use examples::{Failure, Result, Terminal, say, system, within};
use messaging::topology::Topology;
use messaging::{ConsumeOptions, MessagingClient as _, Outcome, handler};
use tokio::{sync::mpsc, time::timeout};

const SUBSCRIBERS: [(&str, &str); 4] = [
    ("email", "order.*"),
    ("inventory", "order.created"),
    ("analytics", "order.*"),
    ("accounting", "payment.*"),
];
const EVENTS: [(&str, usize); 3] = [("order.created", 3), ("payment.processed", 1), ("order.shipped", 2)];

#[tokio::main]
async fn main() -> ExitCode {
    examples::run(include_str!("order_events.rs"), order_events).await
}

async fn order_events(terminal: &Terminal) -> Result {
    let client = terminal.client(Topology::default().with_exchange("order_events")).await?;
    let (heard, mut hearing) = mpsc::channel(10);
    let subscribers = SUBSCRIBERS.map(|(service, pattern)| {
        let heard = heard.clone();
        let hear = handler(move |delivery| {
            let (heard, event) = (heard.clone(), system::text(&delivery));
            async move {
                let _ = heard.send(format!("{service} received {event}")).await;
                Outcome::Ack
            }
        });
        let handler_timeout = Duration::from_secs(60).into();
        let options = ConsumeOptions { prefetch: 10, handler_timeout, retry_policy: None };
        client.subscribe("order_events", pattern, options, hear)
    });
    terminal.until_active(&subscribers).await;
    for (event, listeners) in EVENTS {
        within(client.publish("order_events", event, system::message(event))).await?;
        for _ in 0..listeners {
            let line = timeout(Duration::from_secs(10), hearing.recv()).await;
            say!("{}", line.ok().flatten().ok_or_else(|| Failure::new("a service received nothing"))?);
        }
    }
    system::finish(&subscribers).await;
    Ok(())
}
