//! `read`, `walk`, `queues`, `verify` and `tour`: one message, waiting messages, and all messages.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use e2e::wait::{PATIENCE, until};
use lapin::BasicProperties;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::checkout::Checkout;

#[tokio::test]
async fn a_walk_shows_nine_hops_with_their_replicas() {
    let checkout = Checkout::new().await;
    checkout.up().ok();
    let said = checkout.hops(&["walk"]).ok();
    for (hop, task) in
        [("1 request", "accountservice."), ("6 broker", "accountservice."), ("9 offers", "vipservice.1")]
    {
        assert!(said.lines().any(|line| line.contains(hop) && line.contains(task)), "{said}");
    }
    let answer = said.lines().find(|line| line.contains("answer 200")).unwrap();
    assert!(answer.contains("accountservice."), "{said}");
    // The answer as curl shows it.
    let answer = r#": {"id":"10000","name":"Person_0","vip":true,"servedBy":"accountservice."#;
    assert!(said.contains(answer), "{said}");
    let plain = checkout.hops(&["walk", "10001"]).ok();
    assert!(
        plain.contains("3 store") && plain.contains("not a VIP's") && !plain.contains("4 notify"),
        "{plain}"
    );
    let json = checkout.hops(&["walk", "--json"]).json();
    assert_eq!(json.last().unwrap()["hops"], json!([1, 2, 3, 4, 5, 6, 7, 8, 9]));
}

#[tokio::test]
async fn a_walk_of_a_write_shows_how_the_change_reaches_every_replica() {
    let checkout = Checkout::new().await;
    checkout.up().ok();
    let json = checkout.hops(&["walk", "--write", "--json"]).json();
    let (answer, lines) = json.split_last().unwrap();
    let mut applied: Vec<_> =
        answer["applied"].as_array().unwrap().iter().map(|task| task.as_str().unwrap()).collect();
    applied.sort_unstable();
    assert_eq!((&answer["status"], applied), (&json!(201), vec!["accountservice.1", "accountservice.2"]));
    let applied: Vec<_> = lines.iter().filter(|line| line["change.step"] == "applied").collect();
    assert_eq!(applied[0]["change.offset"], applied[1]["change.offset"], "{lines:#?}");
    assert!(applied.iter().all(|line| line["change.version"] == 1 && line["account.id"] == "1"));
    // The event has the change's id.
    let event = lines.iter().find(|line| line["hop"] == 5).unwrap();
    assert_eq!(event["message.id"], applied[0]["change.id"]);
    assert!(event["message"].as_str().unwrap().ends_with(" to accounts/account.created"), "{event}");

    let said = checkout.hops(&["walk", "--write"]).ok();
    let at = |text: &str| said.find(text).unwrap_or_else(|| panic!("{text}: {said}"));
    assert!(said.contains("if-match: \"1\"") && at(" append ") < at(" applied "), "{said}");
    assert!(at(" applied ") < at(" answer 200 "), "{said}");
    assert!(said.contains(": account 1 now has version 2"), "{said}");
    let logs = checkout.hops(&["service", "logs", "accountservice"]).ok();
    assert_eq!(logs.matches("now has version 2").count(), 2, "no other account is written: {logs}");

    let both = checkout.hops(&["walk", "10000", "--write"]);
    assert!(both.code == Some(2) && both.error.contains("cannot be used with"), "{both:#?}");
}

#[tokio::test]
async fn reads_are_shown_one_by_one_or_in_one_line_and_fail_if_one_is_refused() {
    let checkout = Checkout::new().await;
    checkout.up().ok();
    let said = checkout.hops(&["read", "3"]).ok();
    assert_eq!(said.lines().filter(|line| line.starts_with("200 ")).count(), 3, "{said}");
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("3 reads - answered with 200: 3 - median"), "{said}");
    let said = checkout.hops(&["read", "20", "--rate", "100"]).ok();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("accountservice.1 10, accountservice.2 10"), "{said}");

    let refused = checkout.hops(&["read", "1", "77777"]);
    assert_eq!((refused.code, refused.error.as_str()), (Some(1), ""), "{refused:#?}");
    assert!(refused.out.starts_with("404 "), "{refused:#?}");

    let mut endless = checkout.command(&["read", "--rate", "20", "--json"]);
    let mut endless = endless.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let offers = async || checkout.by_replica().await.values().sum::<u64>() >= 23 + 5;
    e2e::wait::until_true("five more offers", e2e::wait::PATIENCE, offers).await;
    rustix::process::kill_process(rustix::process::Pid::from_child(&endless), rustix::process::Signal::INT)
        .unwrap();
    assert!(endless.wait().unwrap().success(), "all were answered until Ctrl-C");
}

