//! Where a broker may answer otherwise than RabbitMQ 4.0, each with its reason: the whole list, for users of `devbroker` to read.
//!
//! A test names its difference by key, in [`Client::answers`](crate::kit::Client::answers) or its like. What stands here is
//! what is found there *instead*, so a difference that goes away, or becomes another one, fails its test.

use e2e::broker::Product;

/// The brokers that are held against the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broker {
    /// RabbitMQ 4.0, the reference: what the tests themselves say.
    RabbitMq40,
    /// RabbitMQ 3.10, which Debian 12 has.
    RabbitMq310,
    /// `tools/devbroker`.
    Dev,
}

impl Broker {
    pub(crate) fn of(product: &Product) -> Self {
        match product {
            Product::DevBroker => Self::Dev,
            Product::RabbitMq { version } if version.starts_with("4.") => Self::RabbitMq40,
            Product::RabbitMq { version } if version.starts_with("3.10.") => Self::RabbitMq310,
            Product::RabbitMq { version } => panic!("nobody has compared RabbitMQ {version} with 4.0"),
        }
    }
}

/// One answer of one broker that is not the reference's.
pub(crate) struct Difference {
    /// What a test calls it.
    pub(crate) key: &'static str,
    /// Whose answer it is.
    pub(crate) on: Broker,
    /// The answer, as `{:?}` prints it.
    pub(crate) answer: &'static str,
    /// Why it is allowed.
    pub(crate) reason: &'static str,
}

/// All of them.
pub(crate) const DIFFERENCES: &[Difference] = &[];

/// What a broker answers instead of the reference's answer; `None` where it has to answer the same.
pub(crate) fn allowed(broker: Broker, key: &str) -> Option<&'static Difference> {
    DIFFERENCES.iter().find(|difference| difference.on == broker && difference.key == key)
}

#[test]
fn every_difference_is_listed_once_and_looked_for_by_a_test() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let sources: String = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && !path.ends_with("differences.rs"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let mut seen = std::collections::BTreeSet::new();
    for Difference { key, on, reason, .. } in DIFFERENCES {
        assert!(*on != Broker::RabbitMq40, "{key}: the reference differs from nobody");
        assert!(seen.insert((*key, format!("{on:?}"))), "{key} stands twice");
        assert!(!reason.is_empty(), "{key} has no reason");
        let is_looked_for = sources.split('"').any(|literal| matches(literal, key));
        assert!(is_looked_for, "no test has the key {key:?}");
    }
}

/// Whether a text is what a format string makes.
fn matches(format: &str, text: &str) -> bool {
    let Some((start, rest)) = format.split_once('{') else { return format == text };
    let end = rest.rsplit_once('}').map_or("", |(_, end)| end);
    start.len() + end.len() >= 4 && text.starts_with(start) && text.ends_with(end)
}
