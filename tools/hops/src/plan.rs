//! From the compose file to what this machine runs: which binary, which ports, which paths. Pure.
//!
//! A container has a network, a root folder and a host name of its own, and a process has none of these. So what
//! the file says about them is rewritten in the values that a task is given:
//! - `rabbitmq:5672`, a service and its port, becomes `127.0.0.1:` and the port where that service is found here,
//! - `/run/secrets/x`, `/data` and other paths that are mounted become paths below `.hops`,
//! - `APP_SERVER_HOST` and `APP_SERVER_PORT` are the runner's: this machine only, and a free port per task.

mod names;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{
    broker_url::BrokerUrl,
    compose::{Compose, Health, Mount, Restart, Service, Update, interpolate::for_task},
    failure::{Failure, Result},
    project::Project,
};

use self::names::{names, resolved, spoken_of};

/// Where RabbitMQ has its management API, and the development broker what it has of that.
pub const ADMIN_PORT: u16 = 15672;

/// Everything that is to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// In the file's order, brokers first.
    pub services: Vec<ServicePlan>,
    /// The broker, ours or the one that was given.
    pub broker: Option<BrokerUrl>,
    /// Whether it was given.
    pub broker_is_given: bool,
}

/// What a binary is, which decides how it is started and watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// One of the services: settings by environment, `/livez` and `/readyz` over HTTP.
    Service,
    /// The development broker: settings by flags, AMQP.
    Broker,
}

/// A service as this machine runs it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServicePlan {
    /// Its name.
    pub name: String,
    /// Its image, for show.
    pub image: String,
    /// The binary that stands for the image.
    pub binary: String,
    /// What that binary is.
    pub kind: Kind,
    /// What it is given; `{{.Task.Slot}}` and the like still stand in it.
    pub command: Vec<String>,
    /// Its environment, likewise.
    pub environment: Vec<(String, String)>,
    /// Where it is found on this machine.
    pub ports: Vec<LocalPort>,
    /// How many are wanted at first.
    pub replicas: u32,
    /// What becomes of a task that ends.
    pub restart: Restart,
    /// How a new version takes over.
    pub update: Update,
    /// From SIGTERM to SIGKILL.
    pub stop_grace_period: std::time::Duration,
    /// How it is watched.
    pub health: Health,
    /// A container's paths and what they are here; `{{.Task.Slot}}` may stand in them.
    pub paths: Vec<(String, String)>,
    /// Those of them that are volumes: the task's folders.
    pub folders: Vec<String>,
}

/// A port of a service and where it is found on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalPort {
    /// The container's.
    pub target: u16,
    /// Ours.
    pub local: u16,
    /// Whether the file promises it to those outside.
    pub is_published: bool,
}

/// A port that is wanted on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// This one and no other.
    Fixed(u16),
    /// This one if it is free.
    Rather(u16),
}

/// What one task is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskPlan {
    /// The command line without the binary.
    pub arguments: Vec<String>,
    /// All of its environment that is not the machine's.
    pub environment: Vec<(String, String)>,
    /// The folders to make for it.
    pub folders: Vec<String>,
}

/// The binary that stands for an image: the name without registry and tag, and for RabbitMQ the development broker.
fn binary(image: &str) -> (&str, Kind) {
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.split([':', '@']).next().unwrap_or(last) {
        "rabbitmq" => ("devbroker", Kind::Broker),
        name => (name, Kind::Service),
    }
}

/// Plans what the file says. `choose` finds ports, which is all that depends on the machine.
///
/// # Errors
/// A port that cannot be had, or a placeholder that nobody knows.
pub fn plan(
    compose: &Compose,
    project: &Project,
    given: Option<BrokerUrl>,
    mut choose: impl FnMut(Want, &str) -> Result<u16>,
) -> Result<Plan> {
    let mut services = vec![];
    for service in &compose.services {
        let (binary, kind) = binary(&service.image);
        if kind == Kind::Broker && given.is_some() {
            continue;
        }
        let mut ports = vec![];
        for port in &service.ports {
            let (want, is_published) = match port.published {
                Some(published) => (Want::Fixed(project.shifted(published)), true),
                None => (Want::Rather(project.shifted(port.target)), false),
            };
            ports.push(LocalPort { target: port.target, local: choose(want, &service.name)?, is_published });
        }
        // A broker of ours has its operators' port too, though nobody speaks of it in the file.
        let own = (kind == Kind::Broker).then_some(ADMIN_PORT);
        for target in spoken_of(&service.name, compose).into_iter().chain(own) {
            if !ports.iter().any(|port| port.target == target) {
                let local = choose(Want::Rather(project.shifted(target)), &service.name)?;
                ports.push(LocalPort { target, local, is_published: false });
            }
        }
        if kind == Kind::Broker && service.replicas != 1 {
            return Err(
                format!("{}: the broker is one process here, so `replicas` is 1", service.name).into()
            );
        }
        services.push(planned(service, compose, project, (binary, kind), ports)?);
    }
    // The services come up in any order; with the broker first they do so at once.
    services.sort_by_key(|service| service.kind != Kind::Broker);

    let names = names(compose, &services, given.as_ref());
    for service in &mut services {
        for (_, value) in &mut service.environment {
            *value = resolved(value, &names);
        }
        service.command.iter_mut().for_each(|word| *word = resolved(word, &names));
    }
    Ok(Plan { services, broker_is_given: given.is_some(), broker: given })
}

