//! The outbox of the version before, which was in the store of the accounts: what waits there moves to the files of the outbox.
//!
//! It leaves with the next release. A process that is killed meanwhile leaves one group of messages in both, which are published
//! twice, with the same ids. A store with a mark beside it has been here already.

use messaging::Message;
use outbox::{Entry, Outbox};

/// Messages that move at once.
const GROUP: usize = 500;

/// Moves what waits, and what was kept for a person.
///
/// # Errors
/// A sentence; what has not moved is still in the store.
pub async fn migrate(store: &sled::Db, outbox: &Outbox) -> Result<(), String> {
    let cannot = |why: String| format!("the outbox of an earlier version cannot be moved: {why}");
    for name in ["outbox", "outbox_aside"] {
        if !store.tree_names().iter().any(|tree| *tree == name) {
            continue;
        }
        let tree = store.open_tree(name).map_err(|e| cannot(e.to_string()))?;
        let mut moved = 0;
        loop {
            let group: Vec<_> =
                tree.iter().take(GROUP).collect::<sled::Result<_>>().map_err(|e| cannot(e.to_string()))?;
            if group.is_empty() {
                break;
            }
            let mut entries = vec![];
            for (_, value) in &group {
                match entry(value) {
                    Some(entry) if name == "outbox" => entries.push(entry),
                    _ => outbox.move_in_parked(value.to_vec()).await.map_err(|e| cannot(e.to_string()))?,
                }
            }
            outbox.append_beyond_limit(&entries).await.map_err(|e| cannot(e.to_string()))?;
            let mut removed = sled::Batch::default();
            group.iter().for_each(|(key, _)| removed.remove(key));
            tree.apply_batch(removed).map_err(|e| cannot(e.to_string()))?;
            moved += group.len();
        }
        store.drop_tree(name).and_then(|_| store.flush()).map_err(|e| cannot(e.to_string()))?;
        tracing::info!("moved from the store's tree {name} to the files of the outbox: {moved}");
    }
    Ok(())
}

/// Reads an entry of that version: a line of JSON with the queue and all of the message but its body, which follows.
fn entry(value: &[u8]) -> Option<Entry> {
    let end = value.iter().position(|byte| *byte == b'\n')?;
    let (queue, mut message): (String, Message) = serde_json::from_slice(&value[..end]).ok()?;
    message.body = value[end + 1..].to_vec().into();
    Some(Entry::for_queue(&queue, message))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use outbox::Settings;
    use prometheus_client::registry::Registry;

    use super::*;

    fn open(folder: &Path) -> Outbox {
        // Fewer than there are.
        let settings = Settings { outbox_max: 10, ..Settings::default() };
        Outbox::open(folder, &settings, &mut Registry::default()).unwrap()
    }

    #[tokio::test]
    async fn what_an_earlier_version_has_left_moves_once_and_in_order() {
        let folder = tempfile::TempDir::new().unwrap();
        let store = sled::Config::new().temporary(true).open().unwrap();
        let tree = store.open_tree("outbox").unwrap();
        for n in 0..1234_u64 {
            let line = format!(
                r#"["vip_queue",{{"id":"id-{n}","kind":"vip.notification.v1","headers":{{"a":"b"}}}}]"#
            );
            tree.insert(n.to_be_bytes(), format!("{line}\n{{\n{n}}}").as_bytes()).unwrap();
        }
        tree.insert(1234_u64.to_be_bytes(), "no message").unwrap();
        store.open_tree("outbox_aside").unwrap().insert(0_u64.to_be_bytes(), "kept").unwrap();

        let outbox = open(folder.path());
        migrate(&store, &outbox).await.unwrap();
        migrate(&store, &outbox).await.unwrap();
        drop(outbox);
        let outbox = open(folder.path());
        let entries: Vec<_> = outbox.entries().map(Result::unwrap).collect();
        assert_eq!(entries.len(), 1234);
        for (n, entry) in entries.iter().enumerate() {
            let message = Message {
                id: Some(format!("id-{n}")),
                kind: Some("vip.notification.v1".into()),
                headers: [("a".to_owned(), "b".to_owned())].into(),
                body: format!("{{\n{n}}}").into(),
                ..Message::default()
            };
            assert_eq!(*entry, Entry::for_queue("vip_queue", message));
        }
        assert_eq!(outbox.parked().count(), 2);
        assert!(!store.tree_names().iter().any(|name| name.starts_with(b"outbox")));
    }
}
