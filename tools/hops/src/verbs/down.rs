//! `down`: the end of everything.

use std::{fs, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    control::{Reply, Request, ask, status},
    failure::{Failure, Result},
    project::Project,
    render::Screen,
    state,
};

/// Longer than any grace period: then the supervisor hangs.
const PATIENCE: Duration = Duration::from_secs(120);
/// From its last word to its end.
const LAST: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

/// Ends all processes; with `all` removes what they have kept.
///
/// # Errors
/// One does not end.
pub async fn down(project: &Project, screen: Screen, all: bool) -> Result<()> {
    let is_up = state::is_supervised(project);
    if is_up {
        let asked = ask(&Request::Down, |reply| {
            if let Reply::Event(event) = reply {
                screen.event(event);
            }
            true
        });
        // One that does not even say how things are does not end by itself.
        let answered =
            status().await.is_ok() && timeout(PATIENCE, asked).await.is_ok_and(|answer| answer.is_ok());
        if answered {
            until_gone(project).await?;
        } else if let Some(pid) = state::supervisor(project).and_then(Pid::from_raw) {
            screen.say("the supervisor does not answer: killed");
            let _ = kill_process(pid, Signal::KILL);
            until_gone(project).await?;
        }
    }
    let ended = state::end_orphans_if_any(project).await?;
    if !ended.is_empty() {
        screen.say(&format!("ended what a killed supervisor had left: {}", ended.join(", ")));
    } else if !is_up {
        screen.say("nothing was up here");
    }
    if all {
        let folder = project.path("");
        fs::remove_dir_all(&folder)
            .or_else(|e| if e.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
            .map_err(|e| Failure::Why(format!("cannot remove {}: {e}", folder.display())))?;
        screen.say("no data is left: .hops is removed");
    }
    screen.value(&serde_json::json!({"down": true, "dataRemoved": all}));
    Ok(())
}

/// Waits until the supervisor has ended.
pub(super) async fn until_gone(project: &Project) -> Result<()> {
    let deadline = Instant::now() + LAST;
    while state::is_supervised(project) {
        if Instant::now() > deadline {
            return Err("the supervisor does not end: `cargo hops down` again kills it".into());
        }
        sleep(PAUSE).await;
    }
    Ok(())
}
