//! The vipservice behind its router, with a view that was filled by hand.

use axum::{body::Body, http::Request};
use http_body_util::BodyExt as _;
use messaging::Message;
use serde_json::{Value, json};
use service::http::{Guarded, Health};
use streams::Replay;

use super::*;

/// The service behind its router, with a view that was filled by hand.
struct TestApp {
    view: Arc<View>,
    router: Guarded,
}

impl TestApp {
    fn replaying() -> Self {
        let view = Arc::new(View::new(100, &mut Registry::default()));
        let health = Arc::new(Health::default());
        let router = router(Arc::clone(&view));
        let router = service::http::router(
            router,
            &service::http::Settings::default().into(),
            &health,
            Registry::default(),
        );
        Self { view, router }
    }

    /// Offers `id-0` and up, each read by the account and made by the replica that is named.
    fn with(offers: &[(&str, &str)]) -> Self {
        let app = Self::replaying();
        for (n, (account, replica)) in offers.iter().enumerate() {
            let made = OfferMade {
                id: format!("id-{n}"),
                account_id: (*account).into(),
                text: "A weekend".into(),
                read_at: Timestamp::UNIX_EPOCH,
                made_at: Timestamp::UNIX_EPOCH,
                valid_until: Timestamp::UNIX_EPOCH,
                request_id: format!("r-{n}"),
                made_by: (*replica).into(),
            };
            let body = serde_json::to_vec(&made).unwrap().into();
            app.view.apply(Replay::Entry(n as u64, Message { body, ..Message::default() }));
        }
        app.view.apply(Replay::CaughtUp);
        app
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let request = Request::get(path).header("host", "localhost").body(Body::empty()).unwrap();
        let response = self.router.answer(request).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }
}

#[tokio::test]
async fn until_the_stream_is_replayed_offers_are_answered_503() {
    let app = TestApp::replaying();
    for path in ["/offers", "/offers/id-0", "/offers/by-replica"] {
        let (status, problem) = app.get(path).await;
        assert_eq!(status, 503, "{path}");
        assert!(problem["detail"].as_str().unwrap().contains("replaying"), "{path}: {problem}");
    }
    app.view.apply(Replay::CaughtUp);
    assert_eq!(app.get("/offers").await, (200, json!({"offers": []})));
}

#[tokio::test]
async fn an_offer_is_answered_with_all_that_is_known_of_it() {
    let app = TestApp::with(&[("10000", "vipservice.1")]);
    let offer = json!({
        "offset": 0, "id": "id-0", "accountId": "10000", "text": "A weekend", "requestId": "r-0",
        "readAt": "1970-01-01T00:00:00.000Z", "madeAt": "1970-01-01T00:00:00.000Z",
        "validUntil": "1970-01-01T00:00:00.000Z", "madeBy": "vipservice.1",
    });
    assert_eq!(app.get("/offers/id-0").await, (200, offer.clone()));
    assert_eq!(app.get("/offers").await, (200, json!({ "offers": [offer] })));
    assert_eq!(app.get("/offers/id-1").await.0, 404);
}

#[tokio::test]
async fn a_list_goes_from_page_to_page_and_can_be_of_one_account() {
    let app = TestApp::with(&[("1", "v.1"), ("2", "v.1"), ("1", "v.2"), ("1", "v.2")]);
    let offsets = |page: &Value| {
        let offers = page["offers"].as_array().unwrap();
        offers.iter().map(|offer| offer["offset"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let (_, first) = app.get("/offers?limit=3").await;
    assert_eq!((offsets(&first), &first["next"]), (vec![0, 1, 2], &2.into()));
    let (_, last) = app.get("/offers?limit=3&after=2").await;
    assert_eq!((offsets(&last), last.get("next")), (vec![3], None));
    let (_, of_one) = app.get("/offers?accountId=1&limit=2").await;
    assert_eq!((offsets(&of_one), &of_one["next"]), (vec![0, 2], &2.into()));
}

#[tokio::test]
async fn round_robin_can_be_seen_in_one_line() {
    let app = TestApp::with(&[("1", "v.1"), ("1", "v.2"), ("1", "v.1")]);
    assert_eq!(app.get("/offers/by-replica").await, (200, json!({"v.1": 2, "v.2": 1})));
}

#[tokio::test]
async fn a_list_that_asks_for_nonsense_is_told_so() {
    let app = TestApp::with(&[]);
    for query in ["limit=0", "limit=1001", "limit=x", "after=-1", "after=x"] {
        let (status, problem) = app.get(&format!("/offers?{query}")).await;
        assert_eq!((status, &problem["title"]), (400, &"Bad Request".into()), "{query}");
    }
}
