//! Settings: from four files, the environment and the flags to one struct per service.
//!
//! The last layer wins: compiled defaults < `application.yml` < `application-{profile}.yml` <
//! `{service}.yml` < `{service}-{profile}.yml` < `APP_<KEY>` < `--<key>`.
//! A key that the service does not know is an error in its own files and on its command line, and is
//! passed over where several services read: in `application*.yml` and in the environment.

pub mod broker;
pub mod secret;
mod shared;

use std::{collections::BTreeSet, ffi::OsString, path::PathBuf};

use clap::{Arg, Command, error::ContextKind};
use config::{Config, ConfigError, File, FileFormat, Map, Source, Value};
use documented::DocumentedFields;
use serde::de::DeserializeOwned;

pub use self::shared::{LogFormat, LogLevel, SharedSettings};

/// What a service's settings struct tells the loader.
///
/// Its fields are the service's keys, their doc comments the help text. One field, `shared`, holds the
/// [`SharedSettings`]; their keys stand beside the others, not below `shared`.
pub trait ServiceSettings: DeserializeOwned + DocumentedFields {
    /// Package, binary, compose service and configuration file: one name.
    const SERVICE: &'static str;

    /// Keys that only a file can set, such as lists.
    const IN_FILES_ONLY: &'static [&'static str] = &[];

    /// Whether it reads `application.yml` and `application-{profile}.yml`, or its own files alone.
    const READS_APPLICATION_FILES: bool = true;

    /// The part that every service has.
    fn shared(&self) -> &SharedSettings;

    /// Rules that a single value cannot break.
    ///
    /// # Errors
    /// A sentence that names the key and what to write.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Why there are no settings. Each names the key and where it was set.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Nobody reads this key.
    #[error("{origin}: unknown key `{key}`{}", hint(.nearest.as_deref()))]
    UnknownKey {
        /// The key as it was written.
        key: String,
        /// The file.
        origin: String,
        /// The known key that looks most like it.
        nearest: Option<String>,
    },
    /// A value or a file that cannot be read, or values that make no sense.
    #[error("{0}")]
    Invalid(String),
    /// A flag that nobody reads; the fields are those of the unknown key.
    #[error("command line {flag}: unknown key `{key}`{}", hint(.nearest.as_deref()))]
    UnknownFlag {
        /// The flag as it was written.
        flag: String,
        /// The key it would be.
        key: String,
        /// The known key that looks most like it.
        nearest: Option<String>,
    },
    /// Not an error of the settings: what clap has to say (help, version, a flag without its value).
    #[error("{0}")]
    Usage(clap::Error),
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!(": did you mean `{nearest}`?"))
}

/// Where the layers come from. `main` fills it in; nothing below reads the environment.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The folder with the `.yml` files; without one, the compiled defaults stand.
    pub config_repo: Option<PathBuf>,
    /// `dev` (on this machine) or `test` (in Swarm).
    pub profile: String,
    /// The environment's variables; all that do not start with `APP_` are passed over.
    pub environment: Vec<(String, String)>,
    /// Keys (with underscores) and values from the command line.
    pub flags: Vec<(String, String)>,
}

/// The command line of a service: `--profile`, `--config-repo` and a flag for each key.
#[must_use]
pub fn command<S: ServiceSettings>() -> Command {
    let settable = keys::<S>().into_iter().filter(|(key, _)| !S::IN_FILES_ONLY.contains(key));
    let keys = settable.map(|(key, doc)| {
        let flag = key.replace('_', "-");
        Arg::new(key).long(flag).value_name("VALUE").help(doc.replace('\n', " ")).global(true)
    });
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
        .arg(
            Arg::new("config-repo").long("config-repo").value_name("DIR").global(true).help(
                "The folder with application.yml and its siblings; without it the compiled defaults stand",
            ),
        )
        .args(keys)
        .after_help("Each key can also be set as APP_<KEY> in the environment; the command line wins.")
}

