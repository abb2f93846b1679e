//! Which files make an environment, and in which order their documents win.
//!
//! Highest first: profile files (the last profile first, in it the folder of the label before the root, in that the
//! last application first), then base files in the same way; a file's documents stay together, the last first, and each
//! stands below what it imports.
//! Left out of the native backend: more than one location, patterns in them, imported folders, Java's XML properties.

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
/// How many files a request may lead to, those counted that are not there.
const MOST_FILES: usize = 10_000;
/// How many files import each other in a row.
const DEEPEST: usize = 20;

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
        self.take_active(all, 0, &active, read, &mut seen, &mut sources)?;
        Ok(sources)
    }

    /// Adds those that are active, each below what it imports.
    fn take_active(
        &self,
        documents: Vec<Document>,
        depth: usize,
        active: &[String],
        read: Read<'_>,
        seen: &mut HashSet<String>,
        sources: &mut Vec<PropertySource>,
    ) -> Result<(), Broken> {
        for document in documents {
            let Document { path, name, said, properties } = document;
            if !said.is_active(active).map_err(|why| broken(&path, why))? {
                continue;
            }
            for location in said.import.iter().rev() {
                let Some(import) = self.imported(&path, location) else { continue };
                if depth >= DEEPEST {
                    return Err(broken(&path, "spring.config.import: too long a row".into()));
                }
                let (stem, extension) = import.rsplit_once('.').unwrap_or((&import, ""));
                let mut documents = vec![];
                for profile in active.iter().rev().map(|profile| format!("-{profile}")).chain([String::new()])
                {
                    documents.extend(self.file(
                        &format!("{stem}{profile}.{extension}"),
                        location,
                        read,
                        seen,
                    )?);
                }
                self.take_active(documents, depth + 1, active, read, seen, sources)?;
            }
            sources.push(PropertySource { name, source: properties });
        }
        Ok(())
    }

    /// The path of an imported file; `None` if it is none of this folder, or of another kind.
    fn imported(&self, importer: &str, location: &str) -> Option<String> {
        let location = location.strip_prefix("optional:").unwrap_or(location);
        let (folder, rest) = match location.strip_prefix("file:").unwrap_or(location) {
            absolute if absolute.starts_with('/') => {
                ("", absolute.strip_prefix(self.root)?.strip_prefix('/')?)
            }
            relative => (importer.rsplit_once('/').map_or("", |(folder, _)| folder), relative),
        };
        let mut parts = vec![];
        for part in folder.split('/').chain(rest.split('/')) {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()?),
                part => parts.push(part),
            }
        }
        let extension = parts.last()?.rsplit_once('.')?.1;
        (EXTENSIONS.contains(&extension) && !rest.ends_with('/')).then(|| parts.join("/"))
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
                    all.extend(self.file(&path, &format!("file:{}/{directory}", self.root), read, seen)?);
                }
            }
        }
        Ok(all)
    }

    /// The documents of a file that was not read yet, highest first.
    fn file(
        &self,
        path: &str,
        location: &str,
        read: Read<'_>,
        seen: &mut HashSet<String>,
    ) -> Result<Vec<Document>, Broken> {
        if !seen.insert(path.to_owned()) {
            return Ok(vec![]);
        }
        if seen.len() > MOST_FILES {
            return Err(broken(path, format!("this request leads to more than {MOST_FILES} files")));
        }
        let documents = read(path)?.unwrap_or_default();
        let (root, count) = (self.root, documents.len());
        let document = |(n, properties): (usize, Properties)| {
            // Clients look for `-{profile}` in it.
            let name = match count {
                1 => format!("file:{root}/{path}"),
                _ => format!(
                    "Config resource 'file [{root}/{path}]' via location '{location}' (document #{n})"
                ),
            };
            let said = Said::by(&properties).map_err(|why| broken(path, why))?;
            Ok(Document { path: path.to_owned(), name, said, properties })
        };
        documents.into_iter().enumerate().rev().map(document).collect()
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
