//! `cargo hops`: the system of `docker-compose.yml` as processes of one machine, with Docker's verbs.
//!
//! In reading order:
//! - [`compose`]: the file, as it says what runs
//! - [`plan`]: what that is on this machine
//! - [`project`]: the checkout and its folder `.hops`
//! - [`ports`], [`secrets`], [`binaries`]: what has to be there before anything starts
//! - [`supervisor`]: starts, watches, replaces and ends the tasks, in a process of its own
//! - [`state`]: what stays known whoever is killed
//! - [`control`]: how commands and the supervisor talk
//! - [`verbs`]: each command
//! - [`broker`], [`logs`], [`render`], [`cli`]: what they need for it
//!
//! It knows files and wires: the compose file, binaries, HTTP, AMQP, log lines. Of the services' code it links nothing.

pub mod compose;
pub mod plan;
pub mod project;
pub mod ports;
pub mod secrets;
pub mod binaries;
pub mod supervisor;
pub mod state;
pub mod control;
pub mod verbs;
pub mod broker;
pub mod broker_url;
pub mod logs;
pub mod render;
pub mod cli;
pub mod failure;

use std::{collections::BTreeMap, ffi::OsString, io::Write as _, path::Path, process::ExitCode};

use crate::{
    cli::Verb,
    failure::{Doing as _, Failure, Result},
    project::Project,
    render::Screen,
};

/// Runs one command; what `main` is made of.
pub fn run(args: Vec<OsString>, variables: BTreeMap<String, String>) -> ExitCode {
    let ended = tokio::runtime::Runtime::new().doing(|| "start threads".into()).and_then(|runtime| {
        let ended = runtime.block_on(command(args, variables));
        // Threads that wait for processes of another one's care hold nobody up.
        runtime.shutdown_background();
        ended
    });
    let code = match &ended {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Said) => return ExitCode::FAILURE,
        Err(Failure::Usage(_)) => 2,
        Err(Failure::Why(_)) => 1,
    };
    if let Err(failure) = ended {
        let _ = writeln!(std::io::stderr(), "error: {failure}");
    }
    ExitCode::from(code)
}

async fn command(args: Vec<OsString>, variables: BTreeMap<String, String>) -> Result<()> {
    let Some(typed) = cli::parse(args)? else { return Ok(()) };
    let here = std::env::current_dir().doing(|| "find the working directory".into())?;
    let screen = Screen::new(typed.json, variables.contains_key("NO_COLOR"));
    let project = Project::find(&here, variables);
    // These can be asked from anywhere, about a system that is elsewhere.
    if let (Verb::Verify(wanted), Err(_)) = (&typed.verb, &project)
        && wanted.account_url.is_some()
        && wanted.vip_url.is_some()
    {
        return verbs::verify::verify(None, screen, wanted).await;
    }
    let project = project?;
    // The socket's path is relative to the root, see `control::SOCKET`.
    std::env::set_current_dir(project.root()).doing(|| format!("enter {}", project.root().display()))?;
    match typed.verb {
        Verb::Up { detach, broker, release } => {
            verbs::up::up(&project, screen, detach, broker.as_deref(), release).await
        }
        Verb::Supervise { binaries } => {
            supervisor::leave_terminal()?;
            supervisor::run(project, Path::new(&binaries)).await
        }
        Verb::Down { all } => verbs::down::down(&project, screen, all).await,
        Verb::Verify(wanted) => verbs::verify::verify(Some(&project), screen, &wanted).await,
        Verb::Queues { broker } => verbs::queues::list(&project, screen, broker.as_deref()).await,
        Verb::Peek { name, broker } => verbs::queues::peek(&project, screen, &name, broker.as_deref()).await,
        Verb::Logs { names, follow, request } => {
            verbs::service::logs(&project, screen, &names, follow, request.as_deref()).await
        }
        other => {
            verbs::must_be_up(&project).await?;
            match other {
                Verb::Ls => verbs::service::ls(screen).await,
                Verb::Ps { name } => verbs::service::ps(screen, &name).await,
                Verb::Scale { wanted } => verbs::service::scale(screen, &wanted).await,
                Verb::Update { name, force } => verbs::service::update(&project, screen, &name, force).await,
                Verb::Kill { task } => verbs::service::kill(screen, &task).await,
                Verb::Walk { account } => verbs::walk::walk(&project, screen, &account).await,
                _ => verbs::status::status(&project, screen).await,
            }
        }
    }
}
