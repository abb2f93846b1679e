//! Secrets: files in `.hops/secrets` that only their owner can read.
//!
//! Tasks read them there, where containers read `/run/secrets`.

use std::{
    collections::BTreeMap,
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

/// Writes the secrets, given with their files: `login` for the broker's, the content of the file for one whose file exists,
/// and a random text for each other one, which stays the same from then on.
///
/// # Errors
/// The folder cannot be written, or a secret's file cannot be read.
pub fn write(project: &Project, secrets: &BTreeMap<String, Option<String>>, login: &Login) -> Result<()> {
    let folder = project.create_folder("secrets")?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))
        .with_context(|| format!("cannot restrict access to {}", folder.display()))?;
    for (name, file) in secrets {
        let path = folder.join(name);
        let file = file.as_ref().map(|file| project.absolute(file)).filter(|file| file.exists());
        let content = match name.as_str() {
            // For the stack's RabbitMQ, in whose place another broker runs here.
            "rabbitmq_users" => continue,
            // On a swarm each service has a user of its own; here all have the broker's only one.
            name if name.ends_with("amqp_username") => login.username.clone().into_bytes(),
            name if name.ends_with("amqp_password") => login.password.clone().into_bytes(),
            _ => match file {
                Some(file) => fs::read(&file)
                    .with_context(|| format!("cannot read {}, the secret {name}", file.display()))?,
                None if path.exists() => continue,
                None => random_secret().into_bytes(),
            },
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
pub(crate) fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    let _ = fs::remove_file(path);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(content))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_readable_by_their_owner_alone_and_stay_the_same() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("docker-compose.yml"), "").unwrap();
        let project = Project::find(root.path(), BTreeMap::new()).unwrap();
        let login = Login { username: "hops".into(), password: "p".into() };
        let names = ["amqp_username", "vipservice_amqp_password", "token", "key"];
        let secrets = BTreeMap::from(names.map(|name| (name.to_owned(), Some(format!("./files/{name}")))));
        fs::create_dir(root.path().join("files")).unwrap();
        fs::write(root.path().join("files/key"), "from the file\n").unwrap();
        fs::write(root.path().join("files/amqp_username"), "of a swarm").unwrap();
        write(&project, &secrets, &login).unwrap();
        let read = |name: &str| fs::read_to_string(project.path("secrets").join(name)).unwrap();
        assert_eq!((read("amqp_username"), read("vipservice_amqp_password")), ("hops".into(), "p".into()));
        let token = read("token");
        assert_eq!(token.len(), 32);
        assert_eq!(read("key"), "from the file\n", "as in Docker");
        write(&project, &secrets, &Login { password: "other".into(), ..login }).unwrap();
        assert_eq!((read("token"), read("vipservice_amqp_password")), (token, "other".into()));
        for name in &names {
            let mode = fs::metadata(project.path("secrets").join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }
}
