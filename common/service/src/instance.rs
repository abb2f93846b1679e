//! The name of a process and the folder of its data.

use std::{
    fs::{DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

/// The identity of this process.
#[derive(Debug)]
pub struct Instance {
    /// A name such as `vipservice.2`: it is in every log line, in `servedBy`, and at the broker.
    pub name: String,
    /// The folder of its data.
    pub folder: PathBuf,
    /// The lock on the number, for as long as the process lives.
    _number: Option<File>,
}

impl Instance {
    /// Takes the name that was given; else, in profile `dev`, the service's name with the first number that is free
    /// on this machine; else, in a container, the host's name.
    ///
    /// # Errors
    /// An invalid name, or a folder that cannot be written.
    pub fn new(service: &str, profile: &str, given: Option<&str>, data: &Path) -> Result<Self, String> {
        if given.is_some() || profile != "dev" {
            return Self::named(given, data);
        }
        let (number, lock) = first_free(service, data).map_err(|e| {
            format!(
                "data_dir: cannot write {}: {e}; make room there, or give this user the right to write; another folder \
                 (--data-dir DIR) begins without the data in this one",
                data.display()
            )
        })?;
        let name = format!("{service}.{number}");
        Ok(Self { folder: data.join(&name), name, _number: Some(lock) })
    }

    /// Returns the instance of this name, or of the host's name, whether or not it runs.
    ///
    /// # Errors
    /// An invalid name.
    pub fn named(given: Option<&str>, data: &Path) -> Result<Self, String> {
        let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        let name = given.map_or_else(host, str::to_owned);
        if !is_name(&name) {
            return Err(format!(
                "INSTANCE_NAME: `{name}` is not a valid instance name: use 1 to 64 of A-Z a-z 0-9 . _ -"
            ));
        }
        Ok(Self { folder: data.join(&name), name, _number: None })
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=64).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(allowed)
}

/// Creates a folder for data that only its owner may read; one that is there keeps its rights.
///
/// # Errors
/// The folder cannot be created.
pub fn create_private_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Takes the first number whose lock is free. The kernel frees a lock when its process ends, however it ends.
fn first_free(service: &str, data: &Path) -> io::Result<(u32, File)> {
    create_private_folder(data)?;
    for number in 1.. {
        let file = File::create(data.join(format!("{service}.{number}.lock")))?;
        match file.try_lock() {
            Ok(()) => return Ok((number, file)),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::other("no number is free"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_on_one_machine_are_numbered_and_a_number_is_free_again() {
        let data = tempfile::TempDir::new().unwrap();
        let new = || Instance::new("vipservice", "dev", None, data.path()).unwrap();
        let (first, second) = (new(), new());
        assert_eq!((first.name.as_str(), second.name.as_str()), ("vipservice.1", "vipservice.2"));
        drop(first);
        assert_eq!(new().name, "vipservice.1");
    }

    #[test]
    fn a_given_name_is_used_and_one_that_is_no_name_is_refused() {
        let named = |name| Instance::new("s", "dev", Some(name), Path::new("data"));
        assert_eq!(named("accountservice.7").unwrap().folder, Path::new("data/accountservice.7"));
        for bad in ["", "..", ".hidden", "a/b", "a b", &"x".repeat(65)] {
            assert!(named(bad).unwrap_err().contains("INSTANCE_NAME"), "{bad}");
        }
    }

    #[test]
    fn in_a_container_it_is_the_hosts_name() {
        let instance = Instance::new("s", "test", None, Path::new("data")).unwrap();
        assert!(!instance.name.is_empty() && !instance.name.starts_with("s."));
    }
}
