//! SIGTERM and SIGINT: the first stops in order, a second at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;

/// The first SIGTERM or SIGINT cancels the token; a second ends the process at once, with code 130.
///
/// # Errors
/// The system's, if signals cannot be listened to.
pub fn listen() -> std::io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    let listen = async move {
        for first in [true, false] {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if first {
                tracing::info!("{name}: finishing work in flight; once more to stop at once");
                stopping.cancel();
            }
        }
        tracing::warn!("a second signal: stopping at once");
        #[expect(
            clippy::exit,
            reason = "whoever signals twice has decided that nothing is worth waiting for"
        )]
        std::process::exit(Exit::AtOnce as i32);
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "it listens until the process ends, and nobody waits for it"
    )]
    tokio::spawn(listen);
    Ok(stop)
}
