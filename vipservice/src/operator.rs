//! The dead letters of the work queue. What this service adds to the crate [`dead_letters`] is their effect: whether
//! the offer of one exists already.

use std::{sync::Arc, time::Duration};

use clap::{ArgMatches, Command};
use contracts::topology::{OFFERS, VIP_QUEUE};
use dead_letters::letter::Effect;
use hops_config::Sources;
use messaging::{
    amqp::{AmqpClient, AmqpOptions},
    retry::RetryPolicy,
    topology::Topology,
};
use prometheus_client::registry::Registry;
use queue_browser::{BrowseError, QueueBrowser as _};
use service::startup::Failure;
use streams::Replay;
use telemetry::LogFormat;
use tokio::time::{sleep, timeout};

use crate::{offers::view::View, settings::Settings};

/// Name of the command, at the broker and in log lines.
const COMMAND: &str = "vipservice dead-letters";
/// Time between two checks of a view that is being filled.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

impl Effect for View {
    fn name(&self) -> &'static str {
        "offer"
    }

    fn exists(&self, message_id: &str) -> Option<bool> {
        self.read(|rows| rows.knows(message_id)).flatten()
    }
}

/// Returns the command `vipservice dead-letters`. Its texts name the queues, and no delays.
#[must_use]
pub fn command() -> Command {
    dead_letters::command::command(&RetryPolicy::new(VIP_QUEUE, &[]))
}

/// Runs the command `vipservice dead-letters`.
///
/// # Errors
/// A sentence for the operator.
pub async fn run(matches: ArgMatches, sources: Sources) -> Result<(), Failure> {
    let settings = sources.load::<Settings>().await?;
    let options = AmqpOptions::new(&settings.service.broker, COMMAND, Topology::default())?;
    // A person reads the command's output; lines that say the same are for programs, which ask for them.
    if let LogFormat::Json = settings.service.log.log_format {
        telemetry::init_of_command(COMMAND, LogFormat::Json);
    }
    let time_limit = options.settings.amqp_operation_timeout;
    let effect = async |client: &Arc<AmqpClient>| {
        let view = Arc::new(View::new(settings.offers.offers_max, &mut Registry::default()));
        replay(client, &view, time_limit).await?;
        Ok(view as Arc<dyn Effect>)
    };
    Ok(dead_letters::command::run(&matches, options, settings.consumer.retry_policy(), effect).await?)
}

/// Fills the view with the newest offers. If that takes too long, it is unknown whether an offer exists.
async fn replay(client: &AmqpClient, view: &Arc<View>, time_limit: Duration) -> Result<(), String> {
    match client.count_ready(OFFERS).await {
        Ok(_) => drop(streams::replay(client, OFFERS, view.replay_options(), view.reader())),
        // No vipservice has connected to this broker yet, so there are no offers.
        Err(BrowseError::Missing(_)) => view.apply(Replay::CaughtUp),
        Err(error) => return Err(error.to_string()),
    }
    let filled = async {
        while view.check().is_err() {
            sleep(POLL_INTERVAL).await;
        }
    };
    let _ = timeout(time_limit, filled).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use messaging::Message;

    use super::*;

    #[test]
    fn the_effect_of_a_dead_letter_is_its_offer() {
        let view = Arc::new(View::new(1, &mut Registry::default()));
        let exists = |id: &str| view.exists(id);
        assert_eq!(exists("offered"), None, "the stream is still being read");
        let entry = |offset, id: &str| {
            let body = format!(
                r#"{{"id":"{id}","accountId":"1","text":"t","readAt":"2026-11-20T06:27:33.757Z",
                "madeAt":"2026-11-20T06:27:34Z","validUntil":"2026-11-27T06:27:33Z","requestId":"r","madeBy":"v.1"}}"#
            );
            view.apply(Replay::Entry(offset, Message { body: body.into(), ..Message::default() }));
        };
        entry(0, "offered");
        view.apply(Replay::CaughtUp);
        assert_eq!((exists("offered"), exists("other")), (Some(true), Some(false)));
        entry(1, "newer");
        assert_eq!((exists("newer"), exists("offered")), (Some(true), None), "the view keeps one offer");
    }
}
