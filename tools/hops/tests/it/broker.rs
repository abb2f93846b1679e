//! The development broker, which `up` starts if no other broker is named.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream},
    time::{Duration, Instant},
};

use e2e::{
    http::{Reply, client},
    wait::{PATIENCE, until_true},
};
use serde_json::json;

use crate::checkout::Checkout;

/// Reports of `/readyz` of all tasks that run.
async fn reports(checkout: &Checkout) -> Vec<Reply> {
    let mut reports = vec![];
    for service in ["configserver", "accountservice", "vipservice"] {
        for port in checkout.tasks(service).iter().filter_map(|task| task["port"].as_u64()) {
            let url = format!("http://127.0.0.1:{port}/readyz");
            reports.push(Reply::of(client().get(url)).await.unwrap());
        }
    }
    reports
}

#[tokio::test]
async fn a_changed_broker_has_converged_and_all_is_ready_when_the_services_are_connected_again() {
    let checkout = Checkout::new().await;
    checkout.hops(&["up", "-d", "--no-live"]).ok();
    let is_up = |report: &Reply| report.status == 200 && report.json()["checks"]["broker"]["status"] == "UP";
    checkout.hops(&["service", "scale", "rabbitmq=0"]).ok();
    // So long that the services try again after longer and longer waits.
    let since = Instant::now();
    until_true("a while without a broker", PATIENCE, async || {
        !reports(&checkout).await.iter().any(is_up) && since.elapsed() > Duration::from_secs(3)
    })
    .await;
    for change in ["service scale rabbitmq=1", "update rabbitmq", "kill rabbitmq.1"] {
        let mut said = checkout.hops(&change.split(' ').collect::<Vec<_>>()).ok();
        if change.starts_with("kill") {
            said += &checkout.hops(&["wait", "ready"]).ok();
        }
        let reports = reports(&checkout).await;
        assert!(reports.len() == 4 && reports.iter().all(is_up), "{change}: {said}{reports:?}");
    }
    for service in ["configserver", "accountservice", "vipservice"] {
        checkout.hops(&["wait", "setting", service, "amqp_backoff_max=1s", "--timeout", "0"]).ok();
    }
}

#[tokio::test]
async fn without_a_broker_the_development_broker_is_started_and_loses_nothing_when_it_is_killed() {
    let checkout = Checkout::new().await;
    checkout.edit(
        "    hostname: rabbitmq\n",
        "    hostname: rabbitmq\n    ports: [\"5672:5672\", \"15672:15672\"]\n",
    );
    let said = checkout.hops(&["up", "-d"]).ok();
    assert!(said.contains("rabbitmq.1"), "{said}");
    // A published port of the broker is one on each address of `localhost`, and no web page.
    for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let mut client = TcpStream::connect((address, checkout.port(5672))).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(b"AMQP\0\0\x09\x01").unwrap();
        let mut start = [0; 1];
        client.read_exact(&mut start).unwrap();
        assert_eq!(start, [1], "{address}: the first frame has a method");
    }
    let status = checkout.hops(&["status"]).ok();
    assert!(!status.lines().any(|line| line.starts_with("rabbitmq ") && line.contains("http:")), "{status}");
    assert!(said.contains(&format!("amqp://127.0.0.1:{}", checkout.port(5672))), "{said}");
    assert_eq!(checkout.processes().len(), 7, "four tasks, their broker, the supervisor, and the page");
    assert!(checkout.hops(&["walk"]).ok().contains("9 offers"));
    let services = checkout.hops(&["service", "ls"]).ok();
    let published = format!("127.0.0.1:{}->6767/tcp", checkout.port(6767));
    assert!(services.contains("1/1        devbroker") && services.contains(&published), "{services}");

    let listed = checkout.hops(&["queues", "--json"]).json();
    let queue = listed.iter().find(|queue| queue["name"] == "vip_queue").unwrap();
    assert_eq!((&queue["type"], &queue["unacked"]), (&json!("quorum"), &json!(0)));
    assert!(checkout.hops(&["queues", "peek", "offers"]).ok().contains("offer.v1"));
    // A change that is refused is announced neither alone nor among others, which it prevents.
    for scales in [&["rabbitmq=2"][..], &["vipservice=2", "rabbitmq=2"], &["vipservice=2", "nobody=1"]] {
        let said = checkout.hops(&[&["service", "scale"][..], scales].concat());
        assert_eq!(said.out, "", "{scales:?}");
        said.failed();
    }
    assert!(checkout.hops(&["service", "scale", "rabbitmq=2"]).failed().contains("one process"));
    assert_eq!(checkout.tasks("vipservice").len(), 1);

    let said = checkout.hops(&["verify", "--read", "100", "--kill", "rabbitmq.1"]).ok();
    assert!(said.lines().last().unwrap().ends_with("duplicates 0 - dead-lettered 0 - LOST 0"), "{said}");

    // The services of connections that an operator has closed connect again.
    let cut = checkout.hops(&["queues", "cut", "--json"]).json().remove(0);
    assert!(cut["closed"].as_u64().unwrap() >= 3, "{cut}");
    let poison = checkout.hops(&["queues", "poison", "--json"]).json().remove(0);
    let dead = || checkout.hops(&["queues", "peek", "vip_queue.dead", "--json"]).json().remove(0);
    until_true("the dead letter", PATIENCE, async || dead()["message_id"] == poison["message_id"]).await;

    let before = checkout.by_replica().await;
    checkout.hops(&["down"]).ok();
    assert_eq!(checkout.processes(), Vec::<String>::new());
    checkout.hops(&["up", "-d"]).ok();
    until_true("the offers of before", PATIENCE, async || checkout.by_replica().await == before).await;
}
