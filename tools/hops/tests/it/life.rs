//! From up to down, and what goes wrong in between.

use std::{
    fs,
    io::Write as _,
    net::{TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixStream, process::CommandExt},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use e2e::{
    binaries::write_program,
    http::client,
    wait::{PATIENCE, until, until_true},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::checkout::{Checkout, START_TIMEOUT, binaries};

#[tokio::test]
async fn up_runs_what_the_compose_file_says_and_down_leaves_no_process() {
    let checkout = Checkout::new().await;
    let said = checkout.up().ok();
    let secrets = checkout.path().join(".hops/secrets");
    assert!(said.contains(&secrets.display().to_string()), "{said}");
    assert!(said.contains(&format!("curl localhost:{}/accounts/10000", checkout.port(6767))), "{said}");

    let replicas: Vec<_> = checkout.hops(&["service", "ls", "--json"]).json();
    let replicas: Vec<_> = replicas.iter().map(|service| (&service["name"], &service["ready"])).collect();
    assert_eq!(
        replicas,
        [
            (&json!("configserver"), &json!(1)),
            (&json!("accountservice"), &json!(2)),
            (&json!("vipservice"), &json!(1))
        ]
    );
    let served: Vec<_> =
        [checkout.get(6767, "/accounts/10001").await, checkout.get(6767, "/accounts/10001").await]
            .iter()
            .map(|reply| reply.json()["servedBy"].as_str().unwrap().to_owned())
            .collect();
    assert_ne!(served[0], served[1], "one port, and the replicas in turn");
    assert_eq!(checkout.processes().len(), 5, "four tasks and the supervisor");
    for secret in ["accountservice_amqp_username", "accountservice_amqp_password"] {
        assert_eq!(fs::metadata(secrets.join(secret)).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let status = checkout.hops(&["status"]).ok();
    assert!(status.contains("accountservice.2") && status.contains(" MiB"), "{status}");

    checkout.hops(&["down"]).ok();
    assert_eq!(checkout.processes(), Vec::<String>::new());
    assert!(secrets.exists(), "data stays");
    assert!(checkout.hops(&["status"]).failed().contains("type `cargo hops up`"));
    checkout.hops(&["down", "--all"]).ok();
    assert!(!checkout.path().join(".hops").exists());
}

#[tokio::test]
async fn tasks_run_from_copies_so_the_build_may_be_removed() {
    let checkout = Checkout::new().await;
    let built = checkout.path().join("built");
    fs::create_dir(&built).unwrap();
    for name in ["configserver", "accountservice", "vipservice"] {
        fs::copy(binaries().join(name), built.join(name)).unwrap();
    }
    let mut up = checkout.command(&["up", "-d", "--broker", &checkout.broker()]);
    assert!(up.env("HOPS_BIN_DIR", &built).stdout(Stdio::null()).status().unwrap().success());

    fs::remove_dir_all(&built).unwrap();
    let before = checkout.tasks("vipservice")[0]["pid"].clone();
    checkout.hops(&["kill", "vipservice.1"]).ok();
    until_true("another process is ready", PATIENCE, async || {
        let tasks = checkout.tasks("vipservice");
        tasks[0]["phase"] == "ready" && tasks[0]["pid"] != before
    })
    .await;
}

/// `up` in the foreground as the shell starts it with the default for SIGHUP, or as `nohup` does.
async fn up_with(checkout: &Checkout, hangup: &str) -> (Child, PathBuf) {
    let output = checkout.path().join(format!("output{hangup}"));
    let command = checkout.command(&["up", "--broker", &checkout.broker()]);
    let mut up = Command::new("env");
    up.arg(hangup).arg(command.get_program()).args(command.get_args()).current_dir(checkout.path());
    up.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let up = up.stdout(fs::File::create(&output).unwrap()).stderr(Stdio::null()).spawn().unwrap();
    checkout.until_ready().await;
    let is_logged = async || fs::read_to_string(&output).unwrap().contains("vipservice.1       | INFO");
    until_true("the services' lines are shown", PATIENCE, is_logged).await;
    (up, output)
}

#[tokio::test]
async fn each_signal_to_stop_stops_the_system_of_an_up_in_the_foreground() {
    let checkout = Checkout::new().await;
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let (mut up, _) = up_with(&checkout, "--default-signal=HUP").await;
        kill_process(Pid::from_child(&up), signal).unwrap();
        let status = until("up exits", PATIENCE, async || up.try_wait().unwrap()).await;
        assert!(status.success(), "{signal:?}: {status}");
        assert_eq!(checkout.processes(), Vec::<String>::new(), "{signal:?}");
    }
}

#[tokio::test]
async fn a_second_signal_ends_an_up_that_waits_for_a_task() {
    let checkout = Checkout::new().await;
    let (mut up, output) = up_with(&checkout, "--default-signal=HUP").await;
    let task = Pid::from_raw(checkout.tasks("vipservice")[0]["pid"].as_i64().unwrap().try_into().unwrap());
    kill_process(task.unwrap(), Signal::STOP).unwrap();
    kill_process(Pid::from_child(&up), Signal::INT).unwrap();
    let stopping = async || fs::read_to_string(&output).unwrap().contains("SIGINT: stopping");
    until_true("up begins to stop", PATIENCE, stopping).await;
    kill_process(Pid::from_child(&up), Signal::INT).unwrap();
    assert!(!until("up exits", PATIENCE, async || up.try_wait().unwrap()).await.success());
    kill_process(task.unwrap(), Signal::CONT).unwrap();
    checkout.hops(&["down"]).ok();
    assert_eq!(checkout.processes(), Vec::<String>::new());
}

#[tokio::test]
async fn an_up_whose_output_nobody_reads_any_more_stops_the_system() {
    let checkout = Checkout::new().await;
    let mut up =
        checkout.command(&["up", "--broker", &checkout.broker()]).stdout(Stdio::piped()).spawn().unwrap();
    checkout.until_ready().await;
    drop(up.stdout.take());
    // Something is to be printed.
    let stopped = async || {
        let _ = client().get(checkout.url(6767, "/accounts/10000")).send().await;
        up.try_wait().unwrap()
    };
    until("up exits", PATIENCE, stopped).await;
    assert_eq!(checkout.processes(), Vec::<String>::new());
}

#[tokio::test]
async fn an_up_that_nohup_has_started_outlives_its_terminal() {
    let checkout = Checkout::new().await;
    let (mut up, output) = up_with(&checkout, "--ignore-signal=HUP").await;
    kill_process(Pid::from_child(&up), Signal::HUP).unwrap();
    checkout.hops(&["status"]).ok();
    kill_process(Pid::from_child(&up), Signal::TERM).unwrap();
    assert!(until("up exits", PATIENCE, async || up.try_wait().unwrap()).await.success());
    let said = fs::read_to_string(output).unwrap();
    assert!(said.contains("SIGTERM: stopping") && !said.contains("SIGHUP: stopping"), "{said}");
}

#[tokio::test]
async fn of_two_ups_at_once_one_starts_the_system_and_the_other_finds_it() {
    let checkout = Checkout::new().await;
    for _ in 0..3 {
        let start = || {
            let mut up = checkout.command(&["up", "-d", "--no-live", "--broker", &checkout.broker()]);
            up.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let both = [start(), start()].map(|up| up.wait_with_output().unwrap());
        assert!(both.iter().all(|output| output.status.success()), "{both:?}");
        let is_second = |output: &&Output| String::from_utf8_lossy(&output.stdout).contains("up already");
        assert_eq!(both.iter().filter(is_second).count(), 1, "{both:?}");
        checkout.hops(&["status"]).ok();
        assert_eq!(checkout.processes().len(), 5);
        checkout.hops(&["down"]).ok();
        assert_eq!(checkout.processes(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_down_during_an_up_stops_what_it_has_started() {
    let checkout = Checkout::new().await;
    let mut up = checkout.command(&["up", "-d", "--no-live", "--broker", &checkout.broker()]);
    let mut up = up.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let lock = checkout.path().join(".hops/run/command.lock");
    let is_taken = async || fs::read_to_string(&lock).is_ok_and(|pid| pid == up.id().to_string());
    until_true("up has its lock", PATIENCE, is_taken).await;
    checkout.hops(&["down", "--all"]).ok();
    let status = until("up exits", PATIENCE, async || up.try_wait().unwrap()).await;
    assert_eq!(status.code(), Some(1), "what comes after it would find no system");
    assert_eq!(checkout.processes(), Vec::<String>::new());
    assert!(!checkout.path().join(".hops").exists());
}

#[tokio::test]
async fn idle_clients_beyond_the_open_files_lock_out_neither_commands_nor_readers() {
    let checkout = Checkout::new().await;
    let command = checkout.command(&["up", "-d", "--no-live", "--broker", &checkout.broker()]);
    let mut up = Command::new("sh");
    up.args(["-c", r#"ulimit -n 160; exec "$@""#, "sh"]).arg(command.get_program()).args(command.get_args());
    up.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    assert!(up.current_dir(checkout.path()).stdout(Stdio::null()).status().unwrap().success());

    // Half of them have sent half a request.
    let connect = |n: usize| {
        let mut stream = TcpStream::connect(("127.0.0.1", checkout.port(6767))).unwrap();
        stream.write_all(&b"GET / HTTP/1.1\r\nHost: x\r\n"[..n % 2 * 25]).unwrap();
        stream
    };
    let idle: Vec<_> = (0..200).map(connect).collect();
    // Commands that never send their request.
    let socket = checkout.path().join(".hops/run/control.sock");
    let silent: Vec<_> = (0..100).map(|_| UnixStream::connect(&socket)).collect();
    checkout.hops(&["status"]).ok();
    assert_eq!(checkout.get(6767, "/accounts/10001").await.status, 200);
    checkout.hops(&["service", "scale", "vipservice=2"]).ok();
    drop((idle, silent));
    checkout.hops(&["down"]).ok();
}

#[tokio::test]
async fn a_killed_up_stops_nothing_and_a_second_up_says_that_the_system_is_up() {
    let checkout = Checkout::new().await;
    let mut up = checkout.up_in_foreground();
    checkout.until_ready().await;
    kill_process(Pid::from_child(&up), Signal::KILL).unwrap();
    until("up exits", PATIENCE, async || up.try_wait().unwrap()).await;
    let before = checkout.processes();
    assert_eq!(before.len(), 5);
    assert!(checkout.up().ok().contains("up already"));
    assert_eq!(checkout.processes(), before);
}

#[tokio::test]
async fn the_next_command_stops_the_tasks_of_a_killed_supervisor_and_up_works_again() {
    let checkout = Checkout::new().await;
    checkout.up().ok();
    checkout.hops(&["pause", "vipservice.1"]).ok();
    kill_process(Pid::from_raw(checkout.supervisor()).unwrap(), Signal::KILL).unwrap();
    until_true("only the tasks are left", PATIENCE, async || checkout.processes().len() == 4).await;

    let since = Instant::now();
    let said = checkout.hops(&["service", "ls"]).failed();
    for part in ["supervisor was killed", "accountservice.1", "vipservice.1", "cargo hops up"] {
        assert!(said.contains(part), "{said}");
    }
    let grace = Duration::from_secs(20);
    assert!(
        since.elapsed() < grace,
        "the paused one is resumed, and not killed when its grace period is over"
    );
    assert_eq!(checkout.processes(), Vec::<String>::new());

    checkout.up().ok();
    kill_process(Pid::from_raw(checkout.supervisor()).unwrap(), Signal::KILL).unwrap();
    until_true("only the tasks are left", PATIENCE, async || checkout.processes().len() == 4).await;
    let said = checkout.up().ok();
    assert!(said.contains("stopped its tasks"), "{said}");
    assert_eq!(checkout.processes().len(), 5);
    assert_eq!(checkout.get(6767, "/accounts/10000").await.status, 200);
}

#[tokio::test]
async fn removing_the_folder_stops_the_system() {
    let checkout = Checkout::new().await;
    checkout.up().ok();
    fs::remove_dir_all(checkout.path().join(".hops")).unwrap();
    until_true("all processes have exited", PATIENCE, async || checkout.processes().is_empty()).await;
}

#[tokio::test]
async fn down_kills_a_supervisor_that_hangs_and_stops_its_tasks() {
    let checkout = Checkout::new().await;
    checkout.up().ok();
    kill_process(Pid::from_raw(checkout.supervisor()).unwrap(), Signal::STOP).unwrap();
    let said = checkout.hops(&["down"]).ok();
    assert!(said.contains("does not answer: killed"), "{said}");
    assert_eq!(checkout.processes(), Vec::<String>::new());
}

#[tokio::test]
async fn two_checkouts_run_side_by_side() {
    let (one, two) = (Checkout::new().await, Checkout::new().await);
    Checkout::up_both(&one, &two);
    assert_eq!(one.get(6767, "/accounts/10000").await.status, 200);
    one.hops(&["down"]).ok();
    assert_eq!(one.processes(), Vec::<String>::new());
    assert_eq!(two.processes().len(), 5);
    assert_eq!(two.by_replica().await.values().sum::<u64>(), 0, "a system of its own");
}

#[tokio::test]
async fn a_used_port_is_one_sentence_with_its_process_and_what_to_type() {
    let checkout = Checkout::new().await;
    let port = checkout.port(6767);
    for address in ["127.0.0.1", "::1"] {
        let Ok(_taken) = TcpListener::bind((address, port)) else {
            assert_ne!(address, "127.0.0.1");
            eprintln!("NOT TESTED: this machine has no IPv6");
            continue;
        };
        let said = checkout.up().failed();
        for part in [&format!("port {port}"), "accountservice", "HOPS_PORT_BASE=1000 cargo hops up"] {
            assert!(said.contains(part), "{said}");
        }
        assert_eq!(said.contains("on ::1, an address of localhost"), address == "::1", "{said}");
        assert_eq!(checkout.processes(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn nobody_else_answers_for_localhost_while_the_system_is_up() {
    let checkout = Checkout::new().await;
    checkout.up().ok();
    for port in [6767, 6868].map(|port| checkout.port(port)) {
        for address in ["127.0.0.1", "::1", "::", "0.0.0.0"] {
            let bound = TcpListener::bind((address, port));
            assert!(bound.is_err(), "{address} {port}: another program can listen there");
        }
    }
    assert!(checkout.hops(&["walk"]).ok().contains("answered 200"));
}

#[tokio::test]
async fn data_and_logs_are_for_their_owner_also_those_of_an_earlier_version() {
    let checkout = Checkout::new().await;
    let folders = ["logs", "volumes", "run"].map(|folder| checkout.path().join(".hops").join(folder));
    for folder in &folders {
        fs::create_dir_all(folder).unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    checkout.up().ok();
    for folder in &folders {
        let mode = fs::metadata(folder).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{}", folder.display());
    }
    checkout.hops(&["down", "--all"]).ok();
    checkout.up().ok();
    for folder in fs::read_dir(checkout.path().join(".hops")).unwrap().map(|entry| entry.unwrap()) {
        let metadata = folder.metadata().unwrap();
        let mode = metadata.permissions().mode() & 0o077;
        assert!(
            !metadata.is_dir() || mode == 0,
            "{}: others have the rights {mode:o}",
            folder.path().display()
        );
    }
}

#[tokio::test]
async fn commands_work_in_any_folder_of_the_checkout_and_in_no_other() {
    let checkout = Checkout::new().await;
    let below = checkout.path().join("some/folder");
    fs::create_dir_all(&below).unwrap();
    let up =
        checkout.command(&["up", "-d", "--broker", &checkout.broker()]).current_dir(&below).status().unwrap();
    assert!(up.success());
    checkout.hops(&["service", "ls"]).ok();

    let elsewhere = tempfile::tempdir().unwrap();
    let lost = checkout.command(&["status"]).current_dir(elsewhere.path()).output().unwrap();
    assert!(String::from_utf8_lossy(&lost.stderr).contains("`cd` to your checkout"));
}

#[tokio::test]
async fn a_folder_that_is_not_writable_is_one_sentence_with_a_way_out() {
    let checkout = Checkout::new().await;
    let mut command = checkout.command(&["up", "-d", "--broker", &checkout.broker()]);
    let copy = tempfile::tempdir().unwrap();
    if rustix::process::geteuid().is_root() {
        // Root may write everywhere, so this runs as the user nobody.
        let hops = copy.path().join("hops");
        // Not by this process: while it writes, a program that another test starts would hold the file open, too, and a
        // file that is open for writing cannot be run.
        let copied = std::process::Command::new("cp").arg(env!("CARGO_BIN_EXE_hops")).arg(&hops).status();
        assert!(copied.unwrap().success());
        for path in [copy.path(), checkout.path(), &hops] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut by_nobody = std::process::Command::new(hops);
        by_nobody.args(["up", "-d"]).current_dir(checkout.path()).uid(65_534).gid(65_534);
        command = by_nobody;
    } else {
        fs::set_permissions(checkout.path(), fs::Permissions::from_mode(0o555)).unwrap();
    }
    let said = command.output().unwrap();
    fs::set_permissions(checkout.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let error = String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.status.code(), Some(1), "{error}");
    for part in ["cannot write", "Permission denied", "cp -R"] {
        assert!(error.contains(part), "{error}");
    }
}

/// Cargo asks the compiler for its version before it does anything, and this one says that it is older than it is.
#[test]
fn a_rust_that_is_too_old_is_refused_before_anything_is_compiled() {
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("rustc");
    write_program(&old, "#!/bin/sh\nrustc \"$@\" | sed 's/1\\.[0-9]*\\.[0-9]*/1.94.0/'\n");
    let said = std::process::Command::new("cargo")
        .args(["hops", "up", "-d"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .env("RUSTC", &old)
        .env("CARGO_TARGET_DIR", folder.path().join("target"))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&said.stderr);
    assert!(!said.status.success() && error.contains("rustc 1.94.0 is not supported"), "{error}");
    let least = env!("CARGO_PKG_RUST_VERSION");
    assert!(error.contains(&format!("requires rustc {least}")), "{error}");
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md")).unwrap();
    assert!(readme.contains(&format!("Rust {least}")), "README names another version");
}

#[tokio::test]
async fn an_unknown_key_is_refused_before_anything_starts() {
    let checkout = Checkout::new().await;
    checkout.edit("    stop_grace_period: 20s", "    stop_grace_perod: 20s");
    let said = checkout.up().failed();
    let hint = "services.configserver: unknown key `stop_grace_perod`: did you mean `stop_grace_period`?";
    assert!(said.contains(hint), "{said}");
    assert_eq!(checkout.processes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_service_that_cannot_start_ends_up_at_its_second_equal_failure_which_is_printed_once() {
    let checkout = Checkout::new().await;
    checkout.edit("APP_SERVER_PORT: \"6868\"", "APP_OFFER_HOURS: never");
    for detach in [true, false] {
        let mut up = checkout.command(&["up", "--no-live", "--broker", &checkout.broker()]);
        up.args(detach.then_some("-d")).stdout(Stdio::piped()).stderr(Stdio::piped());
        let since = Instant::now();
        let up = up.spawn().unwrap().wait_with_output().unwrap();
        assert!(since.elapsed() < START_TIMEOUT, "{:?}", since.elapsed());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (said, error) = (text(&up.stdout), text(&up.stderr));
        assert_eq!(up.status.code(), Some(1), "{said}{error}");
        assert!(
            error.starts_with("error: vipservice.1 cannot start: ") && error.lines().count() == 1,
            "{error}"
        );
        assert!(error.contains("; correct this, then `cargo hops up`"), "{error}");
        assert_eq!((said + &error).matches("offer_hours").count(), 1, "{}{error}", text(&up.stdout));
        assert_eq!(checkout.processes(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_service_that_cannot_start_is_shown_with_its_error_and_restarted_with_growing_delays() {
    let checkout = Checkout::new().await;
    checkout.up().ok();
    fs::write(checkout.path().join("config-repo/vipservice-test.yml"), "offer_hours: never\n").unwrap();
    checkout.hops(&["kill", "vipservice.1"]).ok();
    let error = until("the error of vipservice.1", START_TIMEOUT, async || {
        let tasks = checkout.hops(&["service", "ps", "vipservice", "--json"]);
        (tasks.code == Some(0)).then_some(())?;
        let tasks = tasks.json();
        let failed = tasks.iter().filter(|task| task["phase"] == "failed").count();
        (failed >= 4).then(|| tasks[0]["error"].as_str().unwrap_or_default().to_owned())
    })
    .await;
    assert!(error.contains("offer_hours"), "{error}");
    assert_eq!(checkout.get(6767, "/accounts/10000").await.status, 200, "the other one runs");
}

#[tokio::test]
async fn a_task_that_hangs_is_killed_by_its_health_check_and_in_the_end_by_its_grace_period() {
    let checkout = Checkout::new().await;
    checkout.edit("interval: 3s\n      timeout: 3s", "interval: 500ms\n      timeout: 500ms");
    checkout.edit("start_period: 70s", "start_period: 0s");
    checkout.edit("retries: 5", "retries: 3");
    checkout.edit("stop_grace_period: 20s", "stop_grace_period: 2s");
    checkout.up().ok();
    let pid = || checkout.tasks("vipservice")[0]["pid"].as_i64().map(|pid| i32::try_from(pid).unwrap());
    let hang = |pid: i32| kill_process(Pid::from_raw(pid).unwrap(), Signal::STOP).unwrap();
    let before = pid().unwrap();
    hang(before);
    let after = until("another process is ready", PATIENCE, async || {
        let tasks = checkout.tasks("vipservice");
        pid().filter(|pid| *pid != before && tasks[0]["phase"] == "ready")
    })
    .await;

    hang(after);
    let said = checkout.hops(&["down"]).ok();
    assert!(said.contains("killed, since it had not exited after 2s"), "{said}");
    assert_eq!(checkout.processes(), Vec::<String>::new());
}
