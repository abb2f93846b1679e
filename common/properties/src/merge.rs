//! Layers of flat keys, as a reader of settings merges them.
//!
//! The config server's merged view has rules of its own: it shows every key of every file.

use std::collections::{BTreeMap, BTreeSet};

/// Returns the first part of a key: `accounts` of `accounts[0].id`.
#[must_use]
pub fn root(key: &str) -> &str {
    key.split(['.', '[']).next().unwrap_or(key)
}

/// Merges layers, the weakest first. A list is replaced as a whole, so that an element of a stronger list never stands
/// among those of a weaker one. A value replaces a group of keys, and a group replaces a value.
pub fn merge<V>(layers: impl IntoIterator<Item = BTreeMap<String, V>>) -> BTreeMap<String, V> {
    let mut merged = BTreeMap::new();
    for layer in layers {
        let names: BTreeSet<&str> = layer.keys().map(|key| list_of(key).unwrap_or(key)).collect();
        let groups: BTreeSet<&str> = names.iter().copied().flat_map(groups_of).collect();
        merged.retain(|key: &String, _| {
            let name = list_of(key).unwrap_or(key);
            !names.contains(name)
                && !groups.contains(name)
                && !groups_of(name).any(|group| names.contains(group))
        });
        merged.extend(layer);
    }
    merged
}

/// The groups that a key is in: `a` and `a.b` of `a.b.c`.
fn groups_of(key: &str) -> impl Iterator<Item = &str> {
    key.match_indices('.').map(|(dot, _)| &key[..dot])
}

/// The list that an element belongs to: everything before the first bracket.
fn list_of(key: &str) -> Option<&str> {
    key.split_once('[').map(|(list, _)| list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stronger_layer_wins_key_by_key_and_a_list_is_replaced_as_a_whole() {
        let layer = |text: &str| {
            let pairs = text.split(' ').filter_map(|pair| pair.split_once('='));
            pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>()
        };
        for (weak, strong, expected) in [
            ("a=1 b=1", "b=2 c=2", "a=1 b=2 c=2"),
            ("a.x=1 a.y=1", "a.y=2", "a.x=1 a.y=2"),
            ("l[0]=1 l[1]=2 l[2]=3", "l[0]=4", "l[0]=4"),
            ("l[0].n=1 l[0].v=1 l[1].n=2", "l[0].n=3", "l[0].n=3"),
            ("l[0]=1 l[1]=2", "l=", "l="),
            ("l=", "l[0]=1", "l[0]=1"),
            ("o.db.x=1 od=1", "o=text", "o=text od=1"),
            ("o=text od=1", "o.db.x=1", "o.db.x=1 od=1"),
            ("o.l[0]=1", "o=text", "o=text"),
            ("o.x=1", "o[0]=1", "o[0]=1"),
            ("a.l[0]=1 a.l[1]=2 al[0]=5", "a.l[0]=3", "a.l[0]=3 al[0]=5"),
        ] {
            assert_eq!(merge([layer(weak), layer(strong)]), layer(expected), "{weak} and {strong}");
        }
    }
}
