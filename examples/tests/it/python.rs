//! The other side in another language: `receive` in Python. It needs a package registry, so it is part of the
//! long run.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use e2e::{environment, python::python_with_pika};

use crate::kit::{Place, program};

#[tokio::test]
async fn a_program_in_python_receives_what_send_has_sent() {
    if !environment::full_only("receive.py gets what send has sent") {
        return;
    }
    let place = Place::new().await;
    place.run(program!("send"), "Hello, snake").await;
    let python = python_with_pika(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/receive.py");
    let mut receiver = Command::new(python);
    let mut receiver =
        receiver.arg(script).arg(place.vhost.amqp_url()).stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(receiver.stdout.take().unwrap());
    let lines: Vec<_> = output.lines().take(2).map(Result::unwrap).collect();
    let interrupted = rustix::process::kill_process(
        rustix::process::Pid::from_child(&receiver),
        rustix::process::Signal::INT,
    );
    interrupted.unwrap();
    let status = receiver.wait().unwrap();
    assert_eq!(lines, ["waiting for messages; Ctrl-C ends it", "received Hello, snake"]);
    assert!(status.success(), "{status}");
    place.until_empty("hello").await;
}
