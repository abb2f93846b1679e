//! Budgets: lines of code by crate, and lines of the whole repository; tests, and in budgets comments and blank lines, do not count.

use std::io::{self, Write as _};

use super::source::{Source, shipped};

/// Subjects, each with its folders and the most lines of code that they may have.
const BUDGETS: &[(&str, &[&str], usize)] = &[
    // 500 and the unfinished snapshots of sled; 185 for a store that is read whole and compared with its mark, for the outbox of
    // the version before, and for what `outbox list` shows of damage; 1,810 for accounts that change: the resource over HTTP, the
    // rule, a replica that is filled from the stream, and what it appends by itself; 70 for a full disk and for one
    // decision about writes; 45 for the log lines of a write; 10 for the gauge of what is not applied.
    ("accountservice", &["accountservice/"], 2645),
    // 750; the rule by which a view depends on a limited part of the stream, its progress and the size of an entry; 5 for the gauge of
    // what is not applied.
    ("vipservice", &["vipservice/"], 815),
    ("failpoint", &["common/failpoint/"], 60),
    ("contracts", &["common/contracts/"], 290),
    // 330 and the line with the number of waiting messages; 100 for messages of any exchange, for what is damaged, unreadable or
    // of an earlier version, and for `outbox_sync`.
    ("outbox", &["common/outbox/"], 450),
    // 1,900 and the line for the end of a delivery that leads to no effect; 5 for gauges with a label.
    ("messaging", &["common/messaging/"], 1920),
    ("queue-browser", &["common/queue-browser/"], 180),
    // 170 and reading from a place before the end, or from further back, and entries that are too large; 60 for batches, and for going
    // on behind an entry of an earlier run; 20 for the gauge of what is not applied.
    ("streams", &["common/streams/"], 315),
    // 1,050 and the progress of a start, the setting for the names under which a service answers, and its routes with secrets; 35 for
    // addresses in a table.
    ("service", &["common/service/"], 1175),
    // 220, and the rule of every accept loop, which the tools use, too.
    ("accept", &["common/accept/"], 285),
    ("http-server", &["common/http-server/"], 110),
    // 200 and the log of a command.
    ("telemetry", &["common/telemetry/"], 215),
    ("probe", &["common/probe/"], 60),
    ("output", &["common/output/"], 75),
    // 170 and the numbers of the records that are missing.
    ("frames", &["common/frames/"], 250),
    ("journal", &["common/journal/"], 1215),
    // 1,420 and the flags that the help of a verb does not list.
    ("config with properties", &["common/config/", "common/properties/"], 1425),
    ("config-client", &["common/config-client/"], 250),
    ("tls-advice", &["common/tls-advice/"], 60),
    ("config-bus", &["common/config-bus/"], 420),
    // 500 and the verbs for any queue: the command line by clap's derive, and the effect that a service names.
    // Then the limit in bytes, what makes control characters visible, and the log line of a redrive.
    ("dead-letters", &["common/dead-letters/"], 640),
    // 1,100 and the names under which it answers without a password.
    ("configserver", &["configserver/"], 1125),
    // 900 was the plan; messages that are on their way, viewers that skip, and the actions with their limits took more.
    ("live", &["tools/live/"], 1300),
    // 1,500 and the limit for the documents of a file; 50 for encrypted values that name their key.
    ("spring", &["common/spring/"], 1560),
];

/// Lines of all Rust outside of tests and benchmarks, with comments and blank lines. 34,000, and 2,000 for the page on which
/// the messages move: its server, and what it shows of processes and of a swarm; 150 for idle connections of the forwarder, and
/// for commands that take turns and listen to signals; 400 for the rules of browsers and terminals; 120 for half-sent requests at
/// the forwarder, folders that only their owner reads, tasks whose logs are gone, and commands that look again; 120 for one HTTP
/// server of the services and the tools, with its answers that last, and for the open files of devbroker; 210 for what the compose
/// file refuses before it is a tree, and for paths however they are written; 30 for the release archive; 250 for
/// `cargo hops wait` and `update`, a start that ends at the second equal failure, and the help of verbs; 30
/// for tests that take their ports for as long as they run; 120 for the queues of a swarm, a broker's second address, and
/// permissions in the compose file; 240 for `check`, `break`, `mend` and `verify --freeze`; 330 for
/// the frames of logs, and what damage costs; 80 for `env`; 390 for `cargo hops new` and the service that it creates;
/// 150 for expiration and exclusive consumers in the development broker; 2,080 for an outbox that survives a power loss and
/// reports damage, and for a store of accounts that is never filled twice; 830 for what a stack on Swarm shows, which `deploy.sh`
/// did in awk, and for several keys of encrypted values; 2,500 for accounts that change, replicated over a stream; 120 for addresses in
/// tables and what each service answers about itself; 100 for a store whose disk has failed; 60 for the example that prints the events
/// of accounts; 190 for the walk of a write, on the command line and on the page; 320 for the firehose
/// of devbroker, and for the examples of it and of virtual hosts; 170 for `cargo hops stats`; 60 for the
/// numbers of messages in queues and of entries that are not applied.
const WHOLE_REPOSITORY: usize = 45_510;

#[test]
fn every_crate_keeps_within_its_budget_and_so_does_the_repository() {
    let sources = shipped();
    let lines = |folders: &[&str]| {
        let is_inside = |source: &&Source| folders.iter().any(|folder| source.path.starts_with(folder));
        let lines = sources.iter().filter(is_inside).map(Source::lines);
        lines.fold([0, 0], |sum, [all, code]| [sum[0] + all, sum[1] + code])
    };
    let mut table = "\nlines outside of tests         all    code  budget\n".to_owned();
    let mut over = vec![];
    for &(name, folders, budget) in BUDGETS {
        let [all, code] = lines(folders);
        table += &format!("{name:<25} {all:>9} {code:>7} {budget:>7}\n");
        if code > budget {
            over.push(format!("{name}: {code} lines of code, at most {budget}"));
        }
    }
    for (name, folder) in [
        ("hops", "tools/hops/"),
        ("devbroker", "tools/devbroker/"),
        ("its core", "tools/devbroker/src/core"),
        ("examples", "examples/"),
        ("test kit", "e2e/"),
    ] {
        let [all, code] = lines(&[folder]);
        table += &format!("{name:<25} {all:>9} {code:>7}\n");
    }
    let [all, code] = lines(&[""]);
    table += &format!("{:<25} {all:>9} {code:>7} {WHOLE_REPOSITORY:>7} (all)\n", "whole repository");
    if all > WHOLE_REPOSITORY {
        over.push(format!("the whole repository: {all} lines, at most {WHOLE_REPOSITORY}"));
    }
    let _ = write!(io::stdout().lock(), "{table}");
    assert!(
        over.is_empty(),
        "{table}{}\nlet something leave, or raise the budget and say why",
        over.join("\n")
    );
}
