//! The keys of the log.

use documented::DocumentedFields;
use hops_config::{Reloadable, Section};
use serde::{Deserialize, Serialize};
use tracing::Level;

/// The settings of the log.
#[derive(Debug, Clone, Deserialize, Serialize, DocumentedFields)]
#[serde(default)]
pub struct Settings {
    /// error, warn, info, debug or trace, for this project's own code (default info; debug shows all nine hops)
    pub log_level: Reloadable<LogLevel>,
    /// text, json, or auto: text on a terminal, JSON lines otherwise (default auto)
    pub log_format: LogFormat,
}

impl Default for Settings {
    fn default() -> Self {
        Self { log_level: LogLevel(Level::INFO).into(), log_format: LogFormat::Auto }
    }
}

impl Section for Settings {}

/// Lowest level that is logged: error, warn, info, debug or trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogLevel(pub Level);

impl From<LogLevel> for String {
    fn from(LogLevel(level): LogLevel) -> Self {
        level.to_string().to_lowercase()
    }
}

impl TryFrom<String> for LogLevel {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self).map_err(|_| format!("`{text}` is not one of error, warn, info, debug, trace"))
    }
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON lines otherwise.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl TryFrom<String> for LogFormat {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "auto" => Ok(Self::Auto),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("`{text}` is not one of auto, text, json")),
        }
    }
}
