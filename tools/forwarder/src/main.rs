//! The forwarder as a process: `forwarder 0.0.0.0:6767=tasks.accountservice:6767 ...`, one word per port.
//!
//! The names are looked up every second, all addresses of each: in a swarm that is one per running task.

use std::{io::Write as _, process::ExitCode, sync::Arc, time::Duration};

use forwarder::{Replicas, forward};
use tokio::{
    net::{TcpListener, lookup_host},
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

/// Between two looks at the name server.
const LOOK: Duration = Duration::from_secs(1);
/// After SIGTERM: for the connections that are open.
const FINISH: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.map_err(|e| e.to_string()).and_then(|r| r.block_on(run(std::env::args().skip(1))));
    let Err(why) = ended else { return ExitCode::SUCCESS };
    let _ = writeln!(std::io::stderr(), "error: {why}");
    ExitCode::FAILURE
}

async fn run(words: impl Iterator<Item = String>) -> Result<(), String> {
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    for word in words {
        let usage =
            || format!("`{word}`: write LISTEN=HOST:PORT, as in 0.0.0.0:6767=tasks.accountservice:6767");
        let (listen, target) = word.split_once('=').ok_or_else(usage)?;
        let listener =
            TcpListener::bind(listen).await.map_err(|e| format!("cannot listen on {listen}: {e}"))?;
        let replicas = Arc::<Replicas>::default();
        tasks.spawn(forward(listener, Arc::clone(&replicas), FINISH, stop.clone()));
        let (target, stop) = (target.to_owned(), stop.clone());
        tasks.spawn(async move {
            stop.run_until_cancelled(look_up(&target, &replicas)).await;
        });
    }
    if tasks.is_empty() {
        return Err("what is to be forwarded? Write LISTEN=HOST:PORT for each port".into());
    }
    let (mut terminate, mut interrupt) =
        (listen_to(SignalKind::terminate())?, listen_to(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    Ok(())
}

/// Keeps the list of replicas as the name server has it. A name without an address leaves the list as it was:
/// a name server that is away for a moment is no reason to turn connections away.
async fn look_up(target: &str, replicas: &Replicas) {
    loop {
        if let Ok(found) = lookup_host(target).await {
            let mut addresses: Vec<_> = found.collect();
            addresses.sort();
            addresses.dedup();
            replicas.set(addresses);
        }
        sleep(LOOK).await;
    }
}

fn listen_to(kind: SignalKind) -> Result<tokio::signal::unix::Signal, String> {
    signal(kind).map_err(|e| format!("cannot listen to signals: {e}"))
}
