//! Under load: everything that can be scaled, rolled, refreshed and killed.

use std::time::Duration;

use e2e::{
    environment::full_only,
    load::Load,
    process::Address,
    wait::{PATIENCE, until_true},
};
use tokio::time::{Instant, sleep, sleep_until};

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

    // The one task that listens on the ports where the kernel has no IPVS: nobody else can while it is replaced.
    if stack.ours().await.contains(&"edge") {
        let gap = longest_gap(async || {
            stack.docker(&["service", "update", "--quiet", "--detach=false", "--force", "hops_edge"]).await;
        });
        print(&format!("while edge was replaced, nobody listened for {:.1} s", gap.await.as_secs_f32()));
    }

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

/// The longest time in which nobody answered at the accountservice's port, while something was done.
async fn longest_gap(work: impl AsyncFnOnce()) -> Duration {
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    let probes = async {
        let client = e2e::http::client();
        loop {
            if client.get(Address::at(6767).url("/livez")).send().await.is_ok() {
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = probes => {}
        () = work() => {}
    }
    longest
}

#[tokio::test]
async fn verify_finds_nothing_lost_with_a_task_killed_in_the_middle() {
    if !full_only("verify_finds_nothing_lost_with_a_task_killed_in_the_middle") {
        return;
    }
    let stack = Stack::turn().await;
    let said = stack.deploy(&["verify", "--read", "200", "--kill", "vipservice.1"]).await;
    assert!(said.contains("LOST 0"), "{said}");
}
