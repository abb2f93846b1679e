//! Replaces paths in containers by paths on this machine.

use anyhow::bail;

use super::ServicePlan;
use crate::failure::Result;

impl ServicePlan {
    /// Replaces a path in the container, alone or after the `=` of a flag, by the path on this machine.
    pub(super) fn local_path(&self, text: &str) -> String {
        match self.mounted(text) {
            Some((flag, local, rest)) => format!("{flag}{local}{rest}"),
            None => text.to_owned(),
        }
    }

    /// Returns the flag before a path in the container, the path that replaces its beginning, and the rest of it.
    fn mounted<'a>(&'a self, text: &'a str) -> Option<(&'a str, &'a str, &'a str)> {
        let (flag, path) = match text.split_once('=') {
            Some((flag, path)) if flag.starts_with('-') => (&text[..=flag.len()], path),
            _ => ("", text),
        };
        let found = self.paths.iter().filter_map(|(target, local)| Some((local, below(path, target)?)));
        // The longest target leaves the shortest rest.
        let (local, rest) = found.min_by_key(|(_, rest)| rest.len())?;
        Some((flag, local, rest))
    }

    /// Refuses a path such as `/data/../x`, which leads out of the folder that replaces `/data`.
    pub(super) fn check_paths(&self) -> Result<()> {
        let values = self.environment.iter().map(|(_, value)| value).chain(&self.command);
        for value in values {
            if self.mounted(value).is_some_and(|(_, _, rest)| rest.split('/').any(|part| part == "..")) {
                bail!("{}: `{value}` leads out of a mounted folder: write the path without `..`", self.name);
            }
        }
        Ok(())
    }
}

/// Returns what follows `folder` in the path of something in it, or of the folder itself.
pub(super) fn below<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    let folder = folder.trim_end_matches('/');
    path.strip_prefix(folder).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}
