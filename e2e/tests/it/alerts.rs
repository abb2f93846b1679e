//! The alert rules of `docs/alerts.yml`: what each is about is caused in a running system, and then it fires, and no other.
//!
//! `/metrics` is read as Prometheus reads it, and promtool evaluates the rules over what was read before and after. So that no
//! test waits for the minutes of a rule's `for`, promtool takes each sample again for as many minutes as they need.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use contracts::VIP_NOTIFICATION;
use e2e::{
    broker::{PrivateBroker, Shortage, Vhost},
    environment,
    fixture::TestSystem,
    http::Reply,
    process::Service,
    repository::root,
    wait::{PATIENCE, until_true},
};
use lapin::{
    BasicProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use serde_json::json;

use crate::dead_letters::letters;

const DEAD: &str = r#"hops_queue_messages{queue="vip_queue.dead"}"#;
const RETRY: &str = r#"hops_queue_messages{queue="vip_queue.retry.3600000"}"#;
const WORK: &str = r#"hops_queue_messages{queue="vip_queue"}"#;
const BEHIND: &str = r#"hops_stream_behind{stream="account_changes"}"#;
const OFFERS_BEHIND: &str = r#"hops_stream_behind{stream="offers"}"#;
const NOTIFICATION: &str = r#"{"accountId":"10000","readAt":"2026-11-20T06:27:33.757Z"}"#;

/// Samples of all services, by the series that Prometheus would store them in.
type Samples = BTreeMap<String, String>;

/// Reads the metrics of services; one that does not answer is down.
async fn scrape(services: &[&Service]) -> Samples {
    let mut samples = Samples::new();
    for service in services {
        let instance = service.name();
        let job = instance.split('.').next().unwrap();
        let target = format!(r#"job="{job}",instance="{instance}""#);
        let reply = Reply::of(service.request("GET", "/metrics")).await;
        samples.insert(format!("up{{{target}}}"), u8::from(reply.is_ok()).to_string());
        let text = reply.map(|reply| reply.text).unwrap_or_default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let series = match series.split_once('{') {
                Some((name, labels)) => format!("{name}{{{target},{labels}"),
                None => format!("{series}{{{target}}}"),
            };
            samples.insert(series, value.to_owned());
        }
    }
    samples
}

fn promtool(arguments: &[&str], file: &Path) {
    let output = Command::new("promtool").args(arguments).arg(file).output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "promtool {arguments:?}: {}", said.concat());
}

