//! The outbox from a shell: `accountservice outbox list|drain`, for an instance that does not run.
//!
//! It is for the outbox whose replica never comes back.

use std::time::Duration;

use clap::{ArgMatches, Command};
use contracts::topology::{ACCOUNTS, vip_queue};
use hops_config::{ServiceSettings as _, Sources};
use messaging::{
    MessagingClient,
    amqp::{AmqpClient, AmqpOptions},
    metrics::Metrics,
};
use outbox::{Entry, Outbox, relay};
use prometheus_client::registry::Registry;
use service::{Instance, startup::Failure};
use tokio::time::timeout;

use crate::{
    OUTBOX, outbox_migration,
    settings::Settings,
    store::open::{may_have_an_outbox, open_store},
};

/// Time after which `drain` stops when nothing moves.
const PATIENCE: Duration = Duration::from_secs(30);

/// The verb and its two ways.
#[must_use]
pub fn command() -> Command {
    Command::new("outbox")
        .about("Lists or publishes the outbox of an instance that does not run: accountservice.1, or INSTANCE_NAME")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("list").about("Prints a line for each waiting notification"))
        .subcommand(
            Command::new("drain").about("Publishes the waiting notifications, and removes those that the broker confirms"),
        )
}

/// Does what was asked for, on the outbox of `INSTANCE_NAME`, or of the first instance on this machine.
///
/// # Errors
/// An outbox that is not there, is in use, or cannot be read; for `drain`, what still waits and why.
pub async fn run(matches: ArgMatches, sources: Sources) -> Result<(), Failure> {
    let settings = sources.load::<Settings>().await?;
    Ok(run_with(&matches, &sources, &settings).await?)
}

async fn run_with(matches: &ArgMatches, sources: &Sources, settings: &Settings) -> Result<(), String> {
    let service::Settings { process, log, broker, .. } = &settings.service;
    let first = (sources.profile == "dev").then(|| format!("{}.1", Settings::SERVICE));
    let instance = Instance::named(sources.instance_name().or(first.as_deref()), &process.data_dir)?;
    if !instance.folder.is_dir() {
        return Err(format!(
            "there is no outbox in {}: set --data-dir and INSTANCE_NAME to those of the instance",
            instance.folder.display()
        ));
    }
    telemetry::init_of_command(&instance.name, log.log_format);
    let mut registry = Registry::default();
    let outbox = Outbox::open(&instance.folder.join(OUTBOX), &settings.outbox, &mut registry)?;
    if may_have_an_outbox(&instance.folder) {
        let store = open_store(&instance.folder).map_err(|e| e.to_string())?;
        outbox_migration::migrate(&store, &outbox).await?;
    }
    let done = match matches.subcommand_name() {
        Some("drain") => {
            let options = AmqpOptions::new(
                broker,
                &instance.name,
                vip_queue(settings.vip_queue.vip_queue_max_length).with_exchange(ACCOUNTS),
            )?;
            drain(&outbox, &AmqpClient::new(options, Metrics::registered(&mut registry))).await
        }
        _ => {
            list(&outbox);
            Ok(())
        }
    };
    let closed = outbox.close().await;
    done.and(closed)
}

fn list(outbox: &Outbox) {
    output::line(&format!("{:<36}  {:<36}  {:<10}  BODY", "ID", "REQUEST", "QUEUE"));
    outbox.entries().for_each(|entry| line(&entry));
    output::line(&format!("{} waiting", outbox.len()));
    let parked: Vec<_> = outbox.parked().collect();
    if !parked.is_empty() {
        output::line(&format!("{} parked, since they can never be published:", parked.len()));
        parked.iter().for_each(line);
    }
    for damage in outbox.damage() {
        output::line(&format!("damaged: {damage}"));
    }
    match outbox.kept_files() {
        0 => {}
        files => output::line(&format!(
            "{files} damaged files of earlier are kept beside the others, named *.damaged"
        )),
    }
}

fn line(entry: &Result<Entry, String>) {
    match entry {
        Ok(entry) => {
            let message = &entry.message;
            let request = message.correlation_id.as_deref().unwrap_or("-");
            let body = String::from_utf8_lossy(&message.body);
            let why = entry.parked.as_ref().map_or_else(String::new, |why| format!("  ({why})"));
            output::line(&format!(
                "{:<36}  {request:<36}  {:<10}  {body}{why}",
                message.shown_id(),
                entry.target()
            ));
        }
        Err(why) => output::line(&format!("unreadable: {why}")),
    }
}

async fn drain(outbox: &Outbox, client: &dyn MessagingClient) -> Result<(), String> {
    let kept = || outbox.parked().count() + outbox.given_up();
    let (before, kept_before) = (outbox.len(), kept());
    client.connect();
    let mut waiting = outbox.waiting();
    let emptied = async {
        while *waiting.borrow_and_update() > 0 {
            timeout(PATIENCE, waiting.changed()).await.map_err(drop)?.map_err(drop)?;
        }
        Ok(())
    };
    let done = tokio::select! {
        () = relay(outbox, client) => Err(()),
        done = emptied => done,
    };
    let why = client.status().publishing;
    client.close().await;
    let kept = kept() - kept_before;
    let sent = (before - outbox.len()).saturating_sub(kept);
    output::line(&format!("{sent} sent, {} waiting", outbox.len()));
    if kept > 0 {
        return Err(format!("{kept} cannot be sent and are kept: the log above says why"));
    }
    done.map_err(|()| {
        format!(
            "{} notifications wait and nothing has moved for {PATIENCE:?}; the broker: {why}",
            outbox.len()
        )
    })
}
