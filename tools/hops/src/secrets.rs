//! Secrets: files in `.hops/secrets` that only their owner can read.
//!
//! Tasks read them there, where containers read `/run/secrets`.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use anyhow::Context as _;

use crate::{failure::Result, project::Project};

/// User and password for the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Name of the user.
    pub username: String,
    /// Password in clear text.
    pub password: String,
}

/// Writes the secrets of these names: `login` for the broker's, and a random text for each other one, which stays the same
/// from then on.
///
/// # Errors
/// The folder cannot be written.
pub fn write(project: &Project, names: &[String], login: &Login) -> Result<()> {
    let folder = project.create_folder("secrets")?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))
        .with_context(|| format!("cannot restrict access to {}", folder.display()))?;
    for name in names {
        let path = folder.join(name);
        let content = match name.as_str() {
            // For the stack's RabbitMQ, in whose place another broker runs here.
            "rabbitmq_users" => continue,
            // On a swarm each service has a user of its own; here all have the broker's only one.
            name if name.ends_with("amqp_username") => login.username.clone(),
            name if name.ends_with("amqp_password") => login.password.clone(),
            _ if path.exists() => continue,
            _ => random_secret(),
        };
        write_private(&path, &content)?;
    }
    Ok(())
}

/// Returns 128 random bits in hexadecimal.
pub(crate) fn random_secret() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Writes a file that only its owner can read.
pub(crate) fn write_private(path: &Path, content: &str) -> Result<()> {
    let _ = fs::remove_file(path);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(content.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn secrets_are_readable_by_their_owner_alone_and_stay_the_same() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("docker-compose.yml"), "").unwrap();
        let project = Project::find(root.path(), BTreeMap::new()).unwrap();
        let login = Login { username: "hops".into(), password: "p".into() };
        let names = ["amqp_username", "vipservice_amqp_password", "token"].map(str::to_owned);
        write(&project, &names, &login).unwrap();
        let read = |name: &str| fs::read_to_string(project.path("secrets").join(name)).unwrap();
        assert_eq!((read("amqp_username"), read("vipservice_amqp_password")), ("hops".into(), "p".into()));
        let token = read("token");
        assert_eq!(token.len(), 32);
        write(&project, &names, &Login { password: "other".into(), ..login }).unwrap();
        assert_eq!((read("token"), read("vipservice_amqp_password")), (token, "other".into()));
        for name in &names {
            let mode = fs::metadata(project.path("secrets").join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }
}
