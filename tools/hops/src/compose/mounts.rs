//! `secrets`, `configs` and `volumes` of a service: the short form, `source:target`, and the long one.

use std::collections::BTreeMap;

use super::{Mount, Volume, VolumeSource, node::Node};
use crate::failure::Result;

/// Reads mounts of files, `name` or the long form, which are in `default_folder` unless the target is a whole path.
pub(super) fn file_mounts(
    service: &Node,
    key: &str,
    default_folder: &str,
    is_known: impl Fn(&str) -> bool,
) -> Result<Vec<Mount>> {
    let mount = |node: &Node| {
        let source = if node.is_map() { node.required("source")?.text()? } else { node.text()? };
        if !is_known(source) {
            return Err(node.error(&undeclared(source, key)));
        }
        let name = node.read("target", source, Node::text)?;
        let target = if name.starts_with('/') { name.to_owned() } else { format!("{default_folder}{name}") };
        Ok(Mount { source: source.to_owned(), target: checked_target(node, target)? })
    };
    service.read(key, vec![], |node| node.list()?.iter().map(mount).collect())
}

fn undeclared(name: &str, key: &str) -> String {
    format!("`{name}` is not declared under the top-level `{key}`")
}

/// Checks a path in the container: it is in normal form, so that it leads nowhere else, and no folder replaces `/`.
fn checked_target(node: &Node, target: String) -> Result<String> {
    let problem = match target.strip_prefix('/') {
        None => "a target is a path that begins with /",
        Some(path) if path.split('/').any(|part| ["", ".", ".."].contains(&part)) => {
            "a target has a name behind each slash, and no `.` or `..`, as in /data/below"
        }
        Some(_) => return Ok(target),
    };
    Err(node.error(&format!("{problem}: `{target}`")))
}

/// Reads a volume: `source:target[:options]`, or the long form. Memory that stands for a folder concerns containers: `None`.
pub(super) fn volume(
    node: &Node,
    known: &BTreeMap<String, String>,
    variables: &BTreeMap<String, String>,
) -> Result<Option<Volume>> {
    let (is_bind, source, target) = if node.is_map() {
        let types = [("volume", Some(false)), ("bind", Some(true)), ("tmpfs", None)];
        let Some(is_bind) = node.required("type")?.word(&types)? else {
            checked_target(node, node.required("target")?.text()?.to_owned())?;
            return Ok(None);
        };
        let source = if is_bind { Some(node.required("source")?) } else { node.get("source") };
        (is_bind, source.map(Node::text).transpose()?, node.required("target")?.text()?)
    } else {
        let spec = node.text()?;
        let parts: Vec<_> = spec.split(':').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return Err(node.error(&format!("a part of `{spec}` is empty")));
        }
        if parts.len() > 1 && parts[0].chars().count() == 1 && spec.starts_with(char::is_alphabetic) {
            return Err(
                node.error(&format!("Docker takes `{spec}` for a path of Windows: rename the volume"))
            );
        }
        match parts[..] {
            [target] => (false, None, target),
            // The options, such as `ro`, concern containers.
            [source, target] | [source, target, _] => {
                (source.starts_with(['.', '/', '~']), Some(source), target)
            }
            _ => return Err(node.error(&format!("`{spec}` has too many parts"))),
        }
    };
    let target = checked_target(node, target.to_owned())?;
    let source = match source {
        None => {
            let problem = format!("an anonymous volume is not supported: write `NAME:{target}`");
            return Err(node.error(&problem));
        }
        Some(path) if is_bind => VolumeSource::Folder(with_home(node, path, variables)?),
        Some(name) if known.contains_key(name) => VolumeSource::Named(name.to_owned()),
        Some(name) => return Err(node.error(&undeclared(name, "volumes"))),
    };
    Ok(Some(Volume { source, target }))
}

/// Replaces a `~` at the beginning of a path by the home folder.
fn with_home(node: &Node, path: &str, variables: &BTreeMap<String, String>) -> Result<String> {
    let Some(rest) = path.strip_prefix('~') else { return Ok(path.to_owned()) };
    if !rest.is_empty() && !rest.starts_with('/') {
        return Err(
            node.error(&format!("`{path}`: only your own home folder is supported, as in `~/folder`"))
        );
    }
    let home = variables.get("HOME").filter(|home| home.starts_with('/'));
    let home = home.ok_or_else(|| node.error("`~` has no meaning here, since HOME is not set"))?;
    Ok(format!("{home}{rest}"))
}
