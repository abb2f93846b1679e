//! Exchanges and their bindings, which route messages to queues.
//! <https://www.rabbitmq.com/docs/exchanges>

use amq_protocol::{
    protocol::exchange::Declare,
    types::{AMQPValue, FieldTable, ShortString},
};
use serde::{Deserialize, Serialize};

use super::{
    error::AmqpError,
    firehose::TRACE,
    value::{Name, is_equal, text_of},
};

/// Type of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ExchangeKind {
    /// Routes to the bindings whose key equals the routing key.
    Direct,
    /// Routes to all bindings.
    Fanout,
    /// Routes by patterns: `*` matches one word, `#` any number of words.
    Topic,
    /// Routes by headers.
    Headers,
}

/// The exchange types by name, in the order of [`ExchangeKind`].
pub(crate) const EXCHANGE_TYPES: [(&str, ExchangeKind); 4] = [
    ("direct", ExchangeKind::Direct),
    ("fanout", ExchangeKind::Fanout),
    ("topic", ExchangeKind::Topic),
    ("headers", ExchangeKind::Headers),
];

impl ExchangeKind {
    /// Returns the type that a declaration asks for.
    pub(crate) fn of(method: &Declare) -> Result<Self, AmqpError> {
        let name = method.kind.as_str();
        let kind = EXCHANGE_TYPES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
        let how = if name.is_empty() { "invalid" } else { "unknown" };
        kind.ok_or_else(|| AmqpError::precondition(format!("{how} exchange type '{name}'")))
    }
}

/// Exchanges that every vhost has. The default exchange, without a name, routes to the queue named by the routing key.
pub(crate) const PREDECLARED: [(&str, ExchangeKind); 7] = [
    ("", ExchangeKind::Direct),
    ("amq.direct", ExchangeKind::Direct),
    ("amq.fanout", ExchangeKind::Fanout),
    ("amq.topic", ExchangeKind::Topic),
    ("amq.headers", ExchangeKind::Headers),
    ("amq.match", ExchangeKind::Headers),
    (TRACE, ExchangeKind::Topic),
];

/// Argument that names the exchange for messages that reach no queue.
pub(crate) const ALTERNATE: &str = "alternate-exchange";

/// An exchange with its bindings.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    pub(crate) kind: ExchangeKind,
    pub(crate) durable: bool,
    /// Deleted with its last binding.
    pub(crate) auto_delete: bool,
    pub(crate) arguments: FieldTable,
    /// The bindings in the order of their creation.
    pub(crate) bindings: Vec<Binding>,
}

/// A binding of a queue to an exchange.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Binding {
    pub(crate) queue: Name,
    pub(crate) key: String,
    /// Arguments, with which a headers exchange compares the headers.
    pub(crate) arguments: FieldTable,
}

impl Exchange {
    /// Creates a durable exchange without bindings.
    pub(crate) fn new(kind: ExchangeKind, arguments: FieldTable) -> Self {
        Self { kind, durable: true, auto_delete: false, arguments, bindings: vec![] }
    }

    /// Returns the name of its type.
    pub(crate) fn kind_name(&self) -> &'static str {
        EXCHANGE_TYPES[self.kind as usize].0
    }

    /// Returns the queues to which this exchange routes a message.
    pub(crate) fn matches(&self, key: &str, headers: &FieldTable) -> impl Iterator<Item = &Name> {
        let chosen = move |binding: &&Binding| match self.kind {
            ExchangeKind::Fanout => true,
            ExchangeKind::Direct => binding.key == key,
            ExchangeKind::Topic => topic_matches(&binding.key, key),
            ExchangeKind::Headers => headers_match(&binding.arguments, headers),
        };
        self.bindings.iter().filter(chosen).map(|binding| &binding.queue)
    }
}

