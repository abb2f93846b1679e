//! Replaces paths in containers by paths on this machine.

use anyhow::bail;

use super::ServicePlan;
use crate::failure::Result;

impl ServicePlan {
    /// Replaces a path in the container, alone or after the `=` of a flag, by the path on this machine.
    pub(super) fn local_path(&self, text: &str) -> String {
        let (flag, path) = split_flag(text);
        let end = if path.ends_with('/') { "/" } else { "" };
        self.mounted(path).map_or_else(|| text.to_owned(), |local| format!("{flag}{local}{end}"))
    }

    /// Returns the path on this machine of a path that is in a mounted folder, however it is written.
    fn mounted(&self, path: &str) -> Option<String> {
        let normal = normal(path)?;
        let folder = self.config_folders.iter().find(|(target, _)| *target == normal);
        folder.map(|(_, local)| local.clone()).or_else(|| self.in_mount(&normal))
    }

    /// Returns the path on this machine of a path in normal form that is in a mounted folder.
    pub(super) fn in_mount(&self, path: &str) -> Option<String> {
        let found = self.paths.iter().filter_map(|(target, local)| Some((local, below(path, target)?)));
        // The longest target leaves the shortest rest.
        let (local, rest) = found.min_by_key(|(_, rest)| rest.len())?;
        Some(format!("{local}{rest}"))
    }

    /// Refuses a path such as `/data/../x`, which leads out of the folder that replaces `/data`.
    pub(super) fn check_paths(&self) -> Result<()> {
        let values = self.environment.iter().map(|(_, value)| value).chain(&self.command);
        for value in values {
            let parts: Vec<_> = split_flag(value).1.split('/').collect();
            let mut before = (0..parts.len()).filter(|n| parts[*n] == "..").map(|n| parts[..n].join("/"));
            if before.any(|before| self.mounted(&before).is_some()) {
                bail!("{}: `{value}` leads out of a mounted folder: write the path without `..`", self.name);
            }
        }
        Ok(())
    }
}

fn split_flag(text: &str) -> (&str, &str) {
    match text.split_once('=') {
        Some((flag, _)) if flag.starts_with('-') => text.split_at(flag.len() + 1),
        _ => ("", text),
    }
}

/// Returns an absolute path without `.`, `..` and empty parts.
fn normal(path: &str) -> Option<String> {
    let mut parts = vec![];
    for part in path.strip_prefix('/')?.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    Some(format!("/{}", parts.join("/")))
}

/// Returns what follows `folder` in the path of something in it, or of the folder itself.
fn below<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    path.strip_prefix(folder).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}
