//! `ports`: the short form, `"6767:6767"`, and the long one.

use std::{net::IpAddr, ops::RangeInclusive};

use super::{Port, node::Node};
use crate::failure::Result;

const PORT: &str = "a port from 1 to 65535";

/// Reads `ports`.
pub(super) fn ports(node: &Node) -> Result<Vec<Port>> {
    let mut ports = vec![];
    for node in node.list()? {
        match node.is_map() {
            true => ports.push(long_port(node)?),
            false => {
                ports.extend(short_ports(&node.text_or_number()?).map_err(|problem| node.error(&problem))?)
            }
        }
    }
    Ok(ports)
}

fn long_port(node: &Node) -> Result<Port> {
    node.read("protocol", (), |node| node.word(&[("tcp", ())]))?;
    node.read("mode", (), |node| node.word(&[("ingress", ()), ("host", ())]))?;
    let port = |node: &Node| {
        let port: u16 = node.number(PORT)?;
        if port == 0 { Err(node.error(&format!("`0` is not {PORT}"))) } else { Ok(port) }
    };
    let published = node.get("published").map(port).transpose()?;
    Ok(Port { target: port(node.required("target")?)?, published })
}

/// Reads `[[ADDRESS:]PUBLISHED:]TARGET[/tcp]`, in which both ports may be ranges. The address is of no account: a service
/// listens on this machine only.
fn short_ports(text: &str) -> std::result::Result<Vec<Port>, String> {
    let rest = match text.split_once('/') {
        Some((rest, protocol)) if protocol.eq_ignore_ascii_case("tcp") => rest,
        Some(_) => return Err(format!("`{text}`: only TCP is supported")),
        None => text,
    };
    let (rest, target) = rest.rsplit_once(':').map_or(("", rest), |(rest, target)| (rest, target));
    let (address, published) = rest.rsplit_once(':').map_or(("", rest), |(address, port)| (address, port));
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if !address.is_empty() && bare.parse::<IpAddr>().is_err() {
        return Err(format!("`{address}` is not an address"));
    }
    let targets = port_range(target)?;
    if published.is_empty() {
        return Ok(targets.map(|target| Port { target, published: None }).collect());
    }
    let outside = port_range(published)?;
    if targets.len() == 1 {
        let target = *targets.start();
        return Ok(outside.map(|port| Port { target, published: Some(port) }).collect());
    }
    if targets.len() != outside.len() {
        return Err(format!("`{published}` and `{target}` are ranges of different lengths"));
    }
    Ok(targets.zip(outside).map(|(target, port)| Port { target, published: Some(port) }).collect())
}

fn port_range(text: &str) -> std::result::Result<RangeInclusive<u16>, String> {
    let (start, end) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| {
        let is_number = text.chars().all(|c| c.is_ascii_digit());
        text.parse::<u16>().ok().filter(|port| *port > 0 && is_number)
    };
    match (port(start), port(end)) {
        (Some(start), Some(end)) if start <= end => Ok(start..=end),
        _ if text.contains('-') => Err(format!("`{text}` is not {PORT}, or a range of them")),
        _ => Err(format!("`{text}` is not {PORT}")),
    }
}
