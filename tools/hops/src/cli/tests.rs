//! Command lines, right and wrong.

use jiff::{Timestamp, tz::TimeZone};

use super::{values::since, *};

fn typed(line: &str) -> Result<Option<CommandLine>, Failure> {
    parse(line.split_whitespace().map(OsString::from))
}

#[test]
fn verbs_are_dockers() {
    let scale = Scale { service: "vipservice".into(), replicas: 3 };
    let task = || TaskName { service: "vipservice".into(), slot: 2 };
    let read = |count, rate| Verb::Read(Read { count, account: "10000".into(), rate });
    let view = LogView { timestamps: true, since: None, tail: Some(20) };
    let peek = QueueVerb::Peek { name: "q".into() };
    let poison = QueueVerb::Poison { name: "vip_queue".into() };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let wait = |condition, timeout| Verb::Wait { condition, timeout };
    let value = ("offer_hours".to_owned(), "9=5".to_owned());
    let setting = Condition::Setting { service: "vipservice".into(), value };
    for (line, expected) in [
        ("hops up -d", Verb::Up(Up { detach: true, ..Up::default() })),
        ("hops up --no-live", Verb::Up(Up { no_live: true, ..Up::default() })),
        ("hops --swarm live", Verb::Live { open: false, read_only: false }),
        ("hops --swarm queues", Verb::Queues { broker: None, verb: None }),
        ("hops --swarm status", Verb::Status),
        ("hops --swarm stats", Verb::Stats),
        ("hops --swarm walk 10001", Verb::Walk { account: "10001".into(), write: false }),
        ("hops live --open --read-only", Verb::Live { open: true, read_only: true }),
        ("hops service ls", Verb::Service(ServiceVerb::Ls)),
        ("hops service ps hops_vipservice", Verb::Service(ServiceVerb::Ps { name: "vipservice".into() })),
        ("hops service scale hops_vipservice=3", Verb::Service(ServiceVerb::Scale { scales: vec![scale] })),
        ("hops kill vipservice.2", Verb::Kill { task: task() }),
        ("hops pause hops_vipservice.2", Verb::Pause { task: task() }),
        ("hops unpause vipservice.2", Verb::Unpause { task: task() }),
        ("hops read", read(None, None)),
        ("hops read 5 10000", read(Some(5), None)),
        ("hops read --rate 5", read(None, Some(5))),
        ("hops walk", Verb::Walk { account: "10000".into(), write: false }),
        ("hops walk --write", Verb::Walk { account: "10000".into(), write: true }),
        ("hops queues peek q --broker b", Verb::Queues { broker: Some("b".into()), verb: Some(peek) }),
        ("hops queues", Verb::Queues { broker: None, verb: None }),
        ("hops queues poison", Verb::Queues { broker: None, verb: Some(poison) }),
        ("hops queues cut", Verb::Queues { broker: None, verb: Some(QueueVerb::Cut) }),
        ("hops env", Verb::Env { seat: None }),
        ("hops env --seat 20", Verb::Env { seat: Some(20) }),
        ("hops down --all", Verb::Down { all: true }),
        ("hops new mailservice", Verb::New { name: "mailservice".into() }),
        (
            "hops update hops_vipservice accountservice",
            Verb::Update { names: names(&["vipservice", "accountservice"]) },
        ),
        ("hops wait ready", wait(Condition::Ready { names: vec![] }, 60)),
        (
            "hops wait ready vipservice --timeout 5",
            wait(Condition::Ready { names: names(&["vipservice"]) }, 5),
        ),
        ("hops wait queue vip_queue=0", wait(Condition::Queue { messages: ("vip_queue".into(), 0) }, 60)),
        ("hops wait --timeout 5 offers 31", wait(Condition::Offers { count: 31 }, 5)),
        ("hops wait setting vipservice offer_hours=9=5", wait(setting, 60)),
        (
            "hops service logs -f --request 7f3a",
            Verb::Service(ServiceVerb::Logs {
                names: vec![],
                follow: true,
                request: Some("7f3a".into()),
                view: LogView::default(),
            }),
        ),
        (
            "hops service logs -t -n 20 vipservice",
            Verb::Service(ServiceVerb::Logs {
                names: vec!["vipservice".into()],
                follow: false,
                request: None,
                view,
            }),
        ),
    ] {
        assert_eq!(typed(line).unwrap().unwrap().verb, expected, "{line}");
    }
    assert!(typed("hops --json status").unwrap().unwrap().json);
    assert!(typed("hops service ls --json").unwrap().unwrap().json);
}

#[test]
fn without_a_verb_the_help_is_printed() {
    for line in ["hops", "hops service", "hops --swarm help"] {
        assert_eq!(typed(line).unwrap(), None, "{line}");
    }
}

