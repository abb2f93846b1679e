//! Helpers of the tests: a [`Client`] is lapin's, a [`Wire`] sends and receives every frame itself.
//!
//! Every test has a virtual host of its own. No call waits longer than [`LIMIT`]; a broker that owes an answer that long fails the test.

mod client;
mod wire;
mod methods;

use std::{fmt::Debug, sync::Arc, time::Duration};

use e2e::broker::{SharedBroker, Vhost};
use lapin::{
    BasicProperties,
    message::Delivery,
    types::{AMQPValue, FieldTable},
};
use tokio::time::timeout;

pub(crate) use self::client::{Client, Subscription};
pub(crate) use self::methods::*;
pub(crate) use self::wire::{Frame, Wire};
use crate::differences::{Broker, allowed};

/// A broker that works answers sooner, on a loaded machine too.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A virtual host and the broker that it is on.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) vhost: Vhost,
    pub(crate) broker: Broker,
}

impl Place {
    pub(crate) async fn new() -> Arc<Self> {
        let shared = SharedBroker::from_environment();
        Arc::new(Self { broker: Broker::of(shared.product()), vhost: shared.vhost().await })
    }

    /// Asserts that the broker answers as the reference does, or as `differences` allows under that key.
    #[track_caller]
    pub(crate) fn answers(&self, key: &str, found: impl Debug, reference: impl Debug) {
        if let Err(complaint) = self.verdict(key, &found, &reference) {
            panic!("{complaint}");
        }
    }

    /// The same, and whether the answer is the reference's: a test of what a broker does not do at all ends there.
    #[track_caller]
    pub(crate) fn does(&self, key: &str, found: impl Debug, reference: impl Debug) -> bool {
        self.answers(key, found, reference);
        allowed(self.broker, key).is_none()
    }

    /// The same as a value.
    fn verdict(&self, key: &str, found: &dyn Debug, reference: &dyn Debug) -> Result<(), String> {
        let (found, reference) = (format!("{found:?}"), format!("{reference:?}"));
        match allowed(self.broker, key) {
            None if found == reference => Ok(()),
            None => Err(format!("{key}:\n     found {found}\n expected {reference}")),
            Some(difference) if found == reference => {
                Err(format!("{key}: no difference any more, strike it off the list: {}", difference.reason))
            }
            Some(difference) if found == difference.answer => Ok(()),
            Some(difference) => Err(format!(
                "{key}:\n     found {found}\n   listed {}\nreference {reference}",
                difference.answer
            )),
        }
    }

    /// [`Self::answers`] for a table: each row is what was done, what came of it and what comes of it on the reference.
    #[track_caller]
    pub(crate) fn all_answer<R: AsRef<str>>(&self, rows: Vec<(String, String, R)>) {
        let verdicts =
            rows.into_iter().map(|(key, found, reference)| self.verdict(&key, &found, &reference.as_ref()));
        let complaints: Vec<_> = verdicts.filter_map(Result::err).collect();
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }
}

/// The body as text.
pub(crate) fn body(delivery: &Delivery) -> String {
    String::from_utf8(delivery.data.clone()).unwrap()
}

/// A header of a delivery.
pub(crate) fn header(delivery: &Delivery, name: &str) -> Option<AMQPValue> {
    delivery.properties.headers().as_ref()?.inner().get(name).cloned()
}

/// A table of arguments or headers.
pub(crate) fn table<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(name.into(), value);
    }
    table
}

/// A text as arguments have it.
pub(crate) fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// A number as arguments have it.
pub(crate) fn number(value: i32) -> AMQPValue {
    AMQPValue::LongInt(value)
}

/// Properties with these headers.
pub(crate) fn with_headers<const N: usize>(entries: [(&str, AMQPValue); N]) -> BasicProperties {
    BasicProperties::default().with_headers(table(entries))
}

/// Awaits an answer, which has to come.
#[track_caller]
pub(crate) fn in_time<T>(answer: impl Future<Output = T>) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move {
        let answer = timeout(LIMIT, answer).await;
        answer.unwrap_or_else(|_| panic!("no answer within {LIMIT:?}, awaited at {place}"))
    }
}
