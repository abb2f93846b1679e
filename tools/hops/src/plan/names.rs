//! `rabbitmq:5672`: a service and its port, as the file speaks of it, and where that is on this machine.

use std::collections::BTreeSet;

use super::{Kind, ServicePlan, binary};
use crate::{broker_url::BrokerUrl, compose::Compose};

/// The ports under which others speak of a service: `rabbitmq:5672`.
pub(super) fn spoken_of(name: &str, compose: &Compose) -> BTreeSet<u16> {
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
        .flat_map(|value| whole_names(value, &name).into_iter().map(move |at| (at, value)))
        .filter_map(port)
        .collect()
}

/// Where a name stands by itself, and not as the end of another one.
fn whole_names(text: &str, name: &str) -> Vec<usize> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    text.match_indices(name).map(|(at, _)| at).filter(|at| !text[..*at].ends_with(is_part)).collect()
}

/// What names become: a given broker's whole address first, since it has a virtual host, too.
pub(super) fn names(
    compose: &Compose,
    services: &[ServicePlan],
    given: Option<&BrokerUrl>,
) -> Vec<(String, String)> {
    let mut names = vec![];
    if let Some(url) = given {
        for broker in compose.services.iter().filter(|service| binary(&service.image).1 == Kind::Broker) {
            for port in spoken_of(&broker.name, compose) {
                names.push((format!("amqp://{}:{port}", broker.name), url.to_string()));
                names.push((format!("{}:{port}", broker.name), format!("{}:{}", url.host, url.port)));
            }
        }
    }
    for service in services {
        for port in &service.ports {
            names.push((format!("{}:{}", service.name, port.target), format!("127.0.0.1:{}", port.local)));
        }
    }
    names
}

pub(super) fn resolved(value: &str, names: &[(String, String)]) -> String {
    let mut value = value.to_owned();
    for (name, here) in names {
        for at in whole_names(&value, name).into_iter().rev() {
            let end = at + name.len();
            if !value[end..].starts_with(|c: char| c.is_ascii_digit()) {
                value.replace_range(at..end, here);
            }
        }
    }
    value
}
