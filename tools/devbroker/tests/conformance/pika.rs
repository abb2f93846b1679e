//! A client that nobody here wrote: pika, from PyPI, with the programs of RabbitMQ's tutorials, which are in `pika/programs.py`.
//!
//! They need Python and a package registry, so they are part of the long run: `HOPS_TESTS=full`.

use std::{
    io::{self, Write as _},
    path::Path,
    process::Command,
};

use e2e::{
    environment,
    python::{python_with_pika, run},
};
use tokio::{process, time::timeout};

use crate::kit::Place;

/// Longer than any wait of the programs themselves.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);

#[tokio::test]
async fn the_programs_of_the_tutorials_run() {
    if !environment::is_full() {
        let _ = writeln!(io::stdout().lock(), "\nNOT RUN: pika's programs; HOPS_TESTS=full runs them");
        return;
    }
    let python = python_with_pika(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/pika/programs.py");
    let names = run(Command::new(&python).arg(&script));
    assert!(names.lines().count() >= 7, "{names}");
    let mut failures = vec![];
    for name in names.lines() {
        let place = Place::new().await;
        let program = process::Command::new(&python)
            .arg(&script)
            .args([&place.vhost.amqp_url(), name])
            .kill_on_drop(true)
            .output();
        match timeout(LIMIT, program).await {
            Ok(output) => {
                let output = output.unwrap();
                if !output.status.success() {
                    failures.push(format!("{name}: {}", String::from_utf8_lossy(&output.stderr)));
                }
            }
            Err(_) => failures.push(format!("{name} does not end")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
