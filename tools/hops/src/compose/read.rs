//! Reads the checked file into its types.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Compose, Condition, Health, Restart, Service, Update,
    check::{check, check_names, duration_of},
    interpolate::for_task,
    mounts::{file_mounts, volume},
    node::{Data, Node},
    ports::ports,
    values::{is_name, is_name_with_placeholders, split_words},
};
use crate::failure::Result;

const NAME: &str = "a name: use letters, digits, `.`, `_` and `-`";

pub(super) fn compose(root: &Node, variables: &BTreeMap<String, String>) -> Result<Compose> {
    check(root)?;
    let named = |key: &str| match root.get(key) {
        None => Ok(&[][..]),
        Some(node) => check_names(node).and_then(|()| node.entries()),
    };
    let mut compose = Compose {
        services: vec![],
        secrets: BTreeMap::new(),
        configs: BTreeMap::new(),
        volumes: BTreeMap::new(),
    };
    for (name, node) in named("secrets")? {
        let is_external = match node.get("external") {
            Some(external) => external.is_map() || external.flag()?,
            None => false,
        };
        let file = if is_external { None } else { Some(file(node.required("file")?)?) };
        compose.secrets.insert(name.clone(), file);
    }
    for (name, node) in named("configs")? {
        compose.configs.insert(name.clone(), file(node.required("file")?)?);
    }
    for (name, node) in named("volumes")? {
        node.read("driver", (), |node| node.word(&[("local", ())]))?;
        let volume = node.read("name", name.clone(), |node| match node.text()? {
            name if is_name_with_placeholders(name) => {
                for_task(name, "", 1).map_err(|error| node.error(&error.to_string()))?;
                Ok(name.to_owned())
            }
            name => Err(node.error(&format!("`{name}` is not {NAME}"))),
        })?;
        compose.volumes.insert(name.clone(), volume);
    }
    for (name, node) in named("services")? {
        compose.services.push(service(name, node, &compose, variables)?);
    }
    if compose.services.is_empty() {
        return Err(root.error("there are no services"));
    }
    Ok(compose)
}

/// Reads the path of a file, in which Docker does not replace `~`.
fn file(node: &Node) -> Result<String> {
    let path = node.text()?;
    match path.is_empty() || path.starts_with('~') {
        true => {
            Err(node.error(&format!("`{path}` is not the path of a file: Docker does not replace `~` here")))
        }
        false => Ok(path.to_owned()),
    }
}

fn service(
    name: &str,
    node: &Node,
    compose: &Compose,
    variables: &BTreeMap<String, String>,
) -> Result<Service> {
    node.read("stop_signal", (), |node| node.word(&[("SIGTERM", ())]))?;
    let deploy = |key: &str| node.get("deploy").and_then(|deploy| deploy.get(key));
    if let Some(mode) = deploy("mode") {
        mode.word(&[("replicated", ())])?;
    }
    Ok(Service {
        name: name.to_owned(),
        image: image(node.required("image")?)?,
        command: node.read("command", vec![], command)?,
        environment: node.read("environment", vec![], |node| environment(node, variables))?,
        ports: node.read("ports", vec![], ports)?,
        replicas: deploy("replicas").map_or(Ok(1), |node| node.number("a number of replicas"))?,
        restart: restart(deploy("restart_policy"))?,
        update: update(deploy("update_config"))?,
        stop_grace_period: node.read("stop_grace_period", Duration::from_secs(10), duration_of)?,
        health: health(node.get("healthcheck"))?,
        secrets: file_mounts(node, "secrets", "/run/secrets/", |name| compose.secrets.contains_key(name))?,
        configs: file_mounts(node, "configs", "/", |name| compose.configs.contains_key(name))?,
        volumes: node.read("volumes", vec![], |node| {
            node.list()?
                .iter()
                .filter_map(|node| volume(node, &compose.volumes, variables).transpose())
                .collect()
        })?,
    })
}

/// Reads an image, whose name without registry and tag is the name of a binary.
fn image(node: &Node) -> Result<String> {
    let image = node.text()?;
    let last = image.rsplit('/').next().unwrap_or(image);
    let name = last.split([':', '@']).next().unwrap_or(last);
    match is_name(name) && name.to_lowercase() == name && image.chars().all(|c| c.is_ascii_graphic()) {
        true => Ok(image.to_owned()),
        false => Err(node.error(&format!("`{image}` is not the name of an image"))),
    }
}

/// Reads a command: a list, or one line.
fn command(node: &Node) -> Result<Vec<String>> {
    let words = match &node.data {
        Data::List(words) => words.iter().map(|word| Ok(word.text()?.to_owned())).collect::<Result<_>>()?,
        _ => split_words(node.text()?).map_err(|error| node.error(&error.to_string()))?,
    };
    match words.iter().find(|word| word.contains("{{")) {
        Some(word) => Err(node.error(&format!(
            "`{word}`: Docker does not replace placeholders in a command: write them under `environment`"
        ))),
        None => Ok(words),
    }
}

