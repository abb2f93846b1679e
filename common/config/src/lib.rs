//! Settings: from files or a config server, the environment and the flags to one struct per service, at the
//! start and while it runs.
//!
//! The last layer wins: compiled defaults < `application.yml` < `{service}.yml` < `application-{profile}.yml` <
//! `{service}-{profile}.yml` < `APP_<KEY>` < `--<key>`. The files come from a folder, or from a config server
//! that serves one.
//! A key that the service does not know is an error in its own files and on its command line, and is
//! passed over where several services read: in `application*.yml` and in the environment.
//!
//! In reading order:
//! - `command_line`: flags, and what else `main` hands over
//! - `bootstrap`: where the files are
//! - `sources`: the files of a folder, or a server's answer
//! - `server` and `answer`: a request to a config server, and its answer
//! - `layers`: what was read becomes one struct, or an error with its key and its source; pure
//! - `flat`: flat keys and trees, by the rules of the crate `properties`
//! - `section`: the keys of one owner, and services composed of them
//! - [`live`]: settings that change while a service runs
//! - [`reloadable`]: the type of their values
//! - `reload`: they are read again, and applied or refused as a whole
//! - [`shown`]: the view that operators get
//! - [`secret`]: values that are used and never shown
//!
//! It knows no key but those that say where the files are: each owner brings its own [`Section`].

mod command_line;
mod bootstrap;
mod sources;
mod server;
mod answer;
mod layers;
mod flat;
mod section;
pub mod live;
pub mod reloadable;
mod reload;
pub mod shown;
pub mod secret;

use std::collections::BTreeSet;

pub use self::{
    command_line::{bootstrap_keys, command},
    live::{Live, LiveSection, LiveSettings, Moment},
    reload::Reloaded,
    reloadable::Reloadable,
    section::{InvalidValue, Key, Section, Sections, more_than_zero},
    server::{ConfigServer, ServerUrl},
    sources::Sources,
};

/// Values by key, each with its origin.
pub type Values = config::Map<String, config::Value>;
/// Values by key, as operators may see them.
pub type Shown = serde_json::Map<String, serde_json::Value>;

/// The settings of a service: its sections, composed by [`sections!`].
pub trait ServiceSettings: Sections {
    /// Package, binary, compose service and configuration file: one name.
    const SERVICE: &'static str;

    /// Keys that only a file can set, such as lists.
    const IN_FILES_ONLY: &'static [&'static str] = &[];

    /// `true` if it reads `application.yml` and `application-{profile}.yml` beside its own files.
    const READS_APPLICATION_FILES: bool = true;

    /// The folder of its files where config_repo is not set, if there is one of this name.
    const DEFAULT_FOLDER: Option<&'static str> = None;
}

/// A failure to load settings. Each names the key and where it was set.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A key that nobody reads.
    #[error("{origin}: unknown key `{key}`{}", hint(.nearest.as_deref()))]
    UnknownKey {
        /// The key as it was written.
        key: String,
        /// The file.
        origin: String,
        /// The known key that looks most like it.
        nearest: Option<String>,
    },
    /// A value or a file that cannot be read, or values that break a rule.
    #[error("{0}")]
    Invalid(String),
    /// A secret on the command line, which everyone on the machine can read.
    #[error("command line --{}: a secret has no flag: set APP_{} in the environment", key.replace('_', "-"), key.to_uppercase())]
    SecretFlag {
        /// The secret's key.
        key: String,
    },
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
    /// clap's answer to the command line: help, or an error such as a flag without its value.
    #[error("{0}")]
    Usage(clap::Error),
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!(": did you mean `{nearest}`?"))
}

/// Returns the names of a service's keys.
fn names<S: Sections>() -> BTreeSet<&'static str> {
    S::keys().into_iter().map(|key| key.name).collect()
}

/// Returns the known key that looks most like this one.
fn nearest(key: &str, known: &BTreeSet<&str>) -> Option<String> {
    // Pairs of letters in common find `amqp_server_url` for `broker_url`, where edit distance does not.
    let likeness = |other: &str| strsim::sorensen_dice(key, other);
    let nearest = known.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    nearest.filter(|other| likeness(other) > 0.3).map(str::to_owned)
}

#[cfg(test)]
mod tests;