#[tokio::test]
async fn a_tour_plays_its_five_steps_and_leaves_everything_as_it_was() {
    let checkout = Checkout::new().await;
    checkout.up().ok();
    let said = checkout.hops(&["tour"]).ok();
    let steps =
        ["1. Read", "2. Scale", "3. Kill", "4. Poison", "not a notification", "5. Redrive", "1 redriven"];
    let mut rest = said.as_str();
    for step in steps {
        rest = rest.split_once(step).unwrap_or_else(|| panic!("{step} is missing: {said}")).1;
    }
    assert_eq!(checkout.tasks("vipservice").iter().filter(|task| task["phase"] == "ready").count(), 1);
    assert_eq!(checkout.vhost.ready("vip_queue.dead").await, Some(0));
    e2e::wait::until_true("each read has its offer", e2e::wait::PATIENCE, async || {
        checkout.by_replica().await.values().sum::<u64>() == 23
    })
    .await;
}

#[tokio::test]
async fn a_tour_that_is_stopped_leaves_as_many_tasks_as_before_and_none_of_them_paused() {
    let checkout = Checkout::new().await;
    checkout.up().ok();
    let mut tour = checkout.command(&["tour"]);
    let mut tour = tour.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(tour.stdout.take().unwrap()).lines();
    lines.find(|line| line.as_ref().unwrap().contains("vipservice.2 paused")).unwrap().unwrap();
    kill_process(Pid::from_child(&tour), Signal::TERM).unwrap();
    let rest: Vec<_> = lines.map(Result::unwrap).collect();
    assert!(rest.iter().any(|line| line.contains("service scale vipservice=1")), "{rest:#?}");
    assert_eq!(tour.wait().unwrap().code(), Some(1));
    let tasks = checkout.tasks("vipservice");
    let running: Vec<_> = tasks.iter().filter(|task| !task["pid"].is_null()).collect();
    assert_eq!((running.len(), &running[0]["phase"]), (1, &json!("ready")), "{tasks:#?}");
}

#[tokio::test]
async fn queues_are_listed_and_a_message_stays_after_a_peek() {
    let checkout = Checkout::new().await;
    checkout.up().ok();
    checkout.hops(&["service", "scale", "vipservice=0"]).ok();
    assert_eq!(checkout.get(6767, "/accounts/10000").await.status, 200);
    e2e::wait::until_true("the message waits", e2e::wait::PATIENCE, async || {
        checkout.vhost.ready("vip_queue").await == Some(1)
    })
    .await;
    let listed = checkout.hops(&["queues", "--json"]).json();
    let queue = listed.iter().find(|queue| queue["name"] == "vip_queue").unwrap();
    assert_eq!((&queue["ready"], &queue["consumers"]), (&json!(1), &json!(0)));

    let message = checkout.hops(&["queues", "peek", "vip_queue", "--json"]).json().remove(0);
    assert_eq!(
        (&message["type"], &message["app_id"]),
        (&json!("vip.notification.v1"), &json!("accountservice"))
    );
    assert!(message["body"].as_str().unwrap().contains("10000"), "{message}");
    assert_eq!(checkout.vhost.ready("vip_queue").await, Some(1));
    for verb in ["peek", "poison"] {
        assert!(checkout.hops(&["queues", verb, "no_queue"]).failed().contains("cargo hops queues"));
    }

    checkout.hops(&["service", "scale", "vipservice=1"]).ok();
    e2e::wait::until_true("the offer", e2e::wait::PATIENCE, async || {
        checkout.by_replica().await.values().sum::<u64>() == 1
    })
    .await;
    let entry = checkout.hops(&["queues", "peek", "offers"]).ok();
    assert!(entry.contains("offer.v1") && entry.contains("cloudEvents_id"), "{entry}");
}

