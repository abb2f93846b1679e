//! Plans of a small file, on a machine where every port is free.

use std::{collections::BTreeMap, fs};

use super::*;

const FILE: &str = "
services:
  vipservice:
    image: hops/vipservice:latest
    command: [--profile, test, --config-repo=/config]
    environment:
      INSTANCE_NAME: 'vipservice.{{.Task.Slot}}'
      APP_SERVER_HOST: 0.0.0.0
      APP_SERVER_PORT: '6868'
      APP_AMQP_SERVER_URL: 'amqp://rabbitmq:5672'
      APP_CONFIG_SERVER: 'http://configserver:8888/x, myrabbitmq:5672, rabbitmq:56720'
      APP_AMQP_PASSWORD_FILE: /run/secrets/password
      APP_DATA_DIR: /data/below
      APP_PLAIN: /database
    ports: ['6868:6868']
    secrets: [password]
    configs: [{source: one, target: /config/application.yml}]
    volumes: ['data:/data']
  configserver: {image: configserver}
  rabbitmq:
    image: 'docker.io/library/rabbitmq:4-management'
    volumes: ['mq:/var/lib/rabbitmq']
secrets: {password: {file: x}}
configs: {one: {file: config-repo/application.yml}}
volumes: {data: {name: 'data-{{.Task.Slot}}'}, mq: }
";

fn planned(given: Option<&str>) -> (Plan, String) {
    planned_of(FILE, given).unwrap()
}

fn planned_of(file: &str, given: Option<&str>) -> Result<(Plan, String)> {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("docker-compose.yml"), file).unwrap();
    let base = BTreeMap::from([("HOPS_PORT_BASE".to_owned(), "1000".to_owned())]);
    let project = Project::find(root.path(), base).unwrap();
    let given = given.map(|url| BrokerUrl::parse(url).unwrap());
    let any = |want, _: &str| {
        let (Want::Fixed(port) | Want::Preferred(port)) = want;
        Ok(port)
    };
    let plan = plan(&project.compose()?, &project, given, any)?;
    Ok((plan, project.root().to_str().unwrap().to_owned()))
}

fn environment(task: &TaskPlan) -> BTreeMap<&str, &str> {
    task.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[test]
fn a_task_gets_this_machines_addresses_and_paths_instead_of_its_containers() {
    let (plan, root) = planned(None);
    let names: Vec<_> = plan.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["rabbitmq", "vipservice", "configserver"], "the broker comes first");
    let vip = &plan.services[1];
    let task = vip.task(2, 40_000).unwrap();
    let environment = environment(&task);
    for (name, value) in [
        ("INSTANCE_NAME", "vipservice.2"),
        ("APP_SERVER_HOST", "127.0.0.1"),
        ("APP_SERVER_PORT", "40000"),
        ("APP_AMQP_SERVER_URL", "amqp://127.0.0.1:6672"),
        ("APP_CONFIG_SERVER", "http://127.0.0.1:9888/x, myrabbitmq:5672, 127.0.0.1:57720"),
        ("APP_AMQP_PASSWORD_FILE", &format!("{root}/.hops/secrets/password")),
        ("APP_DATA_DIR", &format!("{root}/.hops/volumes/data-2/below")),
        ("APP_PLAIN", "/database"),
    ] {
        assert_eq!(environment[name], value, "{name}");
    }
    assert_eq!(task.arguments, ["--profile", "test", &format!("--config-repo={root}/config-repo")]);
    assert_eq!(task.folders, [format!("{root}/.hops/volumes/data-2")]);
    let published = LocalPort { target: 6868, local: 7868, is_published: true };
    assert_eq!(vip.ports, [published], "fixed ports are shifted");
}

