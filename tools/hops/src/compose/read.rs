//! Reads the YAML key by key into the types of the file.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Compose, Condition, Health, Mount, Port, Restart, Service, Update,
    yaml::{Node, Section},
};
use crate::failure::Result;

/// Top-level keys without a meaning for processes, which all share the machine's network.
const TOP_IGNORED: &[&str] = &["version", "networks"];
/// Keys that apply to containers only.
const SERVICE_IGNORED: &[&str] = &[
    "hostname",
    "networks",
    "cap_drop",
    "cap_add",
    "read_only",
    "user",
    "init",
    "labels",
    "logging",
    "tmpfs",
    "ulimits",
    "sysctls",
    "security_opt",
    "stop_signal",
];
const DEPLOY_IGNORED: &[&str] =
    &["mode", "resources", "placement", "labels", "endpoint_mode", "rollback_config"];
const UPDATE_IGNORED: &[&str] = &["monitor", "max_failure_ratio"];

pub(super) fn compose(root: &Node<'_>) -> Result<Compose> {
    let top = root.section(&["services", "secrets", "configs", "volumes"], TOP_IGNORED)?;
    let named = |key: &str| top.read(key, vec![], Node::entries);
    let mut compose =
        Compose { services: vec![], secrets: vec![], configs: BTreeMap::new(), volumes: BTreeMap::new() };
    for (name, node) in named("secrets")? {
        node.section(&["file", "name"], &["external", "labels"])?;
        compose.secrets.push(name);
    }
    for (name, node) in named("configs")? {
        let section = node.section(&["file"], &["name", "labels"])?;
        let file = section.get("file").ok_or_else(|| node.error("`file` is missing"))?.text()?;
        compose.configs.insert(name, file);
    }
    for (name, node) in named("volumes")? {
        let volume = match node.is_null() {
            true => name.clone(),
            false => {
                node.section(&["name"], &["driver", "labels"])?.read("name", name.clone(), Node::text)?
            }
        };
        compose.volumes.insert(name, volume);
    }
    for (name, node) in named("services")? {
        compose.services.push(service(name, &node, &compose)?);
    }
    if compose.services.is_empty() {
        return Err(root.error("there are no services"));
    }
    Ok(compose)
}

fn service(name: String, node: &Node<'_>, compose: &Compose) -> Result<Service> {
    let used = [
        "image",
        "command",
        "environment",
        "ports",
        "deploy",
        "stop_grace_period",
        "healthcheck",
        "secrets",
        "configs",
        "volumes",
    ];
    let section = node.section(&used, SERVICE_IGNORED)?;
    let image = section.get("image").ok_or_else(|| node.error("`image` is missing"))?.text()?;
    let deploy = section
        .get("deploy")
        .map(|node| node.section(&["replicas", "update_config", "restart_policy"], DEPLOY_IGNORED));
    let deploy = deploy.transpose()?;
    let part = |key: &str| deploy.as_ref().and_then(|deploy| deploy.get(key));
    if let Some(mode) = part("mode") {
        mode.word(&[("replicated", ())])?;
    }
    let is_secret = |name: &str| compose.secrets.iter().any(|known| known == name);
    let secrets = mounts(&section, "secrets", "/run/secrets/", is_secret)?;
    let configs = mounts(&section, "configs", "/", |name| compose.configs.contains_key(name))?;
    let is_volume = |name: &str| compose.volumes.contains_key(name) || name.contains('/');
    Ok(Service {
        image,
        command: section.read("command", vec![], command)?,
        environment: section.read("environment", vec![], environment)?,
        ports: section.read("ports", vec![], |node| node.list()?.iter().map(port).collect())?,
        replicas: part("replicas").map_or(Ok(1), |node| node.parsed("a number of replicas"))?,
        restart: restart(part("restart_policy"))?,
        update: update(part("update_config"))?,
        stop_grace_period: section.read("stop_grace_period", Duration::from_secs(10), Node::duration)?,
        health: health(section.get("healthcheck"))?,
        secrets,
        configs,
        volumes: mounts(&section, "volumes", "", is_volume)?,
        name,
    })
}

/// Reads a command: a list, or one line that is split at blanks.
fn command(node: &Node<'_>) -> Result<Vec<String>> {
    if node.is_list() {
        return node.list()?.iter().map(Node::text).collect();
    }
    Ok(node.text()?.split_whitespace().map(str::to_owned).collect())
}

/// Reads variables: `X: value`, or a list of `X=value`.
fn environment(node: &Node<'_>) -> Result<Vec<(String, String)>> {
    if node.is_map() {
        return node.entries()?.into_iter().map(|(name, node)| Ok((name, node.text()?))).collect();
    }
    let pair = |node: &Node<'_>| {
        let text = node.text()?;
        let (name, value) = text.split_once('=').ok_or_else(|| node.error("write NAME=value"))?;
        Ok((name.to_owned(), value.to_owned()))
    };
    node.list()?.iter().map(pair).collect()
}

