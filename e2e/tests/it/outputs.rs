//! What a command prints: that it cannot be written is an error, and a reader that has seen enough is none.

use std::{
    fs::{self, File},
    process::{Command, Stdio},
};

use e2e::{binaries::binary, fixture::TestSystem};

#[tokio::test]
async fn output_that_cannot_be_written_is_an_error_and_a_closed_pipe_is_none() {
    let system = TestSystem::new().await;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let mut account = system.launch("accountservice", 1).flag("data-dir", data).start().await;
    account.until_ready().await;
    let port = account.address().port().to_string();
    let broker = ["--amqp-server-url", &system.vhost().amqp_url()].map(str::to_owned);
    let text = folder.path().join("text");
    fs::write(&text, "a text to encrypt\n").unwrap();

    let check = |name: &str, words: &[&str], flags: &[String]| {
        let mut command = Command::new(binary(name));
        command.args(words).args(flags).current_dir(data).env_clear();
        command.envs([
            ("INSTANCE_NAME", "accountservice.1"),
            ("APP_DATA_DIR", data),
            ("APP_ENCRYPT_KEY", "k"),
        ]);
        command.stdin(File::open(&text).unwrap()).stderr(Stdio::piped());
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = command.stdout(full).spawn().unwrap().wait_with_output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{name} {words:?} > /dev/full: {error}");
        let says = "standard output cannot be written, so the output is incomplete: No space left on device";
        assert!(error.contains(says) && error.lines().count() == 1, "{name} {words:?}: {error}");

        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), error.as_str()), (Some(0), ""), "{name} {words:?} | head -0");
    };
    check("accountservice", &["healthcheck", "--server-port", &port], &[]);
    account.sigterm();
    assert_eq!(account.exit_code().await, Some(0));
    check("accountservice", &["outbox", "list"], &[]);
    check("accountservice", &["--help"], &[]);
    check("configserver", &["encrypt"], &[]);
    for words in [&["dead-letters", "list"][..], &["dead-letters", "redrive", "--all", "--json"]] {
        check("vipservice", words, &broker);
    }
    for name in ["vipservice", "configserver", "devbroker", "hops"] {
        check(name, &["--help"], &[]);
    }
}

#[test]
fn an_error_about_the_command_line_shows_its_control_characters() {
    const EVIL: &str = "\u{1b}[2J\u{9b}31m\r\u{7f}";
    for (name, words) in [
        ("accountservice", &[EVIL][..]),
        ("accountservice", &["--server-port", EVIL]),
        ("vipservice", &["dead-letters", EVIL]),
        ("configserver", &["encrypt", EVIL]),
        ("devbroker", &[EVIL]),
        ("devbroker", &["--port", EVIL]),
        ("forwarder", &[EVIL]),
        ("forwarder", &["healthcheck", EVIL]),
        ("hops", &[EVIL]),
    ] {
        let mut command = Command::new(binary(name));
        let output = command.args(words).env("INSTANCE_NAME", "accountservice.1").output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && !error.is_empty(), "{name} {words:?}");
        assert!(error.chars().all(|c| c == '\n' || !c.is_control()), "{name} {words:?}: {error:?}");
    }
}
