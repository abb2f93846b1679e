//! Events and addresses, against what Spring's own classes wrote and matched (`recorded.json`).

use messaging::{BrokerStatus, LinkStatus, MockMessagingClient};
use serde_json::json;

use super::*;
use crate::address::is_match;

fn recorded(table: &str) -> Vec<Value> {
    let recorded: Value = serde_json::from_str(include_str!("recorded.json")).unwrap();
    let rows = recorded[table].as_array().unwrap().clone();
    assert!(rows.len() >= 10);
    rows
}

fn ours() -> BusId {
    BusId::given("accountservice:test:accountservice.1:0190")
}

#[test]
fn patterns_match_the_ids_that_springs_matcher_matches() {
    for row in recorded("matching") {
        let text = |name: &str| row[name].as_str().unwrap();
        assert_eq!(is_match(text("destination"), text("busId")), row["matches"], "{row}");
    }
}

/// All lists of up to `longest` of these parts, joined.
fn all_of(parts: &[&str], longest: usize, between: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut last = all.clone();
    for _ in 0..longest {
        let longer = last.iter().flat_map(|text| parts.iter().map(move |part| (text, part)));
        let separator = |text: &str| if text.is_empty() { "" } else { between };
        last = longer.map(|(text, part)| format!("{text}{}{part}", separator(text))).collect();
        all.extend(last.clone());
    }
    all
}

#[test]
fn patterns_match_what_their_definition_says() {
    // The definition, which takes too long for a long pattern.
    fn in_a_segment(pattern: &str, text: &str) -> bool {
        match (pattern.chars().next(), text.chars().next()) {
            (None, None) => true,
            (Some('*'), None) => in_a_segment(&pattern[1..], text),
            (Some('*'), Some(_)) => in_a_segment(&pattern[1..], text) || in_a_segment(pattern, &text[1..]),
            (Some(c), Some(other)) if c == '?' || c == other => in_a_segment(&pattern[1..], &text[1..]),
            _ => false,
        }
    }
    fn over_segments(pattern: &[&str], id: &[&str]) -> bool {
        match (pattern, id) {
            ([], []) => true,
            (["**", rest @ ..], []) => over_segments(rest, id),
            (["**", rest @ ..], [_, others @ ..]) => {
                over_segments(rest, id) || over_segments(pattern, others)
            }
            ([first, rest @ ..], [name, others @ ..]) => {
                in_a_segment(first, name) && over_segments(rest, others)
            }
            _ => false,
        }
    }
    let split =
        |text: &str| text.split(':').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    for (patterns, ids) in [
        (all_of(&["a", "b", "?", "*"], 4, ""), all_of(&["a", "b"], 4, "")),
        (all_of(&["a", "b", "*", "**"], 4, ":"), all_of(&["a", "b"], 4, ":")),
    ] {
        for (pattern, id) in patterns.iter().flat_map(|pattern| ids.iter().map(move |id| (pattern, id))) {
            let (parts, names) = (split(pattern), split(id));
            let parts: Vec<_> = parts.iter().map(String::as_str).collect();
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            assert_eq!(is_match(pattern, id), over_segments(&parts, &names), "{pattern} {id}");
        }
    }
}

#[test]
fn destinations_are_completed_as_spring_completes_them() {
    for row in recorded("completion") {
        assert_eq!(completed(row["given"].as_str()), row["destinationService"].as_str().unwrap(), "{row}");
    }
    assert_eq!(completed(Some(" ")), "**", "a blank destination is none");
}

#[test]
fn whoever_is_meant_by_senders_of_any_age_is_addressed() {
    for (destination, expected) in [
        (None, true),
        (Some(""), true),
        // Broadcasts: of the bus endpoint, of the monitor, of 1.1.1 to 1.2.1.
        (Some("**"), true),
        (Some("*:**"), true),
        (Some("*"), true),
        (Some("accountservice"), true),
        (Some("accountservice:test"), true),
        (Some("accountservice:*"), true),
        (Some("*:test"), true),
        (Some("accountservice:test:accountservice.1:**"), true),
        (Some("accountservice:dev"), false),
        (Some("vipservice:**"), false),
        // An address that only contains our name is not ours, and neither is a part of our name.
        (Some("xaccountservice2:**"), false),
        (Some("accountservice-legacy:**"), false),
        (Some("account:**"), false),
        (Some("AccountService:**"), false),
    ] {
        assert_eq!(ours().is_addressed_by(destination), expected, "{destination:?}");
    }
}

#[test]
fn a_pattern_made_to_be_slow_is_answered_at_once() {
    assert!(!ours().is_addressed_by(Some(&"**:*:".repeat(50_000))));
    assert!(!ours().is_addressed_by(Some(&format!("{}b:**", "*a".repeat(50_000)))));
}

#[test]
fn two_processes_of_one_name_have_two_ids() {
    // The name on the bus is nobody's consumer tag, which has to be free to differ.
    let new = || BusId::new("accountservice", "dev", "accountservice.1");
    assert!(new().to_string().starts_with("accountservice:dev:accountservice.1:"));
    assert_ne!(new(), new());
    assert!(new().is_addressed_by(Some("accountservice:dev")));
}

