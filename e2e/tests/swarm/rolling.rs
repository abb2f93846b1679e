//! Under load: everything that can be scaled, rolled, refreshed and killed.

use std::time::Duration;

use e2e::{
    binaries::binary,
    environment::full_only,
    load::Load,
    wait::{PATIENCE, until_true},
};
use tokio::time::{Instant, sleep_until};

use crate::stack::{Stack, print};

#[tokio::test]
async fn scaled_rolled_refreshed_and_killed_under_load_it_loses_no_answered_read() {
    if !full_only("scaled_rolled_refreshed_and_killed_under_load_it_loses_no_answered_read") {
        return;
    }
    let stack = Stack::turn().await;
    let mark = stack.mark().await;
    // Some fifty reads a second.
    let load =
        Load::answered(usize::MAX).at_a_time(8).every(Duration::from_millis(150)).start(&stack.accounts());
    let started = Instant::now();
    load.until_answered(100).await;

    stack.deploy(&["scale", "vipservice=4"]).await;
    stack.deploy(&["scale", "vipservice=1"]).await;
    let (answered, refused) = (load.answered(), load.refused());
    stack.deploy(&["update", "--local", "--force"]).await;
    assert!(load.answered() > answered, "the load goes on");
    assert_eq!(load.refused(), refused, "requests that failed during the rolling updates");

    for _ in 0..3 {
        let victim = stack.containers("vipservice").await;
        stack.kill9(&victim[0]).await;
        stack.until_ready("vipservice", 1, &victim).await;
    }

    let configserver_went = Instant::now();
    stack.docker(&["service", "scale", "--detach", "hops_configserver=0"]).await;
    let broker = stack.containers("rabbitmq").await;
    stack.kill9(&broker[0]).await;
    until_true("another broker runs", PATIENCE, async || {
        let now = stack.containers("rabbitmq").await;
        !now.is_empty() && now != broker
    })
    .await;
    sleep_until(configserver_went + Duration::from_secs(20)).await;
    stack.docker(&["service", "scale", "--detach", "hops_configserver=1"]).await;
    stack.until_ready("configserver", 1, &[]).await;
    stack.until_ready("vipservice", 1, &[]).await;

    stack.deploy(&["refresh"]).await;
    stack.until_ready("vipservice", 1, &[]).await;
    sleep_until(started + Duration::from_secs(60)).await;

    let record = load.stop().await;
    print(&format!("{} reads answered 200, {} not", record.answered.len(), record.refused.len()));
    assert!(record.answered.len() > 1000, "{}", record.answered.len());
    stack.assert_promise(&record, mark).await;
}

#[tokio::test]
async fn verify_finds_nothing_lost_with_a_task_killed_in_the_middle() {
    if !full_only("verify_finds_nothing_lost_with_a_task_killed_in_the_middle") {
        return;
    }
    let _stack = Stack::turn().await;
    let output = tokio::process::Command::new(binary("hops"))
        .args(["verify", "--read", "200", "--kill", "vipservice.1"])
        .args(["--account-url", "http://localhost:6767", "--vip-url", "http://localhost:6868"])
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}
