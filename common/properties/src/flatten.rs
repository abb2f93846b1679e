//! From a tree to flat keys: `a: {b: [c]}` is `a.b[0]: c`.

use indexmap::IndexMap;

use crate::{Node, excerpt, root};

/// Limit for collections in each other: more than the 50 levels that the config server's YAML may have.
const MAX_DEPTH: usize = 64;
/// Limit for the bytes of all keys together, since long names above many values multiply.
const MAX_KEY_BYTES: usize = 16 * 1024 * 1024;

/// Reason why a tree cannot be flattened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlattenError {
    /// Collections lie too deep in each other below this key.
    #[error("{}: nested deeper than {MAX_DEPTH} levels", excerpt(.0))]
    TooDeep(String),
    /// The keys are too long.
    #[error("its keys have more than {MAX_KEY_BYTES} bytes together")]
    TooLong,
}

/// Returns the values of a tree by their flat keys. As in Spring, null and an empty list become `empty`, an empty map
/// leaves no key, and a name in brackets follows without a dot.
///
/// # Errors
/// The tree is too deep, or its keys are too long.
pub fn flatten<V: Clone>(
    tree: IndexMap<String, Node<V>>,
    empty: &V,
) -> Result<IndexMap<String, V>, FlattenError> {
    let mut flat = Flat { values: IndexMap::new(), key_bytes: 0, empty };
    flat.add(&mut String::new(), Node::Map(tree), MAX_DEPTH)?;
    Ok(flat.values)
}

struct Flat<'a, V> {
    values: IndexMap<String, V>,
    key_bytes: usize,
    empty: &'a V,
}

impl<V: Clone> Flat<'_, V> {
    fn add(&mut self, path: &mut String, node: Node<V>, depth: usize) -> Result<(), FlattenError> {
        let value = match node {
            Node::Map(map) => {
                return map.into_iter().try_for_each(|(name, node)| self.below(path, &name, node, depth));
            }
            Node::List(list) if !list.is_empty() => {
                let mut items = list.into_iter().enumerate();
                return items.try_for_each(|(n, node)| self.below(path, &format!("[{n}]"), node, depth));
            }
            Node::Null | Node::List(_) => self.empty.clone(),
            Node::Scalar(value) => value,
        };
        self.key_bytes += path.len();
        if self.key_bytes > MAX_KEY_BYTES {
            return Err(FlattenError::TooLong);
        }
        self.values.insert(path.clone(), value);
        Ok(())
    }

    fn below(
        &mut self,
        path: &mut String,
        name: &str,
        node: Node<V>,
        depth: usize,
    ) -> Result<(), FlattenError> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(FlattenError::TooDeep(root(path).to_owned()));
        };
        let length = path.len();
        if length > 0 && !name.starts_with('[') {
            path.push('.');
        }
        path.push_str(name);
        let done = self.add(path, node, depth);
        path.truncate(length);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_that_are_too_deep_are_refused_by_their_first_name() {
        let inner = (0..MAX_DEPTH).fold(Node::Scalar("x"), |inner, _| Node::List(vec![inner]));
        let tree = IndexMap::from([("k".to_owned(), inner)]);
        assert_eq!(flatten(tree, &""), Err(FlattenError::TooDeep("k".into())));
        let inner = (1..MAX_DEPTH).fold(Node::Scalar("x"), |inner, _| Node::List(vec![inner]));
        let flat = flatten(IndexMap::from([("k".to_owned(), inner)]), &"").unwrap();
        assert_eq!(flat.get_index(0).unwrap().0, &format!("k{}", "[0]".repeat(MAX_DEPTH - 1)));
    }
}