fn planned(
    service: &Service,
    compose: &Compose,
    project: &Project,
    (binary, kind): (&str, Kind),
    ports: Vec<LocalPort>,
) -> Result<ServicePlan> {
    let mut paths: Vec<(String, String)> = vec![];
    for Mount { source, target } in &service.secrets {
        paths.push((target.clone(), project.text_path(&format!("secrets/{source}"))));
    }
    let mut folders = vec![];
    for Mount { source, target } in &service.volumes {
        let here = match compose.volumes.get(source) {
            Some(name) => project.text_path(&format!("volumes/{name}")),
            None => project.root().join(source).to_string_lossy().into_owned(),
        };
        folders.push(here.clone());
        paths.push((target.clone(), here));
    }
    for Mount { source, target } in &service.configs {
        let file = project.root().join(compose.configs.get(source).unwrap_or(source));
        // The folder that it lies in, too: what is edited here is seen, and so is a new file.
        let (there, here) = (Path::new(target), file.parent().unwrap_or(&file));
        if let Some(folder) = there.parent().filter(|_| there.file_name() == file.file_name()) {
            let (folder, here) = (folder.to_string_lossy().into_owned(), here.to_string_lossy().into_owned());
            match paths.iter().find(|(known, _)| *known == folder) {
                Some((_, other)) if *other != here => {
                    let name = &service.name;
                    return Err(format!("{name}: its configs below {folder} come from {other} and from {here}, which is one too many").into());
                }
                Some(_) => {}
                None => paths.push((folder, here)),
            }
        }
        paths.push((target.clone(), file.to_string_lossy().into_owned()));
    }
    Ok(ServicePlan {
        name: service.name.clone(),
        image: service.image.clone(),
        binary: binary.to_owned(),
        kind,
        command: service.command.clone(),
        environment: service.environment.clone(),
        ports,
        replicas: service.replicas,
        restart: service.restart,
        update: service.update,
        stop_grace_period: service.stop_grace_period,
        health: service.health,
        paths,
        folders,
    })
}

impl ServicePlan {
    /// What the task of this slot is given, which is to listen on `port`.
    ///
    /// # Errors
    /// A placeholder that nobody knows.
    pub fn task(&self, slot: u32, port: u16) -> Result<TaskPlan> {
        let fill = |text: &str| {
            for_task(text, &self.name, slot).map_err(|why| Failure::Why(format!("{}: {why}", self.name)))
        };
        let fill_path = |text: &str| fill(&self.path(text));
        let folders = self.folders.iter().map(|folder| fill(folder)).collect::<Result<Vec<_>>>()?;
        if self.kind == Kind::Broker {
            let data = folders.first().cloned().unwrap_or_default();
            let admin = self.ports.iter().find(|port| port.target == ADMIN_PORT).map_or(0, |port| port.local);
            let (port, admin) = (port.to_string(), admin.to_string());
            let arguments = ["--port", &port, "--admin-port", &admin, "--data-dir", &data].map(str::to_owned);
            return Ok(TaskPlan { arguments: arguments.into(), environment: vec![], folders });
        }
        let mut environment = vec![
            ("APP_SERVER_HOST".to_owned(), "127.0.0.1".to_owned()),
            ("APP_SERVER_PORT".to_owned(), port.to_string()),
        ];
        for (name, value) in &self.environment {
            if !environment.iter().any(|(ours, _)| ours == name) {
                environment.push((name.clone(), fill_path(value)?));
            }
        }
        let arguments = self.command.iter().map(|word| fill_path(word)).collect::<Result<_>>()?;
        Ok(TaskPlan { arguments, environment, folders })
    }

    /// A path of the container, alone or after a flag's `=`, as it is here.
    fn path(&self, text: &str) -> String {
        let (before, path) = match text.split_once('=') {
            Some((flag, path)) if flag.starts_with('-') => (&text[..=flag.len()], path),
            _ => ("", text),
        };
        let is_below = |target: &str| {
            path.strip_prefix(target).filter(|rest| rest.is_empty() || rest.starts_with('/')).map(str::len)
        };
        let found = self.paths.iter().filter_map(|(target, here)| Some((is_below(target)?, here)));
        // The longest target is the one that leaves the least.
        found.min_by_key(|(rest, _)| *rest).map_or_else(
            || text.to_owned(),
            |(rest, here)| format!("{before}{here}{}", &path[path.len() - rest..]),
        )
    }

    /// Its port on this machine that the file publishes, or the first.
    #[must_use]
    pub fn local_port(&self) -> Option<u16> {
        let published = self.ports.iter().find(|port| port.is_published);
        published.or(self.ports.first()).map(|port| port.local)
    }
}

#[cfg(test)]
mod tests;
