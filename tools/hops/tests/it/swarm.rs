//! Verbs for the stack on Docker Swarm, beside a `docker` that answers what a test wants.
//!
//! What a real engine answers is in `e2e/tests/swarm`.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use e2e::{
    binaries::write_program,
    broker::free_base,
    environment::{search_path, settings_of_the_tool},
    wait::{PATIENCE, until_true},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::checkout::CommandOutput;

/// Stack with a broker, an accountservice that is ready, a vipservice that is not, and the vipservice before it.
const STACK: &str = r#"
    "service ls "*) printf 'hops_accountservice\nhops_edge\nhops_rabbitmq\nhops_vipservice\n' ;;
    "service ps "*)
        printf 'v2\thops_vipservice.1\thops/vipservice:12ab@sha256:00\tnode1\tRunning\tRunning 3 seconds ago\t\n'
        printf 'v1\t \\_ hops_vipservice.1\thops/vipservice:12ab\tnode1\tShutdown\tFailed 9 seconds ago\t"task: non-zero exit (137)"\n'
        printf 'v3\thops_vipservice.2\thops/vipservice:12ab\t\tRunning\tPending 2 minutes ago\t"no suitable node"\n'
        printf 'e1\thops_edge.1\thops/edge:12ab\tnode1\tRunning\tRunning 2 hours ago\t\n'
        printf 'b1\thops_rabbitmq.1\trabbitmq:4\tnode1\tRunning\tRunning 2 hours ago\t\n'
        printf 'a1\thops_accountservice.1\thops/accountservice:34cd\tnode1\tRunning\tRunning 2 hours ago\t\n' ;;
    "ps "*)
        printf 'cv2 running hops_vipservice.1.v2\nce1 running hops_edge.1.e1\ncb1 running hops_rabbitmq.1.b1\n'
        printf 'ca1 running hops_accountservice.1.a1\ncv1 exited hops_vipservice.1.v1\n' ;;
    "exec ca1 /accountservice healthcheck --ready") echo ok ;;
    "exec cv2 /vipservice healthcheck --ready")
        printf 'error: http://127.0.0.1:6868/readyz answers 503: broker: connecting: \033[2J refused\n' >&2; exit 1 ;;
    "kill "*) ;;
"#;
/// Queues that the broker's management API lists.
const QUEUES: &str = r#"
    "exec --interactive cb1 "*)
        printf 'HTTP/1.0 200 OK\r\nserver: Cowboy\r\n\r\n'
        printf '[{"name":"vip_queue","type":"quorum","messages_ready":0,"messages_unacknowledged":0,"consumers":1},'
        printf '{"name":"amq.gen-1","type":"classic","exclusive":true}]' ;;
"#;
/// Logs with docker's times: those of the two vipservices and of the broker.
const LOGS: &str = r#"
    "logs "*cv2) printf '2026-11-20T00:00:03.000000003Z {"timestamp":"2026-11-20T00:00:03Z","level":"INFO","message":"new \302\23331m\177","request":"r2"}\n' ;;
    "logs "*cv1)
        printf '2026-11-20T00:00:02.000000002Z {"timestamp":"2026-11-20T00:00:01Z","hop":9,"name":"offers","message":"old","request":"r1"}\n'
        printf '2026-11-20T00:00:02.500000000Z error: \033[2Jplain\n' >&2 ;;
    "logs "*ca1) printf '2026-11-20T00:00:02.000000002Z {"timestamp":"2026-11-20T00:00:02Z","level":"WARN","message":"between"}\n' ;;
    "logs "*cb1) printf '2026-11-20T00:00:00.000000000Z started\n' ;;
"#;

/// Checkout with a `docker` of its own.
struct Machine {
    folder: TempDir,
    base: u16,
}