#[tokio::test]
async fn a_wait_ends_when_something_is_so_and_says_what_it_saw_last_if_it_is_not_in_time() {
    let checkout = Checkout::new().await;
    checkout.up().ok();
    let wait = |words: &str| checkout.hops(&format!("wait {words}").split(' ').collect::<Vec<_>>());
    let in_vain = |words: &str, seen: &str| {
        let why = wait(&format!("{words} --timeout 1")).failed();
        assert!(why.starts_with(&format!("error: waited 1 s: {seen}")), "{words}: {why}");
    };
    assert!(wait("ready").ok().starts_with("ready and connected: 4 tasks, after "));

    checkout.hops(&["pause", "vipservice.1"]).ok();
    checkout.hops(&["read", "3"]).ok();
    in_vain("ready", "vipservice.1 is paused");
    in_vain("offers 3", "no task of vipservice is ready");
    wait("ready accountservice configserver").ok();
    checkout.hops(&["unpause", "vipservice.1"]).ok();
    assert!(wait("offers 3").ok().starts_with("each vipservice shows 3 offers, after "));
    in_vain("offers 4", "vipservice.1 shows 3 offers, not 4");
    in_vain("setting vipservice offer_txt=1", "vipservice.1 has no setting offer_txt");

    checkout.hops(&["queues", "poison"]).ok();
    assert!(wait("queue vip_queue.dead=1").ok().starts_with("vip_queue.dead has 1 message, after "));
    in_vain("queue vip_queue.dead=0", "vip_queue.dead has 1 message, not 0");
    in_vain("queue no_queue=0", "there is no queue no_queue");

    let file = checkout.path().join("config-repo/vipservice-test.yml");
    let settings = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{settings}notification_limit: 50\n")).unwrap();
    let seen = wait("setting vipservice notification_limit=50 --json").json().remove(0);
    assert_eq!(seen["seen"], "each vipservice has notification_limit: 50");
    in_vain("setting hops_vipservice notification_limit=9", "vipservice.1 has notification_limit: 50, not 9");

    checkout.hops(&["kill", "vipservice.1"]).ok();
    wait("ready").ok();
    assert!(checkout.tasks("vipservice")[0]["phase"] == "ready");
    for words in ["ready nobody", "setting nobody a=1"] {
        assert!(wait(words).failed().contains("there is no service nobody"));
    }
}

#[tokio::test]
async fn a_kill_in_the_middle_loses_nothing_and_verify_confirms_it() {
    let checkout = Checkout::new().await;
    checkout.up().ok();
    checkout.hops(&["service", "scale", "vipservice=2"]).ok();
    for victim in ["vipservice.1", "accountservice.2"] {
        let said = checkout.hops(&["verify", "--read", "100", "--kill", victim]).ok();
        let last = said.lines().last().unwrap();
        assert!(
            last.starts_with("reads 100 - offers 10")
                && last.ends_with("duplicates 0 - dead-lettered 0 - LOST 0"),
            "{said}"
        );
    }
    // By address alone, as against any other deployment.
    let (account, vip) = (checkout.url(6767, ""), checkout.url(6868, ""));
    let said = checkout.hops(&["verify", "--read", "20", "--account-url", &account, "--vip-url", &vip]).ok();
    assert!(said.contains("reads 20 - offers 20 - duplicates 0 - dead-lettered ? - LOST 0"), "{said}");
}

#[tokio::test]
async fn verify_checks_the_task_to_kill_before_it_reads() {
    let checkout = Checkout::new().await;
    checkout.up().ok();
    let said = checkout.hops(&["verify", "--kill", "vipservice.7"]).failed();
    assert!(
        said.contains("no task vipservice.7") && said.contains("accountservice.2, vipservice.1"),
        "{said}"
    );
}

#[tokio::test]
async fn verify_lists_the_lost_reads_and_fails() {
    let (one, other) = (Checkout::new().await, Checkout::new().await);
    Checkout::up_both(&one, &other);
    // Reads here, offers there: every read is lost.
    let (account, vip) = (one.url(6767, ""), other.url(6868, ""));
    let urls = ["--account-url", &account, "--vip-url", &vip];
    let said = one.hops(&[&["verify", "--read", "2", "--patience", "1"], &urls[..]].concat());
    assert_eq!(said.code, Some(1), "{said:#?}");
    assert!(
        said.out.contains("LOST: verify-")
            && said.out.contains("offers 0 - duplicates 0 - dead-lettered ? - LOST 2"),
        "{said:#?}"
    );
}

