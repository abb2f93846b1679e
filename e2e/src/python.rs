//! Python with pika, RabbitMQ's own client for it: the client that nobody here wrote.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Python in an environment of its own below `folder`, which is made once. It needs a package registry.
pub fn python_with_pika(folder: &Path) -> PathBuf {
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("pika/requirements.txt");
    let environment = folder.join("pika");
    let (python, made_for) = (environment.join("bin/python"), environment.join("requirements.txt"));
    let wanted = fs::read_to_string(&requirements).expect("the requirements are a file of this crate");
    if fs::read_to_string(&made_for).is_ok_and(|made_for| made_for == wanted) {
        return python;
    }
    // Tests of two crates share the folder, and each is to find it whole.
    let lock = fs::File::create(folder.join("pika.lock")).expect("the folder can be written");
    lock.lock().expect("the file system has locks");
    if fs::read_to_string(&made_for).is_ok_and(|made_for| made_for == wanted) {
        return python;
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment));
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(&requirements));
    // Last, so that an environment that was made by half is made again.
    fs::write(made_for, wanted).expect("the environment can be written");
    python
}

/// Returns the output of a command; panics with the error output if the command fails.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("programs print text")
}
