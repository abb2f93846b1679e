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
//! - `error`: a value that is not valid, and a failure to load settings
//! - [`reloadable`]: the type of values that change while a service runs
//! - [`secret`]: values that are used and never shown
//! - `section`: the keys of one owner, and services composed of them
//! - `command_line`: flags, and what else `main` hands over
//! - `bootstrap`: where the files are
//! - `sources`: the files of a folder, or a server's answer
//! - `layers`: all that was read becomes one struct, or an error with its key and its source; pure
//! - `flat`: flat keys and trees, by the rules of the crate `properties`
//! - [`live`]: settings that change while a service runs
//! - `reload`: they are read again, and applied or refused as a whole
//! - [`shown`]: the view that operators get
//!
//! It knows no key but those that say where the files are: each owner brings its own [`Section`].

mod error;
pub mod reloadable;
pub mod secret;
mod section;
mod command_line;
mod bootstrap;
mod sources;
mod layers;
mod flat;
pub mod live;
mod reload;
pub mod shown;

use std::collections::BTreeSet;

pub use config_client::{ConfigServer, ServerUrl};

pub use self::{
    command_line::{bootstrap_keys, command, verb},
    error::{InvalidValue, SettingsError, more_than_zero},
    live::{Live, LiveSection, LiveSettings},
    reload::Reloaded,
    reloadable::{Moment, Reloadable},
    section::{Key, Section, Sections},
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

/// Returns the names of a service's keys.
fn names<S: Sections>() -> BTreeSet<&'static str> {
    S::keys().into_iter().map(|key| key.name).collect()
}

#[cfg(test)]
mod tests;
