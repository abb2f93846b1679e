//! `tour`: what the system does, in five steps: read, scale, kill, a poison message, redrive. Each step prints one sentence
//! and the command that does the same.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use tokio::time::{Instant, sleep};

use super::{queues::broker_address, read, service, task};
use crate::{
    broker::{Broker, WORK_QUEUE},
    cli::{Read, Scale, TaskName},
    control::status,
    dead_letters,
    failure::{Failure, Result},
    plan::Plan,
    project::Project,
    render::Screen,
    signals::StopSignals,
    state,
};

const DEAD_LETTER_QUEUE: &str = "vip_queue.dead";
/// Time for a person to read the sentence of a step, and to see its messages on the page.
const STEP_PAUSE: Duration = Duration::from_secs(2);
/// Time within which a poison message is dead-lettered, even if its consumer has just been killed.
const DEAD_LETTER_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Plays the five steps, and restores the number of vipservices, also after a signal to stop.
///
/// # Errors
/// A step fails, or a signal has stopped the tour.
pub async fn tour(project: &Project, screen: Screen) -> Result<(), Failure> {
    let plan = state::load_plan(project)?;
    let before = status().await?.services.into_iter().find(|service| service.name == "vipservice");
    let before = before.context("docker-compose.yml has no vipservice")?.replicas;
    let mut signals = StopSignals::listen()?;
    let steps = tokio::select! {
        steps = play(project, screen, &plan) => steps,
        signal = signals.received() => Err(anyhow!("{signal}: the tour was not played to its end").into()),
    };
    // A step that was not completed may have left a paused task, which `scale` resumes.
    if before != 3 || steps.is_err() {
        announce(
            screen,
            "The end: as many vipservices as before.",
            &format!("service scale vipservice={before}"),
        );
        scale(project, screen, before).await?;
    }
    steps
}

async fn play(project: &Project, screen: Screen, plan: &Plan) -> Result<(), Failure> {
    let text =
        "1. Read: each read of a VIP's account leaves a notification in the outbox, which becomes an offer.";
    announce(screen, text, "read 5");
    read(project, screen, 5).await?;
    sleep(STEP_PAUSE).await;

    announce(screen, "2. Scale: three vipservices share the queue.", "service scale vipservice=3");
    scale(project, screen, 3).await?;
    screen.text("$ cargo hops read 9");
    read(project, screen, 9).await?;
    sleep(STEP_PAUSE).await;

    let text = "3. Kill: the messages that vipservice.2 has not acknowledged go back to the queue, and to other vipservices.";
    announce(screen, text, "pause vipservice.2 && cargo hops read 9 && cargo hops kill vipservice.2");
    // Paused, it surely has messages in flight.
    let victim = TaskName { service: "vipservice".into(), slot: 2 };
    task::pause(screen, &victim).await?;
    read(project, screen, 9).await?;
    sleep(STEP_PAUSE).await;
    task::kill(screen, &victim).await?;
    sleep(STEP_PAUSE).await;

    let broker = broker_address(Some(project), None).await?.connect().await?;
    let poisoned = poison(project, screen, plan, &broker).await;
    broker.close().await;
    Ok(poisoned?)
}

/// Sends a message that nobody can read, redrives its dead letter, and discards it in the end.
async fn poison(project: &Project, screen: Screen, plan: &Plan, broker: &Broker) -> Result<()> {
    let dead = dead_letters_at(broker).await?;
    let text = "4. Poison: a message that nobody can read becomes a dead letter, which says why.";
    announce(screen, text, "queues poison");
    let id = broker.publish_poison(WORK_QUEUE).await?;
    until_dead(broker, dead + 1).await?;
    dead_letters(project, screen, plan, &["show", &id])?;
    sleep(STEP_PAUSE).await;

    let text = "5. Redrive: the message goes back to the queue, but nobody has mended anything, so it is dead-lettered again.";
    screen.lines(&format!("\n{text}"));
    dead_letters(project, screen, plan, &["redrive", &id])?;
    until_dead(broker, dead + 1).await?;
    sleep(STEP_PAUSE).await;
    dead_letters(project, screen, plan, &["discard", "--yes", &id])
}

/// Prints the sentence of a step, and its command.
fn announce(screen: Screen, text: &str, command: &str) {
    screen.lines(&format!("\n{text}\n$ cargo hops {command}"));
}

async fn read(project: &Project, screen: Screen, count: u32) -> Result<(), Failure> {
    let options = Read { count: Some(count), account: "10000".into(), rate: None };
    read::read(project, screen, &options).await
}

async fn scale(project: &Project, screen: Screen, replicas: u32) -> Result<()> {
    service::scale(project, screen, &[Scale { service: "vipservice".into(), replicas }]).await
}

async fn dead_letters_at(broker: &Broker) -> Result<u32> {
    Ok(broker.counts(DEAD_LETTER_QUEUE).await?.map_or(0, |(ready, _)| ready))
}

async fn until_dead(broker: &Broker, count: u32) -> Result<()> {
    let deadline = Instant::now() + DEAD_LETTER_TIMEOUT;
    while dead_letters_at(broker).await? < count {
        if Instant::now() > deadline {
            bail!(
                "the message is not dead-lettered after {} s: `cargo hops service logs`",
                DEAD_LETTER_TIMEOUT.as_secs()
            );
        }
        sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

/// Runs the vipservice's command for dead letters, and shows it with its output.
fn dead_letters(project: &Project, screen: Screen, plan: &Plan, verb: &[&str]) -> Result<()> {
    screen.text(&format!("$ cargo run -p vipservice -- dead-letters {}", verb.join(" ")));
    screen.lines(&dead_letters::run(project, plan, verb)?);
    Ok(())
}
