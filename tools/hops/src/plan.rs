//! Plans how the compose file runs on this machine: binaries, ports and paths. Does no I/O.
//!
//! A container has a network, a root folder and a host name of its own; a process has none of these. So the values that
//! a task is given are rewritten:
//! - `rabbitmq:5672`, a service and its port, becomes `127.0.0.1:` and the port of that service on this machine,
//! - `/run/secrets/x`, `/data` and other mounted paths become paths below `.hops`,
//! - `APP_SERVER_HOST` and `APP_SERVER_PORT` are set by the runner: this machine only, and a free port per task.

mod names;
mod paths;

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use self::names::{referenced_ports, replace, replacements};
use crate::{
    broker_url::BrokerUrl,
    compose::{
        Compose, Health, Mount, Restart, Service, Update, Volume, VolumeSource, interpolate::for_task,
    },
    failure::Result,
    project::Project,
};

/// Port of RabbitMQ's management API, and of the part of it that the development broker has.
pub const ADMIN_PORT: u16 = 15672;

/// Port on which a broker speaks AMQP.
const AMQP_PORT: u16 = 5672;

/// Folders of RabbitMQ's data in its container.
const BROKER_DATA: [&str; 2] = ["/var/lib/rabbitmq", "/var/lib/rabbitmq/mnesia"];

/// Services to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Services in the order of the file, brokers first.
    pub services: Vec<ServicePlan>,
    /// Address of the broker, development broker or not.
    pub broker: Option<BrokerUrl>,
    /// True if the broker was named by `--broker`, and is not started here.
    pub broker_is_external: bool,
}

/// Kind of a binary, which decides how it is configured and probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// One of the services: settings by environment, `/livez` and `/readyz` over HTTP.
    Service,
    /// Development broker: settings by flags, AMQP.
    Broker,
}

/// Service as it runs on this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServicePlan {
    /// Name of the service.
    pub name: String,
    /// Image in the compose file.
    pub image: String,
    /// Binary that stands for the image.
    pub binary: String,
    /// Kind of the binary.
    pub kind: Kind,
    /// Arguments of the binary; may contain `{{.Task.Slot}}` and other placeholders.
    pub command: Vec<String>,
    /// Environment variables; may contain placeholders.
    pub environment: Vec<(String, String)>,
    /// Ports on this machine.
    pub ports: Vec<LocalPort>,
    /// Number of tasks at the start.
    pub replicas: u32,
    /// Decides whether a task that exits is started again.
    pub restart: Restart,
    /// Decides how tasks are replaced by new ones.
    pub update: Update,
    /// Time from SIGTERM to SIGKILL.
    pub stop_grace_period: Duration,
    /// Decides when a running task counts as dead.
    pub health: Health,
    /// Paths in the container, and the paths that replace them; may contain placeholders.
    pub paths: Vec<(String, String)>,
    /// Folders of the volumes among these paths.
    pub folders: Vec<String>,
    /// Folders of the configs in the container, and the folders that replace them: each alone, but no other path in it.
    #[serde(default)]
    pub config_folders: Vec<(String, String)>,
}

/// Port of a service on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalPort {
    /// Port in the container.
    pub target: u16,
    /// Port on this machine.
    pub local: u16,
    /// True if the file publishes the port.
    pub is_published: bool,
}

/// Request for a port on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// This port and no other.
    Fixed(u16),
    /// This port if it is free, and else any.
    Preferred(u16),
}

/// Arguments, environment and folders of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskPlan {
    /// Command line without the binary.
    pub arguments: Vec<String>,
    /// Environment variables, without those that are inherited from the machine.
    pub environment: Vec<(String, String)>,
    /// Folders that must exist before the task starts.
    pub folders: Vec<String>,
}

/// Binary of the development broker.
pub(crate) const DEVBROKER: &str = "devbroker";

/// Returns the binary that stands for an image: the image's name without registry and tag, or the development broker
/// for RabbitMQ.
fn binary(image: &str) -> (&str, Kind) {
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.split([':', '@']).next().unwrap_or(last) {
        "rabbitmq" => (DEVBROKER, Kind::Broker),
        name => (name, Kind::Service),
    }
}

