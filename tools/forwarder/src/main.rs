//! The forwarder as a process: `forwarder 0.0.0.0:6767=tasks.accountservice:6767 ...`, with one argument per port.
//!
//! It resolves the names every second, to all addresses of each: in a swarm, one per running task. The forwarded ports
//! cannot show whether the forwarder itself is alive, so the argument `127.0.0.1:6700=alive` opens a port that sends `alive`
//! to each client, and `forwarder healthcheck 127.0.0.1:6700` asks there.

use std::{io::Write as _, process::ExitCode, sync::Arc, time::Duration};

use accept::Incoming;
use anyhow::{Context as _, Result, bail};
use forwarder::{Replicas, connections_per_port, forward};
use output::printable;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, lookup_host},
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Time between two lookups of a name.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(1);
/// Time for open connections to close after SIGTERM.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Open files that are not those of forwarded connections: listeners, lookups and health checks.
const OTHER_FILES: usize = 64;
/// Answer on the port that shows that the forwarder is alive.
const ALIVE: &str = "alive\n";
/// Time limit for that answer.
const HEALTHCHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// Answer to `--help`.
const HELP: &str = "\
Forwards each connection of a port to one of the addresses of a name, in turn

Usage: forwarder LISTEN=HOST:PORT... [LISTEN=alive]

Commands:
  healthcheck LISTEN  Asks the port LISTEN=alive whether the forwarder is alive, and exits with 0 if so, else with 1
";

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.context("cannot start the runtime");
    let result = result.and_then(|runtime| runtime.block_on(run(std::env::args().skip(1))));
    let Err(error) = result else { return ExitCode::SUCCESS };
    let _ = writeln!(std::io::stderr(), "error: {}", printable(&format!("{error:#}")));
    ExitCode::FAILURE
}

async fn run(mut words: impl Iterator<Item = String>) -> Result<()> {
    let first = words.next();
    if let Some("help" | "--help" | "-h") = first.as_deref() {
        return std::io::stdout().write_all(HELP.as_bytes()).context("cannot print the help");
    }
    if first.as_deref() == Some("healthcheck") {
        return healthcheck(&words.next().unwrap_or_default()).await;
    }
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    let words: Vec<_> = first.into_iter().chain(words).collect();
    accept::raise_file_limit();
    let ports = words.iter().filter(|word| !word.ends_with("=alive")).count();
    let connections = connections_per_port(ports, accept::file_limit().saturating_sub(OTHER_FILES));
    for word in words {
        let usage =
            || format!("`{word}`: write LISTEN=HOST:PORT, as in 0.0.0.0:6767=tasks.accountservice:6767");
        let (listen, target) = word.split_once('=').with_context(usage)?;
        let listener =
            TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
        if target == "alive" {
            let stop = stop.clone();
            tasks.spawn(async move {
                stop.run_until_cancelled(answer_alive(listener)).await;
            });
            continue;
        }
        let replicas = Arc::<Replicas>::default();
        tasks.spawn(forward(listener, Arc::clone(&replicas), connections, CLOSE_TIMEOUT, stop.clone()));
        let (target, stop) = (target.to_owned(), stop.clone());
        tasks.spawn(async move {
            stop.run_until_cancelled(look_up(&target, &replicas)).await;
        });
    }
    if tasks.is_empty() {
        bail!(
            "no port to forward: write LISTEN=HOST:PORT for each, as in 0.0.0.0:6767=tasks.accountservice:6767"
        );
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

/// Keeps the list of replicas up to date with the name server. If a lookup fails, the list stays as it is, because a name
/// server may be unavailable for a moment.
async fn look_up(target: &str, replicas: &Replicas) {
    loop {
        if let Ok(found) = lookup_host(target).await {
            let mut addresses: Vec<_> = found.collect();
            addresses.sort();
            addresses.dedup();
            replicas.set(addresses);
        }
        sleep(LOOKUP_INTERVAL).await;
    }
}

async fn answer_alive(listener: TcpListener) {
    let mut incoming = Incoming::new(&listener);
    loop {
        let (mut stream, _) = incoming.next().await;
        let _ = stream.write_all(ALIVE.as_bytes()).await;
    }
}

async fn healthcheck(address: &str) -> Result<()> {
    let request = async {
        let mut answer = String::new();
        TcpStream::connect(address).await?.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    match timeout(HEALTHCHECK_TIMEOUT, request).await {
        Ok(Ok(answer)) if answer == ALIVE => Ok(()),
        Ok(Ok(_)) => bail!("{address} is not a forwarder's port `{address}=alive`"),
        Ok(Err(error)) => bail!("{address} does not answer: {error}"),
        Err(_) => bail!("{address} has not answered within {HEALTHCHECK_TIMEOUT:?}"),
    }
}

fn listen_to(kind: SignalKind) -> Result<tokio::signal::unix::Signal> {
    signal(kind).context("cannot listen to signals")
}
