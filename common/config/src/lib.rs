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
//! - `server` and `answer`: a config server is asked; what it says
//! - `layers`: what was read becomes one struct, or an error with its key and its source; pure
//! - `flat`: flat keys and trees, by the rules of the crate `properties`
//! - [`live`]: settings that change while a service runs
//! - `reload`: they are read again, and applied or refused as a whole
//! - [`shown`]: what is shown of them, and what is not
//! - [`shared`](SharedSettings), [`broker`], [`secret`]: the keys that every service has, and their types

mod command_line;
mod bootstrap;
mod sources;
mod server;
mod answer;
mod layers;
mod flat;
pub mod live;
mod reload;
pub mod shown;
mod shared;
pub mod broker;
pub mod secret;

use std::collections::BTreeSet;

use documented::DocumentedFields;
use serde::{Serialize, de::DeserializeOwned};

pub use self::{
    command_line::command,
    live::{Live, LiveSettings},
    reload::Reloaded,
    server::{ConfigServer, ServerUrl},
    shared::{LogFormat, LogLevel, SharedSettings},
    sources::Sources,
};

/// What a service's settings struct tells the loader.
///
/// Its fields are the service's keys, their doc comments the help text. One field, `shared`, holds the
/// [`SharedSettings`]; their keys stand beside the others, not below `shared`. What it serializes is shown to
/// operators: a secret's type shows nothing.
pub trait ServiceSettings: DeserializeOwned + DocumentedFields + Serialize + Send + Sync + 'static {
    /// Package, binary, compose service and configuration file: one name.
    const SERVICE: &'static str;

    /// Keys that only a file can set, such as lists.
    const IN_FILES_ONLY: &'static [&'static str] = &[];

    /// Keys that take effect while the service runs, beside [`SharedSettings::LIVE`]: whoever uses one has a
    /// [`Live`] of it. All others take effect at the next start.
    const LIVE: &'static [&'static str] = &[];

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

/// A key and what it is for.
type Key = (&'static str, &'static str);

/// The keys of a service, its own ones first.
fn keys<S: ServiceSettings>() -> Vec<Key> {
    let own = documented::<S>().into_iter().filter(|(key, _)| *key != "shared");
    own.chain(documented::<SharedSettings>()).collect()
}

fn documented<T: DocumentedFields>() -> Vec<Key> {
    T::FIELD_NAMES.iter().copied().zip(T::FIELD_DOCS.iter().copied()).collect()
}

/// The names among them.
fn names<S: ServiceSettings>() -> BTreeSet<&'static str> {
    keys::<S>().into_iter().map(|(key, _)| key).collect()
}

fn is_live<S: ServiceSettings>(key: &str) -> bool {
    S::LIVE.contains(&key) || SharedSettings::LIVE.contains(&key)
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