impl Machine {
    /// Creates a machine whose `docker` has these answers, by all its arguments, and then no others.
    fn new(answers: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let docker = folder.path().join("bin/docker");
        for path in ["bin", ".secrets"] {
            fs::create_dir(folder.path().join(path)).unwrap();
        }
        for (path, text) in [
            ("docker-compose.yml", "services: {}\n"),
            (".secrets/amqp_username", "hops"),
            (".secrets/amqp_password", "secret"),
        ] {
            fs::write(folder.path().join(path), text).unwrap();
        }
        let script = format!(
            "#!/bin/sh\ncd '{}'\necho \"$*\" >> asked\ncase \"$*\" in\n{}\n*) echo \"not expected: $*\" >&2; exit 1 ;;\nesac\n",
            folder.path().display(),
            answers.concat()
        );
        write_program(&docker, &script);
        Self { folder, base: free_base(&[6767, 6868]) }
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hops"));
        for name in settings_of_the_tool() {
            command.env_remove(name);
        }
        let mut path = self.folder.path().join("bin").into_os_string();
        path.push(":");
        path.push(search_path());
        command.arg("--swarm").args(words.split(' ')).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("PATH", path).env("HOPS_PORT_BASE", self.base.to_string());
        command
    }

    fn hops(&self, words: &str) -> CommandOutput {
        CommandOutput::of(&self.command(words).output().unwrap())
    }

    /// Returns the commands that were given to docker.
    fn asked(&self) -> Vec<String> {
        let asked = fs::read_to_string(self.folder.path().join("asked")).unwrap_or_default();
        asked.lines().map(str::to_owned).collect()
    }

    /// Answers the requests to both services with what `answer` returns for a path and a request id, until the process ends.
    fn serve(&self, answer: impl Fn(&str, &str) -> Value + Send + Sync + 'static) {
        let answer = Arc::new(answer);
        for port in [6767, 6868] {
            let listener = TcpListener::bind(("127.0.0.1", self.base + port)).unwrap();
            let answer = Arc::clone(&answer);
            thread::spawn(move || {
                for mut connection in listener.incoming().flatten() {
                    let lines = BufReader::new(&connection).lines().map_while(Result::ok);
                    let lines: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
                    let path = lines.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
                    let id = lines.iter().find_map(|line| line.strip_prefix("x-request-id: "));
                    let body = answer(path, id.unwrap_or_default()).to_string();
                    let head = format!("content-length: {}\r\nconnection: close", body.len());
                    let _ = write!(connection, "HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}");
                }
            });
        }
    }
}