#[test]
fn rabbitmq_is_the_development_broker_unless_another_broker_is_named() {
    let (plan, root) = planned(None);
    let broker = &plan.services[0];
    assert_eq!((broker.binary.as_str(), broker.kind), ("devbroker", Kind::Broker));
    let data = format!("{root}/.hops/volumes/mq");
    let expected = ["--port", "5672", "--admin-port", "16672", "--data-dir", data.as_str()];
    assert_eq!(broker.task(1, 5672).unwrap().arguments, expected);

    let (plan, _) = planned(Some("amqp://u:hunter2@elsewhere:1234/v%2Fh"));
    assert!(plan.broker_is_external && plan.services.iter().all(|service| service.kind == Kind::Service));
    let task = plan.services[0].task(1, 1).unwrap();
    assert_eq!(environment(&task)["APP_AMQP_SERVER_URL"], "amqp://elsewhere:1234/v%2Fh");
    assert!(!format!("{task:?}").contains("hunter2"), "the password is in a file of its own");
}

#[test]
fn a_broker_that_publishes_nothing_has_a_port_for_amqp_and_another_one_for_operators() {
    let only = |rest: &str| {
        let file = format!("services:\n  rabbitmq:\n    image: rabbitmq:4\n{rest}");
        planned_of(&file, None).unwrap().0.services.remove(0)
    };
    for (rest, local) in [
        ("", 6672),
        ("    ports: ['15672:15672']", 6672),
        ("    ports: ['15672:15672', '5673:5672']", 6673),
        ("    ports: ['127.0.0.1:5672:5672']", 6672),
    ] {
        let broker = only(rest);
        let local_of = |target| broker.ports.iter().find(|port| port.target == target).map(|port| port.local);
        assert_eq!(
            (broker.local_port(), local_of(5672), local_of(15672)),
            (Some(local), Some(local), Some(16672)),
            "{rest}"
        );
        assert_eq!(broker.ports.len(), 2, "{rest}");
        let arguments = broker.task(1, local).unwrap().arguments;
        assert_eq!(arguments.last().unwrap(), "--in-memory", "it has no volume: {rest}");
    }
}

#[test]
fn folders_of_this_machine_are_used_but_not_created() {
    let elsewhere = tempfile::tempdir().unwrap();
    let folder = elsewhere.path().to_str().unwrap();
    let file =
        FILE.replace("'data:/data'", &format!("'data:/data', '{folder}/../{}:/there'", name_of(folder)));
    let (plan, root) = planned_of(&file, None).unwrap();
    let (_, local) = plan.services[1].paths.iter().find(|(target, _)| target == "/there").unwrap();
    assert_eq!(local, folder, "without the `..`");
    assert_eq!(plan.services[1].folders, [format!("{root}/.hops/volumes/data-{{{{.Task.Slot}}}}")]);

    let missing = FILE.replace("'data:/data'", "'./missing:/there'");
    let error = planned_of(&missing, None).unwrap_err().to_string();
    assert!(
        error.contains("services.vipservice.volumes") && error.contains("missing does not exist"),
        "{error}"
    );
}

fn name_of(folder: &str) -> &str {
    folder.rsplit('/').next().unwrap()
}

#[test]
fn a_path_is_replaced_however_it_is_written_and_no_other_is() {
    let file = FILE.replace("configs: [{", "configs: [root.yml, {source: etc, target: /etc/etc.yml}, {");
    let file = file.replace(
        "configs: {one:",
        "configs: {root.yml: {file: root.yml}, etc: {file: config-repo/etc.yml}, one:",
    );
    for (value, expected) in [
        ("/data", "ROOT/.hops/volumes/data-1"),
        ("/data/", "ROOT/.hops/volumes/data-1/"),
        ("//data//x", "ROOT/.hops/volumes/data-1/x"),
        ("/./data/./x/.", "ROOT/.hops/volumes/data-1/x"),
        ("/tmp/../data/x", "ROOT/.hops/volumes/data-1/x"),
        ("/../data", "ROOT/.hops/volumes/data-1"),
        ("/config/", "ROOT/config-repo/"),
        ("/config/application.yml", "ROOT/config-repo/application.yml"),
        ("/config/other.yml", "/config/other.yml"),
        ("/root.yml", "ROOT/root.yml"),
        ("/etc", "ROOT/config-repo"),
        ("/etc/hosts", "/etc/hosts"),
        ("/", "/"),
        ("/usr/share", "/usr/share"),
        ("//usr/./share/../x", "//usr/./share/../x"),
        ("/database", "/database"),
        ("data/x", "data/x"),
    ] {
        let (plan, root) = planned_of(&file.replace("/data/below", value), None).unwrap();
        let task = plan.services[1].task(1, 1).unwrap();
        assert_eq!(environment(&task)["APP_DATA_DIR"], expected.replace("ROOT", &root), "{value}");
    }
}

