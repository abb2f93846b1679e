//! Exchanges and their bindings: which queues a message goes to.
//! <https://www.rabbitmq.com/docs/exchanges>

use amq_protocol::types::{AMQPValue, FieldTable};

/// The four types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeKind {
    /// The routing key is the binding key.
    Direct,
    /// Everything goes everywhere.
    Fanout,
    /// `*` is one word, `#` any number of them.
    Topic,
    /// The headers decide.
    Headers,
}

/// An exchange.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// Its type.
    pub kind: ExchangeKind,
    /// Whether it survives a restart.
    pub durable: bool,
    /// Whether it goes when its last binding goes.
    pub auto_delete: bool,
    /// Whether clients may not publish to it.
    pub internal: bool,
    /// Its arguments.
    pub arguments: FieldTable,
    /// From here to where, in the order in which they were made.
    pub bindings: Vec<Binding>,
}

/// Where a binding leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A queue, by its name.
    Queue(String),
    /// Another exchange.
    Exchange(String),
}

/// A binding.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// Where it leads.
    pub to: Destination,
    /// The binding key.
    pub key: String,
    /// Its arguments: what a headers exchange compares.
    pub arguments: FieldTable,
}

impl ExchangeKind {
    /// Reads the name of a type.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "direct" => Some(Self::Direct),
            "fanout" => Some(Self::Fanout),
            "topic" => Some(Self::Topic),
            "headers" => Some(Self::Headers),
            _ => None,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
        }
    }
}

impl Exchange {
    /// A durable exchange as every vhost has it from the start.
    #[must_use]
    pub fn predeclared(kind: ExchangeKind) -> Self {
        Self {
            kind,
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: FieldTable::default(),
            bindings: vec![],
        }
    }

    /// Where a message goes from here.
    pub fn matches<'a>(
        &'a self,
        key: &'a str,
        headers: &'a FieldTable,
    ) -> impl Iterator<Item = &'a Destination> + 'a {
        let chosen = move |binding: &&Binding| match self.kind {
            ExchangeKind::Fanout => true,
            ExchangeKind::Direct => binding.key == key,
            ExchangeKind::Topic => topic_matches(&binding.key, key),
            ExchangeKind::Headers => headers_match(&binding.arguments, headers),
        };
        self.bindings.iter().filter(chosen).map(|binding| &binding.to)
    }

    /// `alternate-exchange`: where a message goes that goes nowhere else.
    #[must_use]
    pub fn alternate(&self) -> Option<String> {
        self.arguments.inner().get("alternate-exchange").and_then(super::message::text)
    }
}

/// Compares word by word. A table instead of recursion: `#.#.#.#` would take exponential time otherwise.
#[must_use]
pub fn topic_matches(pattern: &str, key: &str) -> bool {
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
#[must_use]
pub fn headers_match(arguments: &FieldTable, headers: &FieldTable) -> bool {
    let mode = arguments.inner().get("x-match").and_then(super::message::text);
    let (any, with_x) = match mode.as_deref() {
        Some("any") => (true, false),
        Some("any-with-x") => (true, true),
        Some("all-with-x") => (false, true),
        _ => (false, false),
    };
    let mut asked = arguments
        .into_iter()
        .filter(|(name, _)| name.as_str() != "x-match" && (with_x || !name.as_str().starts_with("x-")));
    let holds = |(name, wanted): (&_, &AMQPValue)| {
        let name: &amq_protocol::types::ShortString = name;
        match (headers.inner().get(name.as_str()), wanted) {
            (Some(_), AMQPValue::Void) => true,
            (Some(have), wanted) => {
                have == wanted
                    || super::message::number(have).is_some()
                        && super::message::number(have) == super::message::number(wanted)
            }
            (None, _) => false,
        }
    };
    if any { asked.any(holds) } else { asked.all(holds) }
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