/// Reads a port: `"6767:6767"`, or the long form.
fn port(node: &Node<'_>) -> Result<Port> {
    const PORT: &str = "a port from 1 to 65535";
    if node.is_map() {
        let section =
            node.section(&["target", "published", "protocol"], &["mode", "name", "app_protocol"])?;
        let target = section.get("target").ok_or_else(|| node.error("`target` is missing"))?.parsed(PORT)?;
        section.read("protocol", (), |node| node.word(&[("tcp", ())]))?;
        let published = section.get("published").map(|node| node.parsed(PORT)).transpose()?;
        return Ok(Port { target, published });
    }
    let text = node.text()?;
    let number = |text: &str| {
        let port = text.parse::<u16>().ok().filter(|port| *port > 0);
        port.ok_or_else(|| node.error(&format!("`{text}` is not {PORT}")))
    };
    match text.strip_suffix("/tcp").unwrap_or(&text).split_once(':') {
        Some((published, target)) => {
            Ok(Port { target: number(target)?, published: Some(number(published)?) })
        }
        None => Ok(Port { target: number(&text)?, published: None }),
    }
}

fn restart(node: Option<&Node<'_>>) -> Result<Restart> {
    let default = Restart { condition: Condition::Any, delay: Duration::from_secs(1), max_attempts: None };
    let Some(node) = node else { return Ok(default) };
    let section = node.section(&["condition", "delay", "max_attempts"], &["window"])?;
    let words = [("any", Condition::Any), ("on-failure", Condition::OnFailure), ("none", Condition::None)];
    Ok(Restart {
        condition: section.read("condition", default.condition, |node| node.word(&words))?,
        delay: section.read("delay", default.delay, Node::duration)?,
        max_attempts: section.get("max_attempts").map(|node| node.parsed("a number")).transpose()?,
    })
}

fn update(node: Option<&Node<'_>>) -> Result<Update> {
    let default = Update { start_first: false, parallelism: 1, delay: Duration::ZERO, rollback: false };
    let Some(node) = node else { return Ok(default) };
    let section = node.section(&["order", "parallelism", "delay", "failure_action"], UPDATE_IGNORED)?;
    let orders = [("start-first", true), ("stop-first", false)];
    let actions = [("rollback", true), ("pause", false), ("continue", false)];
    Ok(Update {
        start_first: section.read("order", default.start_first, |node| node.word(&orders))?,
        parallelism: section.read("parallelism", default.parallelism, |node| node.parsed("a number"))?,
        delay: section.read("delay", default.delay, Node::duration)?,
        rollback: section.read("failure_action", default.rollback, |node| node.word(&actions))?,
    })
}

/// Reads the times of a health check. Its `test` is ignored, because it is a program of the image: the supervisor
/// probes the service itself.
fn health(node: Option<&Node<'_>>) -> Result<Health> {
    let s = Duration::from_secs;
    let default =
        Health { interval: s(30), timeout: s(30), retries: 3, start_period: Duration::ZERO, enabled: true };
    let Some(node) = node else { return Ok(default) };
    let section = node.section(
        &["interval", "timeout", "retries", "start_period", "disable"],
        &["test", "start_interval"],
    )?;
    Ok(Health {
        interval: section.read("interval", default.interval, Node::duration)?,
        timeout: section.read("timeout", default.timeout, Node::duration)?,
        retries: section.read("retries", default.retries, |node| node.parsed("a number"))?.max(1),
        start_period: section.read("start_period", default.start_period, Node::duration)?,
        enabled: !section.read("disable", false, |node| node.parsed("true or false"))?,
    })
}

/// Reads mounts: `name`, `source:target`, or the long form.
fn mounts(
    service: &Section<'_>,
    key: &str,
    default_folder: &str,
    is_known: impl Fn(&str) -> bool,
) -> Result<Vec<Mount>> {
    let mount = |node: &Node<'_>| {
        let (source, target) = if node.is_map() {
            let long =
                node.section(&["source", "target"], &["mode", "uid", "gid", "type", "read_only", "volume"])?;
            let source = long.get("source").ok_or_else(|| node.error("`source` is missing"))?.text()?;
            (source, long.get("target").map(Node::text).transpose()?)
        } else {
            let text = node.text()?;
            let mut parts = text.split(':').map(str::to_owned);
            (parts.next().unwrap_or_default(), parts.next())
        };
        if !is_known(&source) {
            return Err(node.error(&format!("`{source}` is not declared under the top-level `{key}`")));
        }
        let target = target.unwrap_or_else(|| source.clone());
        let target = if target.starts_with('/') { target } else { format!("{default_folder}{target}") };
        if !target.starts_with('/') {
            return Err(node.error("a target is a path that begins with /"));
        }
        Ok(Mount { source, target })
    };
    service.read(key, vec![], |node| node.list()?.iter().map(mount).collect())
}
