//! Browsing a queue: what it shows, and that it leaves everything as it was.

use queue_browser::{BrowseError, BrowseSession, QueueBrowser as _};

use super::*;

/// A client, and a dead-letter queue with that many messages in it.
async fn with_dead(vhost: &Vhost, url: &str, count: usize) -> (Client, Vec<Message>) {
    let client = Client::up(url).await;
    let messages: Vec<_> = (0..count).map(message).collect();
    for message in &messages {
        client.publish_on_queue(VIP_DEAD, message.clone()).await.unwrap();
    }
    until_ready(vhost, count).await;
    (client, messages)
}

async fn until_ready(vhost: &Vhost, count: usize) {
    let count = u32::try_from(count).unwrap();
    until_true("so many wait", PATIENCE, async || vhost.ready(VIP_DEAD).await == Some(count)).await;
}

/// The ids of the messages that are still to come.
async fn rest(session: &mut dyn BrowseSession) -> Vec<String> {
    let mut ids = vec![];
    while let Some(message) = session.next().await.unwrap() {
        ids.push(message.id.unwrap());
    }
    ids
}

fn in_order(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|message| message.id.clone().unwrap()).collect()
}

#[tokio::test]
async fn a_session_gives_each_message_once_and_only_what_was_removed_is_gone() {
    let vhost = vhost().await;
    let (client, messages) = with_dead(&vhost, &vhost.amqp_url(), 5).await;
    assert_eq!(client.count_ready(VIP_DEAD).await, Ok(5));

    let mut session = client.browse(VIP_DEAD).await.unwrap();
    assert_eq!(session.next().await.unwrap().unwrap().id, messages[0].id);
    assert_eq!(session.remaining(), 4);
    // What comes later belongs to the next session.
    client.publish_on_queue(VIP_DEAD, message(5)).await.unwrap();
    assert_eq!(session.next().await.unwrap().unwrap().id, messages[1].id);
    session.remove().await.unwrap();
    assert_eq!(rest(&mut *session).await, in_order(&messages[2..]));
    assert_eq!(session.remaining(), 0);
    session.close().await.unwrap();
    assert_eq!(session.next().await, Ok(None), "it is over");

    let mut again = client.browse(VIP_DEAD).await.unwrap();
    let seen = rest(&mut *again).await;
    assert_eq!(seen.len(), 5, "{seen:?}");
    assert!(!seen.contains(messages[1].id.as_ref().unwrap()));
    drop(again);
    until_ready(&vhost, 5).await;
    assert_eq!(client.count_ready(VIP_DEAD).await, Ok(5));

    let mut all = client.browse(VIP_DEAD).await.unwrap();
    while all.next().await.unwrap().is_some() {
        all.remove().await.unwrap();
    }
    all.close().await.unwrap();
    assert_eq!(client.count_ready(VIP_DEAD).await, Ok(0));
    client.close().await;
}

#[tokio::test]
async fn a_session_that_is_dropped_gives_everything_back_at_once() {
    let vhost = vhost().await;
    let (client, messages) = with_dead(&vhost, &vhost.amqp_url(), 20).await;
    for upto in [1, 7, 20, 0] {
        let mut session = client.browse(VIP_DEAD).await.unwrap();
        for _ in 0..upto {
            session.next().await.unwrap().unwrap();
        }
        drop(session);
        let mut next = client.browse(VIP_DEAD).await.unwrap();
        assert_eq!(BTreeSet::from_iter(rest(&mut *next).await), ids(&messages), "after {upto}");
    }
    client.close().await;
    until_ready(&vhost, 20).await;
}

#[tokio::test]
async fn sessions_of_one_client_and_of_several_take_turns() {
    let vhost = vhost().await;
    let (one, messages) = with_dead(&vhost, &vhost.amqp_url(), 3).await;
    let two = Client::up(&vhost.amqp_url()).await;
    let mut first = one.browse(VIP_DEAD).await.unwrap();
    first.next().await.unwrap().unwrap();

    let (here, there) = tokio::join!(one.browse(VIP_DEAD), two.browse(VIP_DEAD));
    for refused in [here.map(drop), there.map(drop)] {
        assert_eq!(refused, Err(BrowseError::Busy(VIP_DEAD.into())));
    }
    assert_eq!(two.count_ready(VIP_DEAD).await, Ok(2), "what is being browsed is not counted");
    let wait_for_turn = async {
        let mut second = two.browse(VIP_DEAD).await.unwrap();
        assert_eq!(rest(&mut *second).await.len(), messages.len());
    };
    let finish = async { first.close().await.unwrap() };
    tokio::join!(wait_for_turn, finish);
    one.close().await;
    two.close().await;
}

#[tokio::test]
async fn a_queue_that_is_not_there_is_named_and_nothing_else_fails() {
    let vhost = vhost().await;
    let (client, _) = with_dead(&vhost, &vhost.amqp_url(), 1).await;
    let missing = || BrowseError::Missing("nowhere".into());
    assert_eq!(client.count_ready("nowhere").await, Err(missing()));
    let mut session = client.browse("nowhere").await.unwrap();
    assert_eq!(session.next().await, Err(missing()));
    drop(session);
    assert_eq!(client.count_ready(VIP_DEAD).await, Ok(1));
    assert_eq!(client.status().consuming, LinkStatus::Up);
    client.close().await;
}

#[tokio::test]
async fn a_cut_in_mid_session_is_a_sentence_and_loses_nothing() {
    let vhost = vhost().await;
    let proxy = Proxy::start(vhost.address()).await;
    let (client, messages) = with_dead(&vhost, &vhost.amqp_url_at(proxy.port()), 5).await;
    let mut session = client.browse(VIP_DEAD).await.unwrap();
    session.next().await.unwrap().unwrap();
    proxy.set(Mode::Refuse);
    until_true("the cut is noticed", PATIENCE, async || client.status().consuming != LinkStatus::Up).await;
    assert!(matches!(session.next().await, Err(BrowseError::Unavailable(_))));
    assert!(matches!(session.remove().await, Err(BrowseError::Unavailable(_))), "it is not removed");
    proxy.set(Mode::Forward);
    let Err(BrowseError::Unavailable(why)) = session.close().await else {
        panic!("it cannot be closed any more")
    };
    assert!(!why.is_empty());

    // The broker may not have noticed yet; then the lock is in the way, and nothing is shown in part.
    let mut again = until("a new session", PATIENCE, async || client.browse(VIP_DEAD).await.ok()).await;
    assert_eq!(BTreeSet::from_iter(rest(&mut *again).await), ids(&messages));
    drop(again);
    client.close().await;
    until_ready(&vhost, 5).await;
}

#[tokio::test]
async fn a_client_without_a_broker_says_so_within_the_operation_time_out() {
    let away = Settings {
        amqp_operation_timeout: Duration::from_millis(300),
        ..settings(&format!("amqp://127.0.0.1:{}", e2e::broker::free_port()))
    };
    let client = Client::new(&away, topology());
    for failed in [client.browse(VIP_DEAD).await.map(drop), client.count_ready(VIP_DEAD).await.map(drop)] {
        let Err(BrowseError::Unavailable(why)) = failed else { panic!("{failed:?}") };
        assert!(why.contains("no broker within 300ms") && why.contains("127.0.0.1"), "{why}");
    }
    client.close().await;
    let Err(BrowseError::Unavailable(why)) = client.count_ready(VIP_DEAD).await else {
        panic!("it is closed")
    };
    assert!(why.contains("closed"), "{why}");
}