/// Plans the services of the file. `choose` finds a port for a service; nothing else depends on the machine.
///
/// # Errors
/// A port is not available, or the file describes something that does not work with processes.
pub fn plan(
    compose: &Compose,
    project: &Project,
    external_broker: Option<BrokerUrl>,
    mut choose: impl FnMut(Want, &str) -> Result<u16>,
) -> Result<Plan> {
    let mut services = vec![];
    for service in &compose.services {
        let (binary, kind) = binary(&service.image);
        if kind == Kind::Broker && external_broker.is_some() {
            continue;
        }
        let mut ports = vec![];
        for port in &service.ports {
            let (want, is_published) = match port.published {
                Some(published) => (Want::Fixed(project.published(published, &service.name)?), true),
                None => (Want::Preferred(project.shifted(port.target)), false),
            };
            ports.push(LocalPort { target: port.target, local: choose(want, &service.name)?, is_published });
        }
        // The development broker has these ports even if no value in the file refers to them.
        let own = if kind == Kind::Broker { &[AMQP_PORT, ADMIN_PORT][..] } else { &[] };
        for target in referenced_ports(&service.name, compose).into_iter().chain(own.iter().copied()) {
            if !ports.iter().any(|port| port.target == target) {
                let local = choose(Want::Preferred(project.shifted(target)), &service.name)?;
                ports.push(LocalPort { target, local, is_published: false });
            }
        }
        if kind == Kind::Broker && service.replicas != 1 {
            bail!("{}: the broker is one process on this machine: set `replicas` to 1", service.name);
        }
        services.push(plan_service(service, compose, project, (binary, kind), ports)?);
    }
    // The services start in any order, but are ready sooner if the broker is.
    services.sort_by_key(|service| service.kind != Kind::Broker);

    check_published(&services)?;
    services.iter().try_for_each(ServicePlan::check_paths)?;

    let replacements = replacements(compose, &services, external_broker.as_ref());
    for service in &mut services {
        for (_, value) in &mut service.environment {
            *value = replace(value, &replacements);
        }
        service.command.iter_mut().for_each(|word| *word = replace(word, &replacements));
    }
    Ok(Plan { services, broker_is_external: external_broker.is_some(), broker: external_broker })
}

/// Checks that no two services publish the same port, which Docker refuses, too.
fn check_published(services: &[ServicePlan]) -> Result<()> {
    let mut known = BTreeMap::new();
    for service in services {
        for port in service.ports.iter().filter(|port| port.is_published) {
            if let Some(other) = known.insert(port.local, &service.name) {
                bail!("port {} is published twice, by {other} and by {}", port.local, service.name);
            }
        }
    }
    Ok(())
}

