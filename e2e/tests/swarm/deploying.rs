//! From nothing to nine hops, and three replicas.

use std::collections::{BTreeMap, BTreeSet};

use e2e::{
    broker::free_base,
    environment::full_only,
    repository::read,
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

    let said = stack.deploy(&["walk"]).await;
    let hops: BTreeSet<_> = said
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u8>().ok().filter(|hop| *hop < 10))
        .collect();
    assert_eq!(hops, (1..=9).collect(), "{said}");

    let status = stack.deploy(&["status"]).await;
    for task in ["configserver.1", "accountservice.1", "accountservice.2", "vipservice.1"] {
        let is_ready = |line: &str| line.split_whitespace().take(2).eq([task, "ready"]);
        assert!(status.lines().any(is_ready), "{task}: {status}");
    }
    assert!(status.lines().any(|line| line.starts_with("vip_queue ")), "{status}");

    let label = "docker ps --quiet --filter label=com.docker.stack.namespace=hops";
    let format = "{{.Name}}: {{.MemUsage}}";
    let memory = stack.shell(&format!("docker stats --no-stream --format '{format}' $({label})")).await;
    assert_eq!(memory.lines().count(), 5 + usize::from(stack.ours().await.contains(&"edge")), "{memory}");
    print(&format!("memory per task, and its limit; the original's took 1.9, 3.4 and 130 MiB:\n{memory}"));
}

#[tokio::test]
async fn a_log_can_be_followed() {
    let stack = Stack::turn().await;
    let said = stack
        .shell(
            "./deploy.sh logs -f --request followed vipservice > followed & \
             curl -sS -o seen -H 'x-request-id: followed' localhost:6767/accounts/10000; \
             for n in {1..200}; do ! grep -q hop=9 followed || break; sleep 0.1; done; \
             kill $!; wait $! || true; cat followed",
        )
        .await;
    assert!(said.contains("hop=9") && said.contains("request=followed"), "{said}");
}

#[tokio::test]
async fn a_rollback_brings_back_what_ran_before_the_update_whatever_was_scaled_since() {
    if !full_only("a_rollback_brings_back_what_ran_before_the_update_whatever_was_scaled_since") {
        return;
    }
    let stack = Stack::turn().await;
    let (first, accounts) = (stack.images("vipservice").await, stack.containers("accountservice").await);
    // Another version: the same program, in an image that has a label more.
    stack
        .shell("printf 'FROM localhost/hops-e2e/vipservice\nLABEL more=1\n' | docker build -t localhost/hops-e2e/vipservice -")
        .await;
    stack.deploy(&[]).await;
    let second = stack.images("vipservice").await;
    assert!(second.len() == 1 && second != first, "{second:?}");

    stack.deploy(&["update", "--local"]).await;
    assert_eq!(stack.images("vipservice").await, first, "what is built of the same is the same");
    stack.deploy(&["scale", "vipservice=2"]).await;
    let said = stack.deploy(&["rollback"]).await;
    assert_eq!(stack.images("vipservice").await, second, "{said}");
    assert!(said.contains("accountservice: the last update did not change it"), "{said}");
    stack.deploy(&["rollback", "vipservice"]).await;
    assert_eq!(stack.images("vipservice").await, first);
    assert_eq!(stack.containers("accountservice").await, accounts, "nobody touches what has not changed");
    let said = stack.try_deploy(&["rollback", "accountservice"]).await;
    assert_eq!(said.code, Some(1), "{}", said.text);
    assert!(said.text.contains("there is nothing to roll back to"), "{}", said.text);

    // Of the images of this and earlier runs those are left that somebody could want.
    let names = stack
        .shell("docker image ls --format '{{.Repository}}:{{.Tag}}' localhost/hops-e2e/vipservice")
        .await;
    let latest = "localhost/hops-e2e/vipservice:latest".to_owned();
    let left = names.lines().map(str::to_owned).filter(|name| *name != latest).collect::<BTreeSet<_>>();
    assert_eq!(left, first.union(&second).cloned().collect());
}

