//! Which files make an environment, and in which order their documents win.
//!
//! Highest first: profile files (the last profile first, in it the folder of the label before the root, in that the
//! last application first), then base files in the same way; a file's documents stay together, the last first.
//! Left out of the native backend: more than one location, patterns in them, Java's XML properties.

use std::collections::HashSet;

use super::{
    Properties, PropertySource,
    profiles::{self, Said},
    request::Request,
    yaml::Unreadable,
};

/// The endings of configuration files, highest first.
const EXTENSIONS: [&str; 3] = ["properties", "yml", "yaml"];
/// What every application reads.
const SHARED: &str = "application";

/// Why there is no environment: the file, and what is wrong in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {error}")]
pub struct Broken {
    /// The file, below the folder.
    pub path: String,
    /// The line and the reason.
    pub error: Unreadable,
}

/// A file's documents, by its path; `None` if there is no such file.
pub type Read<'a> = &'a dyn Fn(&str) -> Result<Option<Vec<Properties>>, Broken>;

/// What is looked for, and where.
#[derive(Debug)]
pub struct Plan<'a> {
    root: &'a str,
    /// Lowest first, each empty or with a slash at its end.
    directories: Vec<String>,
    /// Lowest first.
    names: Vec<String>,
    requested: &'a str,
}

/// A document of a file.
struct Document {
    path: String,
    name: String,
    said: Said,
    properties: Properties,
}

impl<'a> Plan<'a> {
    /// For a request; `label` is its own or the usual one, or none if labels have no folders.
    #[must_use]
    pub fn new(root: &'a str, request: &'a Request, label: Option<&str>) -> Self {
        let names = std::iter::once(SHARED).chain(request.application.split(',')).map(str::to_owned);
        let labels = label.into_iter().flat_map(|label| label.split(',').rev()).filter_map(directory);
        let directories = std::iter::once(String::new()).chain(labels);
        Self {
            root,
            directories: profiles::unique(directories),
            names: profiles::unique(names.filter(|name| !name.is_empty())),
            requested: &request.profiles,
        }
    }

    /// All sources, highest first.
    ///
    /// # Errors
    /// The first file that cannot be read.
    pub fn sources(&self, read: Read<'_>) -> Result<Vec<PropertySource>, Broken> {
        let mut seen = HashSet::new();
        let base = self.documents("", read, &mut seen)?;
        let said: Vec<_> = base.iter().map(|document| &document.said).collect();
        let active = profiles::active(self.requested, &said).map_err(|why| broken(SHARED, why))?;
        let mut all = vec![];
        for profile in active.iter().rev() {
            let documents = self.documents(&format!("-{profile}"), read, &mut seen)?;
            let wrong = documents.iter().find(|Document { said, .. }| {
                said.activates || !said.include.is_empty() || !said.groups.is_empty()
            });
            if let Some(wrong) = wrong.filter(|_| !profiles::is_default(self.requested)) {
                return Err(broken(&wrong.path, "spring.profiles has no place in a profile's file".into()));
            }
            all.extend(documents);
        }
        all.extend(base);
        let mut sources = vec![];
        for document in all {
            if document.said.is_active(&active).map_err(|why| broken(&document.path, why))? {
                sources.push(PropertySource { name: document.name, source: document.properties });
            }
        }
        Ok(sources)
    }

    /// The documents of the files whose names end so, highest first; each file once.
    fn documents(
        &self,
        suffix: &str,
        read: Read<'_>,
        seen: &mut HashSet<String>,
    ) -> Result<Vec<Document>, Broken> {
        let mut all = vec![];
        for directory in self.directories.iter().rev() {
            for name in self.names.iter().rev() {
                for extension in EXTENSIONS {
                    let path = format!("{directory}{name}{suffix}.{extension}");
                    if !seen.insert(path.clone()) {
                        continue;
                    }
                    let documents = read(&path)?.unwrap_or_default();
                    let count = documents.len();
                    for (n, properties) in documents.into_iter().enumerate().rev() {
                        let said = Said::by(&properties).map_err(|why| broken(&path, why))?;
                        let name = self.source_name(directory, &path, (count > 1).then_some(n));
                        all.push(Document { path: path.clone(), name, said, properties });
                    }
                }
            }
        }
        Ok(all)
    }

    /// Clients look for `-{profile}` in it.
    fn source_name(&self, directory: &str, path: &str, document: Option<usize>) -> String {
        let root = self.root;
        match document {
            None => format!("file:{root}/{path}"),
            Some(n) => format!(
                "Config resource 'file [{root}/{path}]' via location 'file:{root}/{directory}' (document #{n})"
            ),
        }
    }
}

fn broken(path: &str, why: String) -> Broken {
    Broken { path: path.to_owned(), error: Unreadable { line: 1, why } }
}

/// A label's folder.
fn directory(label: &str) -> Option<String> {
    let parts: Vec<_> = label.trim().split('/').filter(|part| !part.is_empty()).collect();
    let is_folder = !parts.is_empty() && !parts.contains(&".");
    is_folder.then(|| format!("{}/", parts.join("/")))
}

#[cfg(test)]
mod tests;
