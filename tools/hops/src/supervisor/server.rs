//! The supervisor's side of the socket.

use std::{fs, sync::Arc};

use tokio::{
    net::UnixListener,
    sync::{broadcast::error::RecvError, oneshot},
};

use super::Supervisor;
use crate::{
    control::{Line, Reply, Request, SOCKET},
    failure::{Doing as _, Result},
};

/// Listens for commands; the one that another supervisor has left goes.
pub(super) fn listen() -> Result<UnixListener> {
    let _ = fs::remove_file(SOCKET);
    UnixListener::bind(SOCKET).doing(|| format!("listen on {SOCKET}"))
}

impl Supervisor {
    /// Answers commands until the end.
    pub(super) async fn serve(self: Arc<Self>, listener: UnixListener) {
        while let Ok((socket, _)) = listener.accept().await {
            let (this, mut line) = (Arc::clone(&self), Line::new(socket));
            self.tasks.spawn(async move {
                if let Some(request) = line.next::<Request>().await {
                    this.answer(request, &mut line).await;
                }
            });
        }
    }

    async fn answer(self: Arc<Self>, request: Request, line: &mut Line) {
        // Who follows is told what was before, too: the start may be over in less time than asking takes.
        let (past, mut events) = self.events.subscribe();
        if matches!(request, Request::Follow) {
            for reply in past {
                if line.say(&reply).await.is_err() {
                    return;
                }
            }
        }
        // What was begun is brought to its end, even when whoever asked for it has gone.
        let (this, (done, mut answer)) = (Arc::clone(&self), oneshot::channel());
        self.tasks.spawn(async move { done.send(this.work(request).await) });
        let last = loop {
            tokio::select! {
                biased;
                event = events.recv() => match event {
                    Ok(reply) => if line.say(&reply).await.is_err() { return },
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
                answer = &mut answer => break answer.unwrap_or_else(|_| Reply::Failed("it is going down".into())),
            }
        };
        let _ = line.say(&last).await;
    }

    async fn work(self: Arc<Self>, request: Request) -> Reply {
        let done = match request {
            Request::Status => return Reply::Status(Box::new(self.snapshot())),
            Request::Scale { service, replicas } => self.scale(&service, replicas).await,
            Request::Update { service, binaries } => self.update(*service, &binaries).await,
            Request::Kill { service, slot } => self.kill(&service, slot),
            Request::Down => {
                self.down.cancel();
                self.is_down.cancelled().await;
                Ok("down".into())
            }
            Request::Follow => {
                self.is_down.cancelled().await;
                Ok("down".into())
            }
        };
        done.map_or_else(Reply::Failed, Reply::Done)
    }
}