/// Matches word by word. It fills a table: with recursion a pattern such as `#.#.#.#` would take exponential time.
fn topic_matches(pattern: &str, key: &str) -> bool {
    if pattern == "#" || pattern == key && !pattern.contains(['*', '#']) {
        return true;
    }
    let words: Vec<&str> = if key.is_empty() { vec![] } else { key.split('.').collect() };
    // reached[i]: the pattern up to here matches the first i words.
    let mut reached = vec![false; words.len() + 1];
    reached[0] = true;
    if pattern.is_empty() {
        return words.is_empty();
    }
    for part in pattern.split('.') {
        if part == "#" {
            let first = reached.iter().position(|r| *r).unwrap_or(reached.len());
            reached[first..].fill(true);
        } else {
            for i in (1..reached.len()).rev() {
                reached[i] = reached[i - 1] && (part == "*" || part == words[i - 1]);
            }
            reached[0] = false;
        }
    }
    reached[words.len()]
}

/// Compares headers with the arguments of a binding. `x-match` is `all` (the default) or `any`; `-with-x` includes the headers that
/// begin with `x-`. An argument without a value matches any header of that name.
fn headers_match(arguments: &FieldTable, headers: &FieldTable) -> bool {
    let mode = text_of(arguments, "x-match").unwrap_or_default();
    let with_x = mode.ends_with("-with-x");
    let mut asked = arguments
        .into_iter()
        .filter(|(name, _)| name.as_str() != "x-match" && (with_x || !name.as_str().starts_with("x-")));
    let holds = |(name, wanted): (&ShortString, &AMQPValue)| {
        let have = headers.inner().get(name.as_str());
        have.is_some_and(|have| *wanted == AMQPValue::Void || is_equal(have, wanted))
    };
    if mode.starts_with("any") { asked.any(holds) } else { asked.all(holds) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_one_word_and_a_hash_any_number() {
        let cases = [
            ("a.b", "a.b", true),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("#", "", true),
            ("#", "a.b.c", true),
            ("a.#", "a", true),
            ("a.#", "a.b.c", true),
            ("#.c", "a.b.c", true),
            ("#.c", "c", true),
            ("*.#.c", "c", false),
            ("*.#.c", "a.c", true),
            ("", "", true),
            ("", "a", false),
            ("*", "", false),
            ("a..b", "a..b", true),
            ("a.*.b", "a..b", true),
            ("#.a.#", "b.a.c", true),
            ("#.#.#", "b.a.c", true),
            ("#.*", "", false),
            ("config.*.#", "config.vip", true),
        ];
        for (pattern, key, expected) in cases {
            assert_eq!(topic_matches(pattern, key), expected, "{pattern} against {key}");
        }
    }

    #[test]
    fn headers_match_all_or_any_and_a_void_argument_asks_for_presence() {
        let table = |pairs: &[(&str, AMQPValue)]| {
            let mut table = FieldTable::default();
            for (name, value) in pairs {
                table.insert((*name).into(), value.clone());
            }
            table
        };
        let word = |text: &str| AMQPValue::LongString(text.into());
        let headers = table(&[("a", AMQPValue::LongInt(1)), ("b", word("x")), ("x-c", word("y"))]);
        let cases = [
            (vec![("a", AMQPValue::LongLongInt(1)), ("b", word("x"))], true),
            (vec![("a", AMQPValue::LongInt(2)), ("b", word("x"))], false),
            (vec![("x-match", word("any")), ("a", AMQPValue::LongInt(2)), ("b", word("x"))], true),
            (vec![("x-match", word("any")), ("a", AMQPValue::LongInt(2))], false),
            (vec![("x-match", word("any-with-x")), ("x-c", word("y"))], true),
            (vec![("x-match", word("any")), ("x-c", word("y"))], false),
            (vec![("x-match", word("all-with-x")), ("x-c", word("z"))], false),
            (vec![("b", AMQPValue::Void)], true),
            (vec![("q", AMQPValue::Void)], false),
            (vec![], true),
        ];
        for (arguments, expected) in cases {
            assert_eq!(headers_match(&table(&arguments), &headers), expected, "{arguments:?}");
        }
    }
}