impl Sources {
    /// Reads the command line with `command` (from [`command`], plus the service's own verbs).
    ///
    /// # Errors
    /// [`SettingsError::UnknownKey`] for a flag that nobody reads, [`SettingsError::Usage`] for the rest.
    pub fn parse<S: ServiceSettings>(
        command: Command,
        args: impl IntoIterator<Item = OsString>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(Self, clap::ArgMatches), SettingsError> {
        let matches = command.try_get_matches_from(args).map_err(|error| unknown_flag::<S>(error))?;
        let text = |name: &str| matches.try_get_one::<String>(name).ok().flatten().cloned();
        let flags =
            keys::<S>().into_iter().filter_map(|(key, _)| Some((key.to_owned(), text(key)?))).collect();
        let sources = Self {
            config_repo: text("config-repo").map(PathBuf::from),
            profile: text("profile").unwrap_or_default(),
            environment: environment.into_iter().filter_map(utf8).collect(),
            flags,
        };
        Ok((sources, matches))
    }

    /// `INSTANCE_NAME`: who this process is, not how it works, and so no key.
    #[must_use]
    pub fn instance_name(&self) -> Option<&str> {
        self.environment.iter().find(|(name, _)| name == "INSTANCE_NAME").map(|(_, value)| value.as_str())
    }

    /// Logs where the settings came from: the first thing to look at when they are not what one thought.
    pub fn announce<S: ServiceSettings>(&self, settings: &S) {
        let from =
            self.config_repo.as_ref().map_or("compiled defaults".into(), |path| path.display().to_string());
        let name = match settings.shared().server_name.as_str() {
            "" => S::SERVICE,
            name => name,
        };
        tracing::info!(profile = self.profile, "settings for {name} from {from}");
    }

    /// All layers, merged, read and checked.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key and its source.
    pub fn load<S: ServiceSettings>(&self) -> Result<S, SettingsError> {
        let known = keys::<S>().into_iter().map(|(key, _)| key).collect::<BTreeSet<_>>();
        if let Some(folder) = self.config_repo.as_ref().filter(|folder| !folder.is_dir()) {
            return Err(SettingsError::Invalid(format!(
                "--config-repo: {} is not a folder",
                folder.display()
            )));
        }
        let mut merged = Config::builder();
        let files = self.files(S::SERVICE).into_iter();
        for (name, own) in files.filter(|(_, own)| *own || S::READS_APPLICATION_FILES) {
            let Some(layer) = self.read(&name)? else {
                continue;
            };
            let stranger = layer.0.keys().find(|key| own && !known.contains(key.as_str()));
            if let Some(key) = stranger {
                let nearest = nearest(key, &known);
                return Err(SettingsError::UnknownKey { key: key.clone(), origin: layer.origin(), nearest });
            }
            merged = merged.add_source(layer);
        }
        let variables = self.environment.iter().filter_map(|(name, value)| {
            let key = name.strip_prefix("APP_")?.to_ascii_lowercase();
            // Set to nothing, as in `APP_X: ${X:-}`, is not set.
            (known.contains(key.as_str()) && !value.is_empty()).then(|| (key, name.clone(), value))
        });
        let flags = self.flags.iter().map(|(key, value)| (key.clone(), flag(key), value));
        let merged = merged.add_source(Layer::of(variables)).add_source(Layer::of(flags));
        let merged = merged.build().map_err(|e| unreadable(&e, &Value::default()))?;
        let values = merged.cache.clone();
        let settings = read::<S>(merged).map_err(|e| unreadable(&e, &values))?;
        settings.shared().check().and_then(|()| settings.check()).map_err(|why| invalid(&why, &values))?;
        Ok(settings)
    }

    /// The files in their order, and whether the service is their only reader.
    fn files(&self, service: &str) -> [(String, bool); 4] {
        let profile = &self.profile;
        [
            ("application.yml".into(), false),
            (format!("application-{profile}.yml"), false),
            (format!("{service}.yml"), true),
            (format!("{service}-{profile}.yml"), true),
        ]
    }

    fn read(&self, name: &str) -> Result<Option<Layer>, SettingsError> {
        let Some(folder) = &self.config_repo else {
            return Ok(None);
        };
        let path = folder.join(name);
        if !path.exists() {
            return Ok(None);
        }
        let file = File::from(path.as_path()).format(FileFormat::Yaml);
        let values =
            file.collect().map_err(|e| SettingsError::Invalid(format!("{}: {e}", path.display())))?;
        // The path as it was given, where `config` has one relative to the working directory.
        let origin = path.display().to_string();
        let values = values.into_iter().map(|(key, value)| (key, Value::new(Some(&origin), value.kind)));
        Ok(Some(Layer(values.collect())))
    }
}

/// The keys of a service and what each is for.
fn keys<S: ServiceSettings>() -> Vec<(&'static str, &'static str)> {
    let own = S::FIELD_NAMES.iter().zip(S::FIELD_DOCS).filter(|(name, _)| **name != "shared");
    let shared = SharedSettings::FIELD_NAMES.iter().zip(SharedSettings::FIELD_DOCS);
    own.chain(shared).map(|(name, doc)| (*name, *doc)).collect()
}

/// A variable that is not UTF-8 is none of ours.
fn utf8((name, value): (OsString, OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}

fn flag(key: &str) -> String {
    format!("--{}", key.replace('_', "-"))
}

/// One layer's values, each knowing where it comes from.
#[derive(Debug, Clone)]
struct Layer(Map<String, Value>);

impl Layer {
    fn of<'a>(values: impl Iterator<Item = (String, String, &'a String)>) -> Self {
        Self(values.map(|(key, origin, value)| (key, Value::new(Some(&origin), value.as_str()))).collect())
    }

