//! `cargo hops env`, evaluated by the shells that people have.

use std::{
    ffi::OsString,
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpListener},
    process::{Command, Output},
    thread,
};

use e2e::{binaries::write_program, broker::free_port, environment::search_path};
use serde_json::json;

use crate::checkout::Checkout;

/// Every shell of this machine for which the output is meant.
#[expect(clippy::print_stderr, reason = "it says what is not tested")]
fn shells() -> Vec<&'static str> {
    let is_there = |shell: &&str| {
        let is_there = Command::new(shell).args(["-c", "true"]).output().is_ok();
        if !is_there {
            eprintln!("NOT TESTED: this machine has no {shell}");
        }
        is_there
    };
    ["bash", "zsh"].into_iter().filter(is_there).collect()
}

/// Evaluates the output in a shell and runs a command there; `$0` is the tool.
fn in_shell(checkout: &Checkout, shell: &str, flags: &str, command: &str) -> Command {
    let mut started = Command::new(shell);
    let script = format!("eval \"$(\"$0\" env {flags})\" && {command}");
    started.args(["-c", &script, env!("CARGO_BIN_EXE_hops")]).current_dir(checkout.path());
    started.env("HOPS_PORT_BASE", checkout.port(0).to_string()).env_remove("APP_AMQP_SERVER_URL");
    started
}

fn text(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Creates a folder with a `curl` that prints its arguments, one a line, and puts it before the others.
fn path_with_printer(checkout: &Checkout) -> OsString {
    let curl = checkout.path().join("curl");
    write_program(&curl, "#!/bin/sh\nprintf '[%s]\\n' \"$@\"\n");
    let mut path = OsString::from(checkout.path());
    path.push(":");
    path.push(search_path());
    path
}

#[tokio::test]
async fn a_shell_has_the_variables_of_its_seat_and_passes_every_argument_as_it_is() {
    let checkout = Checkout::new().await;
    let path = path_with_printer(&checkout);
    for shell in shells() {
        let variables = "echo $HOPS_PORT_BASE $APP_AMQP_SERVER_URL; \"$0\" env";
        let said = text(&in_shell(&checkout, shell, "--seat 3", variables).output().unwrap());
        assert!(said.starts_with("60 amqp://localhost:5732\nexport HOPS_PORT_BASE=60\n"), "{said}");
        for words in [
            &["localhost:6767/accounts/10000"][..],
            &["-s", "-H", "x-request-id: 7f3a", "http://localhost:6767/x?a=b&c=*"],
            &["-d", r#"{"it's": "a $HOME `id` \"quoted\" text"}"#, "", "two  blanks", "*", "a\nb"],
        ] {
            let mut command = in_shell(&checkout, shell, "--seat 3", "curl \"$@\"");
            let said = text(&command.args(words).env("PATH", &path).output().unwrap());
            let own = [6767, 6868, 6969, 7878, 8888];
            let own = own.map(|port| format!("[--connect-to]\n[localhost:{port}::{}]\n", port + 60)).concat();
            let given: String = words.iter().map(|word| format!("[{word}]\n")).collect();
            assert_eq!(said, own + &given, "{shell}");
        }
    }
}

/// Answers every request with a word, until the process ends.
fn answer(port: u16, word: &'static str) {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut request = [0; 4096];
            let _ = connection.read(&mut request);
            let _ = write!(connection, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{word}");
            let _ = connection.shutdown(Shutdown::Write);
            // To the end: an unread byte would make the kernel reset the connection.
            let _ = io::copy(&mut connection, &mut io::sink());
        }
    });
}

#[tokio::test]
async fn curl_connects_to_the_ports_of_this_checkout_and_elsewhere_as_it_is_told() {
    let (checkout, other) = (Checkout::new().await, free_port());
    for (port, word) in [(checkout.port(6767), "accounts"), (checkout.port(6868), "offers"), (other, "other")]
    {
        answer(port, word);
    }
    for shell in shells() {
        for (words, expected) in [
            ("localhost:6767", "accounts"),
            ("-s localhost:6767/x", "accounts"),
            ("http://localhost:6767/x", "accounts"),
            ("'localhost:6767/accounts?limit=30&after=0'", "accounts"),
            ("-H 'x-request-id: a  b' -d '{\"a\": \"b\"}' localhost:6767/x", "accounts"),
            ("localhost:6868/offers", "offers"),
            ("-s localhost:6767/x localhost:6868/x", "accountsoffers"),
            ("-s localhost:6767/x | curl -s localhost:6868/x -d @-", "offers"),
            (&format!("localhost:{}/x", checkout.port(6868)), "offers"),
            (&format!("localhost:{other}/x"), "other"),
            (&format!("127.0.0.1:{other}/localhost:6767"), "other"),
        ] {
            let said = in_shell(&checkout, shell, "", &format!("curl {words}")).output().unwrap();
            assert_eq!(text(&said), expected, "{shell}: curl {words}");
        }
    }
}

#[tokio::test]
async fn it_needs_no_running_system_and_refuses_a_seat_that_is_none() {
    let checkout = Checkout::new().await;
    let said = checkout.hops(&["env", "--json"]).json();
    assert_eq!(said[0]["portBase"], checkout.port(0));
    assert_eq!(said[0]["broker"], format!("amqp://localhost:{}", checkout.port(5672)));
    assert_eq!(said[0]["ports"]["6969"], json!(checkout.port(6969)));
    assert!(!checkout.path().join(".hops").exists(), "it writes nothing");
    let refused = checkout.hops(&["env", "--seat", "21"]);
    assert_eq!((refused.code, refused.out.as_str()), (Some(2), ""));
    assert!(refused.error.contains("write a number from 1 to 20"), "{}", refused.error);
    assert_eq!(refused.error.trim().lines().count(), 1, "{}", refused.error);
}
