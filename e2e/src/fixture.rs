//! `TestSystem`: one system of its own for one test, with one method per thing a user does to it.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{
    broker::{SharedBroker, Vhost},
    environment,
    http::Reply,
    levels::Levels,
    load::{Load, Record, in_flight, request_id},
    log::Log,
    process::{Launch, Service},
    proxy::Proxy,
    sets::Difference,
    wait::{PATIENCE, PAUSE, until_true},
};

/// An offer as `GET /offers` shows it, as far as tests look at it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Offer {
    /// Its place in the stream.
    pub offset: u64,
    /// The message's id.
    pub id: String,
    /// Whose account was read.
    pub account_id: String,
    /// Text of the offer.
    pub text: String,
    /// The id of the read that led to it.
    pub request_id: String,
    /// The instance that made it.
    pub made_by: String,
}

/// One page of offers.
#[derive(Debug, Deserialize)]
struct Page {
    offers: Vec<Offer>,
    next: Option<u64>,
}

/// A broker's virtual host and a folder for data: services of this system meet there and nowhere else.
#[derive(Debug)]
pub struct TestSystem {
    vhost: Vhost,
    amqp_url: String,
    data: TempDir,
}

impl TestSystem {
    /// On the shared broker, in a virtual host of its own.
    pub async fn new() -> Self {
        Self::on(SharedBroker::from_environment().vhost().await)
    }

    /// On a given virtual host.
    pub fn on(vhost: Vhost) -> Self {
        let data = tempfile::tempdir().expect("the folder for temporary files can be written");
        Self { amqp_url: vhost.amqp_url(), vhost, data }
    }

    /// On the shared broker, with a proxy on the way that a test may cut and freeze.
    pub async fn behind_a_proxy() -> (Self, Proxy) {
        let vhost = SharedBroker::from_environment().vhost().await;
        let proxy = Proxy::start(vhost.address()).await;
        (Self::on(vhost).behind(proxy.port()), proxy)
    }

    /// Its services look for the broker on another port of this machine: a proxy's, or one where nobody listens.
    pub fn behind(self, port: u16) -> Self {
        Self { amqp_url: self.vhost.amqp_url_at(port), ..self }
    }

    /// Its virtual host.
    pub fn vhost(&self) -> &Vhost {
        &self.vhost
    }

    /// The flags that make a process a part of this system.
    pub fn launch(&self, binary: &'static str, number: usize) -> Launch {
        let launch = Launch::new(binary, &format!("{binary}.{number}"));
        // Nothing here cuts the power, and disks differ.
        let launch = match binary {
            "accountservice" if !environment::is_full() => launch.flag("outbox-sync", "os"),
            _ => launch,
        };
        launch
            .flag("server-port", "0")
            .flag("log-format", "json")
            .flag("data-dir", &self.data.path().to_string_lossy())
            .flag("amqp-server-url", &self.amqp_url)
    }

    /// Returns the folder of the services' data; each instance has its own in it.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// Starts the accountservice and waits until it is ready.
    pub async fn accountservice(&self) -> Service {
        let service = self.launch("accountservice", 1).start().await;
        service.until_ready().await;
        service
    }

    /// Starts a vipservice and waits until it is ready.
    pub async fn vipservice(&self, number: usize) -> Service {
        let service = self.launch("vipservice", number).start().await;
        service.until_ready().await;
        service
    }

    /// Reads an account, with a request id of its own.
    pub async fn read(&self, accountservice: &Service, account: &str) -> (String, Reply) {
        let id = request_id();
        let request =
            accountservice.request("GET", &format!("/accounts/{account}")).header("x-request-id", &id);
        let reply = Reply::of(request).await;
        (id, reply.expect("the accountservice answers"))
    }

    /// Reads the VIP's account, which is answered 200; the request id.
    pub async fn read_vip(&self, accountservice: &Service) -> String {
        let (id, reply) = self.read(accountservice, "10000").await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        id
    }

    /// All offers that a replica shows, page by page; none while it replays them.
    pub async fn offers(&self, vipservice: &Service) -> Vec<Offer> {
        self.try_offers(vipservice).await.unwrap_or_default()
    }

