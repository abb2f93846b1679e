//! The stream of events for one browser, in the format of server-sent events.
//!
//! A viewer asks for what follows the last event that it has got, so a slow one costs no memory: when the ring has moved
//! on meanwhile, it learns how many events it has missed and begins anew with a snapshot.

use std::{convert::Infallible, fmt::Write as _, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, stream};
use jiff::Timestamp;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    history::{Entry, History, Next},
    system::System,
};

/// Most events in one piece, so that a piece stays below some hundred kilobytes.
const BATCH: usize = 500;
/// Time after which an idle stream shows that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Time for which events are collected after the first: one piece instead of many.
const COLLECT: Duration = Duration::from_millis(20);

/// Number of viewers, which counts itself down when it is dropped.
#[derive(Debug)]
pub(crate) struct Watching(watch::Sender<usize>);

impl Watching {
    /// Counts one more viewer, unless there are `limit` already.
    pub(crate) fn start(viewers: &watch::Sender<usize>, limit: usize) -> Option<Self> {
        let is_counted = viewers.send_if_modified(|count| {
            let has_place = *count < limit;
            *count += usize::from(has_place);
            has_place
        });
        is_counted.then(|| Self(viewers.clone()))
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// One open stream: what it shows, and what ends it.
pub(crate) struct Viewer {
    pub system: Arc<dyn System>,
    pub history: Arc<History>,
    /// True if the page changes nothing.
    pub read_only: bool,
    #[expect(dead_code, reason = "counts the viewer for as long as the stream lives")]
    pub watching: Watching,
    /// Cancelled when the server stops.
    pub stop: CancellationToken,
}

impl Viewer {
    /// Returns the stream after event `after`, or from a snapshot.
    pub(crate) fn stream(self, after: Option<u64>) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
        stream::unfold((self, after, false), async |(viewer, seen, is_over)| {
            if is_over {
                return None;
            }
            let stop = viewer.stop.clone();
            let (text, seen) = match stop.run_until_cancelled(viewer.next(seen)).await {
                Some((text, seen)) => (text, Some(seen)),
                None => ("event: end\ndata: {}\n\n".into(), None),
            };
            let is_over = seen.is_none();
            Some((Ok(Bytes::from(text)), (viewer, seen, is_over)))
        })
    }

    /// Waits for the next piece, and returns it with the number of its last event.
    async fn next(&self, seen: Option<u64>) -> (String, u64) {
        let Some(seen) = seen else { return self.snapshot("") };
        let mut latest = self.history.latest();
        // Already there, or an error: the server is stopping, and with it this stream.
        let is_new = timeout(KEEP_ALIVE, latest.wait_for(|latest| *latest != seen)).await.is_ok();
        if !is_new {
            return (":\n\n".into(), seen);
        }
        sleep(COLLECT).await;
        match self.history.after(seen, BATCH) {
            Next::Events(events) => {
                let last = events.last().map_or(seen, |entry| entry.seq);
                (frames(&events), last)
            }
            Next::Skipped(count) => {
                self.snapshot(&format!("event: skipped\ndata: {{\"skipped\":{count}}}\n\n"))
            }
        }
    }

    fn snapshot(&self, before: &str) -> (String, u64) {
        let (latest, events) = self.history.snapshot();
        let description = self.system.description().restricted(self.read_only);
        let description = serde_json::to_string(&description).unwrap_or_default();
        let text = format!(
            "{before}event: snapshot\nid: {latest}\ndata: {{\"seq\":{latest},\"now\":\"{:.6}\",\"system\":{description},\
             \"events\":{}}}\n\n",
            Timestamp::now(),
            array(&events)
        );
        (text, latest)
    }
}

/// Returns one frame for each event.
fn frames(events: &[Entry]) -> String {
    events.iter().fold(String::new(), |mut text, entry| {
        // Nothing fails to be written to a `String`. JSON has no line break, which would end the frame.
        let _ = write!(text, "id: {}\ndata: {}\n\n", entry.seq, entry.json);
        text
    })
}

/// Returns events as a JSON array.
pub(crate) fn array(events: &[Entry]) -> String {
    let events: Vec<_> = events.iter().map(|entry| &*entry.json).collect();
    format!("[{}]", events.join(","))
}
