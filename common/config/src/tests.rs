//! Layers, sources and errors, with a small service of their own.

use std::{fs, net::IpAddr, path::PathBuf, time::Duration};

use documented::DocumentedFields;
use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::{
    secret::{Secret, SecretFile},
    *,
};

crate::sections! {
    /// A service's settings, small.
    pub(super) struct Probe {
        /// Its own.
        pub(super) own: Own,
        /// Those that other services have, too.
        pub(super) shared: Shared,
    }
}

/// A section of the service's own.
#[derive(Debug, Clone, Default, Deserialize, Serialize, DocumentedFields)]
#[serde(default)]
pub(super) struct Own {
    /// A text that is live
    pub(super) greeting: Reloadable<String>,
    /// A number that is not live
    pub(super) size: u32,
    /// A list
    pub(super) guests: Vec<Guest>,
}

impl Section for Own {}

/// A section of all services.
#[derive(Debug, Clone, Deserialize, Serialize, DocumentedFields)]
#[serde(default)]
pub(super) struct Shared {
    /// A text
    pub(super) server_name: String,
    /// An address
    pub(super) server_host: IpAddr,
    /// A number that may be missing
    pub(super) server_port: Option<u16>,
    /// A duration that is live
    #[serde(with = "crate::reloadable::duration")]
    pub(super) request_timeout: Reloadable<Duration>,
    /// A duration that is not live
    #[serde(with = "humantime_serde")]
    pub(super) amqp_heartbeat: Duration,
    /// A word that is live
    pub(super) log_level: Reloadable<Level>,
    /// An address that may have a password in it
    pub(super) amqp_server_url: Option<ServerUrl>,
    /// A secret
    pub(super) amqp_password: Option<Secret>,
    /// A file
    pub(super) amqp_ca_file: Option<PathBuf>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            server_name: String::new(),
            server_host: [127, 0, 0, 1].into(),
            server_port: None,
            request_timeout: Duration::from_secs(5).into(),
            amqp_heartbeat: Duration::from_secs(10),
            log_level: Level("info".into()).into(),
            amqp_server_url: None,
            amqp_password: None,
            amqp_ca_file: None,
        }
    }
}

impl Section for Shared {
    fn check(&self, moment: Moment) -> Result<(), InvalidValue> {
        more_than_zero([("request_timeout", self.request_timeout.at(moment).is_zero())])?;
        match self.amqp_heartbeat < *self.request_timeout.at(moment) {
            true => Err(InvalidValue::new("amqp_heartbeat", "must not be shorter than request_timeout")),
            false => Ok(()),
        }
    }
}

/// A word in small letters.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub(super) struct Level(String);

impl TryFrom<String> for Level {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.to_lowercase().as_str() {
            level @ ("info" | "debug") => Ok(Self(level.into())),
            _ => Err(format!("`{text}` is not one of info, debug")),
        }
    }
}

impl Own {
    pub(super) fn greeting(&self) -> &str {
        self.greeting.at(Moment::NOW)
    }
}

/// An entry of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Guest {
    pub(super) name: String,
    #[serde(default)]
    pub(super) vip: bool,
}

impl ServiceSettings for Probe {
    const SERVICE: &'static str = "probe";
    const IN_FILES_ONLY: &'static [&'static str] = &["guests"];
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
fn load(sources: &Sources) -> Result<std::sync::Arc<Probe>, SettingsError> {
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
    assert_eq!((loaded.own.greeting(), loaded.shared.server_port), ("d", Some(3)));
    assert_eq!(*loaded.shared.request_timeout.at(Moment::NOW), Duration::from_secs(1));
    assert_eq!(loaded.shared.log_level.at(Moment::NOW).0, "info", "a compiled default");

    sources.environment =
        vec![pair("APP_GREETING", "e"), pair("APP_SERVER_PORT", "5"), pair("GREETING", "x")];
    sources.environment.push(pair("APP_AMQP_CA_FILE", ""));
    let loaded = load(&sources).unwrap();
    assert_eq!((loaded.own.greeting(), loaded.shared.server_port), ("e", Some(5)));

    sources.flags = vec![pair("server_port", "6")];
    let loaded = load(&sources).unwrap();
    assert_eq!((loaded.own.greeting(), loaded.shared.server_port), ("e", Some(6)));
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
    let expected = "command line --server-prot: unknown key `server_prot`: did you mean `server_port`? \
                    (`probe --help` lists the keys)";
    assert_eq!(error, expected);
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
        ("amqp_heartbeat", "1s"),
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
    let sources = Sources { flags: vec![pair("amqp_heartbeat", "1s")], ..Sources::default() };
    let error = load(&sources).unwrap_err().to_string();
    assert_eq!(error, "--amqp-heartbeat: amqp_heartbeat: must not be shorter than request_timeout");
}

