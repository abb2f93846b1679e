//! Layers, sources and errors, with a small service of their own.

use std::{fs, path::PathBuf, time::Duration};

use futures_util::FutureExt as _;
use serde::Deserialize;
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::*;

/// A service's settings, small.
#[derive(Debug, Default, Deserialize, Serialize, DocumentedFields)]
#[serde(default)]
pub(super) struct Probe {
    /// The shared part
    pub(super) shared: SharedSettings,
    /// A text of the service's own
    pub(super) greeting: String,
    /// A number that is not live
    pub(super) size: u32,
    /// A list
    pub(super) guests: Vec<Guest>,
}

/// An entry of a list.
#[derive(Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Guest {
    pub(super) name: String,
    #[serde(default)]
    pub(super) vip: bool,
}

impl ServiceSettings for Probe {
    const SERVICE: &'static str = "probe";
    const IN_FILES_ONLY: &'static [&'static str] = &["guests"];
    const LIVE: &'static [&'static str] = &["greeting"];

    fn shared(&self) -> &SharedSettings {
        &self.shared
    }
}

pub(super) fn repo(files: &[(&str, &str)]) -> (TempDir, Sources) {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let sources =
        Sources { config_repo: Some(folder.path().to_owned()), profile: "dev".into(), ..Sources::default() };
    (folder, sources)
}

/// Without a server nothing is waited for.
fn load(sources: &Sources) -> Result<Probe, SettingsError> {
    sources.load().now_or_never().expect("nothing is waited for")
}

pub(super) fn pair(key: &str, value: &str) -> (String, String) {
    (key.into(), value.into())
}

#[test]
fn the_last_layer_wins() {
    let (_folder, mut sources) = repo(&[
        ("application.yml", "greeting: a\nserver_port: 1\nrequest_timeout: 1s"),
        ("probe.yml", "greeting: b\nserver_port: 2"),
        // As with a config server: a profile's file goes before one without, whosever it is.
        ("application-dev.yml", "greeting: c\nserver_port: 3"),
        ("probe-dev.yml", "greeting: d"),
        ("probe-test.yml", "greeting: of another profile"),
    ]);
    let loaded = load(&sources).unwrap();
    assert_eq!((loaded.greeting.as_str(), loaded.shared.server_port), ("d", Some(3)));
    assert_eq!(loaded.shared.request_timeout, Duration::from_secs(1));
    assert_eq!(loaded.shared.log_level, LogLevel(tracing::Level::INFO), "a compiled default");

    sources.environment =
        vec![pair("APP_GREETING", "e"), pair("APP_SERVER_PORT", "5"), pair("GREETING", "x")];
    sources.environment.push(pair("APP_AMQP_CA_FILE", ""));
    let loaded = load(&sources).unwrap();
    assert_eq!((loaded.greeting.as_str(), loaded.shared.server_port), ("e", Some(5)));

    sources.flags = vec![pair("server_port", "6")];
    let loaded = load(&sources).unwrap();
    assert_eq!((loaded.greeting.as_str(), loaded.shared.server_port), ("e", Some(6)));
}

#[test]
fn an_unknown_key_in_the_services_own_file_is_named_with_its_source_and_its_neighbor() {
    let (_folder, sources) = repo(&[("probe.yml", "broker_url: amqp://localhost")]);
    let error = load(&sources).unwrap_err().to_string();
    assert!(
        error.contains("probe.yml: unknown key `broker_url`: did you mean `amqp_server_url`?"),
        "{error}"
    );
}

#[test]
fn an_unknown_key_where_several_services_read_is_passed_over() {
    let (_folder, mut sources) = repo(&[("application.yml", "of_another_service: 1")]);
    sources.environment = vec![pair("APP_OF_ANOTHER_SERVICE", "1")];
    assert!(load(&sources).is_ok());
}

#[test]
fn an_unknown_flag_is_named_with_its_neighbor() {
    let args = ["probe", "--server-prot", "1"].map(Into::into);
    let error = Sources::parse::<Probe>(command::<Probe>(), args, vec![]).unwrap_err().to_string();
    assert_eq!(error, "command line --server-prot: unknown key `server_prot`: did you mean `server_port`?");
}

