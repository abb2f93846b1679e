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
        let mut seen = HashSet::new();
        let base = self.documents("", read, &mut seen)?;
        let directives: Vec<_> = base.iter().map(|document| &document.directives).collect();
        let active = profiles::active(self.requested, &directives).map_err(|e| file_error(SHARED, e))?;
        let mut all = vec![];
        for profile in active.iter().rev() {
            let documents = self.documents(&format!("-{profile}"), read, &mut seen)?;
            let wrong = documents.iter().find(|Document { directives, .. }| {
                directives.activates || !directives.include.is_empty() || !directives.groups.is_empty()
            });
            if let Some(wrong) = wrong.filter(|_| !profiles::is_default(self.requested)) {
                return Err(file_error(
                    &wrong.path,
                    "spring.profiles is not allowed in a profile's file".into(),
                ));
            }
            all.extend(documents);
        }
        all.extend(base);
        let mut sources = vec![];
        self.take_active(all, 0, &active, read, &mut seen, &mut sources)?;
        Ok(sources)
    }

    /// Adds the active documents, each below the files that it imports.
    fn take_active(
        &self,
        documents: Vec<Document>,
        depth: usize,
        active: &[String],
        read: Read<'_>,
        seen: &mut HashSet<String>,
        sources: &mut Vec<PropertySource>,
    ) -> Result<(), FileError> {
        for document in documents {
            let Document { path, name, directives, properties } = document;
            if !directives.is_active(active).map_err(|e| file_error(&path, e))? {
                continue;
            }
            for location in directives.import.iter().rev() {
                let Some(import) = self.imported(&path, location) else { continue };
                if depth >= MAX_IMPORTS {
                    return Err(file_error(
                        &path,
                        format!("spring.config.import: more than {MAX_IMPORTS} files in a row"),
                    ));
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

    /// Reads the documents of the files with a suffix, highest first; each file once.
    fn documents(
        &self,
        suffix: &str,
        read: Read<'_>,
        seen: &mut HashSet<String>,
    ) -> Result<Vec<Document>, FileError> {
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

    /// Reads the documents of a file that was not read yet, highest first.
    fn file(
        &self,
        path: &str,
        location: &str,
        read: Read<'_>,
        seen: &mut HashSet<String>,
    ) -> Result<Vec<Document>, FileError> {
        if !seen.insert(path.to_owned()) {
            return Ok(vec![]);
        }
        if seen.len() > MAX_FILES {
            return Err(file_error(path, format!("this request leads to more than {MAX_FILES} files")));
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
            let directives = ProfileDirectives::of(&properties).map_err(|e| file_error(path, e))?;
            Ok(Document { path: path.to_owned(), name, directives, properties })
        };
        documents.into_iter().enumerate().rev().map(document).collect()
    }
}

fn file_error(path: &str, reason: String) -> FileError {
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
