//! The stack's broker: who may do what in it, and TLS on the way to it.

use std::collections::BTreeSet;

use e2e::{
    environment::full_only,
    repository::read,
    wait::{PATIENCE, until_true},
};
use serde_json::Value;

use crate::stack::Stack;

/// Columns of a list that `rabbitmqctl` prints, as sets of rows.
async fn list(stack: &Stack, words: &[&str]) -> BTreeSet<Vec<String>> {
    let broker = stack.containers("rabbitmq").await.remove(0);
    let command = ["exec", "--user", "rabbitmq", &broker, "rabbitmqctl", "--quiet", "--no-table-headers"];
    let printed = stack.docker(&[&command[..], words].concat()).await;
    printed.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

#[tokio::test]
async fn each_service_is_connected_as_a_user_of_its_own_with_the_permissions_of_the_file() {
    let stack = Stack::turn().await;
    let definitions: Value = serde_json::from_str(&read("rabbitmq-users.json")).unwrap();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let wanted = definitions["permissions"].as_array().unwrap().iter();
    let wanted = wanted.map(|row| ["user", "configure", "write", "read"].map(|key| text(row, key)).to_vec());
    assert_eq!(list(&stack, &["list_permissions"]).await, wanted.collect());

    let users = ["accountservice", "configserver", "vipservice"].map(|user| vec![user.to_owned()]);
    until_true("each service is connected", PATIENCE, async || {
        list(&stack, &["list_connections", "user"]).await == BTreeSet::from(users.clone())
    })
    .await;
}

#[tokio::test]
async fn with_three_files_everything_between_the_services_and_the_broker_is_encrypted() {
    if !full_only("with_three_files_everything_between_the_services_and_the_broker_is_encrypted") {
        return;
    }
    let stack = Stack::turn().await;
    let page = read("docs/OPERATIONS.md");
    let section = page.split("**TLS to the broker.**").nth(1).unwrap();
    let commands = section.split("\n\n").find(|part| part.starts_with("    ")).unwrap();
    stack.shell(&commands.replace("./deploy.sh build\n", "./deploy.sh build --local\n")).await;
    stack.deploy(&["walk"]).await;
    until_true("all connections speak TLS", PATIENCE, async || {
        let connections = list(&stack, &["list_connections", "user", "ssl"]).await;
        connections.len() == 3 && connections.iter().all(|row| row[1] == "true")
    })
    .await;

    // A new stack, so that no service has a version with TLS to go back to.
    stack.shell("rm -r .secrets/tls && ./deploy.sh build --local && ./deploy.sh down && ./deploy.sh").await;
    stack.deploy(&["walk"]).await;
}
