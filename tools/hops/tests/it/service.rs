//! The verbs of Docker.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use e2e::{
    http::{Reply, client},
    repository::root,
    wait::{PATIENCE, until, until_true},
};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::Instant};

use crate::checkout::Checkout;

#[tokio::test]
async fn scale_returns_when_the_replicas_have_subscribed_and_reads_are_spread() {
    let checkout = Checkout::new().await;
    checkout.up().ok();
    let said = checkout.hops(&["service", "scale", "hops_vipservice=3"]).ok();
    assert!(said.contains("3 out of 3 tasks") && said.contains("Service converged"), "{said}");
    assert_eq!(checkout.vhost.consumers("vip_queue").await, Some(3));

    for _ in 0..30 {
        assert_eq!(checkout.get(6767, "/accounts/10000").await.status, 200);
    }
    let made = until("thirty offers", PATIENCE, async || {
        let made = checkout.by_replica().await;
        (made.values().sum::<u64>() == 30).then_some(made)
    })
    .await;
    assert_eq!(made.keys().collect::<Vec<_>>(), ["vipservice.1", "vipservice.2", "vipservice.3"]);
    assert!(made.values().all(|count| *count >= 5), "{made:?}");

    checkout.hops(&["service", "scale", "vipservice=1"]).ok();
    assert_eq!(checkout.vhost.consumers("vip_queue").await, Some(1));
    assert_eq!(checkout.processes().len(), 5);
    assert!(checkout.hops(&["service", "scale", "nobody=1"]).failed().contains("vipservice"));
}

#[tokio::test]
async fn a_killed_task_is_restarted() {
    let checkout = Checkout::new().await;
    checkout.up().ok();
    let before = checkout.tasks("vipservice")[0]["pid"].clone();
    checkout.hops(&["kill", "vipservice.1"]).ok();
    until_true("another process is ready", PATIENCE, async || {
        let tasks = checkout.tasks("vipservice");
        tasks[0]["phase"] == "ready" && tasks[0]["pid"] != before
    })
    .await;
    let shown = checkout.hops(&["service", "ps", "vipservice"]).ok();
    assert!(shown.contains("non-zero exit (137)"), "{shown}");
    assert!(checkout.hops(&["kill", "vipservice.7"]).failed().contains("vipservice.1"));
}

#[tokio::test]
async fn a_paused_task_is_not_probed_and_is_resumed_before_it_is_stopped() {
    let checkout = Checkout::new().await;
    checkout.edit("interval: 3s\n      timeout: 3s", "interval: 500ms\n      timeout: 500ms");
    checkout.edit("start_period: 70s", "start_period: 0s");
    checkout.edit("retries: 5", "retries: 3");
    checkout.up().ok();
    let pid = || checkout.tasks("vipservice")[0]["pid"].clone();
    let before = pid();
    assert!(checkout.hops(&["pause", "hops_vipservice.1"]).ok().contains("cargo hops unpause vipservice.1"));
    let since = Instant::now();
    until_true("a probe would have killed it", PATIENCE, async || {
        let tasks = checkout.tasks("vipservice");
        assert_eq!((&tasks[0]["phase"], &tasks[0]["pid"]), (&json!("paused"), &before));
        since.elapsed() > Duration::from_secs(4)
    })
    .await;
    assert!(checkout.hops(&["service", "ps", "vipservice"]).ok().contains("Paused"));
    assert!(checkout.hops(&["pause", "vipservice.1"]).failed().contains("is paused already"));
    assert!(checkout.hops(&["pause", "vipservice.7"]).failed().contains("does not run"));

    checkout.hops(&["unpause", "vipservice.1"]).ok();
    assert!(checkout.hops(&["unpause", "vipservice.1"]).failed().contains("is not paused"));
    assert_eq!(checkout.get(6868, "/offers/by-replica").await.status, 200);
    assert_eq!(pid(), before);

    // Whoever stops it resumes it, so that it shuts down in order; a kill needs no resumption.
    checkout.hops(&["pause", "vipservice.1"]).ok();
    let said = checkout.hops(&["service", "scale", "vipservice=2"]).ok();
    assert!(said.contains("2 out of 2 tasks"), "{said}");
    checkout.hops(&["pause", "vipservice.2"]).ok();
    let said = checkout.hops(&["service", "scale", "vipservice=1"]).ok();
    assert!(said.contains("stopped: exit code 0"), "{said}");
    checkout.hops(&["pause", "vipservice.1"]).ok();
    checkout.hops(&["kill", "vipservice.1"]).ok();
    until_true("another process is ready", PATIENCE, async || {
        let tasks = checkout.tasks("vipservice");
        tasks[0]["phase"] == "ready" && tasks[0]["pid"] != before
    })
    .await;
    checkout.hops(&["pause", "vipservice.1"]).ok();
    let said = checkout.hops(&["service", "update", "--force", "vipservice"]).ok();
    assert!(said.contains("stopped: exit code 0"), "{said}");
    checkout.hops(&["pause", "vipservice.1"]).ok();
    let said = checkout.hops(&["down"]).ok();
    assert!(!said.contains("killed"), "{said}");
}

