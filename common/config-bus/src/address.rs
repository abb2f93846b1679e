//! Whom an event is meant for: pure.
//!
//! A destination is a pattern of segments between colons: `?` and `*` stand for parts of one, `**` for any number.
//! An instance's id has such segments too: `service:profile:instance:random`.

use std::fmt;

use uuid::Uuid;

/// Everybody: all segments, whatever they are.
pub(super) const EVERYBODY: &str = "**";

/// An instance's name on the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusId(String);

impl BusId {
    /// An id that no other process has, not even one of the same name.
    #[must_use]
    pub fn new(service: &str, profile: &str, instance: &str) -> Self {
        Self(format!("{service}:{profile}:{instance}:{}", Uuid::now_v7().simple()))
    }

    /// An id that was given.
    #[must_use]
    pub fn given(id: &str) -> Self {
        Self(id.to_owned())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Tells whether a destination includes this instance. It is completed first: old senders write `*` for everybody, and
    /// a service's name alone for all its instances.
    #[must_use]
    pub fn is_addressed_by(&self, destination: Option<&str>) -> bool {
        is_match(&completed(destination), &self.0)
    }
}

impl fmt::Display for BusId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A destination as it is sent: a name stands for all instances of a service, and nothing for everybody.
pub(super) fn completed(given: Option<&str>) -> String {
    match given.map(str::trim).filter(|text| !text.is_empty()) {
        None | Some(EVERYBODY) => EVERYBODY.to_owned(),
        Some(text) if text.ends_with(":**") || text.matches(':').count() > 1 => text.to_owned(),
        Some(text) => format!("{text}:{EVERYBODY}"),
    }
}

/// Tells whether a pattern matches an id, or the id with one of its profiles where it has several.
pub(super) fn is_match(pattern: &str, id: &str) -> bool {
    let id: Vec<_> = segments(id).collect();
    let profiles = id.get(1).into_iter().flat_map(|profiles| profiles.split(','));
    let with_one = |profile| {
        let mut id = id.clone();
        id[1] = profile;
        id
    };
    matches(pattern, &id) || profiles.map(with_one).any(|id| matches(pattern, &id))
}

fn segments(text: &str) -> impl Iterator<Item = &str> {
    text.split(':').filter(|segment| !segment.is_empty())
}

fn matches(pattern: &str, id: &[&str]) -> bool {
    covers(
        segments(pattern),
        id,
        |segment| segment == EVERYBODY,
        |segment, name| {
            let name: Vec<_> = name.chars().collect();
            covers(segment.chars(), &name, |c| c == '*', |c, other| c == '?' || c == *other)
        },
    )
}

/// Tells whether the parts of a pattern cover all of `whole`, where some parts stand for any number. Its time grows with
/// the product of the two, however many such parts a stranger writes.
fn covers<P: Copy, T>(
    pattern: impl Iterator<Item = P>,
    whole: &[T],
    is_any_number: impl Fn(P) -> bool,
    is_one: impl Fn(P, &T) -> bool,
) -> bool {
    // At n: whether the pattern so far covers the first n.
    let mut covered = vec![false; whole.len() + 1];
    covered[0] = true;
    for part in pattern {
        if is_any_number(part) {
            (1..covered.len()).for_each(|n| covered[n] |= covered[n - 1]);
        } else {
            (1..covered.len()).rev().for_each(|n| covered[n] = covered[n - 1] && is_one(part, &whole[n - 1]));
            covered[0] = false;
        }
    }
    covered[whole.len()]
}
