//! Visibility of the stack: what can be seen of it, and what can be reached.

use std::fs;

use e2e::{
    http::{self, Reply},
    process::Address,
};
use serde_json::json;

use crate::stack::Stack;

#[tokio::test]
async fn our_processes_are_nobodys_have_no_rights_and_cannot_write() {
    let stack = Stack::turn().await;
    for service in stack.ours().await {
        for container in stack.containers(service).await {
            let known = stack.inspect(&container).await;
            let host = &known["HostConfig"];
            assert_eq!(
                (&host["ReadonlyRootfs"], &host["CapDrop"], &host["Privileged"]),
                (&json!(true), &json!(["ALL"]), &json!(false)),
                "{service}"
            );
            let status = fs::read_to_string(format!("/proc/{}/status", known["State"]["Pid"])).unwrap();
            let line = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                line.unwrap_or_else(|| panic!("{name}: {status}")).split_whitespace().collect::<Vec<_>>()
            };
            for ids in ["Uid:", "Gid:"] {
                assert_eq!(line(ids), ["65534"; 4], "{service}");
            }
            for rights in ["CapEff:", "CapPrm:", "CapBnd:"] {
                assert_eq!(line(rights), ["0000000000000000"], "{service}: {rights}");
            }
        }
    }
}

#[tokio::test]
async fn the_brokers_process_has_no_rights_and_cannot_write_outside_its_folder() {
    let stack = Stack::turn().await;
    let container = stack.containers("rabbitmq").await.remove(0);
    let host = stack.inspect(&container).await["HostConfig"].clone();
    assert_eq!((&host["ReadonlyRootfs"], &host["CapDrop"]), (&json!(true), &json!(["ALL"])));
    let pid = &stack.inspect(&container).await["State"]["Pid"];
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("\nCapEff:\t0000000000000000\n") && !status.contains("\nUid:\t0\t"), "{status}");
    for service in [stack.ours().await, vec!["rabbitmq"]].concat() {
        let container = stack.containers(service).await.remove(0);
        assert_eq!(stack.inspect(&container).await["HostConfig"]["PidsLimit"], 1000, "{service}");
    }
}

#[tokio::test]
async fn no_secret_is_in_what_docker_tells_an_environment_a_log_or_an_image() {
    let stack = Stack::turn().await;
    let secrets =
        ["vipservice_amqp_password", "management_token", "encrypt_key"].map(|name| stack.secret(name));
    assert!(secrets.iter().all(|secret| secret.len() >= 32));
    let assert_clean = |place: &str, text: &str| {
        let found = secrets.iter().any(|secret| text.contains(secret.as_str()));
        assert!(!found, "{place} has a secret in it");
    };
    for service in [stack.ours().await, vec!["rabbitmq"]].concat() {
        let name = format!("hops_{service}");
        assert_clean(&name, &stack.docker(&["service", "inspect", &name]).await);
        for container in stack.containers(service).await {
            let known = stack.inspect(&container).await;
            assert_clean(service, &known.to_string());
            let pid = &known["State"]["Pid"];
            for file in ["environ", "cmdline"] {
                let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap();
                assert_clean(&format!("{service}'s {file}"), &String::from_utf8_lossy(&bytes));
            }
        }
        if service != "rabbitmq" {
            let image = format!("localhost/hops-e2e/{service}");
            let history = ["history", "--no-trunc", "--format", "{{json .}}", &image];
            assert_clean(&image, &stack.docker(&history).await);
        }
    }
    stack.deploy(&["walk"]).await;
    assert_clean("the log", &stack.deploy(&["logs"]).await);
    assert_clean("the broker's log", &stack.deploy(&["logs", "rabbitmq"]).await);
    for verb in ["status", "token", "console"] {
        assert_clean(verb, &stack.deploy(&[verb]).await);
    }
    stack.deploy(&["console", "--off"]).await;
    assert!(stack.deploy(&["token", "--show"]).await.contains(&secrets[1]));

    for name in [
        "amqp_password",
        "vipservice_amqp_password",
        "management_token",
        "encrypt_key",
        "rabbitmq-users.json",
    ] {
        assert_eq!(stack.mode_of_secret(name), 0o600, "{name}");
    }
}

#[tokio::test]
async fn two_ports_are_open_and_the_console_on_this_machine_while_somebody_asks_for_it() {
    let stack = Stack::turn().await;
    let is_open = |host: &str, port: u16| std::net::TcpStream::connect((host, port)).is_ok();
    let ours = [6767, 6868, 8888, 5672, 15672, 15692, 4369, 25672];
    let open = |host: &str| ours.into_iter().filter(|port| is_open(host, *port)).collect::<Vec<_>>();
    // The swarm's own. One that was here before us listens as somebody else has said.
    let swarms = |host: &str| [2377, 7946].into_iter().filter(|port| is_open(host, *port)).count();
    let is_made_by_us =
        stack.docker(&["info", "--format", "{{.Swarm.NodeAddr}}"]).await.trim() == "127.0.0.1";
    let elsewhere = std::process::Command::new("hostname").arg("-I").output().unwrap();
    let elsewhere = String::from_utf8(elsewhere.stdout).unwrap();
    let elsewhere = elsewhere.split_whitespace().next().unwrap();

    assert_eq!((open("127.0.0.1"), open(elsewhere)), (vec![6767, 6868], vec![6767, 6868]));
    assert!(!is_made_by_us || (swarms("127.0.0.1"), swarms(elsewhere)) == (2, 0));
    stack.deploy(&["console"]).await;
    assert_eq!((open("127.0.0.1"), open(elsewhere)), (vec![6767, 6868, 15672], vec![6767, 6868]));
    let client = http::client();
    let queues = async |password: &str| {
        let user = stack.secret("amqp_username");
        let request = client.get(Address::at(15672).url("/api/queues"));
        Reply::of(request.basic_auth(user.trim(), Some(password))).await.unwrap()
    };
    assert_eq!(queues("another").await.status, 401);
    let answer = queues(stack.secret("amqp_password").trim()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let has_queue = answer.json().as_array().unwrap().iter().any(|queue| queue["name"] == "vip_queue");
    assert!(has_queue, "{answer:?}");
    stack.deploy(&["console", "--off"]).await;
    assert!(!is_open("127.0.0.1", 15672));

    // What is for operators is refused to whoever comes through the port, and given to whoever has the token.
    assert_eq!(stack.get("/settings").await.status, 403);
    let token = format!("Authorization: Bearer {}", stack.secret("management_token"));
    let asked = std::process::Command::new("curl")
        .args(["--silent", "--fail", "--header", &token, "localhost:6767/settings"])
        .output()
        .unwrap();
    assert!(asked.status.success(), "{asked:?}");
}
