//! `live`: the address of the page on which the messages move.

use std::sync::Arc;

use serde_json::json;

use crate::{
    command_lock::CommandLock,
    failure::Result,
    live::{self, Address, swarm::Swarm},
    project::Project,
    render::Screen,
    signals::StopSignals,
    state,
};

/// Prints the address of the page, and opens it if asked to. Starts the server if it does not run, or runs in the other mode.
///
/// # Errors
/// The server does not start, or no browser can be opened.
pub async fn live(project: &Project, screen: Screen, open: bool, read_only: bool) -> Result<()> {
    let lock = CommandLock::take(project).await?;
    // It may have waited for a `down`.
    super::require_running(project)?;
    let address = match live::running(project) {
        Some(address) if address.read_only == read_only => address,
        _ => {
            live::stop(project).await;
            live::start(project, read_only).await?
        }
    };
    drop(lock);
    show(screen, &address);
    if open { live::open(project, &address) } else { Ok(()) }
}

/// Serves the page of the stack on Docker Swarm until Ctrl-C or another signal to stop.
///
/// # Errors
/// There is no stack, or another program uses the port.
pub async fn swarm(project: Project, screen: Screen, open: bool, read_only: bool) -> Result<()> {
    let system = Arc::new(Swarm::new(&project).await?);
    state::prepare(&project)?;
    let mut opened = Ok(());
    let on_start = |address: &Address| {
        show(screen, address);
        screen.text("Ctrl-C here closes the page.");
        if open {
            opened = live::open(&project, address);
        }
    };
    let mut signals = StopSignals::listen()?;
    let stopped = async {
        signals.received().await;
    };
    live::serve_on_port(&project, system, read_only, on_start, stopped).await?;
    opened
}

fn show(screen: Screen, address: &Address) {
    screen.value(&json!({"picture": address.url(), "readOnly": address.read_only}));
    screen.text(&format!("{:<18} {}", "the picture", address.url()));
}

/// Starts the page's server with the system, and returns its address, or why there is none: the system does not need it.
pub(super) async fn address_or_why(project: &Project) -> String {
    match live::start(project, false).await {
        Ok(address) => address.url(),
        Err(why) => format!("is not shown: {why:#}; then type `cargo hops live`"),
    }
}
