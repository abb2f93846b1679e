use super::*;

fn change(base: u64) -> Change {
    Change {
        stream: "3f2a9c01".into(),
        change_id: "id".into(),
        account_id: AccountId::parse("7").unwrap(),
        base,
        account: Some(Profile { name: "Ada".into(), vip: true }),
        request: "digest".into(),
        by: "accountservice.1".into(),
        at: "2026-11-30T10:00:00.5Z".parse().unwrap(),
    }
}

#[test]
fn the_first_change_with_a_base_counts_and_the_next_one_is_a_lost_update() {
    for (current, base, verdict) in [
        (0, 0, Verdict::Applied(1)),
        (1, 0, Verdict::Rejected(1)),
        (7, 7, Verdict::Applied(8)),
        (8, 7, Verdict::Rejected(8)),
        // Entries between them were dropped by the broker before this reader came.
        (0, 7, Verdict::Applied(8)),
        (3, 7, Verdict::Applied(8)),
    ] {
        assert_eq!(change(base).verdict(current), verdict, "{base} on {current}");
    }
}

#[test]
fn a_renewal_counts_unless_something_newer_is_known() {
    let (id, stream) = (AccountId::parse("7").unwrap(), String::new());
    let renewal = Renewal { stream, account_id: id, version: 5, account: None };
    assert_eq!([4, 5, 6].map(|current| renewal.counts(current)), [true, true, false]);
}

#[test]
fn an_entry_is_exactly_what_was_promised() {
    let body = concat!(
        r#"{"stream":"3f2a9c01","changeId":"id","accountId":"7","base":7,"account":{"name":"Ada","vip":true},"#,
        r#""request":"digest","by":"accountservice.1","at":"2026-11-30T10:00:00.500Z"}"#
    );
    assert_eq!(serde_json::to_string(&change(7)).unwrap(), body);
    let message = |kind: &str, body: &str| Message {
        kind: Some(kind.into()),
        body: body.to_owned().into(),
        ..Message::default()
    };
    assert_eq!(Entry::read(&message(CHANGE, body)), Ok(Entry::Change(change(7))));
    for (kind, body, says) in [
        ("offer.v1", body, "its type is \"offer.v1\""),
        ("account.change.v2", body, "its type is"),
        (CHANGE, "{}", "missing field"),
        (CHANGE, "no JSON", "expected"),
        (CHANGE, &body.replace(r#""accountId":"7""#, r#""accountId":"x""#), "1 to 20 digits"),
        (CHANGE, &body.replace(r#""base":7"#, r#""base":-1"#), "invalid value"),
        (CHANGE, &body.replace(r#""base":7"#, r#""base":18446744073709551615"#), "is not a version"),
        (RENEWAL, r#"{"stream":"s","accountId":"7","version":0,"account":null}"#, "0 is not a version"),
    ] {
        let why = Entry::read(&message(kind, body)).unwrap_err();
        assert!(why.contains(says), "{kind} {body}: {why}");
    }
}
