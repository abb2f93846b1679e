//! The forwarder as a process: names, a signal, and a wrong command line.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

fn forwarder() -> Command {
    Command::new(env!("CARGO_BIN_EXE_forwarder"))
}

#[test]
fn a_port_leads_to_the_addresses_of_a_name_until_sigterm() {
    let replica = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("localhost:{}", replica.local_addr().unwrap().port());
    thread::spawn(move || {
        for stream in replica.incoming().flatten() {
            let _ = (&stream).write_all(b"hello");
        }
    });
    // The port was free a moment ago, and no other program asks for this one.
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut process = forwarder().arg(format!("{listen}={target}")).spawn().unwrap();

    let deadline = Instant::now() + Duration::from_secs(20);
    let mut said = String::new();
    while said != "hello" {
        assert!(Instant::now() < deadline, "{said:?}");
        said.clear();
        let Ok(mut stream) = TcpStream::connect(&listen) else {
            thread::yield_now();
            continue;
        };
        let _ = stream.read_to_string(&mut said);
    }
    kill_process(Pid::from_child(&process), Signal::TERM).unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(0));
}

#[test]
fn a_wrong_command_line_is_refused_in_one_line() {
    for words in [&[][..], &["6767"], &["nowhere=localhost:1"]] {
        let said = forwarder().args(words).stdin(Stdio::null()).output().unwrap();
        let error = String::from_utf8(said.stderr).unwrap();
        assert_eq!(said.status.code(), Some(1), "{words:?}");
        assert!(error.starts_with("error: ") && error.trim().lines().count() == 1, "{words:?}: {error}");
    }
}

#[test]
fn the_health_check_succeeds_while_the_forwarder_runs() {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let alive = free();
    let asked = || forwarder().args(["healthcheck", &alive]).output().unwrap();
    let refused = asked();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("does not answer"), "{refused:?}");

    let mut process = forwarder().arg(format!("{alive}=alive")).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !asked().status.success() {
        assert!(Instant::now() < deadline, "{:?}", asked());
    }
    kill_process(Pid::from_child(&process), Signal::TERM).unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(0));
}
