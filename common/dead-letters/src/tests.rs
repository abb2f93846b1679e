//! Dead letters in a queue that is a list: what an action does to it, and what it publishes.

mod over_http;

use std::sync::Mutex;

use jiff::Timestamp;
use messaging::{BrokerStatus, LinkStatus, MockMessagingClient, retry::Failure};
use queue_browser::{MockBrowseSession, MockQueueBrowser};
use serde_json::json;

use super::*;

const QUEUE: &str = "work";
const DEAD: &str = "work.dead";

/// What lies in the dead-letter queue, and what was published, with its queue.
#[derive(Default)]
struct Broker {
    dead: Arc<Mutex<Vec<Message>>>,
    published: Arc<Mutex<Vec<(String, Message)>>>,
}

impl Broker {
    fn with(dead: impl IntoIterator<Item = Message>) -> Self {
        Self { dead: Arc::new(Mutex::new(dead.into_iter().collect())), ..Self::default() }
    }

    fn ids(&self) -> Vec<String> {
        self.dead.lock().unwrap().iter().map(|message| message.id.clone().unwrap_or_default()).collect()
    }

    fn published(&self) -> Vec<(String, Message)> {
        self.published.lock().unwrap().clone()
    }

    /// A client of it, whose publishes end as `answer` says.
    fn client(
        &self,
        answer: impl Fn(&Message) -> Result<(), PublishError> + Send + 'static,
    ) -> MockMessagingClient {
        let mut client = MockMessagingClient::new();
        let published = Arc::clone(&self.published);
        client.expect_publish_on_queue().returning(move |queue, message| {
            answer(&message)?;
            published.lock().unwrap().push((queue.to_owned(), message));
            Ok(())
        });
        let up = BrokerStatus { publishing: LinkStatus::Up, consuming: LinkStatus::Up };
        client.expect_status().returning(move || up.clone());
        client
    }

    fn browser(&self) -> MockQueueBrowser {
        let (mut browser, dead) = (MockQueueBrowser::new(), Arc::clone(&self.dead));
        let is_dead = |queue: &str| queue == DEAD;
        browser.expect_browse().withf(is_dead).returning(move |_| Ok(Box::new(session(&dead))));
        browser
    }

    /// Its dead letters, of which `offered` has an offer.
    fn letters(&self, answer: impl Fn(&Message) -> Result<(), PublishError> + Send + 'static) -> DeadLetters {
        let client = Arc::new(self.client(answer));
        dead_letters(client, self.browser())
    }

    async fn list(&self, filter: &Filter, limit: usize) -> Page {
        self.letters(|_| Ok(())).list(filter, limit).await.unwrap()
    }
}

fn dead_letters(client: Arc<MockMessagingClient>, browser: MockQueueBrowser) -> DeadLetters {
    let policy = RetryPolicy::new(QUEUE, &[]);
    DeadLetters::new(client, Arc::new(browser), policy, Arc::new(Offers), Duration::from_secs(5))
}

/// The effect is an offer, and `offered` has one.
struct Offers;

impl Effect for Offers {
    fn name(&self) -> &'static str {
        "offer"
    }

    fn exists(&self, message_id: &str) -> Option<bool> {
        Some(message_id == "offered")
    }
}

/// A session over what is there now.
fn session(dead: &Arc<Mutex<Vec<Message>>>) -> MockBrowseSession {
    // Where it is, and how many are still to come.
    let place = Arc::new(Mutex::new((0, dead.lock().unwrap().len())));
    let mut session = MockBrowseSession::new();
    let (queue, at) = (Arc::clone(dead), Arc::clone(&place));
    session.expect_next().returning(move || {
        let mut at = at.lock().unwrap();
        if at.1 == 0 {
            return Ok(None);
        }
        *at = (at.0 + 1, at.1 - 1);
        Ok(queue.lock().unwrap().get(at.0 - 1).cloned())
    });
    let (queue, at) = (Arc::clone(dead), Arc::clone(&place));
    session.expect_remove().returning(move || {
        let mut at = at.lock().unwrap();
        at.0 -= 1;
        queue.lock().unwrap().remove(at.0);
        Ok(())
    });
    session.expect_remaining().returning(move || u32::try_from(place.lock().unwrap().1).unwrap());
    session.expect_close().returning(|| Ok(()));
    session
}