#[test]
fn the_status_has_a_services_own_reason_why_it_is_not_ready() {
    let machine = Machine::new(&[QUEUES, STACK]);
    let said = machine.hops("status").ok();
    let lines: Vec<_> = said.lines().collect();
    let words = |line: &str| {
        line.split("   ").map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    for (line, expected) in [
        (0, &["TASK", "STATE", "SINCE", "NODE", "IMAGE", "LAST ERROR"][..]),
        (1, &["accountservice.1", "ready", "2 hours ago", "node1", "hops/accountservice:34cd"]),
        (2, &["edge.1", "ready", "2 hours ago", "node1", "hops/edge:12ab"]),
        (3, &["rabbitmq.1", "ready", "2 hours ago", "node1", "rabbitmq:4"]),
        (
            4,
            &[
                "vipservice.1",
                "running",
                "3 seconds ago",
                "node1",
                "hops/vipservice:12ab",
                r"http://127.0.0.1:6868/readyz answers 503: broker: connecting: \u001b[2J refused",
            ],
        ),
        (5, &["vipservice.2", "starting", "2 minutes ago", "hops/vipservice:12ab", "no suitable node"]),
        (6, &[]),
        (7, &["NAME", "TYPE", "READY", "UNACKED", "CONSUMERS"]),
        (8, &["vip_queue", "quorum", "0", "0", "1"]),
        (9, &[]),
    ] {
        assert_eq!(words(lines[line]), expected, "{said}");
    }
    assert_eq!(lines[10], format!("accountservice     http://127.0.0.1:{}", machine.base + 6767));
    assert_eq!(
        (lines[11], lines.len()),
        (format!("vipservice         http://127.0.0.1:{}", machine.base + 6868).as_str(), 12)
    );
    let asked = machine.asked();
    let count = |verb: &str| asked.iter().filter(|command| command.starts_with(verb)).count();
    assert_eq!(["service ls ", "service ps ", "ps ", "exec "].map(count), [1, 1, 1, 3], "{asked:#?}");

    let status = machine.hops("status --json").json().remove(0);
    assert_eq!(status["tasks"][3]["state"], "running", "{status}");
    assert_eq!(
        (&status["queues"][0]["name"], status["queues"].as_array().unwrap().len()),
        (&json!("vip_queue"), 1)
    );
    assert_eq!(status["addresses"]["vipservice"], format!("http://127.0.0.1:{}", machine.base + 6868));
}

#[test]
fn a_status_without_the_broker_has_its_other_parts() {
    for broker in [
        r#""exec --interactive cb1 "*) echo 'bash: connect: Connection refused' >&2; exit 1 ;;"#,
        r#""exec --interactive cb1 "*) printf 'HTTP/1.0 503 Service Unavailable\r\n\r\n' ;;"#,
    ] {
        let machine = Machine::new(&[broker, STACK]);
        let said = machine.hops("status").ok();
        assert!(said.contains("\n\nthe broker does not answer yet\n\naccountservice "), "{said}");
        assert_eq!(machine.hops("status --json").json()[0]["queues"], Value::Null);
    }
    let without_login = Machine::new(&[QUEUES, STACK]);
    fs::remove_file(without_login.folder.path().join(".secrets/amqp_password")).unwrap();
    let said = without_login.hops("status").ok();
    assert!(said.contains("cannot read ") && said.contains("amqp_password"), "{said}");
    let nothing = Machine::new(&[r#""service ls "*) ;;"#]);
    for verb in ["status", "stats", "service logs", "walk", "verify", "queues"] {
        let why = nothing.hops(verb).failed();
        assert!(
            why.contains("there is no stack hops on this machine's swarm: `./deploy.sh`"),
            "{verb}: {why}"
        );
    }
    let other = Machine::new(&[STACK]);
    let why = CommandOutput::of(&other.command("status").env("HOPS_STACK", "other").output().unwrap());
    assert!(why.failed().contains("there is no stack other on"));
    assert!(other.asked()[0].contains("label=com.docker.stack.namespace=other"), "{:?}", other.asked());
}

#[test]
fn stats_are_dockers_of_the_containers_that_run() {
    let machine = Machine::new(&[
        r#"
        "stats --no-stream --format "*" cv2 ce1 cb1 ca1")
            printf 'hops_vipservice.1.v2\t0.03%%\t5.918MiB / 192MiB\t6\nhops_edge.1.e1\t--\t-- / --\t--\n'
            printf 'hops_rabbitmq.1.b1\t0.51%%\t129.9MiB / 1GiB\t41\nhops_accountservice.1.a1\t12.50%%\t7.2MiB / 192MiB\t8\n' ;;"#,
        STACK,
    ]);
    assert_eq!(
        machine.hops("stats").ok(),
        "NAME               CPU %    MEM USAGE / LIMIT   PIDS\n\
         accountservice.1   12.50%   7.2MiB / 192MiB     8\n\
         rabbitmq.1         0.51%    129.9MiB / 1GiB     41\n\
         vipservice.1       0.03%    5.918MiB / 192MiB   6\n"
    );
    let expected = json!({
        "name": "accountservice.1",
        "cpuPercent": 12.5,
        "memoryBytes": 7_549_747,
        "limitBytes": 192 << 20,
        "pids": 8,
    });
    assert_eq!(machine.hops("stats --json").json()[0], expected);

    // Docker shows all containers of the machine to a command that names none.
    let stopped = Machine::new(&[r#""ps "*) echo 'cv1 exited hops_vipservice.1.v1' ;;"#, STACK]);
    assert_eq!(stopped.hops("stats").ok(), "NAME   CPU %   MEM USAGE / LIMIT   PIDS\n");
}

#[test]
fn logs_are_those_of_all_containers_in_the_order_of_time_and_without_control_characters() {
    let machine = Machine::new(&[LOGS, STACK]);
    let lines = [
        "vipservice.1       | hop=9 offers    old  request=r1\n",
        "accountservice.1   | WARN            between\n",
        "vipservice.1       | error: \\u001b[2Jplain\n",
        "vipservice.1       | INFO            new \\u009b31m\\u007f  request=r2\n",
    ];
    assert_eq!(machine.hops("service logs").ok(), lines.concat());
    let of_vip = [lines[0], lines[2], lines[3]].concat();
    for (words, expected) in [
        ("vipservice", of_vip.as_str()),
        ("hops_vipservice", &of_vip),
        ("hops_vipservice.1", &of_vip),
        ("vipservice.2", ""),
        ("accountservice vipservice", &lines.concat()),
        ("rabbitmq", "rabbitmq.1         | started\n"),
        ("--tail 1", &[lines[1], lines[3]].concat()),
        ("--request r1", lines[0]),
        ("--since 2026-11-20T00:00:02.1Z", &[lines[2], lines[3]].concat()),
        ("-t accountservice", "accountservice.1   | 2026-11-20T00:00:02.000000Z WARN            between\n"),
    ] {
        assert_eq!(machine.hops(&format!("service logs {words}")).ok(), expected, "{words}");
    }
    let asked = machine.asked();
    assert!(asked.contains(&"logs --timestamps --since=2026-11-20T00:00:02.1Z ca1".to_owned()), "{asked:#?}");
    let json = machine.hops("service logs --json accountservice").json();
    assert_eq!(json[0]["task"], "accountservice.1");

    let nobodys = machine.hops("service logs --request r3");
    assert_eq!(
        (nobodys.code, nobodys.out.as_str(), nobodys.error.as_str()),
        (Some(1), "", "error: no line of request r3\n")
    );
    for name in ["nobody", "hops_nobody.1"] {
        let why = machine.hops(&format!("service logs {name}")).failed();
        assert!(
            why.contains("no service nobody; there are accountservice, edge, rabbitmq, vipservice"),
            "{why}"
        );
    }
}

#[tokio::test]
async fn followed_logs_have_the_lines_of_later_containers_and_end_with_their_reader() {
    let machine = Machine::new(&[
        r#"
        "ps "*)
            printf 'ca1 running hops_accountservice.1.a1\ncv1 exited hops_vipservice.1.v1\n'
            [ ! -e later ] || printf 'cv2 running hops_vipservice.1.v2\n' ;;
        "logs --timestamps ca1") echo '2026-11-20T00:00:01Z one' ;;
        "logs --timestamps cv1") echo '2026-11-20T00:00:00Z none' ;;
        "logs --timestamps --since="*" --follow ca1")
            echo "$$" >> processes; echo '2026-11-20T00:00:01Z one'; echo '2026-11-20T00:00:02Z two'
            while sleep 0.1; do echo '2026-11-20T00:00:03Z more'; done ;;
        "logs --timestamps --follow cv2")
            echo "$$" >> processes; echo '2026-11-20T00:00:04Z three'
            while sleep 0.1; do :; done ;;"#,
        STACK,
    ]);
    let mut logs =
        machine.command("service logs -f").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(logs.stdout.take().unwrap()).lines().map(Result::unwrap);
    let first: Vec<_> = lines.by_ref().take(3).collect();
    assert_eq!(first, ["vipservice.1       | none", "accountservice.1   | one", "accountservice.1   | two"]);
    fs::write(machine.folder.path().join("later"), "").unwrap();
    // The other one prints ten lines a second.
    assert!(lines.by_ref().take(300).any(|line| line == "vipservice.1       | three"));
    drop(lines);
    until_true("`service logs -f` ends after its reader", PATIENCE, async || {
        logs.try_wait().unwrap().is_some()
    })
    .await;
    let mut error = String::new();
    logs.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert_eq!((logs.wait().unwrap().code(), error.as_str()), (Some(0), ""));
    let processes = fs::read_to_string(machine.folder.path().join("processes")).unwrap();
    assert_eq!(processes.lines().count(), 2, "each container is followed once");
    for process in processes.lines() {
        let state = || fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let is_gone = || state().is_empty() || state().contains(") Z ");
        until_true("the docker commands are gone", PATIENCE, async || is_gone()).await;
    }
}