    /// The same, or what it answers instead: to show nothing and to have nothing are two things.
    async fn try_offers(&self, vipservice: &Service) -> Result<Vec<Offer>, String> {
        let mut offers = vec![];
        let mut path = "/offers?limit=1000".to_owned();
        loop {
            let reply = vipservice.get(&path).await;
            if reply.status == 503 {
                return Err(format!("503 {}", reply.text));
            }
            assert_eq!(reply.status, 200, "{}", reply.text);
            let page: Page =
                serde_json::from_str(&reply.text).unwrap_or_else(|e| panic!("{e}: {}", reply.text));
            offers.extend(page.offers);
            match page.next {
                Some(next) => path = format!("/offers?limit=1000&after={next}"),
                None => return Ok(offers),
            }
        }
    }

    /// Waits until a replica shows that many offers.
    pub async fn until_offers(&self, vipservice: &Service, count: usize) -> Vec<Offer> {
        until_true("the offers are there", PATIENCE, async || self.offers(vipservice).await.len() >= count)
            .await;
        self.offers(vipservice).await
    }

    /// Number of offers by replica.
    pub async fn by_replica(&self, vipservice: &Service) -> BTreeMap<String, u64> {
        serde_json::from_value(vipservice.get("/offers/by-replica").await.json())
            .expect("numbers by instance")
    }

    /// Puts services to work once, so that they hold what they hold when nothing is wrong: the record of that
    /// work and of what was `earlier`, and the levels of all of them.
    pub async fn warm_up(
        &self,
        earlier: Record,
        accountservice: &Service,
        others: &[&Service],
    ) -> (Record, Vec<Levels>) {
        let record = Load::answered(in_flight()).at_a_time(32).run(&accountservice.address()).await;
        let record = record.and(earlier);
        self.assert_promise(&record, accountservice, others).await;
        let mut levels = vec![Levels::of(accountservice).await];
        for service in others {
            levels.push(Levels::of(service).await);
        }
        (record, levels)
    }

    /// Holds the promise, and finds that no message was blamed for anything: none has ever gone to a rung of the ladder,
    /// where a wrongly blamed one would be for a while before it succeeds, and none is in `vip_queue.dead`.
    pub async fn assert_promise(&self, record: &Record, accountservice: &Service, vipservices: &[&Service]) {
        self.assert_sets(record, accountservice, vipservices).await;
        let dead = self.vhost.messages("vip_queue.dead").await;
        assert!(dead.is_empty(), "vip_queue.dead holds {dead:#?}");
        for vipservice in vipservices {
            let is_blamed = |outcome: &str| !["", "declined"].contains(&outcome);
            let blamed = vipservice.log().filter(|line| is_blamed(line.field("delivery.outcome")));
            assert!(blamed.is_empty(), "{blamed:#?}");
        }
    }

    /// Waits until every read that was answered 200 has its offer in every given replica, then holds the sets against each
    /// other: A in O, O in S, no id twice, and nothing left in the queue.
    pub async fn assert_sets(&self, record: &Record, accountservice: &Service, vipservices: &[&Service]) {
        let logs: Vec<&Log> =
            vipservices.iter().map(|service| service.log()).chain([accountservice.log()]).collect();
        for vipservice in vipservices {
            let deadline = Instant::now() + PATIENCE;
            loop {
                let is_late = Instant::now() > deadline;
                match self.try_offers(vipservice).await {
                    Ok(offers) => {
                        let ids = offers.iter().map(|offer| offer.request_id.as_str());
                        let difference = Difference::between(record, ids);
                        if difference.is_empty() {
                            break;
                        }
                        let can_heal = difference.never_sent.is_empty() && difference.twice.is_empty();
                        assert!(can_heal && !is_late, "{}", difference.with_lines(&logs));
                    }
                    Err(answer) => assert!(!is_late, "GET /offers still answers {answer}"),
                }
                sleep(PAUSE).await;
            }
        }
        until_true("vip_queue is empty", PATIENCE, async || self.vhost.ready("vip_queue").await == Some(0))
            .await;
    }
}