fn plan_service(
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
    let (mut folders, mut config_folders) = (vec![], vec![]);
    for Volume { source, target } in &service.volumes {
        let local = match source {
            VolumeSource::Folder(path) => project.absolute(path).to_string_lossy().into_owned(),
            VolumeSource::Named(key) => {
                let name = compose.volumes.get(key).unwrap_or(key);
                let folder = project.text_path(&format!("volumes/{name}"));
                folders.push(folder.clone());
                folder
            }
        };
        paths.push((target.clone(), local));
    }
    for Mount { source, target } in &service.configs {
        let file = project.absolute(compose.configs.get(source).unwrap_or(source));
        // The config's folder is replaced, too, so that the service sees edits and new files, but no other path in it.
        let (target_path, local_folder) = (Path::new(target), file.parent().unwrap_or(&file));
        let has_same_name = target_path.file_name() == file.file_name();
        let folder = target_path.parent().filter(|folder| has_same_name && *folder != Path::new("/"));
        if let Some(folder) = folder {
            let folder = folder.to_string_lossy().into_owned();
            let local_folder = local_folder.to_string_lossy().into_owned();
            match paths.iter().chain(&config_folders).find(|(known, _)| *known == folder) {
                Some((_, other)) if *other != local_folder => bail!(
                    "{}: configs in {folder} come from two folders, {other} and {local_folder}: move them into one",
                    service.name
                ),
                Some(_) => {}
                None => config_folders.push((folder, local_folder)),
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
        config_folders,
    })
}

impl Plan {
    /// Returns the port of the broker's management API: the one of the development broker here, or that of a foreign broker.
    #[must_use]
    pub fn admin_port(&self) -> u16 {
        let ports = self.services.iter().flat_map(|service| &service.ports);
        let own = ports.filter(|_| !self.broker_is_external).find(|port| port.target == ADMIN_PORT);
        own.map_or(ADMIN_PORT, |port| port.local)
    }

    /// Returns the names of all services.
    #[must_use]
    pub fn service_names(&self) -> Vec<String> {
        self.services.iter().map(|service| service.name.clone()).collect()
    }
}

impl ServicePlan {
    /// Returns the plan of the task in this slot, which listens on `port`.
    ///
    /// # Errors
    /// A value contains an unknown placeholder.
    pub fn task(&self, slot: u32, port: u16) -> Result<TaskPlan> {
        let fill = |text: &str| for_task(text, &self.name, slot).with_context(|| self.name.clone());
        let fill_path = |text: &str| fill(&self.local_path(text));
        let folders = self.folders.iter().map(|folder| fill(folder)).collect::<Result<Vec<_>>>()?;
        if self.kind == Kind::Broker {
            let admin = self.ports.iter().find(|port| port.target == ADMIN_PORT).map_or(0, |port| port.local);
            let (port, admin) = (port.to_string(), admin.to_string());
            let mut arguments = vec!["--port".to_owned(), port, "--admin-port".to_owned(), admin];
            // In Docker, a broker without a volume loses its data with its container.
            match BROKER_DATA.into_iter().find_map(|folder| self.in_mount(folder)) {
                Some(data) => arguments.extend(["--data-dir".to_owned(), fill(&data)?]),
                None => arguments.push("--in-memory".to_owned()),
            }
            return Ok(TaskPlan { arguments, environment: vec![], folders });
        }
        let mut environment = vec![
            ("APP_SERVER_HOST".to_owned(), "127.0.0.1".to_owned()),
            ("APP_SERVER_PORT".to_owned(), port.to_string()),
        ];
        for (name, value) in &self.environment {
            if !environment.iter().any(|(known, _)| known == name) {
                environment.push((name.clone(), fill_path(value)?));
            }
        }
        let arguments = self.command.iter().map(|word| fill_path(word)).collect::<Result<_>>()?;
        Ok(TaskPlan { arguments, environment, folders })
    }

    /// Checks whether the service can have so many tasks.
    ///
    /// # Errors
    /// It is a broker, of which there is one.
    pub fn check_replicas(&self, replicas: u32) -> Result<()> {
        if self.kind == Kind::Broker && replicas > 1 {
            let name = &self.name;
            bail!("{name} cannot be scaled: it is one process on this machine, and one task on Swarm");
        }
        Ok(())
    }

    /// Returns what runs: the image in the compose file, without the host of images that are built here, or the development broker
    /// where it stands for RabbitMQ.
    #[must_use]
    pub fn shown_image(&self) -> &str {
        match self.kind {
            Kind::Broker => &self.binary,
            Kind::Service => self.image.strip_prefix("localhost/").unwrap_or(&self.image),
        }
    }

    /// Returns the ports behind which something listens: the development broker has no port for RabbitMQ's other protocols.
    pub fn served_ports(&self) -> impl Iterator<Item = &LocalPort> {
        let is_served =
            |port: &&LocalPort| self.kind == Kind::Service || [AMQP_PORT, ADMIN_PORT].contains(&port.target);
        self.ports.iter().filter(is_served)
    }

    /// Returns the service's published port on this machine, or its first port if none is published; for a broker, the port
    /// on which it speaks AMQP.
    #[must_use]
    pub fn local_port(&self) -> Option<u16> {
        let first = self.ports.iter().find(|port| match self.kind {
            Kind::Broker => port.target == AMQP_PORT,
            Kind::Service => port.is_published,
        });
        first.or(self.ports.first()).map(|port| port.local)
    }
}

#[cfg(test)]
mod tests;