#[tokio::test]
async fn what_somebody_has_stopped_or_removed_is_there_again_with_the_next_deploy() {
    if !full_only("what_somebody_has_stopped_or_removed_is_there_again_with_the_next_deploy") {
        return;
    }
    let stack = Stack::turn().await;
    stack.docker(&["service", "scale", "--detach", "hops_configserver=0"]).await;
    until_true("it is gone", PATIENCE, async || stack.containers("configserver").await.is_empty()).await;
    // Nor does anybody have to name the broker again.
    let broker = stack.containers("rabbitmq").await;
    let said = stack.shell("unset RABBITMQ_IMAGE; ./deploy.sh").await;
    assert!(said.contains(&format!("the broker stays {}", stack.broker().await)), "{said}");
    assert_eq!(stack.containers("configserver").await.len(), 1, "{said}");
    assert_eq!(stack.containers("rabbitmq").await, broker);

    // Where there is an edge it is what listens; else the vipservice is as good.
    let service = stack.ours().await.pop().filter(|last| *last == "edge").unwrap_or("vipservice");
    stack.docker(&["service", "rm", &format!("hops_{service}")]).await;
    until_true("it is gone", PATIENCE, async || stack.containers(service).await.is_empty()).await;
    stack.deploy(&[]).await;
    assert_eq!(stack.containers(service).await.len(), 1);
    assert_eq!(stack.get("/accounts/10000").await.status, 200);
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
    let calls = stack
        .shell(
            "docker=$(command -v docker); mkdir -p counted; printf '#!/bin/sh\necho >> counted/calls\nexec %s \"$@\"\n' \"$docker\" > counted/docker; \
             chmod +x counted/docker; PATH=$PWD/counted:$PATH ./deploy.sh >said; wc -l < counted/calls; rm -r counted",
        )
        .await;
    assert_eq!(stack.tasks().await, tasks);
    let calls: u32 = calls.trim().parse().unwrap();
    assert!(
        (10..=25).contains(&calls),
        "docker was called {calls} times for a deployment with nothing to do"
    );
    stack.deploy(&["scale", "hops_vipservice=1"]).await;
    assert_eq!(stack.containers("vipservice").await.len(), 1);
}

async fn by_replica(stack: &Stack) -> BTreeMap<String, u64> {
    serde_json::from_value(stack.get("/offers/by-replica").await.json()).unwrap()
}

#[tokio::test]
async fn a_second_stack_with_other_ports_is_the_first_ones_neighbor() {
    if !full_only("a_second_stack_with_other_ports_is_the_first_ones_neighbor") {
        return;
    }
    let stack = Stack::turn().await;
    let (tasks, volumes) = (stack.tasks().await, stack.volumes().await);
    let second = format!("HOPS_STACK=hops-two HOPS_PORT_BASE={} ./deploy.sh", free_base(&[6767, 6868]));
    stack.shell(&second).await;
    let said = stack.shell(&format!("{second} walk && {second} verify --read 20")).await;
    assert!(said.contains("LOST 0"), "{said}");
    stack.shell(&format!("{second} down --volumes")).await;
    assert_eq!((stack.tasks().await, stack.volumes().await), (tasks, volumes), "the first one is untouched");
}

#[tokio::test]
async fn an_image_is_a_binary_with_its_labels_and_little_else() {
    let stack = Stack::turn().await;
    for name in OURS {
        let image = stack.inspect(&format!("localhost/hops-e2e/{name}")).await;
        let megabytes = image["Size"].as_f64().unwrap() / 1e6;
        print(&format!("hops/{name}: {megabytes:.1} MB"));
        assert!(megabytes <= 8.5, "{name}: {megabytes}");
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
    assert!(
        with_ports.contains("mode: ingress") && !with_ports.contains("localhost/hops/edge"),
        "{with_ports}"
    );
    let with_edge = [base.as_slice(), &["--compose-file", "docker-compose.noipvs.yml"]].concat();
    assert!(stack.docker(&with_edge).await.contains("mode: host"));
}

#[tokio::test]
async fn what_the_stack_has_kept_outlives_it() {
    if !full_only("what_the_stack_has_kept_outlives_it") {
        return;
    }
    let stack = Stack::turn().await;
    stack.deploy(&["walk"]).await;
    let offers = stack.offers(None).await;

    let said = stack.deploy(&["down"]).await;
    assert!(said.contains("kept the volumes"), "{said}");
    assert!(stack.deploy(&["down"]).await.contains("there is no stack hops"));
    let said = stack.try_deploy(&["status"]).await;
    assert_eq!(said.code, Some(1));
    assert!(said.text.contains("there is no stack hops"), "{}", said.text);

    let started = Instant::now();
    stack.deploy(&[]).await;
    print(&format!(
        "from ./deploy.sh to all ready, the second time: {:.0} s",
        started.elapsed().as_secs_f32()
    ));
    assert_eq!(stack.offers(None).await, offers);

    // As the page has it, with the broker that is here.
    let page = read("docs/OPERATIONS.md").replace("rabbitmq:4.3.4-management", &stack.broker().await);
    let section = page.split("## Backup and restore\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let blocks: Vec<_> = section.split("\n\n").filter(|part| part.starts_with("    ")).collect();
    let [backup, restore] = blocks[..] else { panic!("{section}") };
    stack.shell(backup).await;
    stack.deploy(&["down", "--volumes"]).await;
    assert_eq!(stack.volumes().await, BTreeSet::new(), "nothing is left of it");
    stack.shell(restore).await;
    assert_eq!(stack.offers(None).await, offers, "and all of it is back");
}