#[test]
fn a_secret_is_made_of_digits_too_and_is_never_shown() {
    let environment = vec![pair("APP_AMQP_PASSWORD", "007")];
    let loaded = load(&Sources { environment, ..Sources::default() }).unwrap();
    assert_eq!(loaded.shared.amqp_password.as_ref().map(Secret::expose), Some("007"));
    assert!(!format!("{loaded:?}").contains("007"));
}

#[test]
fn a_secret_comes_from_a_file_or_by_itself_and_not_in_both_ways() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, "s3cret\n").unwrap();
    let (secret, file) = (Secret::new("other"), SecretFile::from(file));
    let read = |given, file| Secret::given_or_in_file("the_password", given, file);
    assert_eq!(read(None, Some(&file)).unwrap().unwrap().expose(), "s3cret");
    assert_eq!(read(Some(&secret), None).unwrap(), Some(secret.clone()));
    assert!(read(Some(&secret), Some(&file)).unwrap_err().to_string().contains("keep one of both"));
    assert!(read(Some(&Secret::new("")), None).unwrap_err().to_string().contains("is empty"));
}

#[test]
fn the_type_of_a_field_says_whether_its_key_is_live_and_whether_it_is_a_secret() {
    let keys =
        |is: fn(&Key) -> bool| Probe::keys().into_iter().filter(is).map(|key| key.name).collect::<Vec<_>>();
    assert_eq!(keys(|key| key.is_live), ["greeting", "request_timeout", "log_level"]);
    assert_eq!(keys(|key| key.is_secret), ["amqp_password"]);
}

#[test]
fn the_help_of_a_verb_lists_its_own_options_and_refers_to_the_settings_which_it_takes_all_the_same() {
    let list = clap::Command::new("list").about("Lists").arg(clap::Arg::new("limit").long("limit"));
    let letters = clap::Command::new("letters").arg_required_else_help(true).subcommand(list);
    let command = command::<Probe>().subcommand(verb::<Probe>(letters));
    let parse =
        |line: &str| Sources::parse::<Probe>(command.clone(), line.split(' ').map(Into::into), vec![]);
    for line in ["probe letters --help", "probe letters", "probe letters list --help"] {
        let help = parse(line).unwrap_err().to_string();
        assert!(!help.contains("--server-name") && !help.contains("--profile"), "{line}: {help}");
        let reference = "\nThe settings of the probe are options, too: `probe --help` lists them.\n";
        assert!(help.ends_with(reference), "{line}: {help}");
        assert_eq!(help.contains("--limit"), line.contains("list"), "{help}");
    }
    for line in [
        "probe --server-name x --profile test letters list --limit 1",
        "probe letters --server-name x --profile test list",
        "probe letters list --server-name x --profile test",
    ] {
        let (sources, _) = parse(line).unwrap();
        assert_eq!(sources.flags, [("server_name".to_owned(), "x".to_owned())], "{line}");
        assert_eq!(sources.profile, "test", "{line}");
    }
    assert!(parse("probe --help").unwrap_err().to_string().contains("--server-name"));
}

#[test]
fn a_secret_has_no_flag_and_whoever_writes_one_reads_what_to_do() {
    let command = command::<Probe>();
    let flags: Vec<_> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
    assert!(flags.contains(&"amqp-ca-file") && !flags.contains(&"amqp-password"), "{flags:?}");
    for (flag, variable) in
        [("--amqp-password", "APP_AMQP_PASSWORD"), ("--config-password", "APP_CONFIG_PASSWORD")]
    {
        let args = ["probe", flag, "hunter2"].map(Into::into);
        let error = Sources::parse::<Probe>(command.clone(), args, vec![]).unwrap_err().to_string();
        assert!(
            error.contains("has no flag") && error.contains(variable) && !error.contains("hunter2"),
            "{error}"
        );
    }
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
    let sources = Sources { environment, flags: vec![pair("greeting", "hunter2")], ..Sources::default() };
    assert_eq!(format!("{sources:?}"), r#"Sources("compiled defaults", "")"#);
}

#[tokio::test]
async fn without_its_server_a_service_goes_on_with_what_it_has() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (_folder, folder) = repo(&[("probe.yml", "greeting: of the folder")]);
    let server = ConfigServer {
        url: format!("http://{closed}").try_into().unwrap(),
        label: None,
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
    assert_eq!(lenient.load::<Probe>().await.unwrap().own.greeting(), "of the folder");
    // Later it waits for the server, and what came from there is not undone by the folder.
    assert!(lenient.load_again::<Probe>().await.is_err());
    let nowhere = Sources { config_repo: Some(PathBuf::from("nowhere")), ..Sources::default() };
    assert!(nowhere.load::<Probe>().await.is_err());
}
