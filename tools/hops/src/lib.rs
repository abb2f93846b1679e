//! `cargo hops`: the system of `docker-compose.yml` as processes of one machine, with Docker's verbs.
//!
//! In reading order:
//! - [`compose`]: the compose file
//! - [`plan`]: how it runs on this machine
//! - [`project`]: the checkout and its folder `.hops`
//! - [`ports`], [`secrets`], [`binaries`]: prepared before anything starts
//! - [`supervisor`]: starts, probes, restarts and stops the tasks, in a process of its own
//! - [`state`]: files that show which processes run, whichever process is killed
//! - [`control`]: the protocol between commands and the supervisor
//! - `command_lock`: one command at a time that starts or stops something
//! - `signals`: signals that stop a command in the foreground
//! - [`verbs`]: the commands
//! - `swarm`: the stack on Docker Swarm
//! - [`live`]: the page that shows the messages move
//! - [`broker`], [`broker_url`], `dead_letters`, [`logs`], [`render`], [`cli`], [`failure`]: what the commands are made of
//!
//! It works with files and protocols: the compose file, binaries, HTTP, AMQP, log lines. It links no code of the services.

pub mod compose;
pub mod plan;
pub mod project;
pub mod ports;
pub mod secrets;
pub mod binaries;
pub mod supervisor;
pub mod state;
pub mod control;
mod command_lock;
mod signals;
pub mod verbs;
mod swarm;
pub mod live;
pub mod broker;
pub mod broker_url;
mod dead_letters;
pub mod logs;
pub mod render;
pub mod cli;
pub mod failure;

use std::{collections::BTreeMap, ffi::OsString, io::Write as _, path::Path, process::ExitCode};

use anyhow::Context as _;
use output::{printable, printable_lines};

use crate::{
    cli::{CommandLine, ServiceVerb, Verb},
    failure::{Failure, Result},
    project::Project,
    render::{Screen, as_typed},
    verbs::Target,
};

/// Runs one command: all of `main` but its access to the environment.
pub fn run(arguments: Vec<OsString>, variables: BTreeMap<String, String>) -> ExitCode {
    let result = tokio::runtime::Runtime::new().context("cannot start threads").map_err(Failure::from);
    let result = result.and_then(|runtime| {
        let result = runtime.block_on(command(arguments, variables));
        // Does not wait for threads, such as those of the supervisor that wait for a task's exit.
        runtime.shutdown_background();
        result
    });
    let result =
        result.and_then(|()| output::finish().map_err(|why| Failure::Other(anyhow::Error::msg(why))));
    let Err(failure) = result else { return ExitCode::SUCCESS };
    // It may quote a server's answer. The advice on how a command is used has lines.
    let text = match &failure {
        Failure::AlreadyReported => None,
        Failure::Usage(text) => Some(printable_lines(&as_typed(text))),
        Failure::Other(why) => Some(printable(&as_typed(&format!("{why:#}"))).into_owned()),
    };
    if let Some(text) = text {
        let _ = writeln!(std::io::stderr(), "error: {text}");
    }
    ExitCode::from(if matches!(failure, Failure::Usage(_)) { 2 } else { 1 })
}

async fn command(arguments: Vec<OsString>, mut variables: BTreeMap<String, String>) -> Result<(), Failure> {
    let Some(CommandLine { verb, json, swarm }) = cli::parse(arguments)? else { return Ok(()) };
    let folder = std::env::current_dir().context("cannot find the working directory")?;
    let screen = Screen::new(json, variables.contains_key("NO_COLOR"));
    if let Verb::Env { seat: Some(seat) } = verb {
        variables.insert("HOPS_PORT_BASE".into(), ports::base_of(seat).to_string());
    }
    let project = Project::find(&folder, variables);
    // With both URLs, `verify` works outside a checkout, too: its system runs elsewhere.
    if let (Verb::Verify(options), Err(_)) = (&verb, &project)
        && options.account_url.is_some()
        && options.vip_url.is_some()
    {
        return verbs::verify::verify(None, false, screen, options).await;
    }
    let project = project?;
    // The socket's path is relative to the root, see `control::SOCKET`.
    std::env::set_current_dir(project.root())
        .with_context(|| format!("cannot enter {}", project.root().display()))?;
    if verb.needs_supervisor() && !swarm {
        verbs::require_up(&project).await?;
    }
    match verb {
        Verb::Up(options) => verbs::up::up(&project, screen, &options).await?,
        Verb::Supervise { binaries } => {
            supervisor::detach_from_terminal()?;
            supervisor::run(project, Path::new(&binaries)).await?;
        }
        Verb::Live { open, read_only } if swarm => {
            verbs::live::swarm(project, screen, open, read_only).await?
        }
        Verb::Live { open, read_only } => verbs::live::live(&project, screen, open, read_only).await?,
        Verb::LiveServe { read_only } => live::run(project, read_only).await?,
        Verb::Down { all } => verbs::down::down(&project, screen, all).await?,
        Verb::Verify(options) => return verbs::verify::verify(Some(&project), swarm, screen, &options).await,
        Verb::Queues { verb, .. } if swarm => verbs::queues::of_swarm(&project, screen, verb).await?,
        Verb::Queues { broker, verb } => {
            verbs::queues::queues(&project, screen, verb, broker.as_deref()).await?;
        }
        Verb::Service(ServiceVerb::Ls) => verbs::service::ls(screen).await?,
        Verb::Service(ServiceVerb::Ps { name }) => verbs::service::ps(screen, &name).await?,
        Verb::Service(ServiceVerb::Logs { names, follow, request, view }) => {
            let target = Target::find(&project, swarm).await?;
            verbs::logs::logs(&target, screen, &names, follow, request.as_deref(), &view).await?;
        }
        Verb::Service(ServiceVerb::Scale { scales }) => {
            verbs::service::scale(&project, screen, &scales).await?
        }
        Verb::Service(ServiceVerb::Update { name, force }) => {
            verbs::service::update(&project, screen, &[name], force).await?;
        }
        Verb::Update { names } => verbs::service::update(&project, screen, &names, true).await?,
        Verb::Wait { condition, timeout } => {
            verbs::wait::wait(&project, screen, &condition, timeout).await?;
        }
        Verb::Kill { task } => verbs::task::kill(screen, &task).await?,
        Verb::Pause { task } => verbs::task::pause(screen, &task).await?,
        Verb::Unpause { task } => verbs::task::unpause(screen, &task).await?,
        Verb::Read(options) => return verbs::read::read(&project, screen, &options).await,
        Verb::Walk { write: true, .. } => {
            verbs::walk::walk_write(&Target::find(&project, swarm).await?, screen).await?;
        }
        Verb::Walk { account, .. } => {
            verbs::walk::walk(&Target::find(&project, swarm).await?, screen, &account).await?;
        }
        Verb::Check { chapters, .. } => return verbs::check::check(&project, screen, &chapters).await,
        Verb::Break { guarantee } => verbs::guarantee::break_it(&project, screen, &guarantee)?,
        Verb::Mend => verbs::guarantee::mend(&project, screen)?,
        Verb::Tour => verbs::tour::tour(&project, screen).await?,
        Verb::Status if swarm => verbs::status::of_swarm(&project, screen).await?,
        Verb::Status => verbs::status::status(&project, screen).await?,
        Verb::Stats => verbs::stats::stats(&Target::find(&project, swarm).await?, screen).await?,
        Verb::Env { .. } => verbs::env::env(&project, screen)?,
        Verb::New { name } => verbs::new::new(&project, screen, &name)?,
    }
    Ok(())
}