/// Those with which the tool starts its own processes.
#[test]
fn verbs_for_nobody_to_type_are_in_no_help_and_no_suggestion() {
    let own = Verb::Supervise { binaries: "/bin".into() };
    assert_eq!(typed("hops supervise /bin").unwrap().unwrap().verb, own);
    let own = Verb::LiveServe { read_only: true };
    assert_eq!(typed("hops live-serve --read-only").unwrap().unwrap().verb, own);
    let mut command = CommandLine::command();
    command.build();
    let help = command.render_long_help().to_string();
    let known: Vec<_> = command.get_subcommands().map(clap::Command::get_name).collect();
    for own in ["supervise", "live-serve"] {
        assert!(!help.contains(own) && !known.contains(&own), "{known:?}: {help}");
        for line in [format!("hops {}", &own[..own.len() - 1]), format!("hops help {own}")] {
            let why = typed(&line).unwrap_err().to_string();
            assert!(
                why.contains("unrecognized subcommand") && why.matches(own).count() <= 1,
                "{line}: {why}"
            );
            assert!(!why.contains("similar") || !why.contains(&format!("'{own}'")), "{line}: {why}");
        }
    }
}

#[test]
fn a_wrong_command_line_is_one_line_that_says_what_to_type() {
    for line in [
        "hops fly",
        "hops service scale vipservice",
        "hops service scale vipservice=many",
        "hops service scale vipservice=51",
        "hops kill vipservice",
        "hops verify --read 0",
        "hops read --rate 0",
        "hops service logs --since yesterday",
    ] {
        let Err(Failure::Usage(why)) = typed(line) else { panic!("{line}") };
        assert!(!why.contains('\n') && why.contains("cargo hops"), "{why}");
    }
    // A number that is none, one that is out of range, and one that begins as a flag does.
    for (line, says) in [
        ("hops read", "from 0 to 4294967295, as in `cargo hops read 30`"),
        ("hops read --rate", "from 1 to 1000, as in `cargo hops read --rate 20`"),
        (
            "hops service logs vipservice --tail",
            "from 0 to 1000000000, as in `cargo hops service logs --tail 20`",
        ),
        ("hops service logs -n", "from 0 to 1000000000, as in `cargo hops service logs --tail 20`"),
        ("hops verify --read", "from 1 to 9000, as in `cargo hops verify --read 200`"),
        ("hops env --seat", "from 1 to 20, as in `cargo hops env --seat 3`"),
        ("hops verify --patience", "from 0 to 86400, as in `cargo hops verify --patience 60`"),
    ] {
        for number in ["x", "1.5", "99999999999999999999", "-1"] {
            let why = typed(&format!("{line} {number}")).unwrap_err().to_string();
            assert!(
                why.contains(&format!("invalid value '{number}'")) && why.contains(says),
                "{line}: {why}"
            );
        }
    }
    let why = typed("hops service logs --since -5m").unwrap_err().to_string();
    assert!(why.contains("as in `cargo hops service logs --since 5m`"), "{why}");
    for (line, instead) in [
        ("hops logs -f", "cargo hops service logs"),
        ("hops ps x", "cargo hops service ps"),
        ("hops update", "required"),
        ("hops wait --timeout 5", "requires a subcommand"),
        ("hops wait queue vip_queue", "write QUEUE=N, as in `cargo hops wait queue vip_queue=0`"),
        ("hops wait queue vip_queue=some", "write QUEUE=N"),
        ("hops wait setting vipservice =1", "write KEY=VALUE"),
        ("hops wait offers many", "as in `cargo hops wait offers 30`"),
        ("hops queus", "; a similar subcommand exists: 'queues'"),
        ("hops --json", "requires a subcommand"),
        ("hops service scale vipservice", "write NAME=N"),
        ("hops env --seat 0", "from 1 to 20"),
        ("hops env --seat 21", "from 1 to 20"),
        ("hops kill vipservice", "NAME.N"),
        ("hops --swarm scale vipservice=3", "./deploy.sh"),
        ("hops scale --swarm vipservice=3", "./deploy.sh"),
        ("hops --swarm queues pek", "; a similar subcommand exists: 'peek'"),
        ("hops --swarm service scale vipservice=3", "./deploy.sh"),
        ("hops --swarm service ls", "`service logs`"),
        ("hops --swarm verify --vip-url http://localhost:1", "./deploy.sh"),
        ("hops --swarm verify --freeze vipservice.1 --kill vipservice.1", "fails its health check"),
        ("hops --swarm queues --broker amqp://localhost", "./deploy.sh"),
        ("hops check", "required"),
        ("hops check four", "as in `cargo hops check 4`"),
        ("hops check 4 --all", "cannot be used with"),
        ("hops break", "required"),
    ] {
        assert!(typed(line).unwrap_err().to_string().contains(instead), "{line}");
    }
}

#[test]
fn since_is_a_duration_before_now_or_a_date() {
    let ago = |text: &str| {
        let since = since(text).unwrap();
        Timestamp::now().duration_since(since).as_secs()
    };
    assert_eq!(["90s", "5m", "1h30m"].map(ago), [90, 300, 5400]);
    let date = "2026-11-20T14:47:38Z";
    assert_eq!(since(date).unwrap(), date.parse::<Timestamp>().unwrap());
    let local = since("2026-11-20T14:47:38").unwrap().to_zoned(TimeZone::system());
    assert_eq!(local.datetime().to_string(), "2026-11-20T14:47:38");
}
