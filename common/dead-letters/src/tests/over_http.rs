//! Dead letters over HTTP, behind the service's router, and the numbers of messages for `/metrics`.

use axum::{body::Body, http::Request};
use http_body_util::BodyExt as _;
use prometheus_client::{encoding::text::encode, registry::Registry};
use queue_browser::BrowseError;
use serde_json::Value;
use service::http::Health;
use tokio::time::sleep;

use super::*;

async fn get(letters: DeadLetters, path: &str) -> (u16, Value) {
    let health = Arc::new(Health::default());
    let router = service::http::router(
        http::router(letters),
        &service::http::Settings::default().into(),
        &health,
        Registry::default(),
    );
    let response =
        router.answer(Request::get(path).header("host", "localhost").body(Body::empty()).unwrap()).await;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn over_http_they_are_listed_as_in_a_shell() {
    let broker = Broker::with(["1", "2"].map(|id| dead_message(id, "no")));
    let expected = json!(broker.list(&Filter::All, 1).await);
    assert_eq!(get(broker.letters(|_| Ok(())), "/dead-letters?limit=1").await, (200, expected));
    for limit in ["0", "1001", "-1", "x"] {
        assert_eq!(
            get(broker.letters(|_| Ok(())), &format!("/dead-letters?limit={limit}")).await.0,
            400,
            "{limit}"
        );
    }
}

#[tokio::test]
async fn over_http_large_letters_end_the_answer_early_and_the_others_are_counted() {
    let large = |id: &str| Message { body: vec![b'x'; 1024 * 1024].into(), ..dead_message(id, "no") };
    let broker = Broker::with(["1", "2", "3", "4", "5", "6"].map(large));
    let (status, page) = get(broker.letters(|_| Ok(())), "/dead-letters").await;
    assert_eq!((status, page["deadLetters"].as_array().unwrap().len(), &page["more"]), (200, 4, &2.into()));
    assert_eq!(broker.ids().len(), 6, "none is lost");
    let reason = "x".repeat(100_000);
    let broker = Broker::with((0..100).map(|n| dead_message(&n.to_string(), &reason)));
    let (_, page) = get(broker.letters(|_| Ok(())), "/dead-letters").await;
    let listed = page["deadLetters"].as_array().unwrap().len() as u64;
    assert!(page.to_string().len() < 5 * 1024 * 1024 && listed > 0, "{listed} letters");
    assert_eq!(page["more"], 100 - listed);
}

#[tokio::test]
async fn while_the_broker_is_away_or_they_cannot_be_browsed_the_answer_is_503() {
    let mut away = MockMessagingClient::new();
    let connecting = LinkStatus::Connecting(Some("amqp://inside:5672: refused".into()));
    let status = BrokerStatus { publishing: connecting.clone(), consuming: connecting };
    away.expect_status().returning(move || status.clone());
    let mut browser = MockQueueBrowser::new();
    browser.expect_browse().never();
    let (status, problem) = get(dead_letters(Arc::new(away), browser), "/dead-letters").await;
    assert_eq!((status, &problem["detail"]), (503, &"the broker is not connected: see /readyz".into()));

    let mut busy = MockMessagingClient::new();
    let up = BrokerStatus { publishing: LinkStatus::Up, consuming: LinkStatus::Up };
    busy.expect_status().returning(move || up.clone());
    let mut browser = MockQueueBrowser::new();
    browser.expect_browse().returning(|queue| Err(BrowseError::Busy(queue.into())));
    let (status, problem) = get(dead_letters(Arc::new(busy), browser), "/dead-letters").await;
    assert_eq!(status, 503, "{problem}");
}

#[tokio::test(start_paused = true)]
async fn every_queue_is_counted_and_keeps_its_number_while_the_broker_is_away() {
    const QUEUES: [&str; 4] = ["work", "work.dead", "work.retry.1000", "work.retry.5000"];
    let mut browser = MockQueueBrowser::new();
    browser
        .expect_count_ready()
        .times(QUEUES.len())
        .returning(|queue| Ok(u32::try_from(queue.len()).unwrap()));
    let away = BrowseError::Unavailable("the broker is away".into());
    browser.expect_count_ready().times(2 * QUEUES.len()).returning(move |_| Err(away.clone()));

    let mut registry = Registry::default();
    let policy = RetryPolicy::new(QUEUE, &[1, 5].map(Duration::from_secs));
    let counting = http::count(Arc::new(browser), &policy, &mut registry);
    let numbers = || {
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let number = |queue| {
            let sample = format!("queue_messages{{queue=\"{queue}\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&sample)).unwrap().parse::<i64>().unwrap()
        };
        QUEUES.map(number)
    };
    assert_eq!(numbers(), [-1; 4]);
    for round in 0..3 {
        sleep(Duration::from_secs(if round == 0 { 1 } else { 5 })).await;
        assert_eq!(numbers(), QUEUES.map(|queue| queue.len() as i64), "round {round}");
    }
    counting.cancel();
    counting.finished().await;
}