#[test]
fn a_bad_value_is_named_with_its_key_and_its_source() {
    let (_folder, sources) = repo(&[("probe.yml", "server_port: many")]);
    let error = load(&sources).unwrap_err().to_string();
    for part in ["server_port", "many", "probe.yml"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(!error.contains("shared"), "{error}");

    for (key, value) in [
        ("server_port", "70000"),
        ("request_timeout", "5 parsecs"),
        ("log_level", "loud"),
        ("amqp_server_url", "amqp://h:5672/"),
        ("server_host", "here"),
    ] {
        let sources = Sources { flags: vec![pair(key, value)], ..Sources::default() };
        let error = load(&sources).unwrap_err().to_string();
        let flag = format!("--{}", key.replace('_', "-"));
        assert!(error.contains(key) && error.contains(&flag), "{key}: {error}");
    }
}

#[test]
fn a_rule_between_values_is_checked_too() {
    let mut sources = Sources { flags: vec![pair("shutdown_linger", "20s")], ..Sources::default() };
    assert!(load(&sources).unwrap_err().to_string().contains("shutdown_grace"));
    sources.flags = vec![pair("amqp_heartbeat", "0s")];
    let error = load(&sources).unwrap_err().to_string();
    assert!(error.starts_with("--amqp-heartbeat: amqp_heartbeat: must be between"), "{error}");
}

#[test]
fn a_password_comes_from_a_file_and_digits_stay_text() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, "s3cret\n").unwrap();
    let mut sources = Sources {
        environment: vec![
            pair("APP_AMQP_USERNAME", "007"),
            pair("APP_AMQP_PASSWORD_FILE", file.to_str().unwrap()),
            pair("APP_AMQP_SERVER_URL", "amqp://rabbitmq"),
        ],
        ..Sources::default()
    };
    let loaded = load(&sources).unwrap();
    let login = loaded.shared.broker().unwrap().addresses()[0].1.clone();
    assert_eq!((login.username.as_str(), login.password.expose()), ("007", "s3cret"));
    assert!(!format!("{loaded:?}").contains("s3cret"));

    sources.environment.push(pair("APP_AMQP_PASSWORD", "other"));
    assert!(load(&sources).unwrap().shared.broker().unwrap_err().contains("both set"));
}

#[test]
fn a_folder_that_is_not_there_and_a_file_that_is_not_yaml_are_named() {
    let missing = Sources { config_repo: Some("no-such-folder".into()), ..Sources::default() };
    assert!(load(&missing).unwrap_err().to_string().contains("no-such-folder"));
    let (_folder, sources) = repo(&[("probe.yml", "a: [")]);
    assert!(load(&sources).unwrap_err().to_string().contains("probe.yml"));
    let (folder, sources) = repo(&[]);
    std::os::unix::fs::symlink("nowhere", folder.path().join("probe.yml")).unwrap();
    assert!(load(&sources).unwrap_err().to_string().contains("probe.yml"), "a link that leads nowhere");
}

#[test]
fn sources_show_no_secret() {
    let environment = vec![pair("APP_AMQP_PASSWORD", "hunter2")];
    let sources =
        Sources { environment, flags: vec![pair("management_token", "hunter2")], ..Sources::default() };
    assert_eq!(format!("{sources:?}"), r#"Sources("compiled defaults", "")"#);
}

#[tokio::test]
async fn without_its_server_a_service_goes_on_with_what_it_has() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (_folder, folder) = repo(&[("probe.yml", "greeting: of the folder")]);
    let server = ConfigServer {
        url: format!("http://{closed}").try_into().unwrap(),
        label: None,
        timeout: Duration::from_secs(1),
        patience: Duration::from_millis(1),
        fail_fast: true,
        ca_file: None,
    };
    let sources = Sources { server: Some(server.clone()), ..folder.clone() };
    let why = sources.load::<Probe>().await.unwrap_err().to_string();
    for part in
        [&closed.to_string(), "was not there within 1ms", "--config-server URL", "--config-fail-fast false"]
    {
        assert!(why.contains(part), "{part}: {why}");
    }
    let lenient = Sources { server: Some(ConfigServer { fail_fast: false, ..server }), ..folder };
    assert_eq!(lenient.load::<Probe>().await.unwrap().greeting, "of the folder");
    // Later it waits for the server, and what came from there is not undone by the folder.
    assert!(lenient.load_again::<Probe>().await.is_err());
    let nowhere = Sources { config_repo: Some(PathBuf::from("nowhere")), ..Sources::default() };
    assert!(nowhere.load::<Probe>().await.is_err());
}
