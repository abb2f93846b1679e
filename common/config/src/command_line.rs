//! The command line of a service: a flag for each key; and `Sources` out of it and the environment.

use std::ffi::OsString;

use clap::{Arg, ArgMatches, Command, error::ContextKind};

use super::{
    Key, ServiceSettings, SettingsError, Sources,
    bootstrap::Bootstrap,
    documented, is_live, keys,
    layers::{environment, flags, unchecked},
    names, nearest,
};

/// The command line of a service: `--profile`, where the settings are, and a flag for each key.
#[must_use]
pub fn command<S: ServiceSettings>() -> Command {
    let argument = |(key, doc): Key| {
        let live = if is_live::<S>(key) { "; live" } else { "" };
        let help = format!("{}{live}", doc.replace('\n', " "));
        Arg::new(key).long(key.replace('_', "-")).value_name("VALUE").help(help).global(true)
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
        .args(whereabouts::<S>().into_iter().map(argument))
        .args(settable::<S>().into_iter().map(argument))
        .after_help(
            "Each key can also be set as APP_<KEY> in the environment; the command line wins. A live key takes \
             effect while the service runs, when the bus says that the settings have changed.",
        )
}

impl Sources {
    /// Reads the command line with `command` (from [`command`], plus the service's own verbs).
    ///
    /// # Errors
    /// [`SettingsError::UnknownFlag`] for a flag that nobody reads, [`SettingsError::Usage`] for the rest of the
    /// command line, [`SettingsError::Invalid`] for what says where the settings are.
    pub fn parse<S: ServiceSettings>(
        command: Command,
        args: impl IntoIterator<Item = OsString>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(Self, ArgMatches), SettingsError> {
        let matches = command.try_get_matches_from(args).map_err(|error| unknown_flag::<S>(error))?;
        let text = |name: &str| matches.try_get_one::<String>(name).ok().flatten().cloned();
        let given = |keys: Vec<Key>| {
            keys.into_iter().filter_map(|(key, _)| Some((key.to_owned(), text(key)?))).collect::<Vec<_>>()
        };
        let variables: Vec<_> = variables.into_iter().filter_map(utf8).collect();
        let known = whereabouts::<S>().into_iter().map(|(key, _)| key).collect();
        let layers = [environment(&variables, &known), flags(&given(whereabouts::<S>()))];
        let bootstrap: Bootstrap = unchecked(layers)?;
        let sources = Self {
            config_repo: bootstrap.config_repo.clone(),
            server: bootstrap.server().map_err(SettingsError::Invalid)?,
            profile: text("profile").unwrap_or_default(),
            environment: variables,
            flags: given(settable::<S>()),
        };
        Ok((sources, matches))
    }
}

/// The keys that have flags.
fn settable<S: ServiceSettings>() -> Vec<Key> {
    keys::<S>().into_iter().filter(|(key, _)| !S::IN_FILES_ONLY.contains(key)).collect()
}

/// What says where the settings are. Who reads its own files alone has them in a folder.
fn whereabouts<S: ServiceSettings>() -> Vec<Key> {
    let keys = documented::<Bootstrap>().into_iter();
    keys.filter(|(key, _)| S::READS_APPLICATION_FILES || *key == "config_repo").collect()
}

/// A variable that is not UTF-8 is none of ours.
fn utf8((name, value): (OsString, OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}

fn unknown_flag<S: ServiceSettings>(error: clap::Error) -> SettingsError {
    let unknown = error.get(ContextKind::InvalidArg).map(ToString::to_string);
    match unknown {
        Some(flag) if error.kind() == clap::error::ErrorKind::UnknownArgument && flag.starts_with("--") => {
            let key = flag.trim_start_matches("--").replace('-', "_");
            let mut known = names::<S>();
            known.extend(whereabouts::<S>().into_iter().map(|(key, _)| key));
            let nearest = nearest(&key, &known);
            SettingsError::UnknownFlag { flag, key, nearest }
        }
        _ => SettingsError::Usage(error),
    }
}