fn dead_message(id: &str, why: &str) -> Message {
    let message = Message { id: Some(id.into()), body: "{}".into(), ..Message::default() };
    let failure = |second| Failure { at: at(second), by: "vipservice.2".into(), why: why.into() };
    let (_, once) = RetryPolicy::new(QUEUE, &[Duration::from_secs(1)]).retry(&message, failure(1));
    RetryPolicy::new(QUEUE, &[]).dead_letter(&once, failure(2)).1
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn shown(page: &Page) -> Vec<&str> {
    page.dead_letters.iter().map(|letter| letter.id.as_str()).collect()
}

#[tokio::test]
async fn a_letter_says_what_its_headers_say_of_its_failures() {
    let message = Message { correlation_id: Some("7f3a".into()), ..dead_message("offered", "no JSON") };
    let page = Broker::with([message]).list(&Filter::All, 10).await;
    let letter = json!({
        "id": "offered", "reason": "no JSON", "attempts": 2, "by": "vipservice.2", "type": null, "offer": true,
        "requestId": "7f3a", "firstFailed": "1970-01-01T00:00:01.000Z", "lastFailed": "1970-01-01T00:00:02.000Z",
    });
    assert_eq!(json!(page), json!({ "deadLetters": [letter], "more": 0 }));
}

#[tokio::test]
async fn what_the_broker_or_a_person_moved_there_has_a_reason_in_words() {
    let by_the_broker = |header: &str, why: &str| {
        let headers = [(header.to_owned(), why.to_owned())].into();
        Message { id: Some("7".into()), headers, ..Message::default() }
    };
    for (message, says) in [
        (by_the_broker("x-first-death-reason", "delivery_limit"), "delivered too often"),
        (by_the_broker("x-last-death-reason", "rejected"), "the broker moved it here: rejected"),
        (by_the_broker("of-the-producer", "anything"), "no reason was given"),
    ] {
        let page = Broker::with([message]).list(&Filter::All, 10).await;
        let letter = &page.dead_letters[0];
        assert!(letter.reason.contains(says), "{}", letter.reason);
        assert_eq!((letter.attempts, &letter.last_failed, letter.effect.exists), (0, &None, Some(false)));
    }
}

#[tokio::test]
async fn a_list_shows_what_matches_says_how_many_more_there_are_and_leaves_all_where_it_was() {
    let letters =
        ["1", "2", "3", "4"].map(|id| dead_message(id, if id == "3" { "no JSON" } else { "too long" }));
    let broker = Broker::with(letters);
    let page = broker.list(&Filter::All, 3).await;
    assert_eq!((shown(&page), page.more), (vec!["1", "2", "3"], 1));
    let page = broker.list(&Filter::Reason("JSON".into()), 10).await;
    assert_eq!((shown(&page), page.more), (vec!["3"], 0));
    assert_eq!(broker.ids(), ["1", "2", "3", "4"]);
    assert_eq!(broker.published(), []);
}

#[tokio::test]
async fn a_list_is_in_the_order_of_the_last_failures_whatever_the_queues_is() {
    let failed_at = |second: i64| {
        let message = Message { id: Some(second.to_string()), ..Message::default() };
        let failure = Failure { at: at(second), by: "v.1".into(), why: "no".into() };
        RetryPolicy::new(QUEUE, &[]).dead_letter(&message, failure).1
    };
    let broker = Broker::with([3, 1, 2].map(failed_at));
    assert_eq!(shown(&broker.list(&Filter::All, 10).await), ["1", "2", "3"]);
}

#[tokio::test]
async fn a_redrive_publishes_a_copy_without_its_history_and_removes_all_of_that_id() {
    let broker = Broker::with([dead_message("1", "no"), dead_message("2", "no"), dead_message("1", "no")]);
    let mut reported = vec![];
    let report = |letter: &DeadLetter, _: &Message| reported.push(letter.id.clone());
    let filter = Filter::Id("1".into());
    let left = broker.letters(|_| Ok(())).walk(&filter, Action::Redrive, usize::MAX, report).await;
    assert_eq!((left, reported), (Ok(0), vec!["1".into(), "1".into()]));
    assert_eq!(broker.ids(), ["2"]);
    let copy = Message { id: Some("1".into()), body: "{}".into(), ..Message::default() };
    assert_eq!(broker.published(), [("work".into(), copy.clone()), ("work".into(), copy)]);
}

#[tokio::test]
async fn what_comes_back_dead_while_all_are_redriven_waits_for_the_next_time() {
    let broker = Broker::with([dead_message("1", "no"), dead_message("2", "no")]);
    let dead = Arc::clone(&broker.dead);
    let comes_back = move |copy: &Message| {
        let id = copy.id.as_deref().unwrap_or_default();
        dead.lock().unwrap().push(dead_message(&format!("{id} again"), "no"));
        Ok(())
    };
    broker.letters(comes_back).walk(&Filter::All, Action::Redrive, usize::MAX, |_, _| ()).await.unwrap();
    assert_eq!(broker.ids(), ["1 again", "2 again"]);
}

#[tokio::test]
async fn a_redrive_that_is_refused_ends_and_what_was_not_moved_is_where_it_was() {
    let broker = Broker::with(["1", "2", "3"].map(|id| dead_message(id, "no")));
    let full =
        |copy: &Message| if copy.id.as_deref() == Some("1") { Ok(()) } else { Err(PublishError::Nacked) };
    let why =
        broker.letters(full).walk(&Filter::All, Action::Redrive, usize::MAX, |_, _| ()).await.unwrap_err();
    assert!(why.starts_with("2: ") && why.contains("its queue may be full"), "{why}");
    assert_eq!(broker.ids(), ["2", "3"]);
}

#[tokio::test]
async fn a_letter_that_can_never_be_published_holds_up_no_other() {
    let broker = Broker::with(["1", "2", "3"].map(|id| dead_message(id, "no")));
    let unfit = |copy: &Message| match copy.id.as_deref() {
        Some("2") => Err(PublishError::Invalid("the body has too many bytes".into())),
        _ => Ok(()),
    };
    let why =
        broker.letters(unfit).walk(&Filter::All, Action::Redrive, usize::MAX, |_, _| ()).await.unwrap_err();
    assert_eq!(why, "2: it cannot be published: the body has too many bytes");
    assert_eq!(broker.ids(), ["2"]);
}

#[tokio::test]
async fn a_discard_removes_what_it_means_and_publishes_nothing() {
    let broker = Broker::with(["1", "2"].map(|id| dead_message(id, "no")));
    let letters = broker.letters(|_| Ok(()));
    letters.walk(&Filter::Id("2".into()), Action::Discard, usize::MAX, |_, _| ()).await.unwrap();
    assert_eq!(broker.ids(), ["1"]);
    assert_eq!(broker.published(), []);
}

#[tokio::test]
async fn a_letter_that_was_delivered_very_often_is_replaced_by_a_copy_with_its_history() {
    let old = |id: &str, deliveries: &str| {
        let mut message = dead_message(id, "no JSON");
        message.headers.insert("x-delivery-count".into(), deliveries.into());
        message
    };
    let broker = Broker::with([old("1", "100000"), old("2", "100001"), old("3", "999999")]);
    let page = broker.list(&Filter::Id("3".into()), 10).await;
    assert_eq!(shown(&page), ["3"]);
    assert_eq!(broker.ids(), ["1"], "the others are in the copies");
    let copies =
        [dead_message("2", "no JSON"), dead_message("3", "no JSON")].map(|copy| (DEAD.to_owned(), copy));
    assert_eq!(broker.published(), copies);

    let refused = Broker::with([old("2", "100001")]);
    refused.letters(|_| Err(PublishError::Nacked)).list(&Filter::All, 10).await.unwrap();
    assert_eq!(refused.ids(), ["2"]);
}
