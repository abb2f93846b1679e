//! `env`: a shell in which the commands of the chapters use this checkout's ports.

use std::collections::BTreeMap;

use serde_json::json;

use crate::{
    failure::Result,
    live,
    plan::{Kind, Plan, Want, plan},
    project::Project,
    render::Screen,
};

/// Port of the mailservice, which the reader of chapter 13 writes.
const MAILSERVICE_PORT: u16 = 6969;

/// Prints lines for `eval` in bash and zsh: variables for the tool and the services, and a function `curl` that connects to
/// this checkout's port where an address has the one of the pages. The system does not have to be up.
///
/// # Errors
/// The compose file is wrong, or a port plus `HOPS_PORT_BASE` is no port.
pub fn env(project: &Project, screen: Screen) -> Result<()> {
    let plan = if_all_are_free(project)?;
    let (base, ports) = (project.shifted(0), ports(project, &plan));
    let broker = plan.services.iter().find(|service| service.kind == Kind::Broker);
    let broker = broker.and_then(|broker| Some(format!("amqp://localhost:{}", broker.local_port()?)));
    screen.value(&json!({"portBase": base, "broker": broker, "ports": ports}));

    let mut lines = vec![format!("export HOPS_PORT_BASE={base}")];
    lines.extend(broker.map(|url| format!("export APP_AMQP_SERVER_URL={url}")));
    lines.push("curl() { command curl \\".into());
    lines.extend(ports.iter().map(|(port, here)| format!("    --connect-to localhost:{port}::{here} \\")));
    lines.push("    \"$@\"; }".into());
    screen.lines(&lines.join("\n"));
    Ok(())
}

/// Plans the system as it runs if no other program has one of its ports.
fn if_all_are_free(project: &Project) -> Result<Plan> {
    plan(&project.compose()?, project, None, |(Want::Fixed(port) | Want::Preferred(port)), _| Ok(port))
}

/// Returns each port on which the pages speak HTTP, with the one that is in its place here.
fn ports(project: &Project, plan: &Plan) -> BTreeMap<u16, u16> {
    let services = plan.services.iter().filter(|service| service.kind == Kind::Service);
    let ports = services.flat_map(|service| &service.ports).map(|port| port.local);
    let others = [live::PORT, MAILSERVICE_PORT].map(|port| project.shifted(port));
    ports.chain(others).map(|here| (here - project.shifted(0), here)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use e2e::{page::PORTS, repository};

    use super::*;
    use crate::ports::{SEATS, STABLE, base_of};

    /// Returns all ports of the checkout with this base, and those of the function `curl`.
    fn ports_with(base: u16) -> (Vec<u16>, BTreeMap<u16, u16>) {
        let variables = BTreeMap::from([("HOPS_PORT_BASE".to_owned(), base.to_string())]);
        let project = Project::find(repository::root(), variables).unwrap();
        let plan = if_all_are_free(&project).unwrap();
        let of_plan = plan.services.iter().flat_map(|service| &service.ports).map(|port| port.local);
        (of_plan.chain(PORTS.map(|port| project.shifted(port))).collect(), ports(&project, &plan))
    }

    #[test]
    fn no_two_seats_share_a_port_and_none_is_one_that_a_task_may_take() {
        let mut known = BTreeMap::new();
        for base in std::iter::once(0).chain(SEATS.map(base_of)) {
            let (all, of_curl) = ports_with(base);
            let of_curl: BTreeSet<_> = of_curl.into_values().collect();
            let all: BTreeSet<_> = all.into_iter().collect();
            assert!(of_curl.is_subset(&all) && all.len() == PORTS.len(), "the pages name all: {all:?}");
            for port in all {
                assert!(port < STABLE.start, "{base}: {port}");
                assert_eq!(known.insert(port, base), None, "{port} is one of {base}, too");
            }
        }
        assert_eq!(known.len(), 21 * PORTS.len());
    }

    #[test]
    fn the_function_knows_every_port_on_which_a_page_asks() {
        let (_, of_curl) = ports_with(60);
        let expected = [6767, 6868, 6969, 7878, 8888].map(|port| (port, port + 60));
        assert_eq!(of_curl, BTreeMap::from(expected));
    }
}
