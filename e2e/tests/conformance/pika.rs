//! A client that nobody here wrote: pika, from PyPI, with the programs of RabbitMQ's tutorials, which `e2e/pika/programs.py` has.
//!
//! They need Python and a package registry, so they are part of the long run: `HOPS_TESTS=full`.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use e2e::environment;
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
    let python = python_with_pika();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("pika/programs.py");
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

/// Python in an environment of its own below the target folder, which is made once.
fn python_with_pika() -> PathBuf {
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("pika/requirements.txt");
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pika");
    let (python, made_for) = (environment.join("bin/python"), environment.join("requirements.txt"));
    let wanted = fs::read_to_string(&requirements).unwrap();
    if fs::read_to_string(&made_for).is_ok_and(|made_for| made_for == wanted) {
        return python;
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment));
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(&requirements));
    // Last, so that an environment that was made by half is made again.
    fs::write(made_for, wanted).unwrap();
    python
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
