//! A receiver in another language: `receive` in Python. It needs a package registry, so it runs only with
//! `HOPS_TESTS=full`.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use e2e::{
    broker::{PrivateBroker, Vhost},
    environment,
    python::python_with_pika,
    wait::{PATIENCE, until_true},
};

use crate::{
    kit::{Place, program, start_with_port_base},
    trouble::port_base,
};

#[tokio::test]
async fn a_program_in_python_receives_what_send_has_sent() {
    if !environment::full_only("receive.py gets what send has sent") {
        return;
    }
    let place = Place::new().await;
    place.run(program!("send"), "Hello, snake").await;
    receives(&place.vhost, |receiver| receiver.arg(place.vhost.amqp_url())).await;

    // Without an address it connects to the broker of `cargo hops`.
    let broker = PrivateBroker::start().await;
    let base = port_base(&broker);
    let mut sender = start_with_port_base(&base, program!("send"), "Hello, snake");
    assert_eq!(sender.0.exit_code().await, Some(0), "{}", sender.errors());
    receives(&broker.vhost(), |receiver| receiver.env("HOPS_PORT_BASE", base)).await;
}

async fn receives(vhost: &Vhost, broker: impl FnOnce(&mut Command) -> &mut Command) {
    let python = python_with_pika(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/receive.py");
    let mut receiver = Command::new(python);
    let receiver = broker(receiver.arg(script).env_remove("HOPS_PORT_BASE"));
    let mut receiver = receiver.stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(receiver.stdout.take().unwrap());
    let lines: Vec<_> = output.lines().take(2).map(Result::unwrap).collect();
    let interrupted = rustix::process::kill_process(
        rustix::process::Pid::from_child(&receiver),
        rustix::process::Signal::INT,
    );
    interrupted.unwrap();
    let status = receiver.wait().unwrap();
    assert_eq!(lines, ["waiting for messages; Ctrl-C stops it", "received Hello, snake"]);
    assert!(status.success(), "{status}");
    until_true("the queue is empty", PATIENCE, async || vhost.ready("hello").await == Some(0)).await;
}
