//! Secrets that are replaced while reads go on.

use std::{collections::BTreeSet, time::Duration};

use e2e::{
    environment::full_only,
    load::Load,
    wait::{PATIENCE, until_true},
};

use crate::stack::Stack;

#[tokio::test]
async fn passwords_token_and_key_are_rotated_under_load_and_no_read_fails() {
    if !full_only("passwords_token_and_key_are_rotated_under_load_and_no_read_fails") {
        return;
    }
    let stack = Stack::turn().await;
    let mark = stack.mark().await;
    let before = secrets(&stack).await;
    // Some fifty reads a second.
    let load =
        Load::answered(usize::MAX).at_a_time(8).every(Duration::from_millis(150)).start(&stack.accounts());
    load.until_answered(100).await;

    stack.deploy(&["rotate", "amqp"]).await;
    let user = stack.secret("vipservice_amqp_username");
    assert!(user.starts_with("vipservice-"), "{user}");
    let users = users(&stack).await;
    assert_eq!(users.len(), 4, "the old users are gone: {users:?}");
    assert!(users.contains(&user), "{users:?}");

    let old_token = stack.secret("management_token");
    stack.deploy(&["rotate", "management"]).await;
    assert_eq!(settings_with(&stack, &old_token).await, "403");
    assert_eq!(settings_with(&stack, &stack.secret("management_token")).await, "200");

    let sealed = encrypted(&stack).await;
    stack.edit("config-repo/vipservice.yml", |text| format!("{text}\nsecret_text: '{{cipher}}{sealed}'\n"));
    let said = stack.deploy(&["rotate", "encrypt"]).await;
    assert!(said.contains("config-repo/vipservice.yml"), "the file with an old value is named: {said}");
    let sealed_again = encrypted(&stack).await;
    assert!(sealed_again.starts_with("{key:") && !sealed.starts_with('{'), "{sealed}, then {sealed_again}");
    for text in [&sealed, &sealed_again] {
        assert_eq!(configserver(&stack, "decrypt", text).await, "hunter2");
    }
    stack.shell("git checkout --quiet config-repo").await;

    let rotated = secrets(&stack).await;
    stack.deploy(&[]).await;
    assert_eq!(in_use(&rotated), in_use(&secrets(&stack).await), "the next deployment keeps them");
    assert!(in_use(&before).is_disjoint(&in_use(&rotated)), "{before:?}");
    until_true("each service is connected", PATIENCE, async || {
        stack.shell("./deploy.sh status").await.lines().filter(|line| line.contains(" ready ")).count() >= 5
    })
    .await;

    let record = load.stop().await;
    assert!(record.answered.len() > 1000, "{}", record.answered.len());
    assert_eq!(record.refused, []);
    stack.assert_promise(&record, mark).await;
}

/// The names of the secrets that the tasks of the services have.
async fn secrets(stack: &Stack) -> String {
    let format = "{{range .Spec.TaskTemplate.ContainerSpec.Secrets}}{{.SecretName}} {{end}}";
    let services = ["hops_accountservice", "hops_configserver", "hops_vipservice"];
    stack.docker(&[&["service", "inspect", "--format", format][..], &services].concat()).await
}

fn in_use(names: &str) -> BTreeSet<&str> {
    names.split_whitespace().collect()
}

async fn users(stack: &Stack) -> BTreeSet<String> {
    let broker = stack.containers("rabbitmq").await.remove(0);
    let list = ["rabbitmqctl", "--quiet", "--no-table-headers", "list_users"];
    let printed = stack.docker(&[&["exec", "--user", "rabbitmq", &broker][..], &list].concat()).await;
    printed.lines().filter_map(|line| Some(line.split('\t').next()?.to_owned())).collect()
}

/// The status of the answer at `/settings`, with this token.
async fn settings_with(stack: &Stack, token: &str) -> String {
    let header = format!("-H 'authorization: Bearer {token}'");
    stack.shell(&format!("curl -s -o answer -w '%{{http_code}}' {header} localhost:6767/settings")).await
}

async fn encrypted(stack: &Stack) -> String {
    configserver(stack, "encrypt", "hunter2").await
}

/// Output of a verb of the configserver for a text.
async fn configserver(stack: &Stack, verb: &str, text: &str) -> String {
    let container = stack.containers("configserver").await.remove(0);
    let said = stack
        .shell(&format!("echo '{text}' | docker exec --interactive {container} /configserver {verb}"))
        .await;
    said.trim().to_owned()
}
