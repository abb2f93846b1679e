//! The repository's files: what its rules are held against, and what a page is played in.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Names of what is built, and of what git and running programs keep; in a worktree `.git` is a file.
const NO_SOURCES: [&str; 5] = [".git", ".hops", ".secrets", "devbroker-data", "target"];

/// Its root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("e2e lies in the workspace")
}

/// A file as text, by its path from the root; panics when it cannot be read.
pub fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All files by their paths from the root, sorted; neither what is built nor what git or a program keeps.
pub fn files() -> Vec<String> {
    let (mut folders, mut found) = (vec![root().to_owned()], vec![]);
    while let Some(folder) = folders.pop() {
        for path in entries(&folder) {
            let name = path.file_name().and_then(|name| name.to_str()).expect("names are text");
            // What `sed -i.bak` keeps, git ignores too.
            let is_backup = path.extension().is_some_and(|extension| extension == "bak");
            if path.is_dir() {
                if !NO_SOURCES.contains(&name) && !path.join("CACHEDIR.TAG").exists() {
                    folders.push(path);
                }
            } else if !is_backup && !NO_SOURCES.contains(&name) {
                let path = path.strip_prefix(root()).expect("it was found below the root");
                found.push(path.to_str().expect("names are text").to_owned());
            }
        }
    }
    found.sort();
    found
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    entries.map(|entry| entry.expect("a folder can be read to its end").path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_keeps_is_no_source_in_a_worktree_too_where_it_is_a_file() {
        assert!(!files().iter().any(|path| path == ".git" || path.starts_with(".git/")));
    }
}
