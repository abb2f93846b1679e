//! From a config server's answer, the environment and the flags to a service's settings.

use serde_json::{Value as Json, json};

use super::*;
use crate::{
    sources::answered,
    tests::{Guest, Probe, pair},
};

/// Sources as a server names and orders them: the strongest first.
fn layers_of(sources: &[(&str, Json)]) -> Vec<Layer> {
    let sources = sources.iter().map(|(name, source)| json!({ "name": name, "source": source }));
    let body = json!({ "propertySources": sources.collect::<Vec<_>>() }).to_string();
    answered(config_client::read(body.as_bytes(), "probe").unwrap(), "probe").unwrap()
}

fn composed(sources: &[(&str, Json)], variables: &[(&str, &str)]) -> Result<Probe, String> {
    let variables: Vec<_> = variables.iter().map(|(name, value)| pair(name, value)).collect();
    compose(layers_of(sources), &variables, &[]).map(|(probe, _)| probe).map_err(|e| e.to_string())
}

#[test]
fn all_sources_of_an_answer_count_the_first_the_most() {
    let sources = [
        ("overrides", json!({ "size": "4" })),
        ("file:/r/probe-dev.yml", json!({ "size": 3, "greeting": "of the profile" })),
        ("file:/r/application-dev.yml", json!({ "greeting": "shared", "server_port": "6767" })),
        ("file:/r/probe.yml", json!({ "guests[0].name": "a", "server_port": 1, "log_level": "debug" })),
        ("file:/r/application.yml", json!({ "server_port": 2, "request_timeout": "7s" })),
    ];
    let probe = composed(&sources, &[]).unwrap();
    assert_eq!(
        (probe.own.size, probe.own.greeting(), probe.shared.server_port),
        (4, "of the profile", Some(6767))
    );
    assert_eq!(probe.own.guests, [Guest { name: "a".into(), vip: false }]);
    assert_eq!(probe.shared.request_timeout.at(Moment::NOW).as_secs(), 7);

    let variables = [("APP_SIZE", "5"), ("APP_GREETING", ""), ("SIZE", "6")];
    let (given, layers) = ([pair("greeting", "by flag")], layers_of(&sources));
    let variables: Vec<_> = variables.iter().map(|(name, value)| pair(name, value)).collect();
    let (probe, values) = compose::<Probe>(layers, &variables, &given).unwrap();
    assert_eq!((probe.own.size, probe.own.greeting()), (5, "by flag"));
    let origin = |key: &str| values.get(key).and_then(Value::origin);
    assert_eq!(origin("size"), Some("APP_SIZE"));
    assert_eq!(origin("greeting"), Some("--greeting"));
    assert_eq!(origin("guests"), Some("file:/r/probe.yml"));
    assert_eq!(origin("amqp_heartbeat"), None);
}

#[test]
fn a_list_of_a_stronger_source_replaces_the_weaker_one_and_an_empty_one_empties_it() {
    let weak = json!({ "guests[0].name": "a", "guests[0].vip": true, "guests[1].name": "b" });
    for (strong, expected) in [
        (json!({ "guests[0].name": "c" }), &["c"][..]),
        (json!({ "guests": "" }), &[]),
        (json!({}), &["a", "b"]),
    ] {
        let probe =
            composed(&[("file:probe-dev.yml", strong), ("file:probe.yml", weak.clone())], &[]).unwrap();
        assert_eq!(probe.own.guests.iter().map(|guest| guest.name.as_str()).collect::<Vec<_>>(), expected);
        assert!(
            expected.len() == 2 || probe.own.guests.iter().all(|guest| !guest.vip),
            "nothing is left of the weaker"
        );
    }
}

#[test]
fn a_key_that_nobody_knows_is_an_error_in_the_services_own_source_and_passed_over_in_a_shared_one() {
    let stranger =
        json!({ "broker_url": "amqp://h", "eureka.client.enabled": true, "spring.application.name": "x" });
    for name in ["overrides", "file:/r/application.yml", "file:/r/application-dev.yml", "vault:probe"] {
        assert!(composed(&[(name, stranger.clone())], &[]).is_ok(), "{name}");
    }
    let why = composed(&[("file:/r/probe.yml", stranger)], &[]).unwrap_err();
    assert!(
        why.starts_with("file:/r/probe.yml: unknown key `broker_url`: did you mean `amqp_server_url`?"),
        "{why}"
    );
    // What a file of several documents has in each.
    let of_spring = json!({ "spring.config.activate.on-profile": "dev", "size": 1 });
    let name = "Config resource 'file [/r/probe.yml]' via location 'file:/r/' (document #1)";
    assert_eq!(composed(&[(name, of_spring)], &[]).unwrap().own.size, 1);
}