/// Reads variables: `X: value`, or a list of `X=value`. One with an empty value is passed through: it gets the value that
/// the shell has for it. One without a value that the shell does not have either is not set.
fn environment(node: &Node, variables: &BTreeMap<String, String>) -> Result<Vec<(String, String)>> {
    let mut pairs = BTreeMap::new();
    if let Data::Map(entries) = &node.data {
        for (name, node) in entries {
            let value = if node.is_null() { None } else { Some(node.text_or_number()?) };
            pairs.insert(name.clone(), (node, value));
        }
    } else {
        for node in node.list()? {
            let text = node.text()?;
            let (name, value) =
                text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value.to_owned())));
            pairs.insert(name.to_owned(), (node, value));
        }
    }
    let mut environment = vec![];
    for (name, (node, value)) in pairs {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(node.error(&format!("`{name}` is not the name of a variable")));
        }
        let passed_through = || variables.get(&name).cloned();
        let value = match value {
            Some(text) if text.is_empty() => passed_through().or(Some(text)),
            Some(text) => Some(text),
            None => passed_through(),
        };
        let Some(value) = value else { continue };
        // A placeholder that no task can replace is refused now.
        for_task(&value, "", 1).map_err(|error| node.error(&error.to_string()))?;
        environment.push((name, value));
    }
    Ok(environment)
}

fn restart(node: Option<&Node>) -> Result<Restart> {
    let default = Restart { condition: Condition::Any, delay: Duration::from_secs(5), max_attempts: None };
    let Some(node) = node else { return Ok(default) };
    let words = [("any", Condition::Any), ("on-failure", Condition::OnFailure), ("none", Condition::None)];
    // Docker counts attempts without a limit if the limit is 0.
    let max_attempts: u32 = node.read("max_attempts", 0, |node| node.number("a number"))?;
    Ok(Restart {
        condition: node.read("condition", default.condition, |node| node.word(&words))?,
        delay: node.read("delay", default.delay, duration_of)?,
        max_attempts: (max_attempts > 0).then_some(max_attempts),
    })
}

fn update(node: Option<&Node>) -> Result<Update> {
    let default = Update { start_first: false, parallelism: 1, delay: Duration::ZERO, rollback: false };
    let Some(node) = node else { return Ok(default) };
    let orders = [("start-first", true), ("stop-first", false)];
    let actions = [("rollback", true), ("pause", false), ("continue", false)];
    Ok(Update {
        start_first: node.read("order", default.start_first, |node| node.word(&orders))?,
        parallelism: node.read("parallelism", default.parallelism, |node| node.number("a number"))?,
        delay: node.read("delay", default.delay, duration_of)?,
        rollback: node.read("failure_action", default.rollback, |node| node.word(&actions))?,
    })
}

/// Reads the times of a health check. Its `test` only decides whether there is a check, because it is a program of the
/// image: the supervisor probes the service itself.
fn health(node: Option<&Node>) -> Result<Health> {
    let s = Duration::from_secs;
    let default = Health { interval: s(30), timeout: s(30), retries: 3, start_period: s(0), enabled: true };
    let Some(node) = node else { return Ok(default) };
    let is_none = match node.get("test") {
        Some(test) => is_no_test(test)?,
        None => false,
    };
    let is_disabled = node.read("disable", false, Node::flag)?;
    if is_disabled && node.get("test").is_some() && !is_none {
        return Err(node.error("`disable` and `test` contradict each other"));
    }
    // Docker takes a zero for the default.
    let time = |key: &str, default: Duration| {
        let time = node.read(key, default, duration_of)?;
        Ok::<_, anyhow::Error>(if time.is_zero() { default } else { time })
    };
    let retries = node.read("retries", 0, |node| node.number("a number"))?;
    Ok(Health {
        interval: time("interval", default.interval)?,
        timeout: time("timeout", default.timeout)?,
        retries: if retries == 0 { default.retries } else { retries },
        start_period: time("start_period", default.start_period)?,
        enabled: !is_disabled && !is_none,
    })
}

/// Returns true for `["NONE"]`, another way to write that there is no check.
fn is_no_test(test: &Node) -> Result<bool> {
    let Data::List(words) = &test.data else { return Ok(false) };
    match words.first() {
        None => Ok(false),
        Some(kind) => kind.word(&[("CMD", false), ("CMD-SHELL", false), ("NONE", true)]).map_err(|_| {
            test.error(&format!("`{}` is not CMD or CMD-SHELL or NONE", kind.text().unwrap_or_default()))
        }),
    }
}
