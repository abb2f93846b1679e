//! Check of `account_events`, whose events this test publishes exactly as the accountservice does.

use std::collections::BTreeSet;

use contracts::{AccountEvent, RequestContext, event_with_id, topology::ACCOUNTS};
use futures_util::future::join_all;
use messaging::{
    MessagingClient as _,
    amqp::{AmqpClient, AmqpOptions, Settings},
    broker::BrokerUrls,
    metrics::Metrics,
    topology::Topology,
};
use prometheus_client::registry::Registry;

use crate::{
    kit::{Place, program},
    patterns::tests,
};

tests! { an_account_event_is_printed_once: account_events }

/// Number of ids that the program remembers, as its header says.
const REMEMBERED_IDS: usize = 1000;
const CREATED: &str = r#"account.created.v1 {"accountId":"7","version":1,"name":"Ada","vip":false}"#;
const CHANGED: &str = r#"account.changed.v1 {"accountId":"7","version":2,"name":"Ada King","vip":true}"#;
const DELETED: &str = r#"account.deleted.v1 {"accountId":"7","version":3}"#;

/// Publishes events with the contract and the client of the accountservice.
struct Publisher(AmqpClient);

impl Publisher {
    fn new(place: &Place) -> Self {
        let amqp_server_url = BrokerUrls::parse(&place.vhost.amqp_url()).unwrap();
        let settings = Settings { amqp_server_url, ..Settings::default() };
        let topology = Topology::default().with_exchange(ACCOUNTS);
        let options = AmqpOptions::new(&settings, "accountservice.1", topology).unwrap();
        let client = AmqpClient::new(options, Metrics::registered(&mut Registry::default()));
        client.connect();
        Self(client)
    }

    async fn publish(&self, change_id: &str, key: &str, version: u64, profile: Option<(&str, bool)>) {
        let (name, vip) = profile.map(|(name, vip)| (name.to_owned(), vip)).unzip();
        let event = AccountEvent { account_id: "7".into(), version, name, vip };
        let (kind, context) = (format!("{key}.v1"), RequestContext::from_parts_or_new(None, None, None));
        let message = event_with_id(change_id, &kind, "accountservice", "7", &context, &event).unwrap();
        self.0.broadcast(ACCOUNTS, key, message).await.unwrap();
    }

    async fn created(&self) {
        self.publish("change-1", "account.created", 1, Some(("Ada", false))).await;
    }

    async fn changed(&self) {
        self.publish("change-2", "account.changed", 2, Some(("Ada King", true))).await;
    }

    async fn deleted(&self) {
        self.publish("change-3", "account.deleted", 3, None).await;
    }
}

pub(crate) async fn account_events() -> String {
    let place = Place::new().await;
    let all = place.listen(program!("account_events"), "").await;
    let some = place.listen(program!("account_events"), "account.deleted").await;
    // Two of these keys match each event.
    let each = place.listen(program!("account_events"), "account.* account.#").await;
    assert_eq!(each.lines(), ["waiting for account.* and account.#; Ctrl-C stops it"]);
    let publisher = Publisher::new(&place);
    publisher.created().await;
    publisher.created().await;
    publisher.changed().await;
    publisher.created().await;
    publisher.deleted().await;
    assert_eq!(all.heard(3).await, [CREATED, CHANGED, DELETED]);
    assert_eq!(some.heard(1).await, [DELETED]);
    assert_eq!(some.interrupt().await, [DELETED]);
    let lines = each.heard(3).await;
    assert_eq!(lines.iter().map(String::as_str).collect::<BTreeSet<_>>(), [CREATED, CHANGED, DELETED].into());
    assert_eq!(each.interrupt().await.len(), 3);

    // The third event is the newest of the ids that are remembered, and then the oldest.
    let ids: Vec<_> = (1..REMEMBERED_IDS).map(|number| format!("other-{number}")).collect();
    join_all(ids.iter().map(|id| publisher.publish(id, "account.changed", 4, None))).await;
    publisher.deleted().await;
    publisher.publish("last", "account.changed", 5, None).await;
    let lines = all.heard(3 + REMEMBERED_IDS).await;
    assert_eq!(lines[2 + REMEMBERED_IDS], r#"account.changed.v1 {"accountId":"7","version":5}"#);
    assert_eq!(lines.iter().filter(|line| *line == DELETED).count(), 1);
    publisher.deleted().await;
    assert_eq!(all.heard(4 + REMEMBERED_IDS).await[3 + REMEMBERED_IDS], DELETED);
    all.interrupt().await;
    publisher.0.close().await;
    "yes".into()
}