    fn origin(&self) -> String {
        self.0.values().find_map(|value| value.origin()).unwrap_or("a file").to_owned()
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// Reads the struct. The shared keys stand beside the service's own, so the tree is shown to serde a
/// second time as `shared`: serde's own `flatten` would lose the numbers that arrive as text.
fn read<S: DeserializeOwned>(merged: Config) -> Result<S, ConfigError> {
    let all = merged.cache.clone();
    Config::builder().add_source(merged).set_override("shared", all)?.build()?.try_deserialize()
}

/// The error with its key, its source and its value. `config` leaves some of them out of some errors, and
/// it speaks of `shared.server_port`, which nobody wrote.
fn unreadable(error: &ConfigError, values: &Value) -> SettingsError {
    let text = error.to_string().replace("`shared.", "`");
    let values = values.clone().into_table().unwrap_or_default();
    let named = values.iter().find(|(key, _)| text.contains(&format!("`{key}`")));
    let Some((key, value)) = named else { return SettingsError::Invalid(text) };
    let origin = value.origin().filter(|origin| !text.contains(origin));
    // An address may have a password in it.
    let shown =
        value.clone().into_string().ok().filter(|value| !key.starts_with("amqp_") && !text.contains(value));
    let value = shown.map_or_else(String::new, |value| format!("`{value}`: "));
    SettingsError::Invalid(origin.map_or(text.clone(), |origin| format!("{origin}: {value}{text}")))
}

/// What a check says begins with the key; this adds where the key was set.
fn invalid(text: &str, values: &Value) -> SettingsError {
    let values = values.clone().into_table().unwrap_or_default();
    let set = text.split_once(':').and_then(|(key, _)| values.get(key)).and_then(Value::origin);
    SettingsError::Invalid(set.map_or(text.to_owned(), |origin| format!("{origin}: {text}")))
}

fn unknown_flag<S: ServiceSettings>(error: clap::Error) -> SettingsError {
    let unknown = error.get(ContextKind::InvalidArg).map(ToString::to_string);
    match unknown {
        Some(flag) if error.kind() == clap::error::ErrorKind::UnknownArgument && flag.starts_with("--") => {
            let key = flag.trim_start_matches("--").replace('-', "_");
            let nearest = nearest(&key, &keys::<S>().into_iter().map(|(key, _)| key).collect());
            SettingsError::UnknownFlag { flag, key, nearest }
        }
        _ => SettingsError::Usage(error),
    }
}

/// The known key that looks most like this one.
fn nearest(key: &str, known: &BTreeSet<&str>) -> Option<String> {
    // Pairs of letters in common find `amqp_server_url` for `broker_url`, where edit distance does not.
    let likeness = |other: &str| strsim::sorensen_dice(key, other);
    let nearest = known.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    nearest.filter(|other| likeness(other) > 0.3).map(str::to_owned)
}

/// Refuses the first key that is zero where zero would mean "never" or "without limit".
///
/// # Errors
/// The sentence with its name.
pub fn more_than_zero<const N: usize>(keys: [(&str, bool); N]) -> Result<(), String> {
    match keys.into_iter().find(|(_, is_zero)| *is_zero) {
        Some((key, _)) => Err(format!("{key}: must be more than 0")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