#[test]
fn a_walk_has_its_hops_from_the_containers() {
    let hop = |hop: u64| {
        format!(
            r#"echo "$now {{\"timestamp\":\"$now\",\"hop\":{hop},\"name\":\"h{hop}\",\"message\":\"m{hop}\",\"request\":\"$id\"}}""#
        )
    };
    let hops = |hops: std::ops::RangeInclusive<u64>| hops.map(hop).collect::<Vec<_>>().join("\n");
    let logs = |account: &str, vip: &str| {
        format!(
            r#"
            "logs --timestamps --since="*" --follow c"[av]?)
                until [ -s request ]; do sleep 0.05; done
                id=$(cat request) now=$(date -u +%Y-%m-%dT%H:%M:%S.%NZ)
                case "$*" in *ca1) {account} ;; *cv2) {vip} ;; esac ;;"#
        )
    };
    let walk = |logs: &str, account: &str, vip: bool| {
        let machine = Machine::new(&[logs, STACK]);
        let file = machine.folder.path().join("request");
        machine.serve(move |_, id| {
            fs::write(&file, id).unwrap();
            json!({"id": "10000", "vip": vip, "servedBy": "accountservice.1"})
        });
        let output = machine.hops(&format!("walk {account}"));
        (machine, output)
    };
    let (machine, said) = walk(&logs(&hops(1..=6), &hops(7..=9)), "10000", true);
    let said = said.ok();
    for (hop, task) in [("1 h1", "accountservice.1"), ("6 h6", "accountservice.1"), ("9 h9", "vipservice.1")]
    {
        assert!(said.lines().any(|line| line.contains(hop) && line.contains(task)), "{hop}: {said}");
    }
    assert!(
        said.starts_with("curl -H 'x-request-id: walk-") && said.contains(&(machine.base + 6767).to_string()),
        "{said}"
    );
    assert!(said.lines().last().unwrap().starts_with("answered 200 after "), "{said}");
    let (_, said) = walk(&logs(&hops(4..=6), &hops(7..=9)), "10000", true);
    assert!(said.ok().contains("hops 1 to 3 are logged at debug only"));
    let (_, said) = walk(&logs(&hops(1..=6), &hops(8..=9)), "10000", true);
    assert!(said.failed().contains("`cargo hops --swarm service logs`"));
    let (_, said) = walk(&logs(&hops(1..=3), ":"), "10001", false);
    assert!(said.ok().contains("`cargo hops --swarm walk 10000`"));
}