/// Holds the rules against samples that were the first ones for ten minutes, and are the second ones for twenty: these alerts
/// fire, and no others.
fn assert_fire<const N: usize>(
    before: &Samples,
    after: &Samples,
    alerts: [&'static str; N],
) -> [&'static str; N] {
    let series: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let series = series.into_iter().map(|series| {
        let before = before.get(series).map_or("_x11".into(), |value| format!("{value}x10"));
        let after = after.get(series).map_or("stale".into(), |value| format!("{value}x20"));
        json!({ "series": series, "values": format!("{before} {after}") })
    });
    let fire = alerts.map(|alert| json!({ "labels": format!("{{alertname={alert:?}}}"), "value": 1 }));
    let query = r#"group by (alertname) (ALERTS{alertstate="firing"})"#;
    let expected = json!({ "expr": query, "eval_time": "31m", "exp_samples": fire.to_vec() });
    let test = json!({
        "rule_files": [root().join("docs/alerts.yml")],
        "evaluation_interval": "1m",
        "tests": [{ "interval": "1m", "input_series": series.collect::<Vec<_>>(), "promql_expr_test": [expected] }],
    });
    let folder = tempfile::tempdir().unwrap();
    // JSON is YAML.
    let file = folder.path().join("test.yml");
    fs::write(&file, test.to_string()).unwrap();
    promtool(&["test", "rules"], &file);
    alerts
}

/// Puts as many messages into `vip_queue`, of one type and with one body.
async fn publish(vhost: &Vhost, count: usize, kind: &str, body: &str) {
    let (_connection, channel) = vhost.channel().await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    for n in 0..count {
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_message_id(format!("{kind}-{n}").into())
            .with_content_type("application/json".into())
            .with_type(kind.into());
        let publish = BasicPublishOptions::default();
        channel
            .basic_publish("".into(), "vip_queue".into(), publish, body.as_bytes(), properties)
            .await
            .unwrap();
    }
    let refused = channel.wait_for_confirms().await.unwrap();
    assert!(refused.is_empty(), "{} messages were refused", refused.len());
}

async fn until_metrics(service: &Service, metrics: &[(&str, i64)]) {
    until_true(&format!("{metrics:?}"), PATIENCE, async || {
        let text = service.get("/metrics").await.text;
        metrics.iter().all(|(name, value)| text.lines().any(|line| line == format!("{name} {value}")))
    })
    .await;
}

/// A broker with the three services, as they are without faults.
struct Healthy {
    broker: PrivateBroker,
    system: TestSystem,
    config: Service,
    account: Service,
    vip: Service,
    samples: Samples,
}

impl Healthy {
    async fn start(config_repo: &Path) -> Self {
        let broker = PrivateBroker::start().await;
        let system = TestSystem::on(broker.vhost());
        let launch = |binary| {
            system
                .launch(binary, 1)
                .flag("config-repo", &config_repo.to_string_lossy())
                .flag("amqp-backoff-max", "1s")
        };
        let vip = launch("vipservice").flag("retry-delays", "1h");
        let (config, account, vip) =
            tokio::join!(launch("configserver").start(), launch("accountservice").start(), vip.start());
        tokio::join!(config.until_ready(), account.until_ready(), vip.until_ready(), vip.until_following());
        until_metrics(&vip, &[(WORK, 0), (RETRY, 0), (DEAD, 0)]).await;
        let samples = scrape(&[&config, &account, &vip]).await;
        assert_fire(&samples, &samples, []);
        Self { broker, system, config, account, vip, samples }
    }

    async fn scrape(&self) -> Samples {
        scrape(&[&self.config, &self.account, &self.vip]).await
    }
}

/// Messages that are poison, that fail, and that wait while the broker takes none.
async fn alerts_of_queues() -> Vec<&'static str> {
    let folder = tempfile::tempdir().unwrap();
    let mut healthy = Healthy::start(folder.path()).await;
    let (before, vhost) = (healthy.samples.clone(), healthy.broker.vhost());

    publish(&vhost, 1, VIP_NOTIFICATION, "poison").await;
    until_metrics(&healthy.vip, &[(DEAD, 1)]).await;
    let mut fired = assert_fire(&before, &healthy.scrape().await, ["DeadLetters"]).to_vec();

    letters(&healthy.system, &["discard", VIP_NOTIFICATION, "--yes"]).await.done();
    publish(&vhost, 101, "vip.notification.v2", NOTIFICATION).await;
    until_metrics(&healthy.vip, &[(DEAD, 0), (RETRY, 101)]).await;
    fired.extend(assert_fire(&before, &healthy.scrape().await, ["RetryQueueDeep"]));

    healthy.vip.kill9().await;
    vhost.delete("vip_queue.retry.3600000").await;
    publish(&vhost, 1100, VIP_NOTIFICATION, NOTIFICATION).await;
    healthy.broker.starve(Shortage::Memory).await;
    healthy.vip.restart().await;
    let expected = [("hops_broker_blocked", 1), (OFFERS_BEHIND, 0), (DEAD, 0), (RETRY, 0)];
    until_metrics(&healthy.vip, &expected).await;
    fired.extend(assert_fire(&before, &healthy.scrape().await, ["BrokerBlocked", "WorkQueueDeep"]));
    fired
}

