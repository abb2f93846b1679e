//! A broken image, bad settings, wrong words.

use e2e::{
    environment::full_only,
    load::Load,
    wait::{PATIENCE, until_true},
};

use crate::stack::Stack;

#[tokio::test]
async fn wrong_words_are_told_what_right_ones_are() {
    let stack = Stack::turn().await;
    for (words, says) in [
        (&["depoly"][..], "unknown command 'depoly'"),
        (&["up", "now"], "up takes no arguments, but got 'now'"),
        (&["build", "--remote"], "build takes --local"),
        (&["scale"], "scale takes one argument"),
        (&["scale", "vipservice"], "is not NAME=N"),
        (&["scale", "vipservice=many"], "is not NAME=N"),
        (&["scale", "rabbitmq=2"], "is not NAME=N"),
        (&["logs", "accounts"], "there is no service accounts; there are accountservice"),
        (&["rotate", "passwords"], "rotate takes one argument: amqp, management or encrypt"),
        (&["rollback", "edgeservice"], "there is no service 'edgeservice'"),
        (&["console", "--on"], "console takes --show or --off"),
        (&["down", "--all"], "down takes --volumes"),
    ] {
        let said = stack.try_deploy(words).await;
        assert_eq!(said.code, Some(1), "{words:?}: {}", said.text);
        assert!(said.text.contains(says), "{words:?}: {}", said.text);
    }
}

#[tokio::test]
async fn an_image_that_does_not_come_up_is_rolled_back_and_nobody_notices() {
    if !full_only("an_image_that_does_not_come_up_is_rolled_back_and_nobody_notices") {
        return;
    }
    let stack = Stack::turn().await;
    let mark = stack.mark().await;
    let load = Load::steady().start(&stack.accounts());
    // A program that runs and is another.
    for service in ["vipservice", "accountservice"] {
        let (image, name) = (format!("localhost/hops-e2e/{service}"), format!("hops_{service}"));
        let inspect = ["service", "inspect", "--format", "{{.Spec.TaskTemplate.ContainerSpec.Image}}", &name];
        let before = stack.docker(&inspect).await;
        stack.docker(&["tag", &image, "localhost/hops-e2e/good"]).await;
        stack.docker(&["tag", "localhost/hops-e2e/edge", &image]).await;
        let said = stack.try_deploy(&[]).await;
        stack.docker(&["tag", "localhost/hops-e2e/good", &image]).await;
        assert_eq!(said.code, Some(1), "{}", said.text);
        assert!(said.text.contains("so the swarm has rolled back to the old one"), "{}", said.text);
        let failed =
            said.text.find(&format!("a task of {service} has failed with exit code ")).expect(&said.text);
        let lines = said.text.find("write LISTEN=HOST:PORT").expect("its last lines are shown");
        assert!(
            failed < lines && lines < said.text.find("rolled back").unwrap(),
            "shown when it fails: {}",
            said.text
        );
        assert_eq!(stack.docker(&inspect).await, before, "{service}");
        stack.deploy(&[]).await;
    }
    let record = load.stop().await;
    assert_eq!(record.refused, []);
    stack.assert_promise(&record, mark).await;
}

#[tokio::test]
async fn settings_are_taken_without_a_restart_and_bad_ones_change_nothing() {
    if !full_only("settings_are_taken_without_a_restart_and_bad_ones_change_nothing") {
        return;
    }
    let stack = Stack::turn().await;
    let file = "config-repo/vipservice.yml";
    let tasks = [stack.containers("vipservice").await, stack.containers("accountservice").await];
    let newest = async || {
        assert_eq!(stack.get("/accounts/10000").await.status, 200);
        stack.offers(None).await.last().map(|offer| offer["text"].as_str().unwrap().to_owned())
    };
    let old = "A weekend in the mountains, for you and a guest";
    until_true("the old text", PATIENCE, async || newest().await.as_deref() == Some(old)).await;

    // What an editor leaves beside it is no file of settings.
    stack.shell("cp config-repo/vipservice.yml config-repo/vipservice.yml.bak").await;
    stack.edit(file, |text| text.replace(old, "Tea for two"));
    stack.deploy(&["refresh"]).await;
    until_true("the new text", PATIENCE, async || newest().await.as_deref() == Some("Tea for two")).await;

    stack.edit(file, |text| text.replace("offer_text: Tea for two", "offer_textt: Tea for three"));
    let said = stack.try_deploy(&["refresh"]).await;
    assert_eq!(said.code, Some(1), "{}", said.text);
    assert!(said.text.contains("vipservice rejects the settings: "), "{}", said.text);
    assert!(said.text.contains("unknown key `offer_textt`"), "{}", said.text);
    let is_said = async || stack.deploy(&["logs", "vipservice"]).await.contains("unknown key `offer_textt`");
    until_true("what is wrong is in the log", PATIENCE, is_said).await;
    assert_eq!(newest().await.as_deref(), Some("Tea for two"));

    stack.edit(file, |text| text.replace("offer_textt: Tea for three", &format!("offer_text: {old}")));
    stack.deploy(&["refresh"]).await;
    until_true("the old text again", PATIENCE, async || newest().await.as_deref() == Some(old)).await;
    assert_eq!([stack.containers("vipservice").await, stack.containers("accountservice").await], tasks);
}
