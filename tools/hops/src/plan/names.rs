//! Replaces `rabbitmq:5672`, a service and its port as the file writes them, by the address on this machine.

use std::collections::BTreeSet;

use super::{Kind, ServicePlan, binary};
use crate::{broker_url::BrokerUrl, compose::Compose};

/// Returns the ports with which the file refers to a service, as in `rabbitmq:5672`.
pub(super) fn referenced_ports(name: &str, compose: &Compose) -> BTreeSet<u16> {
    let values = compose
        .services
        .iter()
        .flat_map(|service| service.environment.iter().map(|(_, value)| value).chain(&service.command));
    let name = format!("{name}:");
    let port = |(at, value): (usize, &String)| {
        let digits = value[at + name.len()..].split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    };
    values
        .flat_map(|value| find_whole(value, &name).into_iter().map(move |at| (at, value)))
        .filter_map(port)
        .collect()
}

/// Returns the positions of a name, except where it is the end of a longer name.
fn find_whole(text: &str, name: &str) -> Vec<usize> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    text.match_indices(name).map(|(at, _)| at).filter(|at| !text[..*at].ends_with(is_part)).collect()
}

/// Returns the addresses of the file with those that replace them. The whole URL of an external broker comes
/// first, because the replacement contains its virtual host.
pub(super) fn replacements(
    compose: &Compose,
    services: &[ServicePlan],
    external_broker: Option<&BrokerUrl>,
) -> Vec<(String, String)> {
    let mut replacements = vec![];
    if let Some(url) = external_broker {
        for broker in compose.services.iter().filter(|service| binary(&service.image).1 == Kind::Broker) {
            for port in referenced_ports(&broker.name, compose) {
                replacements.push((format!("amqp://{}:{port}", broker.name), url.to_string()));
                replacements.push((format!("{}:{port}", broker.name), format!("{}:{}", url.host, url.port)));
            }
        }
    }
    for service in services {
        for port in &service.ports {
            let local = format!("127.0.0.1:{}", port.local);
            replacements.push((format!("{}:{}", service.name, port.target), local));
        }
    }
    replacements
}

/// Replaces all addresses in a value.
pub(super) fn replace(value: &str, replacements: &[(String, String)]) -> String {
    let mut value = value.to_owned();
    for (address, replacement) in replacements {
        for at in find_whole(&value, address).into_iter().rev() {
            let end = at + address.len();
            if !value[end..].starts_with(|c: char| c.is_ascii_digit()) {
                value.replace_range(at..end, replacement);
            }
        }
    }
    value
}
