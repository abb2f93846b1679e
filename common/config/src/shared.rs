//! The keys that every service has.

use std::{path::PathBuf, time::Duration};

use documented::DocumentedFields;
use serde::{Deserialize, Serialize};
use tracing::Level;

use super::{
    broker::{Broker, BrokerUrls, Credentials},
    more_than_zero,
    secret::Secret,
};

/// What every service reads. Durations are written `"250ms"`, `"10s"`, `"7days"`.
#[derive(Debug, Clone, Deserialize, Serialize, DocumentedFields)]
#[serde(default)]
pub struct SharedSettings {
    /// The name shown in the log when the settings are loaded (default: the service's)
    pub server_name: String,
    /// The address to listen on (default "127.0.0.1": this machine only; "0.0.0.0" in a container)
    pub server_host: std::net::IpAddr,
    /// The port to listen on; 0 takes a free one and prints it (default: the service's own)
    pub server_port: Option<u16>,
    /// error, warn, info, debug or trace, for this project's own code (default info; debug shows all nine hops)
    pub log_level: LogLevel,
    /// text, json, or auto: text on a terminal, JSON lines otherwise (default auto)
    pub log_format: LogFormat,
    /// The folder for what the service keeps (default ".hops/data"; each instance has its own below it)
    pub data_dir: PathBuf,
    /// The broker, or several of one cluster, comma-separated (default "amqp://localhost:5672")
    pub amqp_server_url: BrokerUrls,
    /// The broker's user (default "guest" for a broker on this machine, none for any other)
    pub amqp_username: Option<String>,
    /// The user's password; prefer the environment or amqp_password_file, since everyone can read a command line
    pub amqp_password: Option<Secret>,
    /// A file that holds the user's name, such as a Docker secret
    pub amqp_username_file: Option<PathBuf>,
    /// A file that holds the password, such as a Docker secret
    pub amqp_password_file: Option<PathBuf>,
    /// PEM file with the authority that signed the broker's certificate, for amqps:// (default: the system's)
    pub amqp_ca_file: Option<PathBuf>,
    /// How long connecting and the handshake may take together (default 5s)
    #[serde(with = "humantime_serde")]
    pub amqp_connect_timeout: Duration,
    /// How long any other request to the broker may take, a confirm included (default 10s)
    #[serde(with = "humantime_serde")]
    pub amqp_operation_timeout: Duration,
    /// How often the broker and we show each other that we live; a dead link is found after two (default 10s)
    #[serde(with = "humantime_serde")]
    pub amqp_heartbeat: Duration,
    /// The first wait before connecting again is drawn from zero to this (default 100ms)
    #[serde(with = "humantime_serde")]
    pub amqp_backoff_min: Duration,
    /// The longest wait before connecting again (default 10s)
    #[serde(with = "humantime_serde")]
    pub amqp_backoff_max: Duration,
    /// How many notifications wait in vip_queue before the broker refuses more; the outbox holds those (default 100000)
    pub vip_queue_max_length: u32,
    /// The exchange on which services are told that their settings have changed (default "springCloudBus")
    pub config_event_bus: String,
    /// Whether an instance tells the bus that it has read its settings again (default true)
    pub config_ack: bool,
    /// Whoever sends it as a bearer token may use the operator's routes, as whoever is on this machine may (default
    /// none; prefer the environment or management_token_file, since everyone can read a command line)
    pub management_token: Option<Secret>,
    /// A file that holds that token, such as a Docker secret
    pub management_token_file: Option<PathBuf>,
    /// How long a request may take before it is answered 503 (default 5s)
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// The largest request body, in bytes (default 16384)
    pub request_body_limit: usize,
    /// How many requests are worked on at a time; one more is answered 503 (default 512)
    pub request_concurrency: usize,
    /// How many connections are open at a time; for one more, the longest idle one is closed (default 10000)
    pub connection_limit: usize,
    /// How long a client may be idle, or take to send a request's head, or to take its answer (default 30s)
    #[serde(with = "humantime_serde")]
    pub client_timeout: Duration,
    /// From SIGTERM to exit: what is not done by then is listed, and the exit code is 1 (default 10s)
    #[serde(with = "humantime_serde")]
    pub shutdown_grace: Duration,
    /// How long requests are still taken after SIGTERM, while load balancers notice (default 0s, in the stack 3s)
    #[serde(with = "humantime_serde")]
    pub shutdown_linger: Duration,
}