#[test]
fn the_data_of_the_broker_is_in_a_volume_and_in_no_secret() {
    let broker = |rest: &str| {
        let file = format!(
            "services: {{rabbitmq: {{image: rabbitmq, secrets: [{{source: s, target: /var/lib/rabbitmq/.cookie}}], \
             {rest}}}}}\n\
             volumes: {{mq: }}\nsecrets: {{s: {{file: s}}}}\nconfigs: {{c: {{file: c}}}}\n"
        );
        let (plan, root) = planned_of(&file, None).unwrap();
        plan.services[0].task(1, 1).unwrap().arguments.pop().unwrap().replace(&root, "ROOT")
    };
    assert_eq!(broker("configs: [{source: c, target: /var/lib/rabbitmq/c}]"), "--in-memory");
    assert_eq!(broker("volumes: ['mq:/var/lib/rabbitmq']"), "ROOT/.hops/volumes/mq");
    assert_eq!(broker("volumes: ['mq:/var/lib/rabbitmq/mnesia']"), "ROOT/.hops/volumes/mq");
    assert_eq!(broker("volumes: ['mq:/var/lib']"), "ROOT/.hops/volumes/mq/rabbitmq");
}

#[test]
fn a_published_port_that_the_base_lifts_above_the_last_one_is_refused() {
    let file = FILE.replace("'6868:6868'", "'64536:6868'");
    let error = planned_of(&file, None).unwrap_err().to_string();
    let expected = "vipservice: the published port 64536 plus HOPS_PORT_BASE=1000 is more than 65535";
    assert!(error.starts_with(expected), "{error}");
    let (plan, _) = planned_of(&file.replace("64536", "64535"), None).unwrap();
    assert_eq!(plan.services[1].ports[0].local, 65535);
}

#[test]
fn a_value_that_leads_out_of_a_mounted_folder_is_refused() {
    for (from, to) in [
        ("/data/below", "/data/../../below"),
        ("/data/below", "//data/./x/../y"),
        ("/data/below", "/tmp/../data/../x"),
        ("--config-repo=/config", "--config-repo=/config/.."),
    ] {
        let error = planned_of(&FILE.replace(from, to), None).unwrap_err().to_string();
        assert!(error.starts_with("vipservice: `") && error.contains("leads out of"), "{error}");
    }
}

#[test]
fn a_port_that_two_services_publish_is_refused() {
    let twice = FILE.replace("{image: configserver}", "{image: configserver, ports: ['6868:8888']}");
    let error = planned_of(&twice, None).unwrap_err().to_string();
    assert_eq!(error, "port 7868 is published twice, by vipservice and by configserver");
}

#[test]
fn configs_of_one_folder_come_from_one_folder() {
    let two = FILE
        .replace(
            "/config/application.yml}",
            "/config/application.yml}, {source: two, target: /config/two.yml}",
        )
        .replace("configs: {one:", "configs: {two: {file: other/two.yml}, one:");
    let error = planned_of(&two, None).unwrap_err().to_string();
    for part in ["vipservice", "/config ", "config-repo and ", "other"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn an_image_is_a_binary_of_its_name() {
    for (image, name) in [
        ("hops/vipservice:latest", "vipservice"),
        ("vipservice", "vipservice"),
        ("registry:5000/a/configserver@sha256:0", "configserver"),
        ("rabbitmq:4-management", "devbroker"),
    ] {
        assert_eq!(binary(image).0, name, "{image}");
    }
}

#[test]
fn an_unknown_placeholder_is_refused_with_its_service() {
    let (mut plan, _) = planned(None);
    plan.services[1].environment.push(("X".into(), "{{.Task.ID}}".into()));
    let error = format!("{:#}", plan.services[1].task(1, 1).unwrap_err());
    assert!(error.contains("vipservice") && error.contains(".Task.ID"), "{error}");
}
