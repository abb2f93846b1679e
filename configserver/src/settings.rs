//! The configserver's settings, composed of those of its parts.

use hops_config::ServiceSettings;

use crate::{answers, encryption, monitor, routes, watch};

/// The folder that is served, unless config_repo names another.
pub const FOLDER: &str = "config-repo";

hops_config::sections! {
    /// The configserver's settings.
    pub struct Settings {
        /// The answers.
        pub answers: answers::Settings,
        /// The clients' access.
        pub access: routes::Settings,
        /// Encrypted values.
        pub encryption: encryption::Settings,
        /// Refresh events.
        pub monitor: monitor::Settings,
        /// The watcher.
        pub watch: watch::Settings,
        /// The keys of every service.
        pub service: service::Settings,
    }
}

impl ServiceSettings for Settings {
    const SERVICE: &'static str = "configserver";
    const IN_FILES_ONLY: &'static [&'static str] = &["overrides"];
    // What it serves to others is not checked before it serves: a mistake there must not keep it from starting.
    const READS_APPLICATION_FILES: bool = false;
    const DEFAULT_FOLDER: Option<&'static str> = Some(FOLDER);
}

#[cfg(test)]
mod tests {
    use hops_config::Sources;

    use super::*;

    /// Returns the answers' settings with one variable of the environment, or the error.
    async fn load(name: &str, value: &str) -> Result<answers::Settings, String> {
        let sources = Sources { environment: vec![(name.into(), value.into())], ..Sources::default() };
        sources.load::<Settings>().await.map(|settings| settings.answers.clone()).map_err(|e| e.to_string())
    }

    #[tokio::test]
    async fn a_default_label_stays_in_the_folder() {
        for label in ["master", "release/eu", "v1.0", "a,b"] {
            assert_eq!(load("APP_DEFAULT_LABEL", label).await.unwrap().default_label, label);
        }
        for label in ["../..", "..", "a/../..", "/etc", "(_)etc", "%2e%2e/x", "a#b"] {
            let error = load("APP_DEFAULT_LABEL", label).await.unwrap_err();
            assert!(
                error.contains("APP_DEFAULT_LABEL: default_label: is a folder below"),
                "{label}: {error}"
            );
        }
    }

    #[tokio::test]
    async fn overrides_are_used_and_never_shown() {
        let settings = load("APP_OVERRIDES", r#"{"db": {"password": "hunter2"}, "n": 4711}"#).await.unwrap();
        assert_eq!(settings.overrides.0["db.password"].expose(), "hunter2");
        assert_eq!(settings.overrides.0["n"].expose(), "4711");
        let shown = serde_json::to_string(&settings).unwrap();
        for shown in [format!("{settings:?}"), shown] {
            assert!(shown.contains("db.password"), "{shown}");
            assert!(!shown.contains("hunter2") && !shown.contains("4711"), "{shown}");
        }
    }

    #[tokio::test]
    async fn overrides_that_cannot_be_read_are_refused_without_their_content() {
        for text in [
            r#"{"db.password": "hunter2""#,
            r#"{"a" "hunter2"}"#,
            "hunter2",
            r#""hunter2""#,
            r#"["hunter2"]"#,
        ] {
            let error = load("APP_OVERRIDES", text).await.unwrap_err();
            assert!(error.contains("overrides"), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{text}: {error}");
        }
    }
}
