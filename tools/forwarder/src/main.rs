//! The forwarder as a process: `forwarder 0.0.0.0:6767=tasks.accountservice:6767 ...`, one word per port.
//!
//! The names are looked up every second, all addresses of each: in a swarm that is one per running task.
//! A word `127.0.0.1:6700=alive` makes a port that says `alive` and closes, and `forwarder healthcheck 127.0.0.1:6700`
//! asks there: who forwards to others has no answer of its own to give on their ports.

use std::{io::Write as _, process::ExitCode, sync::Arc, time::Duration};

use forwarder::{Replicas, forward};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, lookup_host},
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Between two looks at the name server.
const LOOK: Duration = Duration::from_secs(1);
/// After SIGTERM: for the connections that are open.
const FINISH: Duration = Duration::from_secs(10);
/// Between two attempts to accept where there are too many open files.
const PAUSE: Duration = Duration::from_millis(50);
/// Answer on the port for health checks.
const ALIVE: &str = "alive\n";
/// Time limit of `healthcheck` for that answer.
const HEALTHCHECK: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.map_err(|e| e.to_string()).and_then(|r| r.block_on(run(std::env::args().skip(1))));
    let Err(why) = ended else { return ExitCode::SUCCESS };
    let _ = writeln!(std::io::stderr(), "error: {why}");
    ExitCode::FAILURE
}

async fn run(mut words: impl Iterator<Item = String>) -> Result<(), String> {
    let first = words.next();
    if first.as_deref() == Some("healthcheck") {
        return healthcheck(&words.next().unwrap_or_default()).await;
    }
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    for word in first.into_iter().chain(words) {
        let usage =
            || format!("`{word}`: write LISTEN=HOST:PORT, as in 0.0.0.0:6767=tasks.accountservice:6767");
        let (listen, target) = word.split_once('=').ok_or_else(usage)?;
        let listener =
            TcpListener::bind(listen).await.map_err(|e| format!("cannot listen on {listen}: {e}"))?;
        if target == "alive" {
            let stop = stop.clone();
            tasks.spawn(async move {
                stop.run_until_cancelled(tell_that_we_live(listener)).await;
            });
            continue;
        }
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

async fn tell_that_we_live(listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((mut stream, _)) => drop(stream.write_all(ALIVE.as_bytes()).await),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn healthcheck(address: &str) -> Result<(), String> {
    let asking = async {
        let mut said = String::new();
        TcpStream::connect(address).await?.read_to_string(&mut said).await?;
        std::io::Result::Ok(said)
    };
    match timeout(HEALTHCHECK, asking).await {
        Ok(Ok(said)) if said == ALIVE => Ok(()),
        Ok(Ok(_)) => Err(format!("{address} is not a forwarder's port `{address}=alive`")),
        Ok(Err(error)) => Err(format!("{address} does not answer: {error}")),
        Err(_) => Err(format!("{address} has not answered within {HEALTHCHECK:?}")),
    }
}

fn listen_to(kind: SignalKind) -> Result<tokio::signal::unix::Signal, String> {
    signal(kind).map_err(|e| format!("cannot listen to signals: {e}"))
}