/// How much is logged: error, warn, info, debug or trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogLevel(pub Level);

impl From<LogLevel> for String {
    fn from(LogLevel(level): LogLevel) -> Self {
        level.to_string().to_lowercase()
    }
}

impl TryFrom<String> for LogLevel {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self).map_err(|_| "is none of error, warn, info, debug, trace")
    }
}

/// What a log line looks like.
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
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "auto" => Ok(Self::Auto),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("is none of auto, text, json"),
        }
    }
}

impl Default for SharedSettings {
    fn default() -> Self {
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        Self {
            server_name: String::new(),
            server_host: std::net::Ipv4Addr::LOCALHOST.into(),
            server_port: None,
            log_level: LogLevel(Level::INFO),
            log_format: LogFormat::Auto,
            data_dir: ".hops/data".into(),
            amqp_server_url: BrokerUrls::default(),
            amqp_username: None,
            amqp_password: None,
            amqp_username_file: None,
            amqp_password_file: None,
            amqp_ca_file: None,
            amqp_connect_timeout: s(5),
            amqp_operation_timeout: s(10),
            amqp_heartbeat: s(10),
            amqp_backoff_min: ms(100),
            amqp_backoff_max: s(10),
            vip_queue_max_length: 100_000,
            config_event_bus: "springCloudBus".into(),
            config_ack: true,
            management_token: None,
            management_token_file: None,
            request_timeout: s(5),
            request_body_limit: 16 * 1024,
            request_concurrency: 512,
            connection_limit: 10_000,
            client_timeout: s(30),
            shutdown_grace: s(10),
            shutdown_linger: Duration::ZERO,
        }
    }
}

impl SharedSettings {
    /// The keys that take effect while a service runs.
    pub const LIVE: &'static [&'static str] = &[
        "amqp_connect_timeout",
        "amqp_operation_timeout",
        "client_timeout",
        "config_ack",
        "log_level",
        "request_timeout",
        "shutdown_grace",
        "shutdown_linger",
    ];

    /// The broker's addresses with the credentials that go with them; reads the `*_FILE`s.
    ///
    /// # Errors
    /// A file that cannot be read, or a broker elsewhere without credentials, with what to set.
    pub fn broker(&self) -> Result<Broker, String> {
        let username = self.amqp_username.clone().map(Secret::new);
        let read = Secret::given_or_in_file;
        let username = read("amqp_username", username.as_ref(), self.amqp_username_file.as_deref())?;
        let username = username.map(|username| username.expose().to_owned());
        let password =
            read("amqp_password", self.amqp_password.as_ref(), self.amqp_password_file.as_deref())?;
        let credentials = Credentials { username, password };
        self.amqp_server_url.with_credentials(&credentials)
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        let (token, file) = (self.management_token.as_ref(), self.management_token_file.as_deref());
        Secret::given_or_in_file("management_token", token, file)?;
        more_than_zero([
            ("amqp_connect_timeout", self.amqp_connect_timeout.is_zero()),
            ("amqp_operation_timeout", self.amqp_operation_timeout.is_zero()),
            ("amqp_backoff_min", self.amqp_backoff_min.is_zero()),
            ("vip_queue_max_length", self.vip_queue_max_length == 0),
            ("request_timeout", self.request_timeout.is_zero()),
            ("request_concurrency", self.request_concurrency == 0),
            ("connection_limit", self.connection_limit == 0),
            ("client_timeout", self.client_timeout.is_zero()),
        ])?;
        let bus = &self.config_event_bus;
        if !(1..=200).contains(&bus.len()) || bus.starts_with("amq.") {
            return Err("config_event_bus: must have 1 to 200 bytes and not begin with `amq.`".into());
        }
        for (key, limit) in
            [("request_concurrency", self.request_concurrency), ("connection_limit", self.connection_limit)]
        {
            if limit > 1_000_000 {
                return Err(format!("{key}: must not be more than 1000000"));
            }
        }
        if !(1..=600).contains(&self.amqp_heartbeat.as_secs()) {
            return Err("amqp_heartbeat: must be between 1s and 10min (5s to 20s is usual)".into());
        }
        if self.amqp_backoff_max < self.amqp_backoff_min {
            return Err("amqp_backoff_min: must not be longer than amqp_backoff_max".into());
        }
        if self.shutdown_grace <= self.shutdown_linger {
            return Err("shutdown_grace: must be longer than shutdown_linger, which is a part of it".into());
        }
        Ok(())
    }
}
