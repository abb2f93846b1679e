//! Sizes of the services, and times until they answer.
//!
//!     cargo bench -p e2e --bench footprint
//!
//! With the broker up (`HOPS_BROKER`, `HOPS_BROKER_ADMIN`):
//! - the binaries' sizes,
//! - from starting a process to its first answer 200, in an empty data folder. Target: at most 100 ms,
//! - resident memory (`VmRSS`): idle, target at most 9 MB; after 100,000 plain reads, target at most 16 MB; and
//!   after 20,000 VIP reads whose offers the vipservice has made,
//! - the configserver: first answer, target at most 50 ms; memory, targets 12 MB idle and 25 MB after 100,000 requests;
//!   and its requests per second of CPU, target at least 2,000.
#![expect(clippy::print_stdout, reason = "figures are what a benchmark is for")]

#[path = "kit/figures.rs"]
mod figures;
#[path = "kit/load.rs"]
mod load;
#[path = "kit/process.rs"]
mod process;
#[path = "kit/system.rs"]
mod system;

use std::{env, fs};

use e2e::{
    binaries::binary,
    wait::{PATIENCE, until_true},
};

use self::{figures::Figures, system::System};

const STARTS: usize = 10;
const ROUNDS: usize = 3;
const PLAIN_READS: usize = 100_000;
const VIP_READS: usize = 20_000;
const CONFIGURATION_READS: usize = 100_000;
const MB: f64 = 1024.0 * 1024.0;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    if !env::args().any(|argument| argument == "--bench") {
        return println!("a benchmark: cargo bench -p e2e --bench footprint");
    }
    println!("binaries, MB");
    for name in ["accountservice", "vipservice", "configserver"] {
        let size = fs::metadata(binary(name)).expect("it was built").len();
        println!("  {name:<40}{:>9.2}", size as f64 / MB);
    }

    println!("from start to first answer 200, ms, median of {STARTS} (min .. max)");
    for (name, path, target) in [
        ("accountservice", "/livez", "target: at most 100"),
        ("accountservice", "/accounts/10001", "target: at most 100"),
        ("accountservice", "/readyz", ""),
        ("vipservice", "/livez", "target: at most 100"),
        ("vipservice", "/readyz", ""),
        ("vipservice", "/offers", ""),
        ("configserver", "/vipservice/test", "target: at most 50"),
    ] {
        let mut figures = Figures::default();
        for _ in 0..STARTS {
            let system = System::new().await;
            figures.push(system.start(name).first_answer(path).await.as_secs_f64() * 1e3);
        }
        println!("  {:<40}{figures:.1}   {target}", format!("{name} {path}"));
    }

    println!("resident memory, MB, median of {ROUNDS} (min .. max)");
    let mut memory: [Figures; 5] = Default::default();
    for _ in 0..ROUNDS {
        for (figures, figure) in memory.iter_mut().zip(in_one_round().await) {
            figures.push(figure);
        }
    }
    for (name, figures, target) in [
        ("accountservice, idle", &memory[0], "target: at most 9"),
        ("vipservice, idle", &memory[1], "target: at most 9"),
        ("accountservice, 100,000 plain reads", &memory[2], "target: at most 16"),
        ("accountservice, 20,000 VIP reads more", &memory[3], ""),
        ("vipservice, 20,000 offers", &memory[4], ""),
    ] {
        println!("  {name:<40}{figures:.2}   {target}");
    }

    println!("configserver, median of {ROUNDS} (min .. max)");
    let mut configuration: [Figures; 4] = Default::default();
    for _ in 0..ROUNDS {
        for (figures, figure) in configuration.iter_mut().zip(of_the_configserver().await) {
            figures.push(figure);
        }
    }
    for (name, figures, target) in [
        ("MB idle", &configuration[0], "target: at most 12"),
        ("MB after 100,000 requests", &configuration[1], "target: at most 25"),
        ("requests per second of CPU, JSON", &configuration[2], "target: at least 2000"),
        ("requests per second of CPU, merged .yml", &configuration[3], "target: at least 2000"),
    ] {
        println!("  {name:<40}{figures:.1}   {target}");
    }
}

async fn of_the_configserver() -> [f64; 4] {
    let system = System::new().await;
    let server = system.start("configserver");
    server.first_answer("/readyz").await;
    let idle = server.settled_memory().await;
    let mut rates = [0.0; 2];
    for (rate, path) in rates.iter_mut().zip(["/vipservice/test", "/vipservice-test.yml"]) {
        let before = server.process.cpu();
        load::get(server.port, path, CONFIGURATION_READS / 2).await;
        *rate = (CONFIGURATION_READS / 2) as f64 / (server.process.cpu() - before).as_secs_f64();
    }
    [idle, server.settled_memory().await, rates[0], rates[1]]
}

async fn in_one_round() -> [f64; 5] {
    let system = System::new().await;
    let (accounts, offers) = (system.start("accountservice"), system.start("vipservice"));
    accounts.first_answer("/readyz").await;
    offers.first_answer("/readyz").await;
    let idle = (accounts.settled_memory().await, offers.settled_memory().await);

    load::get(accounts.port, "/accounts/10001", PLAIN_READS).await;
    let after_plain = accounts.settled_memory().await;
    load::get(accounts.port, "/accounts/10000", VIP_READS).await;
    let all_made = async || offers.metric("hops_messages_acked_total").await >= VIP_READS;
    until_true("all offers are made", PATIENCE, all_made).await;
    [idle.0, idle.1, after_plain, accounts.settled_memory().await, offers.settled_memory().await]
}
