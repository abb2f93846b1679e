//! The command line of a service, with a flag for each key that is no secret; and `Sources` from it and the environment.

use std::{ffi::OsString, path::PathBuf};

use clap::{
    Arg, ArgMatches, Command,
    error::{ContextKind, ErrorKind},
};
use properties::merge;

use super::{
    Key, Sections as _, ServiceSettings, SettingsError, Sources,
    bootstrap::Bootstrap,
    error::unknown_key,
    layers::{environment, flags, read},
};

/// Returns `--profile`, and a flag for each key.
fn arguments<S: ServiceSettings>() -> impl Iterator<Item = Arg> {
    let profile = Arg::new("profile")
        .long("profile")
        .value_name("NAME")
        .default_value("dev")
        .value_parser(["dev", "test"])
        .global(true)
        .help("Which `*-{profile}.yml` to read: `dev` on this machine, `test` in Swarm");
    let argument = |key: Key| {
        let live = if key.is_live { "; live" } else { "" };
        let help = format!("{}{live}", key.doc.replace('\n', " "));
        Arg::new(key.name)
            .long(key.name.replace('_', "-"))
            .value_name("VALUE")
            .help(help)
            .global(true)
            .allow_negative_numbers(true)
    };
    [profile].into_iter().chain(keys::<S>().into_iter().filter(|key| key.has_flag).map(argument))
}

/// Returns the command line of a service: `--profile`, where the settings are, and a flag for each key.
#[must_use]
pub fn command<S: ServiceSettings>() -> Command {
    Command::new(S::SERVICE).args(arguments::<S>()).after_help(
        "Each key can also be set as APP_<KEY> in the environment; the command line wins. Secrets have no \
         flag, since everyone on the machine can read a command line: set APP_<KEY> or APP_<KEY>_FILE. A live key takes \
         effect while the service runs, when the bus announces that the settings have changed.",
    )
}

/// Returns a verb of a service with the service's flags, which its help does not list: it refers to the service's.
#[must_use]
pub fn verb<S: ServiceSettings>(verb: Command) -> Command {
    let line = format!("The settings of the {0} are options, too: `{0} --help` lists them.", S::SERVICE);
    let hidden = arguments::<S>().map(|argument| argument.hide(true));
    verb.after_help(line).mut_subcommands(self::verb::<S>).args(hidden)
}

impl Sources {
    /// Reads the command line with `command` (from [`command`], plus the service's own verbs).
    ///
    /// # Errors
    /// [`SettingsError::Usage`] for a wrong command line, [`SettingsError::Help`] for one that asks for help,
    /// [`SettingsError::Invalid`] for a value of the keys that say where the settings are.
    pub fn parse<S: ServiceSettings>(
        command: Command,
        args: impl IntoIterator<Item = OsString>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(Self, ArgMatches), SettingsError> {
        let matches = command.try_get_matches_from(args).map_err(refused::<S>)?;
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

/// Returns clap's answer to a command line.
fn refused<S: ServiceSettings>(error: clap::Error) -> SettingsError {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return SettingsError::Help(error);
    }
    let unknown = error.get(ContextKind::InvalidArg).map(ToString::to_string);
    let is_unknown = error.kind() == ErrorKind::UnknownArgument;
    SettingsError::Usage(match unknown.filter(|flag| is_unknown && flag.starts_with("--")) {
        Some(flag) => format!("command line {}", unknown_flag::<S>(&flag)),
        None => one_line(&error.to_string()),
    })
}

/// Describes a flag that does not exist.
fn unknown_flag<S: ServiceSettings>(flag: &str) -> String {
    let key = flag.trim_start_matches("--").replace('-', "_");
    let (flags, secrets): (Vec<_>, Vec<_>) = keys::<S>().into_iter().partition(|key| key.has_flag);
    if secrets.iter().any(|secret| secret.name == key) {
        let (flag, key) = (key.replace('_', "-"), key.to_uppercase());
        return format!("--{flag}: a secret has no flag: set APP_{key} in the environment");
    }
    let known = flags.iter().map(|key| key.name).collect();
    format!("{flag}: {} (`{} --help` lists the keys)", unknown_key(&key, &known), S::SERVICE)
}

/// Returns clap's error on one line, without its advice at the end.
fn one_line(usage: &str) -> String {
    let lines = usage.lines().map(str::trim);
    let lines = lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let text: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    text.join(" ").trim_start_matches("error: ").replace(" tip: ", "; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_command_line_is_one_line() {
        let usage = "error: invalid value 'prod' for '--profile <NAME>'\n  [possible values: dev, test]\n\n\
                     For more information, try '--help'.\n";
        assert_eq!(
            one_line(usage),
            "invalid value 'prod' for '--profile <NAME>' [possible values: dev, test]"
        );
    }

    #[test]
    fn a_verb_that_is_nearly_one_is_told_which() {
        let usage = "error: unrecognized subcommand 'lst'\n\n  tip: a similar subcommand exists: 'list'\n\nUsage: x\n";
        assert_eq!(one_line(usage), "unrecognized subcommand 'lst'; a similar subcommand exists: 'list'");
    }
}
