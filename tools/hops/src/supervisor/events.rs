//! Events for the commands that follow the system: new ones, and recent ones for commands that connect later.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use tokio::sync::broadcast::{Receiver, Sender};

use crate::control::Reply;

/// Number of recent events that are kept.
const HISTORY_LENGTH: usize = 200;

/// Broadcast of events with a history.
#[derive(Debug)]
pub(super) struct Events {
    sender: Sender<Reply>,
    history: Mutex<VecDeque<Reply>>,
}

impl Default for Events {
    fn default() -> Self {
        Self { sender: Sender::new(1000), history: Mutex::default() }
    }
}

impl Events {
    pub(super) fn send(&self, reply: &Reply) {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        if history.len() == HISTORY_LENGTH {
            history.pop_front();
        }
        history.push_back(reply.clone());
        // An error means that no command listens.
        let _ = self.sender.send(reply.clone());
    }

    /// Returns the history and a receiver of all later events, without a gap.
    pub(super) fn subscribe(&self) -> (Vec<Reply>, Receiver<Reply>) {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        (history.iter().cloned().collect(), self.sender.subscribe())
    }
}