#[test]
fn a_value_that_the_server_cannot_decrypt_is_an_error_unless_a_stronger_layer_has_the_key() {
    let invalid = || json!({ "invalid.amqp_password": "<n/a>" });
    let good = || json!({ "amqp_password": "from a weaker or a stronger one" });
    let (own, base) = ("file:/r/probe-dev.yml", "file:/r/application.yml");
    for (sources, variables, is_good) in [
        (vec![(own, invalid())], &[][..], false),
        (vec![(base, invalid())], &[], false),
        // What shows through is a secret of elsewhere.
        (vec![(own, invalid()), (base, good())], &[], false),
        (vec![(own, good()), (base, invalid())], &[], true),
        (vec![(own, invalid())], &[("APP_AMQP_PASSWORD", "s")], true),
        (vec![(base, json!({ "invalid.the_password": "<n/a>" }))], &[], true),
        (vec![(own, json!({ "guests[0].name": "a", "invalid.guests[1].name": "<n/a>" }))], &[], false),
    ] {
        let why = composed(&sources, variables).err();
        assert_eq!(why.is_none(), is_good, "{sources:?}: {why:?}");
        if let Some(why) = why {
            assert!(
                why.contains("file:/r/") && why.contains("cannot decrypt") && why.contains("set APP_"),
                "{why}"
            );
        }
    }
}

#[test]
fn placeholders_stand_for_any_merged_key_and_for_the_environment() {
    let sources = [
        (
            "file:probe.yml",
            json!({ "greeting": "${team.name} on ${server_port}, ${HOME}${NOWHERE:}", "size": "${n}" }),
        ),
        (
            "file:application.yml",
            json!({ "team.name": "hops", "server_port": 1, "n": 42, "server_name": "${GREETER_NAME}" }),
        ),
    ];
    let variables =
        [("APP_SERVER_PORT", "${n}7"), ("HOME", "/home/h"), ("GREETER_NAME", "g"), ("HOME_2", "x")];
    let why = composed(&sources, &variables).unwrap_err();
    assert!(
        why.contains("server_port") && why.contains("APP_SERVER_PORT"),
        "only files have placeholders: {why}"
    );
    let probe = composed(&sources, &[("APP_SERVER_PORT", "7"), variables[1], variables[2]]).unwrap();
    assert_eq!((probe.own.greeting(), probe.own.size), ("hops on 7, /home/h", 42));
    assert_eq!(probe.shared.server_name, "g");

    let why = composed(&[("file:probe.yml", json!({ "greeting": "${nothing}" }))], &[]).unwrap_err();
    assert!(why.starts_with("file:probe.yml: greeting: the placeholder ${nothing}"), "{why}");
    let overridden = json!({ "size": "${nothing}" });
    assert_eq!(composed(&[("file:probe.yml", overridden)], &[("APP_SIZE", "5")]).unwrap().own.size, 5);
    let of_others = json!({ "of_another": "${nothing}", "l[1]": "a hole" });
    assert!(composed(&[("file:application.yml", of_others)], &[]).is_ok());
}

#[test]
fn a_bad_value_is_named_with_its_source_and_never_shown_where_it_may_be_a_secret() {
    for (key, value, shown) in [
        ("size", json!("hunter2"), true),
        ("amqp_server_url", json!("http://u:hunter2@h:99999"), false),
        ("amqp_heartbeat", json!("hunter2s"), true),
        ("request_timeout", json!("0s"), false),
        ("guests[1].name", json!("hunter2"), false),
    ] {
        let why = composed(&[("file:probe.yml", json!({ key: value }))], &[]).unwrap_err();
        assert!(why.contains(root(key)) && why.contains("file:probe.yml"), "{key}: {why}");
        assert_eq!(why.contains("hunter2"), shown, "{key}: {why}");
    }
}