#[test]
fn verify_matches_reads_with_offers_and_kills_a_task_of_the_stack() {
    let machine = Machine::new(&[QUEUES, STACK]);
    let (offers, is_one_lost) = (Arc::new(Mutex::new(vec![])), Arc::new(Mutex::new(false)));
    let lost = Arc::clone(&is_one_lost);
    machine.serve(move |path, id| {
        let mut offers = offers.lock().unwrap();
        if path.starts_with("/offers") {
            return json!({"offers": *offers, "next": null});
        }
        if !std::mem::take(&mut *lost.lock().unwrap()) {
            let offset = offers.len();
            offers.push(json!({"offset": offset, "requestId": id}));
        }
        json!({"vip": true})
    });
    // It does not wait until the broker's numbers are new.
    let verify = "verify --read 20 --patience 0";
    let said = machine.hops(&format!("{verify} --kill vipservice.1")).ok();
    assert!(
        said.starts_with(&format!("20 reads of http://127.0.0.1:{}/accounts", machine.base + 6767)),
        "{said}"
    );
    assert!(said.ends_with("\nreads 20 - offers 20 - duplicates 0 - dead-lettered 0 - LOST 0\n"), "{said}");
    assert!(machine.asked().contains(&"kill --signal KILL cv2".to_owned()), "{:#?}", machine.asked());
    *is_one_lost.lock().unwrap() = true;
    let said = machine.hops(verify);
    assert!(
        said.code == Some(1) && said.out.contains("(`cargo hops --swarm service logs --request verify-"),
        "{said:#?}"
    );

    let before = machine.asked().len();
    let why = machine.hops("verify --kill vipservice.2").failed();
    assert!(
        why.contains("there is no task vipservice.2; the tasks are vipservice.1, edge.1, rabbitmq.1"),
        "{why}"
    );
    assert!(
        !machine.asked()[before..].iter().any(|command| command.starts_with("exec")),
        "{:#?}",
        machine.asked()
    );
}

#[test]
fn other_verbs_are_refused_with_those_that_there_are() {
    let machine = Machine::new(&[]);
    for words in ["scale vipservice=3", "service scale vipservice=3", "up", "kill vipservice.1", "read"] {
        let said = machine.hops(words);
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{words}: {said:#?}");
        assert!(
            said.error.contains("`cargo hops --swarm status`, `stats`, `service logs`, `walk`")
                && said.error.contains("./deploy.sh"),
            "{said:#?}"
        );
        assert_eq!(said.error.lines().count(), 1, "{said:#?}");
    }
    let said = machine.hops("verify --freeze vipservice.1 --kill vipservice.1");
    assert!(said.code == Some(2) && said.error.contains("a swarm replaces a frozen container"), "{said:#?}");
    assert_eq!(machine.asked(), Vec::<String>::new());
}
