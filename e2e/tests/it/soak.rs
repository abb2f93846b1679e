//! Three minutes of mixed faults under a steady load, in an order that is drawn from a seed.
//!
//! The schedule is a pure function of the seed, which is printed at the start and when the test fails: `HOPS_SEED`
//! repeats it. What the faults meet is chance all the same.

use std::{
    fmt,
    io::{self, Write as _},
    time::Duration,
};

use e2e::{
    broker::{PrivateBroker, Shortage},
    environment,
    fixture::TestSystem,
    levels::Levels,
    load::{Load, Record},
    process::Service,
    proxy::{Direction, Mode, Proxy},
};
use tokio::time::{Instant, sleep, sleep_until};

const DURATION: Duration = Duration::from_secs(180);
/// A quorum queue younger than a few seconds may not survive a `kill -9` of its broker.
const SAFE_AGE: Duration = Duration::from_secs(25);

/// A fault. Times are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Cut,
    CutInMidFrame(Direction, usize),
    FreezeLink(u64),
    KillVipservice,
    KillAccountservice,
    StopVipservice,
    StarveBroker(u64),
    RestartApplication(u64),
    KillBroker,
    CloseAllConnections,
}

/// A fault, and how long all goes well before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    pause: u64,
    fault: Fault,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms of peace, then {:?}", self.pause, self.fault)
    }
}

/// SplitMix64 (<https://prng.di.unimi.it/splitmix64.c>): a seed means the same faults with every version of every library.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (number ^ (number >> 31)) % limit
    }

    fn from(&mut self, range: std::ops::Range<u64>) -> u64 {
        range.start + self.below(range.end - range.start)
    }
}

/// Rounds of all ten faults, each round in an order of its own: more of them than there is time for.
fn schedule(seed: u64) -> Vec<Step> {
    let mut numbers = Numbers(seed);
    let mut steps = vec![];
    for _ in 0..10 {
        let direction = [Direction::ToBroker, Direction::FromBroker][numbers.below(2) as usize];
        let mut round = vec![
            Fault::Cut,
            Fault::CutInMidFrame(direction, numbers.from(200..5000) as usize),
            Fault::FreezeLink(numbers.from(1000..5000)),
            Fault::KillVipservice,
            Fault::KillAccountservice,
            Fault::StopVipservice,
            Fault::StarveBroker(numbers.from(1000..5000)),
            Fault::RestartApplication(numbers.from(0..3000)),
            Fault::KillBroker,
            Fault::CloseAllConnections,
        ];
        while !round.is_empty() {
            let fault = round.swap_remove(numbers.below(round.len() as u64) as usize);
            steps.push(Step { pause: numbers.from(500..5000), fault });
        }
    }
    steps
}

#[test]
fn the_schedule_follows_from_the_seed_alone() {
    assert_eq!(schedule(7), schedule(7));
    assert_ne!(schedule(7), schedule(8));
    let first: Vec<_> = schedule(1).iter().take(3).map(ToString::to_string).collect();
    let printed = [
        "545 ms of peace, then KillBroker",
        "3020 ms of peace, then KillVipservice",
        "3737 ms of peace, then StarveBroker(1235)",
    ];
    assert_eq!(first, printed);
}

/// Says at the end of a test that fails what repeats it.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say(&format!("soak FAILED: HOPS_SEED={} repeats its schedule", self.0));
        }
    }
}

/// Is seen without `--nocapture` too.
fn say(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// The processes that the faults happen to. The first of each kind of service is never restarted.
struct Scene {
    broker: PrivateBroker,
    proxy: Proxy,
    accounts: [Service; 2],
    vips: [Service; 2],
    start: Instant,
}

impl Scene {
    async fn suffer(&mut self, fault: Fault) {
        match fault {
            Fault::Cut => self.proxy.cut(),
            Fault::CutInMidFrame(direction, bytes) => self.proxy.cut_after(direction, bytes),
            Fault::FreezeLink(ms) => {
                self.proxy.set(Mode::Freeze);
                sleep(Duration::from_millis(ms)).await;
                self.proxy.set(Mode::Forward);
            }
            Fault::KillVipservice => {
                self.vips[1].kill9().await;
                self.vips[1].restart().await;
            }
            Fault::KillAccountservice => {
                self.accounts[1].kill9().await;
                self.accounts[1].restart().await;
            }
            Fault::StopVipservice => {
                self.vips[1].sigterm();
                assert_eq!(self.vips[1].exit_code().await, Some(0), "it stops in order whatever goes on");
                self.vips[1].restart().await;
            }
            Fault::StarveBroker(ms) => {
                self.broker.starve(Shortage::Memory).await;
                sleep(Duration::from_millis(ms)).await;
                self.broker.feed(Shortage::Memory).await;
            }
            Fault::RestartApplication(ms) => {
                self.broker.stop_application().await;
                sleep(Duration::from_millis(ms)).await;
                self.broker.start_application().await;
            }
            Fault::KillBroker => {
                sleep_until(self.start + SAFE_AGE).await;
                self.broker.kill9().await;
                self.broker.restart().await;
            }
            Fault::CloseAllConnections => self.broker.close_all_connections("soak").await,
        }
    }
}

#[tokio::test]
async fn three_minutes_of_mixed_faults_lose_nothing_double_nothing_and_leave_nothing_behind() {
    if !environment::full_only(
        "soak::three_minutes_of_mixed_faults_lose_nothing_double_nothing_and_leave_nothing_behind",
    ) {
        return;
    }
    let seed = Seed(environment::seed().unwrap_or_else(rand::random));
    say(&format!("\nsoak begins: HOPS_SEED={}", seed.0));

    let broker = PrivateBroker::start().await;
    let proxy = Proxy::start(broker.vhost().address()).await;
    let system = TestSystem::on(broker.vhost()).behind(proxy.port());
    let start = async |binary, number| {
        let launch =
            system.launch(binary, number).flag("amqp-heartbeat", "3s").flag("amqp-backoff-max", "2s");
        let launch = if binary == "vipservice" { launch.flag("offers-max", "100000") } else { launch };
        let service = launch.start().await;
        service.until_ready().await;
        service
    };
    let accounts = [start("accountservice", 1).await, start("accountservice", 2).await];
    let vips = [start("vipservice", 1).await, start("vipservice", 2).await];
    let (early, levels) = system.warm_up(Record::default(), &accounts[0], &[&vips[0]]).await;
    let start = Instant::now();
    let mut scene = Scene { broker, proxy, accounts, vips, start };

    let loads = [0, 1].map(|n| Load::steady().start(&scene.accounts[n].address()));
    for (number, step) in schedule(seed.0).into_iter().enumerate() {
        if start.elapsed() > DURATION {
            break;
        }
        sleep(Duration::from_millis(step.pause)).await;
        say(&format!("soak {:>5.1} s, {}: {step}", start.elapsed().as_secs_f64(), number + 1));
        scene.suffer(step.fault).await;
    }
    let mut record = early;
    for load in loads {
        record = record.and(load.stop().await);
    }
    say(&format!("soak: {} reads sent, {} answered", record.sent.len(), record.answered.len()));

    let Scene { accounts, vips, .. } = &scene;
    for service in accounts.iter().chain(vips) {
        service.until_ready().await;
    }
    system.assert_promise(&record, &accounts[1], &[&vips[0], &vips[1]]).await;
    Levels::until_all_back(&levels).await;
}
