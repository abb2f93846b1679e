//! Files of an environment, and the order in which their documents win.
//!
//! Highest first: profile files (the last profile first, in it the folder of the label before the root, in that the
//! last application first), then base files in the same way; a file's documents stay together, the last first, and each
//! stands below what it imports.
//! Left out of the native backend: more than one location, patterns in them, imported folders, Java's XML properties.

use std::collections::HashSet;

use crate::{
    ParseError, Properties, PropertySource,
    profiles::{self, ProfileDirectives},
    request::Request,
};

/// Extensions of configuration files, highest first.
const EXTENSIONS: [&str; 3] = ["properties", "yml", "yaml"];
/// Name of the files that every application reads.
const SHARED: &str = "application";
/// Limit for the files that a request leads to, with those that do not exist.
const MAX_FILES: usize = 10_000;
/// Limit for files that import each other in a row.
const MAX_IMPORTS: usize = 20;

/// Mistake in a file, because of which there is no environment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {error}")]
pub struct FileError {
    /// Path of the file below the folder.
    pub path: String,
    /// Line and reason.
    pub error: ParseError,
}

/// Function that reads the documents of a file by its path; `None` if there is no such file.
pub type Read<'a> = &'a dyn Fn(&str) -> Result<Option<Vec<Properties>>, FileError>;

/// Names and folders in which a request's files are searched.
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
    directives: ProfileDirectives,
    properties: Properties,
}

impl<'a> Plan<'a> {
    /// Creates the plan of a request. `label` is the request's or the default one, or none if labels have no folders.
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

    /// Reads the files and returns the active sources, highest first.
    ///
    /// # Errors
    /// The first file that cannot be read.
    pub fn sources(&self, read: Read<'_>) -> Result<Vec<PropertySource>, FileError> {
        let mut search = Search { plan: self, read, seen: HashSet::new(), active: vec![], sources: vec![] };
        let base = search.documents("")?;
        let directives: Vec<_> = base.iter().map(|document| &document.directives).collect();
        search.active = profiles::active(self.requested, &directives).map_err(|e| file_error(SHARED, e))?;
        let mut all = vec![];
        for profile in search.active.clone().iter().rev() {
            let documents = search.documents(&format!("-{profile}"))?;
            let wrong = documents.iter().find(|Document { directives, .. }| {
                directives.activates || !directives.include.is_empty() || !directives.groups.is_empty()
            });
            if let Some(wrong) = wrong.filter(|_| !profiles::is_default(self.requested)) {
                return Err(file_error(&wrong.path, "spring.profiles is not allowed in a profile's file"));
            }
            all.extend(documents);
        }
        all.extend(base);
        search.take_active(all, 0)?;
        Ok(search.sources)
    }

    /// Returns the path of an imported file; `None` if it lies outside of the folder, or has another extension.
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
}

/// The files that were read so far, and the sources that were found in them.
struct Search<'a> {
    plan: &'a Plan<'a>,
    read: Read<'a>,
    seen: HashSet<String>,
    active: Vec<String>,
    sources: Vec<PropertySource>,
}

impl Search<'_> {
    /// Adds the active documents, each below the files that it imports.
    fn take_active(&mut self, documents: Vec<Document>, depth: usize) -> Result<(), FileError> {
        for Document { path, name, directives, properties } in documents {
            if !directives.is_active(&self.active).map_err(|e| file_error(&path, e))? {
                continue;
            }
            for location in directives.import.iter().rev() {
                let Some(import) = self.plan.imported(&path, location) else { continue };
                if depth >= MAX_IMPORTS {
                    let reason = format!("spring.config.import: more than {MAX_IMPORTS} files in a row");
                    return Err(file_error(&path, reason));
                }
                let (stem, extension) = import.rsplit_once('.').unwrap_or((&import, ""));
                let profiles =
                    self.active.iter().rev().map(|profile| format!("{stem}-{profile}.{extension}"));
                let mut documents = vec![];
                for file in profiles.chain([import.clone()]).collect::<Vec<_>>() {
                    documents.extend(self.file(&file, location)?);
                }
                self.take_active(documents, depth + 1)?;
            }
            self.sources.push(PropertySource { name, source: properties });
        }
        Ok(())
    }

    /// Reads the documents of the files with a suffix, highest first; each file once.
    fn documents(&mut self, suffix: &str) -> Result<Vec<Document>, FileError> {
        let mut all = vec![];
        for directory in self.plan.directories.iter().rev() {
            let location = format!("file:{}/{directory}", self.plan.root);
            for name in self.plan.names.iter().rev() {
                for extension in EXTENSIONS {
                    all.extend(self.file(&format!("{directory}{name}{suffix}.{extension}"), &location)?);
                }
            }
        }
        Ok(all)
    }

    /// Reads the documents of a file that was not read yet, highest first.
    fn file(&mut self, path: &str, location: &str) -> Result<Vec<Document>, FileError> {
        if !self.seen.insert(path.to_owned()) {
            return Ok(vec![]);
        }
        if self.seen.len() > MAX_FILES {
            return Err(file_error(path, format!("this request leads to more than {MAX_FILES} files")));
        }
        let documents = (self.read)(path)?.unwrap_or_default();
        let (file, count) = (format!("{}/{path}", self.plan.root), documents.len());
        let document = |(n, properties): (usize, Properties)| {
            // Clients search `-{profile}` in it.
            let name = match count {
                1 => format!("file:{file}"),
                _ => format!("Config resource 'file [{file}]' via location '{location}' (document #{n})"),
            };
            let directives = ProfileDirectives::of(&properties).map_err(|e| file_error(path, e))?;
            Ok(Document { path: path.to_owned(), name, directives, properties })
        };
        documents.into_iter().enumerate().rev().map(document).collect()
    }
}

fn file_error(path: &str, reason: impl Into<String>) -> FileError {
    FileError { path: path.to_owned(), error: ParseError::of_file(reason) }
}

/// Returns a label's folder.
fn directory(label: &str) -> Option<String> {
    let parts: Vec<_> = label.trim().split('/').filter(|part| !part.is_empty()).collect();
    let is_folder = !parts.is_empty() && !parts.contains(&".");
    is_folder.then(|| format!("{}/", parts.join("/")))
}

#[cfg(test)]
mod tests;
