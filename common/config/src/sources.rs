//! Where the layers come from: a folder or a config server, the environment and the flags.

use std::{
    fmt,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use config::{File, FileFormat, Map, Source as _, Value};

use super::{
    ConfigServer, LiveSettings, ServiceSettings, SettingsError,
    flat::flatten,
    layers::{Layer, compose},
    server::Failed,
};

/// Where the layers come from. `main` fills it in; nothing below reads the environment.
#[derive(Clone, Default)]
pub struct Sources {
    /// The folder with the `.yml` files; without one, the compiled defaults stand.
    pub config_repo: Option<PathBuf>,
    /// The config server, which goes before the folder.
    pub server: Option<ConfigServer>,
    /// `dev` (on this machine) or `test` (in Swarm).
    pub profile: String,
    /// The environment's variables; keys are set by those that start with `APP_`.
    pub environment: Vec<(String, String)>,
    /// Keys (with underscores) and values from the command line.
    pub flags: Vec<(String, String)>,
}

/// Without the environment and the flags, where secrets may stand.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sources").field(&self.origin()).field(&self.profile).finish()
    }
}

/// Settings as they were read.
pub(super) struct Loaded<S> {
    pub(super) settings: S,
    /// What was set, by key, with its origin; a secret stands here in clear.
    pub(super) values: Map<String, Value>,
    /// Whether there was a file, or the server had something.
    pub(super) is_known: bool,
    /// What the person should know who started the service.
    pub(super) warning: Option<String>,
}

impl Sources {
    /// All layers, merged, read and checked.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key and its source; or what to do about a config server that
    /// cannot be reached.
    pub async fn load<S: ServiceSettings>(&self) -> Result<S, SettingsError> {
        Ok(self.load_first::<S>().await?.settings)
    }

    /// The same, to be read again while the service runs: see [`LiveSettings::reload`].
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub async fn load_live<S: ServiceSettings>(self) -> Result<LiveSettings<S>, SettingsError> {
        let loaded = self.load_first::<S>().await?;
        Ok(LiveSettings::new(self, loaded))
    }

    /// Loads at the start of a process, which may wait for its config server, or go on without one.
    async fn load_first<S: ServiceSettings>(&self) -> Result<Loaded<S>, SettingsError> {
        let Some(server) = &self.server else { return self.compose(self.folder::<S>()?, None) };
        let told = Mutex::new(String::new());
        // Where the log goes is not known yet. Each reason is said once.
        let tell = |why: &str| {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            if *told != why {
                let _ = writeln!(std::io::stderr(), "{}: waiting for {server}: {why}", S::SERVICE);
                *told = why.to_owned();
            }
        };
        match server.fetch(S::SERVICE, &self.profile, server.patience, &tell).await {
            Ok(layers) if layers.is_empty() => self.compose(layers, Some(self.unknown::<S>())),
            Ok(layers) => self.compose(layers, None),
            Err(Failed::Later(why)) if !server.fail_fast => {
                let instead = self
                    .config_repo
                    .as_ref()
                    .map_or("compiled defaults".into(), |path| path.display().to_string());
                let warning = format!("{server} is not there ({why}): going on with {instead} until it is");
                self.compose(self.folder::<S>()?, Some(warning))
            }
            Err(Failed::Later(why)) => Err(SettingsError::Invalid(format!(
                "{server} was not there within {:?}: {why}; start it, say where it is with --config-server URL, or \
                 start without it: --config-fail-fast false",
                server.patience
            ))),
            Err(Failed::Refused(why)) => Err(SettingsError::Invalid(format!("{server}: {why}"))),
        }
    }

    /// Loads while the service runs; asks its server once.
    pub(super) async fn load_again<S: ServiceSettings>(&self) -> Result<Loaded<S>, Failed> {
        let refused = |error: SettingsError| Failed::Refused(error.to_string());
        let layers = match &self.server {
            None => self.folder::<S>().map_err(refused)?,
            Some(server) => match server.fetch_once(S::SERVICE, &self.profile).await {
                Ok(layers) => layers,
                Err(Failed::Later(why)) => return Err(Failed::Later(format!("{server}: {why}"))),
                Err(Failed::Refused(why)) => return Err(Failed::Refused(format!("{server}: {why}"))),
            },
        };
        self.compose(layers, None).map_err(refused)
    }

    /// What is said where there is not one file.
    pub(super) fn unknown<S: ServiceSettings>(&self) -> String {
        format!("{} knows nothing of {} {}", self.origin(), S::SERVICE, self.profile)
    }

    fn compose<S: ServiceSettings>(
        &self,
        layers: Vec<Layer>,
        warning: Option<String>,
    ) -> Result<Loaded<S>, SettingsError> {
        let is_known = !layers.is_empty();
        let (settings, values) = compose::<S>(layers, &self.environment, &self.flags)?;
        Ok(Loaded { settings, values, is_known, warning })
    }

    /// The layers of the folder, the weakest first, in the order that Spring has: a profile's file goes before one
    /// without.
    fn folder<S: ServiceSettings>(&self) -> Result<Vec<Layer>, SettingsError> {
        let Some(folder) = &self.config_repo else { return Ok(vec![]) };
        if !folder.is_dir() {
            return Err(SettingsError::Invalid(format!(
                "--config-repo: {} is not a folder",
                folder.display()
            )));
        }
        let profile = &self.profile;
        let files = [
            ("application.yml".to_owned(), false),
            (format!("{}.yml", S::SERVICE), true),
            (format!("application-{profile}.yml"), false),
            (format!("{}-{profile}.yml", S::SERVICE), true),
        ];
        let files = files.into_iter().filter(|(_, is_own)| *is_own || S::READS_APPLICATION_FILES);
        let layers = files.map(|(name, is_own)| file(&folder.join(name), is_own));
        layers.filter_map(Result::transpose).collect()
    }

    /// `INSTANCE_NAME`: who this process is, not how it works, and so no key.
    #[must_use]
    pub fn instance_name(&self) -> Option<&str> {
        self.environment.iter().find(|(name, _)| name == "INSTANCE_NAME").map(|(_, value)| value.as_str())
    }

    /// Whether there is anything outside of the process that may change.
    pub(super) fn can_change(&self) -> bool {
        self.server.is_some() || self.config_repo.is_some()
    }

    /// Where the files come from, for people.
    pub(super) fn origin(&self) -> String {
        match (&self.server, &self.config_repo) {
            (Some(server), _) => server.to_string(),
            (None, Some(folder)) => folder.display().to_string(),
            (None, None) => "compiled defaults".to_owned(),
        }
    }

    /// Logs where the settings came from: the first thing to look at when they are not what one thought.
    pub fn announce<S: ServiceSettings>(&self, settings: &S) {
        let name = match settings.shared().server_name.as_str() {
            "" => S::SERVICE,
            name => name,
        };
        tracing::info!(profile = self.profile, "settings for {name} from {}", self.origin());
    }
}

fn file(path: &Path, is_own: bool) -> Result<Option<Layer>, SettingsError> {
    // The path as it was given, where `config` has one relative to the working directory.
    let origin = path.display().to_string();
    // A link that leads nowhere is no absence, and neither is a folder that may not be looked into.
    match path.symlink_metadata() {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(SettingsError::Invalid(format!("{origin}: {error}"))),
    }
    let values = File::from(path).format(FileFormat::Yaml).collect().map_err(|e| e.to_string());
    let values = values.and_then(|values| flatten(values, &origin));
    let values = values.map_err(|why| SettingsError::Invalid(format!("{origin}: {why}")))?;
    Ok(Some(Layer { origin, is_own, values }))
}
