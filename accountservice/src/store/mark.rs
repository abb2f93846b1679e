//! The mark beside the store: what accounts it has. sled can lose what it held without a word, and a new store has no mark.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write as _},
    path::Path,
};

/// Name of the file.
pub(super) const FILE: &str = "accounts.mark";

/// Reads the mark; `None` if there is none.
pub(super) fn read(folder: &Path) -> Result<Option<String>, String> {
    let path = folder.join(FILE);
    match fs::read(&path) {
        Ok(mark) => Ok(Some(String::from_utf8_lossy(&mark).trim_end().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}

/// Writes the mark, once the store's own files are on disk: sled does not wait for that.
pub(super) fn write(folder: &Path, mark: &str) -> Result<(), String> {
    let write = || {
        for file in fs::read_dir(folder)? {
            let path = file?.path();
            if path.is_file() {
                File::open(path)?.sync_all()?;
            }
        }
        let new = folder.join(format!("{FILE}.new"));
        let mut file = File::create(&new)?;
        writeln!(file, "{mark}")?;
        file.sync_all()?;
        fs::rename(new, folder.join(FILE))?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|error: io::Error| {
        format!(
            "the store {} cannot be written: {error}; make room on this disk, or give this user the right to write there",
            folder.display()
        )
    })
}
