//! SIGTERM, and what is left.

use std::{collections::BTreeSet, fs};

use e2e::environment::full_only;
use tokio::time::Instant;

use crate::stack::{Stack, print};

#[tokio::test]
async fn sigterm_ends_each_of_ours_within_its_grace_with_exit_code_0() {
    if !full_only("sigterm_ends_each_of_ours_within_its_grace_with_exit_code_0") {
        return;
    }
    let stack = Stack::turn().await;
    for service in stack.ours().await {
        let containers = stack.containers(service).await;
        let container = &containers[0];
        let started = Instant::now();
        stack.docker(&["kill", "--signal", "TERM", container]).await;
        let code = stack.docker(&["wait", container]).await;
        print(&format!("{service}: ended after {:.1} s", started.elapsed().as_secs_f32()));
        assert_eq!(code.trim(), "0", "{service}");
        // docker-compose.yml: stop_grace_period
        assert!(started.elapsed().as_secs() < 20, "{service}: {:?}", started.elapsed());
        if service != "edge" {
            stack.until_ready(service, containers.len(), std::slice::from_ref(container)).await;
        }
    }
}

#[tokio::test]
async fn no_volume_and_no_zombie_is_left_behind() {
    if !full_only("no_volume_and_no_zombie_is_left_behind") {
        return;
    }
    let stack = Stack::turn().await;
    // Tasks come and go, and are asked for their health.
    stack.deploy(&["scale", "vipservice=2"]).await;
    stack.deploy(&["scale", "vipservice=1"]).await;

    let known = ["hops_rabbitmq", "hops-accountservice-1", "hops-accountservice-2"];
    let label = "label=com.docker.stack.namespace=hops";
    let ids = stack.docker(&["ps", "--all", "--quiet", "--filter", label]).await;
    let mut parents = BTreeSet::new();
    for id in ids.lines() {
        let container = stack.inspect(id).await;
        let pid = container["State"]["Pid"].as_u64().unwrap();
        if let Some(process) = process(pid) {
            parents.extend([pid, process.1]);
        }
    }
    assert_eq!(stack.volumes().await, known.map(str::to_owned).into());
    let pids =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let zombies: Vec<u64> = pids
        .filter(|pid| process(*pid).is_some_and(|(state, parent)| state == 'Z' && parents.contains(&parent)))
        .collect();
    assert_eq!(zombies, [0_u64; 0]);
}

/// A process's state and its parent.
fn process(pid: u64) -> Option<(char, u64)> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut words = line.rsplit_once(')')?.1.split_whitespace();
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}
