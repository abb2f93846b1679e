//! Python with pika, RabbitMQ's own client for it: the client that nobody here wrote.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Python in an environment of its own below `folder`, which is made once. It needs a package registry.
pub fn python_with_pika(folder: &Path) -> PathBuf {
    // Tests of two crates share the folder, and each is to find it whole.
    let lock = fs::File::create(folder.join("pika.lock")).expect("the folder can be written");
    lock.lock().expect("the file system has locks");
    let environment = folder.join("pika");
    run(Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("pika/environment.sh")).arg(&environment));
    environment.join("bin/python")
}

/// Returns the output of a command; panics with the error output if the command fails.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("programs print text")
}
