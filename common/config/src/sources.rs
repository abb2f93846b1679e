//! Sources of the layers: a folder or a config server, the environment and the flags.

use std::{
    fmt,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use config::{File, FileFormat, Map, Source as _, Value, ValueKind};
use config_client::{ConfigServer, Failed, PropertySource, REQUEST_TIMEOUT};
use output::printable;
use serde_json::Value as Json;

use super::{
    ServiceSettings, SettingsError,
    flat::flatten,
    layers::{Layer, compose},
};

/// Sources of the layers. `main` fills it in; nothing below reads the environment.
#[derive(Clone, Default)]
pub struct Sources {
    /// The folder with the `.yml` files; without one, the compiled defaults apply.
    pub config_repo: Option<PathBuf>,
    /// The config server, which is used instead of the folder.
    pub server: Option<ConfigServer>,
    /// `dev` (on this machine) or `test` (in Swarm).
    pub profile: String,
    /// The environment's variables; keys are set by those that start with `APP_`.
    pub environment: Vec<(String, String)>,
    /// Keys (with underscores) and values from the command line.
    pub flags: Vec<(String, String)>,
}

/// Without the environment and the flags, which may contain secrets.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sources").field(&self.origin()).field(&self.profile).finish()
    }
}

/// One version of the settings, which is applied as a whole.
pub(super) struct Loaded<S> {
    pub(super) settings: Arc<S>,
    /// Values by key, each with its origin; secrets are in clear.
    pub(super) values: Map<String, Value>,
    /// `true` if there was a file, or the server had one.
    pub(super) is_known: bool,
    /// A warning for the person who started the service.
    pub(super) warning: Option<String>,
}

impl Sources {
    /// Reads all layers, merges and checks them.
    ///
    /// # Errors
    /// The first error, with its key and its source; or advice about a config server that cannot be reached.
    pub async fn load<S: ServiceSettings>(&self) -> Result<Arc<S>, SettingsError> {
        Ok(self.load_first::<S>().await?.settings)
    }

    /// Loads at the start of a process, which may wait for its config server, or start without it.
    pub(super) async fn load_first<S: ServiceSettings>(&self) -> Result<Loaded<S>, String> {
        let Some(server) = &self.server else { return self.compose(self.folder::<S>()?, None) };
        let mut last_reason = String::new();
        // The log is not set up yet. Each reason is written once.
        let on_retry = |why: &str| {
            if last_reason != why {
                let line = format!("{}: waiting for {server}: {why}", S::SERVICE);
                let _ = writeln!(io::stderr(), "{}", printable(&line));
                why.clone_into(&mut last_reason);
            }
        };
        let (layers, warning) = match server.fetch(S::SERVICE, &self.profile, on_retry).await {
            Ok(answer) => {
                let warning = answer.is_empty().then(|| self.unknown::<S>());
                (answered(answer, S::SERVICE).map_err(|why| format!("{server}: {why}"))?, warning)
            }
            Err(Failed::Later(why)) if !server.fail_fast => {
                let instead = self.origin_without_server();
                let warning = format!("{server} is not there ({why}): going on with {instead} until it is");
                (self.folder::<S>()?, Some(warning))
            }
            Err(Failed::Later(why)) => {
                return Err(format!(
                    "{server} was not there within {:?}: {why}; start it, say where it is with --config-server URL, or \
                     start without it: --config-fail-fast false",
                    server.patience
                ));
            }
            Err(Failed::Refused(why)) => return Err(format!("{server}: {why}")),
        };
        self.compose(layers, warning)
    }

    /// Loads while the service runs, with one request to its server.
    pub(super) async fn load_again<S: ServiceSettings>(&self) -> Result<Loaded<S>, Failed> {
        let layers = match &self.server {
            None => self.folder::<S>().map_err(Failed::Refused)?,
            Some(server) => {
                let answer = server.fetch_once(S::SERVICE, &self.profile, REQUEST_TIMEOUT).await;
                let layers = answer.and_then(|it| answered(it, S::SERVICE).map_err(Failed::Refused));
                layers.map_err(|failed| match failed {
                    Failed::Later(why) => Failed::Later(format!("{server}: {why}")),
                    Failed::Refused(why) => Failed::Refused(format!("{server}: {why}")),
                })?
            }
        };
        self.compose(layers, None).map_err(Failed::Refused)
    }

    /// Describes that there is no file for the service.
    pub(super) fn unknown<S: ServiceSettings>(&self) -> String {
        format!("{} knows nothing of {} {}", self.origin(), S::SERVICE, self.profile)
    }

    fn compose<S: ServiceSettings>(
        &self,
        layers: Vec<Layer>,
        warning: Option<String>,
    ) -> Result<Loaded<S>, String> {
        let is_known = !layers.is_empty();
        let (settings, values) = compose::<S>(layers, &self.environment, &self.flags)?;
        Ok(Loaded { settings: Arc::new(settings), values, is_known, warning })
    }

    /// Returns the layers of the folder, the weakest first, in Spring's order: the file of a profile wins over one
    /// without.
    fn folder<S: ServiceSettings>(&self) -> Result<Vec<Layer>, String> {
        let Some(folder) = &self.config_repo else { return Ok(vec![]) };
        if !folder.is_dir() {
            return Err(format!("--config-repo: {} is not a folder", folder.display()));
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

    /// Returns `INSTANCE_NAME`, which names this process. It is not a setting.
    #[must_use]
    pub fn instance_name(&self) -> Option<&str> {
        self.environment.iter().find(|(name, _)| name == "INSTANCE_NAME").map(|(_, value)| value.as_str())
    }

    /// Returns `true` if a file or a config server can change the settings.
    #[must_use]
    pub fn can_change(&self) -> bool {
        self.server.is_some() || self.config_repo.is_some()
    }

    /// Describes the source of the files.
    pub(super) fn origin(&self) -> String {
        self.server.as_ref().map_or_else(|| self.origin_without_server(), ToString::to_string)
    }

    fn origin_without_server(&self) -> String {
        self.config_repo.as_ref().map_or("compiled defaults".into(), |folder| folder.display().to_string())
    }
}

fn file(path: &Path, is_own: bool) -> Result<Option<Layer>, String> {
    // The path as it was given: `config` makes it relative to the working directory.
    let origin = path.display().to_string();
    // A broken link and a folder without permission are errors, not missing files.
    match path.symlink_metadata() {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{origin}: {error}")),
    }
    let tree = File::from(path).format(FileFormat::Yaml).collect();
    let tree = tree.and_then(|tree| Value::from(tree).try_deserialize()).map_err(|e| e.to_string());
    let values = tree.and_then(|tree| flatten(tree, &origin, |value: Value| value.kind));
    let values = values.map_err(|why| format!("{origin}: {why}"))?;
    Ok(Some(Layer { origin, is_own, values }))
}

/// Returns the layers of a config server's answer.
pub(super) fn answered(answer: Vec<PropertySource>, service: &str) -> Result<Vec<Layer>, String> {
    let layers = answer.into_iter().map(|source| {
        let (origin, is_own) = (source.origin(), source.is_own(service));
        let values = flatten(source.source, &origin, scalar).map_err(|why| format!("{origin}: {why}"))?;
        Ok(Layer { origin, is_own, values })
    });
    layers.collect()
}

fn scalar(json: Json) -> ValueKind {
    match json {
        Json::Bool(yes) => yes.into(),
        Json::String(text) => text.into(),
        number => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => number.as_f64().into(),
        },
    }
}
