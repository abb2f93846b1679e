//! The promise as an equation over request ids: A is contained in O, O in S, no id twice in O.
//!
//! S = sent, A = answered 200, O = among the offers. Sets are compared, never counts: one lost and one doubled make a right count.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::{load::Record, log::Log};

/// All that speaks against the promise; nothing does when it is empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Answered 200, and no offer: lost.
    pub missing: BTreeSet<String>,
    /// An offer for a request that was never sent.
    pub never_sent: BTreeSet<String>,
    /// More than one offer.
    pub twice: BTreeSet<String>,
}

impl Difference {
    /// Compares the offers' request ids with the record of the reads.
    pub fn between<'a>(record: &Record, offers: impl IntoIterator<Item = &'a str>) -> Self {
        let mut times = BTreeMap::<&str, usize>::new();
        for id in offers {
            *times.entry(id).or_default() += 1;
        }
        let owned = |id: &&str| (*id).to_owned();
        Self {
            missing: record.answered.iter().filter(|id| !times.contains_key(id.as_str())).cloned().collect(),
            never_sent: times.keys().filter(|id| !record.sent.contains(**id)).map(owned).collect(),
            twice: times.iter().filter(|(_, times)| **times > 1).map(|(id, _)| owned(id)).collect(),
        }
    }

    /// Tells whether the promise is kept.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The difference with the services' lines about the ids in it: what a person reads first.
    pub fn with_lines(&self, logs: &[&Log]) -> String {
        use fmt::Write;
        let mut text = self.to_string();
        for id in self.missing.iter().chain(&self.never_sent).chain(&self.twice).take(5) {
            let _ = writeln!(text, "lines of {id}:");
            for line in logs.iter().flat_map(|log| log.filter(|line| line.text.contains(id.as_str()))) {
                let _ = writeln!(text, "    {}", line.text);
            }
        }
        text
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, ids) in [
            ("answered 200 but without an offer", &self.missing),
            ("offers for reads never sent", &self.never_sent),
            ("reads with two offers", &self.twice),
        ] {
            if !ids.is_empty() {
                writeln!(f, "{} {what}: {ids:?}", ids.len())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Difference;
    use crate::load::Record;

    fn set(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    /// Sent a to d, answered a and b.
    fn check(offers: &[&str], missing: &[&str], never_sent: &[&str], twice: &[&str]) {
        let record = Record { sent: set(&["a", "b", "c", "d"]), answered: set(&["a", "b"]), refused: vec![] };
        let expected = Difference { missing: set(missing), never_sent: set(never_sent), twice: set(twice) };
        assert_eq!(Difference::between(&record, offers.iter().copied()), expected, "offers {offers:?}");
    }

    #[test]
    fn the_promise_is_kept_or_the_difference_names_the_ids() {
        check(&["a", "b"], &[], &[], &[]);
        check(&["b", "c", "a"], &[], &[], &[]);
        check(&["a"], &["b"], &[], &[]);
        check(&["a", "c"], &["b"], &[], &[]);
        check(&["a", "b", "x"], &[], &["x"], &[]);
        check(&["a", "b", "a", "c", "c"], &[], &[], &["a", "c"]);
        check(&[], &["a", "b"], &[], &[]);
    }

    #[test]
    fn a_difference_is_said_in_words() {
        let difference = Difference { missing: set(&["a"]), ..Difference::default() };
        assert_eq!(difference.to_string(), "1 answered 200 but without an offer: {\"a\"}\n");
    }
}
