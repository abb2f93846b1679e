//! From nothing to nine hops, and three replicas.

use std::collections::{BTreeMap, BTreeSet};

use e2e::{
    environment::full_only,
    wait::{PATIENCE, until_true},
};
use serde_json::json;
use tokio::time::Instant;

use crate::stack::{OURS, Stack, print};

#[tokio::test]
async fn two_commands_deploy_a_clean_clone_and_a_read_makes_nine_hops() {
    let stack = Stack::turn().await;
    let answer = stack.get("/accounts/10000").await;
    let served_by = answer.json()["servedBy"].clone();
    assert!(["accountservice.1", "accountservice.2"].contains(&served_by.as_str().unwrap()), "{served_by}");
    let expected = json!({"id": "10000", "name": "Person_0", "vip": true, "servedBy": served_by});
    assert_eq!((answer.status, answer.json()), (200, expected));

    let said = stack.deploy(&["smoke"]).await;
    let hops: BTreeSet<_> = said.lines().filter_map(|line| line.split("hop=").nth(1)?.get(..1)).collect();
    assert_eq!(hops.into_iter().collect::<String>(), "123456789", "{said}");

    let status = stack.deploy(&["status"]).await;
    for task in ["configserver.1", "accountservice.1", "accountservice.2", "vipservice.1"] {
        let is_ready = |line: &str| line.split_whitespace().eq([task, "yes"]);
        assert!(status.lines().any(is_ready), "{task}: {status}");
    }
    assert!(status.lines().any(|line| line.starts_with("vip_queue\t")), "{status}");
}

#[tokio::test]
async fn three_replicas_share_thirty_reads() {
    let stack = Stack::turn().await;
    let before = by_replica(&stack).await;
    let started = Instant::now();
    stack.docker(&["service", "scale", "--detach", "hops_vipservice=3"]).await;
    stack.until_ready("vipservice", 3, &[]).await;
    print(&format!("from 1 to 3 vipservices that are ready: {:.1} s", started.elapsed().as_secs_f32()));

    for _ in 0..30 {
        assert_eq!(stack.get("/accounts/10000").await.status, 200);
    }
    let sum = |numbers: &BTreeMap<String, u64>| numbers.values().sum::<u64>();
    until_true("all are offers", PATIENCE, async || sum(&by_replica(&stack).await) == sum(&before) + 30)
        .await;
    let after = by_replica(&stack).await;
    for name in ["vipservice.1", "vipservice.2", "vipservice.3"] {
        assert!(after.get(name) > before.get(name), "{name}: {before:?}, then {after:?}");
    }

    // What somebody has scaled stays so, and what runs goes on.
    let tasks = stack.tasks().await;
    stack.deploy(&[]).await;
    assert_eq!(stack.tasks().await, tasks);
    stack.deploy(&["scale", "hops_vipservice=1"]).await;
    assert_eq!(stack.containers("vipservice").await.len(), 1);
}

async fn by_replica(stack: &Stack) -> BTreeMap<String, u64> {
    serde_json::from_value(stack.get("/offers/by-replica").await.json()).unwrap()
}

#[tokio::test]
async fn an_image_is_a_binary_with_its_labels_and_little_else() {
    let stack = Stack::turn().await;
    for name in OURS {
        let image = stack.inspect(&format!("hops-e2e/{name}")).await;
        let megabytes = image["Size"].as_f64().unwrap() / 1e6;
        print(&format!("hops/{name}: {megabytes:.1} MB"));
        assert!(megabytes <= 8.0, "{name}: {megabytes}");
        let config = &image["Config"];
        let labels = &config["Labels"];
        for label in ["title", "description", "licenses", "revision"] {
            assert!(labels[format!("org.opencontainers.image.{label}")].is_string(), "{name}: {labels}");
        }
        assert_eq!(config["User"], "65534:65534", "{name}");
        assert_eq!(config["Healthcheck"]["Test"][2], "healthcheck", "{name}: {config}");
    }
}

#[tokio::test]
async fn docker_accepts_the_files_of_both_kinds_of_kernel() {
    let stack = Stack::turn().await;
    let base = ["stack", "config", "--compose-file", "docker-compose.yml"];
    let with_ports = stack.docker(&base).await;
    assert!(with_ports.contains("mode: ingress") && !with_ports.contains("hops/edge"), "{with_ports}");
    let with_edge = [base.as_slice(), &["--compose-file", "docker-compose.noipvs.yml"]].concat();
    assert!(stack.docker(&with_edge).await.contains("mode: host"));
}

#[tokio::test]
async fn what_the_stack_has_kept_outlives_it() {
    if !full_only("what_the_stack_has_kept_outlives_it") {
        return;
    }
    let stack = Stack::turn().await;
    stack.deploy(&["smoke"]).await;
    let offers = stack.offers(None).await;

    let said = stack.deploy(&["down"]).await;
    assert!(said.contains("kept: the volumes"), "{said}");
    assert!(stack.deploy(&["down"]).await.contains("there is no stack hops"));
    let said = stack.try_deploy(&["status"]).await;
    assert_eq!(said.code, Some(1));
    assert!(said.text.contains("./deploy.sh deploys it"), "{}", said.text);

    let started = Instant::now();
    stack.deploy(&[]).await;
    print(&format!(
        "from ./deploy.sh to all ready, the second time: {:.0} s",
        started.elapsed().as_secs_f32()
    ));
    assert_eq!(stack.offers(None).await, offers);
}