#[test]
fn events_are_written_as_springs_own() {
    let event = |change| Event {
        id: "53e61c71-cbae-4b6d-84bb-d0dcc0aeb4dc".into(),
        timestamp: 1_494_514_362_123,
        origin: "config-server:docker:8888".into(),
        destination: Some("accountservice:**".into()),
        change,
    };
    let refresh = event(Change::Refresh);
    let message = refresh.message().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&message.body),
        r#"{"type":"RefreshRemoteApplicationEvent","timestamp":1494514362123,"originService":"config-server:docker:8888","destinationService":"accountservice:**","id":"53e61c71-cbae-4b6d-84bb-d0dcc0aeb4dc"}"#
    );
    assert_eq!(message.content_type.as_deref(), Some("application/json"));
    assert_eq!(message.id.as_deref(), Some(refresh.id.as_str()));
    assert_eq!((message.timestamp, message.headers.len()), (Some(1_494_514_362), 0));

    let mut ack = refresh.ack(&ours());
    (ack.id, ack.timestamp) = ("1".into(), 2);
    let written: Value = serde_json::from_slice(&ack.message().unwrap().body).unwrap();
    let expected = json!({
        "type": "AckRemoteApplicationEvent", "timestamp": 2, "originService": ours().to_string(),
        "destinationService": "**", "id": "1", "ackId": refresh.id,
        "ackDestinationService": "accountservice:**",
        "event": "org.springframework.cloud.bus.event.RefreshRemoteApplicationEvent",
    });
    assert_eq!(written, expected);

    let change = event(Change::Environment(BTreeMap::from([("k".into(), "v".into())])));
    let written: Value = serde_json::from_slice(&change.message().unwrap().body).unwrap();
    assert_eq!((&written["values"], written.as_object().unwrap().len()), (&json!({"k": "v"}), 6));

    for event in [refresh, ack, change] {
        assert_eq!(Event::read(&event.message().unwrap().body), Ok(event));
    }
}

#[test]
fn what_others_leave_out_or_add_is_no_obstacle() {
    let read = |event: Value| Event::read(event.to_string().as_bytes());
    let refresh = "RefreshRemoteApplicationEvent";
    let bare = read(json!({"type": refresh})).unwrap();
    assert!(bare.is_for(&ours()) && !bare.id.is_empty());
    // A time stamp that is no number, or one too large, does not keep anybody from reloading.
    for timestamp in [json!("2017-05-11"), json!(1.5e300), json!(null), json!("1494514362123")] {
        let event = json!({"type": refresh, "timestamp": timestamp, "destinationService": "accountservice:**", "new": {}});
        assert!(read(event).unwrap().is_for(&ours()), "{timestamp}");
    }
    let values =
        json!({"type": "EnvironmentChangeRemoteApplicationEvent", "values": {"port": 1, "name": "n"}});
    let expected = BTreeMap::from([("name".into(), "n".into()), ("port".into(), "1".into())]);
    assert_eq!(read(values).unwrap().change, Change::Environment(expected));
}

#[test]
fn what_is_no_event_of_ours_is_told_from_what_is_none_at_all() {
    let read = |body: &str| Event::read(body.as_bytes()).unwrap_err();
    let shutdown = r#"{"type":"ShutdownRemoteApplicationEvent","destinationService":"accountservice:**"}"#;
    assert_eq!(read(shutdown), Unread::Stranger("ShutdownRemoteApplicationEvent".into()));
    let deep = "[".repeat(100_000);
    for body in ["", "{", "[]", "null", "{}", r#"{"type":7}"#, &deep] {
        assert!(matches!(read(body), Unread::Malformed(_)), "{body:.20}");
    }
}

#[test]
fn acknowledgments_and_our_own_events_lead_to_nothing() {
    let others = BusId::given("config-server:test:1:0191");
    let refresh = |origin: &BusId| Event::new(origin, Some("accountservice"), Change::Refresh);
    assert!(refresh(&others).is_for(&ours()));
    assert!(!refresh(&ours()).is_for(&ours()), "sent by us");
    // The type counts: an acknowledgment goes to everybody and is no reason to reload.
    let ack = refresh(&others).ack(&others);
    assert!(ours().is_addressed_by(ack.destination.as_deref()) && !ack.is_for(&ours()));
}

#[tokio::test(start_paused = true)]
async fn an_event_is_sent_until_it_is_confirmed_and_only_for_so_long() {
    let (event, patience) = (Event::new(&ours(), None, Change::Refresh), Duration::from_secs(3));
    let mut client = MockMessagingClient::new();
    client.expect_broadcast().times(1).returning(|_, _, _| Err(PublishError::Unconfirmed("cut".into())));
    let id = event.id.clone();
    client
        .expect_broadcast()
        .times(1)
        .withf(move |exchange, key, message| {
            (exchange, key, message.id.as_deref()) == ("springCloudBus", "springCloudBus", Some(&*id))
        })
        .returning(|_, _, _| Ok(()));
    let client: Arc<dyn MessagingClient> = Arc::new(client);
    assert_eq!(send(&client, &event, patience).await, Ok(()));

    let mut client = MockMessagingClient::new();
    client.expect_broadcast().returning(|_, _, _| Err(PublishError::Nacked));
    client.expect_status().returning(|| BrokerStatus {
        publishing: LinkStatus::Connecting(Some("refused".into())),
        consuming: LinkStatus::Up,
    });
    let client: Arc<dyn MessagingClient> = Arc::new(client);
    let why = send(&client, &event, patience).await.unwrap_err();
    assert!(why.contains("within 3s: connecting: refused"), "{why}");
}