#[tokio::test]
async fn connections_go_to_the_replicas_that_are_not_paused() {
    let checkout = Checkout::new().await;
    checkout.up().ok();
    checkout.hops(&["pause", "accountservice.1"]).ok();
    for answer in checkout.hops(&["read", "4", "--json"]).json() {
        assert_eq!((&answer["status"], &answer["servedBy"]), (&json!(200), &json!("accountservice.2")));
    }
}

// The test blocks while a command runs, so the load has threads of its own.
#[tokio::test(flavor = "multi_thread")]
async fn an_update_gives_every_slot_a_new_task_and_loses_no_request() {
    let checkout = Checkout::with_linger().await;
    checkout.up().ok();
    checkout.hops(&["service", "scale", "vipservice=2"]).ok();
    let pids = |service: &str| {
        let tasks = checkout.tasks(service);
        let tasks = tasks.iter().filter(|task| task["pid"].is_u64());
        tasks.map(|task| task["pid"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    for (service, port, path) in
        [("accountservice", 6767, "/accounts/10000"), ("vipservice", 6868, "/offers/by-replica")]
    {
        let (before, load) = (pids(service), Load::start(&checkout.url(port, path)));
        load.until_answered(100).await;
        let said = checkout.hops(&["service", "update", "--force", service]).ok();
        assert!(said.contains("overall progress: 2 out of 2 tasks"), "{said}");
        let so_far = load.answered.load(Ordering::Relaxed);
        load.until_answered(so_far + 100).await;
        assert_eq!(load.finish().await, Vec::<String>::new(), "{said}");
        let after = pids(service);
        assert!(after.len() == 2 && before.iter().all(|pid| !after.contains(pid)), "{before:?} {after:?}");
    }
    let unchanged = checkout.hops(&["service", "update", "vipservice"]).failed();
    assert!(unchanged.contains("`cargo hops update vipservice`"), "{unchanged}");
    let services = ["accountservice", "vipservice"];
    let before = services.map(pids);
    assert!(checkout.hops(&["update", "vipservice", "nobody"]).failed().contains("no service nobody"));
    assert_eq!(services.map(pids), before);
    checkout.hops(&["update", "accountservice", "hops_vipservice"]).ok();
    let after = services.map(pids);
    assert!(before.iter().flatten().all(|pid| !after.iter().flatten().any(|new| new == pid)), "{after:?}");
}

#[tokio::test]
async fn an_update_is_compared_with_what_runs() {
    let checkout = Checkout::new().await;
    checkout.up().ok();
    let update = || checkout.hops(&["service", "update", "vipservice"]);
    for (from, to) in [("LINGER: 0s", "LINGER: 1ms"), ("LINGER: 1ms", "LINGER: 0s")] {
        checkout.edit(from, to);
        update().ok();
        assert!(update().failed().contains("nothing has changed"), "{to}");
    }
}

#[tokio::test]
async fn logs_are_found_by_service_and_by_request() {
    let checkout = Checkout::new().await;
    checkout.up().ok();
    let request = client().get(checkout.url(6767, "/accounts/10000")).header("x-request-id", "find-me");
    assert_eq!(Reply::of(request).await.unwrap().status, 200);
    // Hop 6, the confirm, may come after hop 9: two services write at the same time.
    until("all nine hops of the request", PATIENCE, async || {
        let logs = checkout.hops(&["service", "logs", "--request", "find-me"]).out;
        (1..=9).all(|hop| logs.contains(&format!("hop={hop} "))).then_some(())
    })
    .await;
    for words in [&["--request", "find-nobody"][..], &["--json", "--request", "find-me", "configserver"]] {
        let error = checkout.hops(&[&["service", "logs"][..], words].concat());
        assert!(error.out.is_empty() && error.failed().contains("no line of request find-"), "{words:?}");
    }
    let own = checkout.hops(&["service", "logs", "vipservice"]).ok();
    assert!(own.contains("hop=7") && !own.contains("hop=1 "), "{own}");
    assert!(checkout.hops(&["service", "logs", "nobody"]).failed().contains("accountservice"));

    let timed = checkout.hops(&["service", "logs", "-t", "--request", "find-me", "vipservice"]).ok();
    let mut words = timed.split_whitespace();
    assert_eq!((words.next(), words.next()), (Some("vipservice.1"), Some("|")));
    assert!(words.next().unwrap().parse::<jiff::Timestamp>().is_ok(), "{timed}");
    let last = checkout.hops(&["service", "logs", "--tail", "1", "accountservice"]).ok();
    assert_eq!(last.lines().count(), 2, "{last}");
    assert_eq!(checkout.hops(&["service", "logs", "--since", "1h", "vipservice"]).ok(), own);
    assert_eq!(checkout.hops(&["service", "logs", "--since", "2100-01-01T00:00:00Z"]).ok(), "");

    for words in
        [&["service", "logs"][..], &["service", "logs", "-f"], &["service", "ls"], &["--json", "status"]]
    {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = checkout.command(words).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        let output = output.wait_with_output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?} > /dev/full: {error}");
        assert!(error.contains("standard output cannot be written"), "{words:?}: {error}");
    }
    // As `| head -1` does: the reader goes after the first line, and what comes next shows it.
    let mut follower = checkout.command(&["service", "logs", "-f", "--tail", "1", "accountservice"]);
    let mut follower = follower.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    BufReader::new(follower.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    until_true("`service logs -f` ends after its reader", PATIENCE, async || {
        checkout.get(6767, "/accounts/10000").await;
        follower.try_wait().unwrap().is_some()
    })
    .await;
    let output = follower.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_has_the_cpu_and_the_memory_of_each_task_with_the_broker() {
    let checkout = Checkout::new().await;
    checkout.hops(&["up", "-d", "--no-live"]).ok();
    checkout.hops(&["pause", "configserver.1"]).ok();
    let load = Load::start(&checkout.url(6767, "/accounts/10001"));
    load.until_answered(100).await;
    let usages = checkout.hops(&["stats", "--json"]).json();
    load.finish().await;
    let names: Vec<_> = usages.iter().map(|usage| usage["name"].as_str().unwrap()).collect();
    let expected = ["rabbitmq.1", "configserver.1", "accountservice.1", "accountservice.2", "vipservice.1"];
    assert_eq!(names, expected);
    let cpu = |task: usize| usages[task]["cpuPercent"].as_f64().unwrap();
    assert_eq!(cpu(1), 0.0, "a frozen task computes nothing: {usages:?}");
    assert!(cpu(2) > 0.0 && cpu(3) > 0.0, "both answer requests: {usages:?}");
    for usage in &usages {
        let (memory, pids) = (usage["memoryBytes"].as_u64().unwrap(), usage["pids"].as_u64().unwrap());
        assert!((1 << 20..1 << 30).contains(&memory) && pids > 0, "{usage}");
        assert_eq!(usage["limitBytes"], Value::Null);
    }

    let shown = checkout.hops(&["stats"]).ok();
    let head: Vec<_> =
        shown.lines().next().unwrap().split("   ").map(str::trim).filter(|it| !it.is_empty()).collect();
    assert_eq!(head, ["NAME", "CPU %", "MEM USAGE", "PIDS"]);
    let configserver = shown.lines().find(|line| line.starts_with("configserver.1 ")).unwrap();
    assert!(configserver.contains(" 0.00% ") && configserver.contains("MiB "), "{shown}");
    assert_eq!(shown.lines().count(), 6, "{shown}");
}

#[tokio::test]
async fn every_verb_says_that_nothing_is_up() {
    let checkout = Checkout::new().await;
    for words in [
        "walk",
        "read",
        "tour",
        "status",
        "stats",
        "queues",
        "kill vipservice.1",
        "pause vipservice.1",
        "update vipservice",
        "wait ready",
        "service ls",
        "verify",
    ] {
        let said = checkout.hops(&words.split(' ').collect::<Vec<_>>()).failed();
        assert!(said.contains("nothing is up here: type `cargo hops up`"), "{words}: {said}");
    }
    assert!(checkout.hops(&["down"]).ok().contains("nothing was up here"));
}

/// Load of requests without pauses: half of them on kept connections, half on new ones.
struct Load {
    answered: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    failures: Arc<Mutex<Vec<String>>>,
    tasks: JoinSet<()>,
}

impl Load {
    fn start(url: &str) -> Self {
        let mut load = Self {
            answered: Arc::default(),
            stop: Arc::default(),
            failures: Arc::default(),
            tasks: JoinSet::new(),
        };
        for worker in 0..4 {
            let (answered, stop, failures) =
                (load.answered.clone(), load.stop.clone(), load.failures.clone());
            let url = url.to_owned();
            let keeps = reqwest::Client::builder().pool_max_idle_per_host(worker % 2);
            let client = keeps.timeout(Duration::from_secs(20)).build().unwrap();
            load.tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    match Reply::of(client.get(&url)).await {
                        Ok(reply) if reply.status == 200 => drop(answered.fetch_add(1, Ordering::Relaxed)),
                        other => {
                            let (at, kind) =
                                (jiff::Timestamp::now(), if worker % 2 == 1 { "kept" } else { "new" });
                            failures.lock().unwrap().push(format!("{at} on a {kind} connection: {other:?}"));
                        }
                    }
                }
            });
        }
        load
    }

    async fn until_answered(&self, count: usize) {
        until_true("requests are answered", PATIENCE, async || {
            self.answered.load(Ordering::Relaxed) >= count
        })
        .await;
    }

    /// Stops the load, and returns the requests that were not answered with 200.
    async fn finish(mut self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
        let failures = self.failures.lock().unwrap();
        failures.clone()
    }
}

#[tokio::test]
async fn a_new_service_is_described_as_json_and_is_there_only_once() {
    let checkout = Checkout::new().await;
    for file in ["Cargo.toml", "Cargo.lock"] {
        fs::copy(root().join(file), checkout.path().join(file)).unwrap();
    }
    // Of the workspace there is nothing that cargo could read.
    let output = checkout.command(&["new", "mailservice", "--json"]).env("CARGO", "true").output().unwrap();
    let created = ["Cargo.toml", "src/main.rs"].map(|file| format!("mailservice/{file}")).to_vec();
    let settings = ["mailservice.yml", "mailservice-test.yml"].map(|file| format!("config-repo/{file}"));
    let expected = json!({
        "service": "mailservice",
        "port": 6969,
        "created": ([created, settings.to_vec()].concat()),
        "changed": ["Cargo.toml", "Cargo.lock", "docker-compose.yml"],
    });
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), expected);
    let error = checkout.hops(&["new", "mailservice"]).failed();
    assert!(error.contains("docker-compose.yml has a service mailservice already"), "{error}");
}