/// Settings that are refused, a broker that is killed, a store on a full disk, and replicas that are killed.
async fn alerts_of_services() -> Vec<&'static str> {
    let folder = tempfile::tempdir().unwrap();
    let Healthy { broker, system, config, account, mut vip, samples } = Healthy::start(folder.path()).await;
    let settings = folder.path().join("vipservice.yml");
    fs::write(&settings, "offer_hours: at night\n").unwrap();
    until_metrics(&vip, &[("hops_settings_refusals_total", 1)]).await;
    let services = [&config, &account, &vip];
    let mut fired = assert_fire(&samples, &scrape(&services).await, ["SettingsRefused"]).to_vec();
    // Whoever is connected again reads the settings again.
    let reloads = vip.metric("hops_settings_reloads_total").await;
    fs::write(&settings, "offer_hours: 20-6\n").unwrap();
    until_true("they are corrected", PATIENCE, async || {
        vip.metric("hops_settings_reloads_total").await > reloads
    })
    .await;

    let mut before = scrape(&services).await;
    broker.kill9().await;
    for service in services {
        until_metrics(service, &[("hops_broker_connected", 0)]).await;
    }
    until_metrics(&account, &[(BEHIND, -1)]).await;
    fired.extend(assert_fire(&before, &scrape(&services).await, ["BrokerDisconnected"]));
    system.read_vip(&account).await;
    until_metrics(&account, &[("hops_outbox_depth", 1)]).await;
    fired.extend(assert_fire(&before, &scrape(&services).await, ["BrokerDisconnected", "OutboxWaits"]));
    broker.restart().await;
    until_metrics(&account, &[("hops_outbox_depth", 0), (BEHIND, 0)]).await;
    for service in services {
        until_metrics(service, &[("hops_broker_connected", 2)]).await;
    }

    let mut other = system.launch("accountservice", 2).ulimit("-f unlimited").start().await;
    other.until_ready().await;
    before = scrape(&[&config, &account, &vip, &other]).await;
    // No file may grow, so the store takes no change. Those that it keeps in memory it has taken.
    other.limit_files(Some(1));
    until_true("its store takes no change", PATIENCE, async || {
        let create = account.request("POST", "/accounts").header("content-type", "application/json");
        let created = Reply::of(create.body(r#"{"name":"Ada"}"#)).await.unwrap();
        assert_eq!(created.status, 201, "{}", created.text);
        other.metric(BEHIND).await > 0
    })
    .await;
    until_true("it is still behind", PATIENCE, async || other.get("/readyz").await.status == 503).await;
    fired.extend(assert_fire(&before, &scrape(&[&config, &account, &vip, &other]).await, ["ReplicaBehind"]));

    other.kill9().await;
    fired.extend(assert_fire(&before, &scrape(&[&config, &account, &vip, &other]).await, ["ReplicaDown"]));
    before = scrape(&[&config, &account, &vip]).await;
    vip.kill9().await;
    fired.extend(assert_fire(&before, &scrape(&[&config, &account, &vip]).await, ["ServiceDown"]));
    fired
}

#[tokio::test]
async fn each_alert_fires_when_what_it_is_about_happens_and_no_other_does() {
    let test = "alerts::each_alert_fires_when_what_it_is_about_happens_and_no_other_does";
    if !environment::own_broker_only(test) || !environment::has_programs(test, &["promtool"]) {
        return;
    }
    let (of_queues, of_services) = tokio::join!(alerts_of_queues(), alerts_of_services());
    let fired: BTreeSet<_> = of_queues.into_iter().chain(of_services).collect();
    let rules = fs::read_to_string(root().join("docs/alerts.yml")).unwrap();
    let alerts: BTreeSet<_> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert_eq!(fired, alerts, "each alert of docs/alerts.yml is caused here");
}

#[test]
fn the_alert_rules_are_valid_and_their_tests_pass() {
    if environment::has_programs("alerts::the_alert_rules_are_valid_and_their_tests_pass", &["promtool"]) {
        promtool(&["check", "rules"], &root().join("docs/alerts.yml"));
        promtool(&["test", "rules"], &root().join("docs/alerts.test.yml"));
    }
}

#[test]
fn each_alert_says_how_severe_it_is_what_to_do_and_where_there_is_more() {
    let rules = fs::read_to_string(root().join("docs/alerts.yml")).unwrap();
    for alert in rules.split("- alert: ").skip(1) {
        for part in ["labels: { severity: ", "summary: ", "description: >-", "page: "] {
            assert_eq!(alert.matches(part).count(), 1, "{part} of {alert}");
        }
        let page = alert.split_once("page: ").unwrap().1.trim();
        let (path, anchor) = page.split_once('#').unwrap_or((page, ""));
        let text = fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        let headings = text.lines().filter(|line| line.starts_with('#'));
        let mut anchors =
            headings.map(|line| line.trim_start_matches(['#', ' ']).to_lowercase().replace(' ', "-"));
        assert!(anchor.is_empty() || anchors.any(|found| found == anchor), "{page} has no such section");
    }
}
