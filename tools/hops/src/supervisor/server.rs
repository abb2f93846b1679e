//! Server of the supervisor's socket.

use std::{fs, sync::Arc, time::Duration};

use accept::Incoming;
use anyhow::Context as _;
use tokio::{
    net::UnixListener,
    sync::{broadcast::error::RecvError, oneshot},
    time::timeout,
};

use super::Supervisor;
use crate::{
    control::{JsonSocket, Reply, Request, SOCKET},
    failure::Result,
};

/// Time limit for a command to send its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Listens for commands. Removes the socket of an earlier supervisor.
pub(super) fn listen() -> Result<UnixListener> {
    let _ = fs::remove_file(SOCKET);
    UnixListener::bind(SOCKET).with_context(|| format!("cannot listen on {SOCKET}"))
}

impl Supervisor {
    /// Accepts and answers commands.
    pub(super) async fn serve(self: Arc<Self>, listener: UnixListener) {
        let mut incoming = Incoming::new(&listener);
        loop {
            let (this, mut socket) = (Arc::clone(&self), JsonSocket::new(incoming.next().await));
            self.background.spawn(async move {
                // A command sends its request at once.
                if let Ok(Some(request)) = timeout(REQUEST_TIMEOUT, socket.receive::<Request>()).await {
                    this.answer(request, &mut socket).await;
                }
            });
        }
    }

    async fn answer(self: Arc<Self>, request: Request, socket: &mut JsonSocket) {
        // A follower also gets the earlier events, since the system may be ready before it asks.
        let (history, mut events) = self.events.subscribe();
        if matches!(request, Request::Follow) {
            for reply in history {
                if socket.send(&reply).await.is_err() {
                    return;
                }
            }
        }
        // A request is completed even if its command has exited.
        let (this, (done, mut answer)) = (Arc::clone(&self), oneshot::channel());
        self.background.spawn(async move { done.send(this.handle(request).await) });
        let last = loop {
            tokio::select! {
                biased;
                event = events.recv() => match event {
                    Ok(reply) => if socket.send(&reply).await.is_err() { return },
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
                answer = &mut answer => break answer.unwrap_or_else(|_| Reply::Failed("the system is stopping".into())),
            }
        };
        let _ = socket.send(&last).await;
    }

    async fn handle(self: Arc<Self>, request: Request) -> Reply {
        let done = match request {
            Request::Status => return Reply::Status(Box::new(self.snapshot())),
            Request::Scale { service, replicas } => self.scale(&service, replicas).await,
            Request::Update { service, binaries } => self.update(*service, &binaries).await,
            Request::Kill { service, slot } => self.kill(&service, slot),
            Request::Pause { service, slot } => self.pause(&service, slot, true).await,
            Request::Unpause { service, slot } => self.pause(&service, slot, false).await,
            Request::Down => {
                self.stop.cancel();
                self.stopped.cancelled().await;
                Ok("down".into())
            }
            Request::Follow => {
                self.stopped.cancelled().await;
                Ok("down".into())
            }
        };
        done.map_or_else(|error| Reply::Failed(format!("{error:#}")), Reply::Done)
    }
}
