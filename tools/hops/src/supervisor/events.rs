//! What happens, for those who follow, and what has happened, for those who come later.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use tokio::sync::broadcast::{Receiver, Sender};

use crate::control::Reply;

/// How much of the past is told.
const KEPT: usize = 200;

/// All that is told.
#[derive(Debug)]
pub(super) struct Events {
    now: Sender<Reply>,
    past: Mutex<VecDeque<Reply>>,
}

impl Default for Events {
    fn default() -> Self {
        Self { now: Sender::new(1000), past: Mutex::default() }
    }
}

impl Events {
    pub(super) fn tell(&self, reply: &Reply) {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        if past.len() == KEPT {
            past.pop_front();
        }
        past.push_back(reply.clone());
        // Nobody may be listening.
        let _ = self.now.send(reply.clone());
    }

    /// What was, and what will be, without a gap.
    pub(super) fn subscribe(&self) -> (Vec<Reply>, Receiver<Reply>) {
        let past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        (past.iter().cloned().collect(), self.now.subscribe())
    }
}
