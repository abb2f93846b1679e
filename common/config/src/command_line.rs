//! The command line of a service, with a flag for each key that is no secret; and `Sources` from it and the environment.

use std::{ffi::OsString, path::PathBuf};

use clap::{Arg, ArgMatches, Command, error::ContextKind};
use properties::merge;

use super::{
    Key, Sections as _, ServiceSettings, SettingsError, Sources,
    bootstrap::Bootstrap,
    error::unknown_key,
    layers::{environment, flags, read},
};

/// Returns the command line of a service: `--profile`, where the settings are, and a flag for each key.
#[must_use]
pub fn command<S: ServiceSettings>() -> Command {
    let argument = |key: Key| {
        let live = if key.is_live { "; live" } else { "" };
        let help = format!("{}{live}", key.doc.replace('\n', " "));
        Arg::new(key.name).long(key.name.replace('_', "-")).value_name("VALUE").help(help).global(true)
    };
    Command::new(S::SERVICE)
        .arg(
            Arg::new("profile")
                .long("profile")
                .value_name("NAME")
                .default_value("dev")
                .value_parser(["dev", "test"])
                .global(true)
                .help("Which `*-{profile}.yml` to read: `dev` on this machine, `test` in Swarm"),
        )
        .args(keys::<S>().into_iter().filter(|key| key.has_flag).map(argument))
        .after_help(
            "Each key can also be set as APP_<KEY> in the environment; the command line wins. Secrets have no \
             flag, since everyone on the machine can read a command line: set APP_<KEY> or APP_<KEY>_FILE. A live key takes \
             effect while the service runs, when the bus announces that the settings have changed.",
        )
}

impl Sources {
    /// Reads the command line with `command` (from [`command`], plus the service's own verbs).
    ///
    /// # Errors
    /// [`SettingsError::UnknownFlag`] and [`SettingsError::SecretFlag`] for a flag that does not exist,
    /// [`SettingsError::Usage`] for the rest of the command line, [`SettingsError::Invalid`] for a value of the keys that
    /// say where the settings are.
    pub fn parse<S: ServiceSettings>(
        command: Command,
        args: impl IntoIterator<Item = OsString>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(Self, ArgMatches), SettingsError> {
        let matches = command.try_get_matches_from(args).map_err(|error| unknown_flag::<S>(error))?;
        let text = |name: &str| matches.try_get_one::<String>(name).ok().flatten().cloned();
        let given = keys::<S>().into_iter().filter_map(|key| Some((key.name.to_owned(), text(key.name)?)));
        let given: Vec<_> = given.collect();
        let variables: Vec<_> = variables.into_iter().filter_map(utf8).collect();
        let known = bootstrap_keys::<S>().iter().map(|key| key.name).collect();
        let layers = [environment(&variables, &known), flags(&given)];
        let (bootstrap, _) = read::<Bootstrap>(&merge(layers), &[])?;
        let sources = Self {
            config_repo: bootstrap.config_repo.clone().or_else(default_folder::<S>),
            server: bootstrap.server().map_err(String::from)?,
            profile: text("profile").unwrap_or_default(),
            environment: variables,
            flags: given,
        };
        Ok((sources, matches))
    }
}

fn default_folder<S: ServiceSettings>() -> Option<PathBuf> {
    S::DEFAULT_FOLDER.map(PathBuf::from).filter(|folder| folder.is_dir())
}

/// Returns the keys that can be set outside of files.
fn keys<S: ServiceSettings>() -> Vec<Key> {
    let own = S::keys().into_iter().filter(|key| !S::IN_FILES_ONLY.contains(&key.name));
    bootstrap_keys::<S>().into_iter().chain(own).collect()
}

/// Returns the keys that say where the settings are. A service that reads its own files alone has them in a folder.
#[must_use]
pub fn bootstrap_keys<S: ServiceSettings>() -> Vec<Key> {
    let keys = Bootstrap::keys().into_iter();
    keys.filter(|key| S::READS_APPLICATION_FILES || key.name == "config_repo").collect()
}

/// Returns a variable that is UTF-8; no other can be a key.
fn utf8((name, value): (OsString, OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}

fn unknown_flag<S: ServiceSettings>(error: clap::Error) -> SettingsError {
    let unknown = error.get(ContextKind::InvalidArg).map(ToString::to_string);
    match unknown {
        Some(flag) if error.kind() == clap::error::ErrorKind::UnknownArgument && flag.starts_with("--") => {
            let key = flag.trim_start_matches("--").replace('-', "_");
            let (flags, secrets): (Vec<_>, Vec<_>) = keys::<S>().into_iter().partition(|key| key.has_flag);
            if secrets.iter().any(|secret| secret.name == key) {
                return SettingsError::SecretFlag(key);
            }
            let known = flags.iter().map(|key| key.name).collect();
            SettingsError::UnknownFlag(format!("{flag}: {}", unknown_key(&key, &known)))
        }
        _ => SettingsError::Usage(error),
    }
}
