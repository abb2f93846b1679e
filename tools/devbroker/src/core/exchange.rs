//! Exchanges and their bindings: which queues a message goes to.
//! <https://www.rabbitmq.com/docs/exchanges>

use amq_protocol::{
    protocol::exchange::Declare,
    types::{AMQPValue, FieldTable, ShortString},
};
use serde::{Deserialize, Serialize};

use super::{
    refusal::Refusal,
    value::{Name, is_equal, text_of},
};

/// The four types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ExchangeKind {
    /// The routing key is the binding key.
    Direct,
    /// Everything goes everywhere.
    Fanout,
    /// `*` is one word, `#` any number of them.
    Topic,
    /// The headers decide.
    Headers,
}

/// The types by their names.
pub(crate) const KINDS: [(&str, ExchangeKind); 4] = [
    ("direct", ExchangeKind::Direct),
    ("fanout", ExchangeKind::Fanout),
    ("topic", ExchangeKind::Topic),
    ("headers", ExchangeKind::Headers),
];

impl ExchangeKind {
    /// Reads the type that a declaration names.
    pub(crate) fn of(method: &Declare) -> Result<Self, Refusal> {
        if method.internal {
            return Err(Refusal::not_implemented("internal=true"));
        }
        let name = method.kind.as_str();
        let kind = KINDS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
        let how = if name.is_empty() { "invalid" } else { "unknown" };
        kind.ok_or_else(|| Refusal::precondition(format!("{how} exchange type '{name}'")))
    }
}

/// What every vhost has from the start; the one without a name routes to the queue that the key names.
pub(crate) const PREDECLARED: [(&str, ExchangeKind); 6] = [
    ("", ExchangeKind::Direct),
    ("amq.direct", ExchangeKind::Direct),
    ("amq.fanout", ExchangeKind::Fanout),
    ("amq.topic", ExchangeKind::Topic),
    ("amq.headers", ExchangeKind::Headers),
    ("amq.match", ExchangeKind::Headers),
];

/// The argument that says where a message goes that goes nowhere else.
pub(crate) const ALTERNATE: &str = "alternate-exchange";

/// An exchange.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    pub(crate) kind: ExchangeKind,
    pub(crate) durable: bool,
    /// Whether it goes when its last binding goes.
    pub(crate) auto_delete: bool,
    pub(crate) arguments: FieldTable,
    /// In the order in which they were made.
    pub(crate) bindings: Vec<Binding>,
}

/// A way from an exchange to a queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Binding {
    pub(crate) queue: Name,
    pub(crate) key: String,
    /// What a headers exchange compares.
    pub(crate) arguments: FieldTable,
}

impl Exchange {
    /// A durable one.
    pub(crate) fn new(kind: ExchangeKind, arguments: FieldTable) -> Self {
        Self { kind, durable: true, auto_delete: false, arguments, bindings: vec![] }
    }

    /// The name of its type.
    pub(crate) fn kind_name(&self) -> &'static str {
        KINDS[self.kind as usize].0
    }

    /// The queues that a message goes to from here.
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

/// Compares word by word. A table instead of recursion: `#.#.#.#` would take exponential time otherwise.
fn topic_matches(pattern: &str, key: &str) -> bool {
    if pattern == "#" || pattern == key && !pattern.contains(['*', '#']) {
        return true;
    }
    let words: Vec<&str> = if key.is_empty() { vec![] } else { key.split('.').collect() };
    // reached[i]: the pattern so far matches the first i words.
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

/// `x-match`: `all` (the default), `any`, and the two that look at headers beginning with `x-` as well. An argument
/// without a value asks only whether the header is there.
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