#[tokio::test]
async fn a_check_says_what_is_done_and_what_is_not_yet() {
    let checkout = Checkout::new().await;
    checkout.up().ok();
    let folder = "docs/walkthrough/checks";
    let missing = checkout.hops(&["check", "4"]).failed();
    assert!(missing.contains("needs a checkout of the repository"), "{missing}");
    std::fs::create_dir_all(checkout.path().join(folder)).unwrap();
    for file in ["lib.sh", "04.sh"].map(|name| format!("{folder}/{name}")) {
        std::fs::write(checkout.path().join(&file), e2e::repository::read(&file)).unwrap();
    }
    let passes = "#!/usr/bin/env bash\n# The accounts are there\n";
    let passes = format!("{passes}curl -sS --fail \"$ACCOUNTSERVICE/accounts/10001\" >/dev/null\n");
    std::fs::write(checkout.path().join(format!("{folder}/14.sh")), passes).unwrap();

    let said = checkout.hops(&["check", "--all"]);
    assert_eq!((said.code, said.error.as_str()), (Some(1), ""), "{said:?}");
    let lines: Vec<_> = said.out.lines().collect();
    assert!(lines[0].starts_with("chapter 4    not yet   The text of an offer ends with"), "{lines:#?}");
    assert!(lines[1].contains("A weekend in the mountains"), "{lines:#?}");
    assert_eq!(lines[2], "chapter 14   done      The accounts are there");
    let done = checkout.hops(&["check", "14", "--json"]).json().remove(0);
    assert_eq!(done, json!({"chapter": 14, "what": "The accounts are there", "done": true, "seen": null}));
    let unknown = checkout.hops(&["check", "14", "99"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.error.contains("chapter 99 has no check; these have: 4, 14"), "{unknown:?}");
}

#[tokio::test]
async fn a_kill_with_much_in_flight_loses_nothing() {
    let checkout = Checkout::new().await;
    checkout.up().ok();
    let words = ["verify", "--read", "40", "--freeze", "vipservice.1", "--kill"];
    for victim in ["vipservice.1", "accountservice.1"] {
        let said = checkout.hops(&[&words[..], &[victim]].concat()).ok();
        assert!(said.contains("vipservice.1 frozen") && said.contains("LOST 0"), "{said}");
    }
    let error = checkout.hops(&["verify", "--freeze", "vipservice.7", "--kill", "vipservice.1"]).failed();
    assert!(error.contains("there is no task vipservice.7"), "{error}");
    let alone = checkout.hops(&["verify", "--freeze", "vipservice.1"]);
    assert!(alone.code == Some(2) && alone.error.contains("--kill"), "{alone:?}");
}

#[tokio::test]
async fn nothing_that_a_message_or_a_log_says_reaches_the_terminals_controls() {
    const EVIL: &str = "\u{1b}[2J\u{9b}31m\u{7f}\r\nforged: line";
    let checkout = Checkout::new().await;
    checkout.up().ok();
    let properties = BasicProperties::default().with_message_id(EVIL.into()).with_app_id(EVIL.into());
    checkout.vhost.publish("vip_queue.dead", properties.clone(), EVIL.as_bytes()).await;
    // JSON may contain these two as they are; the consumer logs what it gets.
    let body = "{\"accountId\":\"10000\",\"evil\":\"\u{9b}31m\u{7f}\"}";
    let of_a_notification = BasicProperties::default().with_message_id(EVIL.into());
    checkout.vhost.publish("vip_queue", of_a_notification, body.as_bytes()).await;
    until("the consumer logs the message", PATIENCE, async || {
        checkout.hops(&["service", "logs", "vipservice"]).ok().contains(r"\u009b31m\u007f").then_some(())
    })
    .await;
    for words in [
        &["queues", "peek", "vip_queue.dead"][..],
        &["queues", "peek", "vip_queue.dead", "--json"],
        &["service", "logs", "vipservice"],
        &["service", "logs", "vipservice", "--json"],
    ] {
        let out = checkout.hops(words).ok();
        assert!(out.chars().all(|c| c == '\n' || !c.is_control()), "{words:?}: {out:?}");
        assert!(!out.lines().any(|line| line.starts_with("forged")), "{words:?}: {out:?}");
    }
    let error = checkout.hops(&["queues", "peek", EVIL]).failed();
    assert!(error.contains(r"\u001b[2J\u009b31m\u007f\r\nforged"), "{error:?}");
}
