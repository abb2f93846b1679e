//! The logs, sent to a collector by a logging driver of Docker.

use std::{net::UdpSocket, sync::mpsc, thread};

use e2e::{
    environment::full_only,
    repository::read,
    wait::{PATIENCE, until, until_true},
};
use serde_json::Value;

use crate::stack::Stack;

#[tokio::test]
async fn with_a_logging_driver_a_collector_gets_each_line_and_the_logs_are_still_shown() {
    if !full_only("with_a_logging_driver_a_collector_gets_each_line_and_the_logs_are_still_shown") {
        return;
    }
    let stack = Stack::turn().await;
    let (address, received) = collector("sent-away");
    // As the page has it, with another address.
    let page = read("docs/OPERATIONS.md");
    let section = page.split("## Logs elsewhere\n").nth(1).unwrap();
    let block = section.split("\n\n").find(|part| part.starts_with("    ")).unwrap();
    assert!(block.contains("udp://127.0.0.1:12201"), "{block}");
    let lines: String = block.lines().map(|line| format!("{}\n", &line[4..])).collect();
    let lines = lines.replace("127.0.0.1:12201", &address);
    stack.edit("docker-compose.yml", |text| {
        let (before, rest) = text.split_once("    logging: &bounded\n").unwrap();
        let (_, after) = rest.split_once("    deploy:\n").unwrap();
        format!("{before}{lines}    deploy:\n{after}")
    });
    let said = stack.try_deploy(&[]).await;
    // The next test deploys the file as it was.
    stack.shell("git checkout --quiet docker-compose.yml").await;
    assert_eq!(said.code, Some(0), "{}", said.text);

    stack.shell("curl -sS -o seen -H 'x-request-id: sent-away' 127.0.0.1:6767/accounts/10000").await;
    let message = until("hop 9 is received", PATIENCE, async || received.try_recv().ok()).await;
    assert!(message["_container_name"].as_str().unwrap().starts_with("hops_vipservice.1."), "{message}");

    // Docker writes its copy a moment later.
    for (command, line) in [
        ("./deploy.sh logs --request sent-away vipservice", "hop=9"),
        ("docker service logs hops_vipservice", r#""request":"sent-away""#),
    ] {
        let is_shown = async || stack.shell(&format!("{command} || true")).await.contains(line);
        until_true(&format!("{command} shows it"), PATIENCE, is_shown).await;
    }
}

/// Starts a collector for GELF over UDP, and returns its address and the messages that have hop 9 of a request. A message of
/// more than one datagram is left out: a line of a service fits into one.
fn collector(request: &'static str) -> (String, mpsc::Receiver<Value>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let (sender, received) = mpsc::sync_channel(10);
    thread::spawn(move || {
        let mut datagram = [0; 65_536];
        while let Ok(length) = socket.recv(&mut datagram) {
            let message: Value = serde_json::from_slice(&datagram[..length]).unwrap_or_default();
            let line = message["short_message"].as_str().unwrap_or_default();
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            if line["request"] == request && line["hop"] == 9 && sender.send(message).is_err() {
                return;
            }
        }
    });
    (address, received)
}
