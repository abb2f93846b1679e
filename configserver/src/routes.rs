//! From a request to an answer: the one place where Spring's rules meet HTTP and the folder.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Request as HttpRequest, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use browser_guard::Hosts;
use documented::DocumentedFields;
use hops_config::{
    Section,
    secret::{Secret, SecretFile},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use service::http::{Health, Route, hosts, openapi, table};
use spring::{
    Properties, PropertySource, Scalar,
    cipher::{Decryption, Keys},
    document,
    environment::{FileError, Plan},
    json::{self, Environment},
    merged,
    request::{self, Form, Refusal, Request, refuse},
};
use subtle::ConstantTimeEq as _;

use crate::{
    answers::{self, Overrides},
    read_permits::ReadPermits,
    repository::{Repository, Root},
};

/// Challenge for a client without the password.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"configserver\", charset=\"UTF-8\"");

/// The settings of the clients' access.
#[derive(Debug, Clone, Deserialize, Serialize, DocumentedFields)]
#[serde(default)]
pub struct Settings {
    /// The user of the configuration's basic authentication (default "user", once a password is set)
    pub auth_username: String,
    /// The user's password: once it is set, only clients that send it get configuration (default none)
    pub auth_password: Option<Secret>,
    /// A file that holds the password, such as a Docker secret
    pub auth_password_file: Option<SecretFile>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { auth_username: "user".into(), auth_password: None, auth_password_file: None }
    }
}

impl Section for Settings {}

/// The configuration's server, with the settings that an answer needs.
#[derive(Debug)]
pub struct Server {
    repository: Repository,
    accept_empty: bool,
    /// The label of requests without one; `None` if labels have no folders.
    default_label: Option<String>,
    version: Option<String>,
    decryption: Decryption,
    overrides: Overrides,
    /// The credentials that a client must send after `Basic`.
    authorization: Option<Secret>,
    /// The names under which it answers a client without a password.
    hosts: Hosts,
    prefix: String,
    permits: ReadPermits,
}

/// The addresses beside those of the configuration.
pub const OF_THE_SERVER: &[Route<Arc<Health>>] = &[
    (Method::GET, "/actuator/health", || get(actuator_health)),
    (Method::GET, "/openapi.json", || get(async || openapi(include_str!("../openapi.json")))),
];

/// Returns the routes of the configuration, with those of `encryption`. More specific ones may be added.
pub fn router(server: Arc<Server>, encryption: Router, health: Arc<Health>) -> Router {
    let prefix = server.prefix.clone();
    let configuration = Router::new()
        .route("/", any(answer))
        .route("/{*path}", any(answer))
        .with_state(server)
        .merge(encryption);
    let configuration = match prefix.as_str() {
        "" => configuration,
        prefix => Router::new().nest(prefix, configuration),
    };
    configuration.merge(table(OF_THE_SERVER).with_state(health))
}

impl Server {
    /// Creates a server from the settings.
    ///
    /// # Errors
    /// The file of the password cannot be read.
    pub fn new(
        answers: &answers::Settings,
        access: &Settings,
        decryption: Decryption,
        repository: Repository,
        hosts: Hosts,
    ) -> Result<Self, String> {
        let (password, file) = (access.auth_password.as_ref(), access.auth_password_file.as_ref());
        let password = Secret::given_or_in_file("auth_password", password, file)?;
        let authorization = password.map(|password| {
            Secret::new(STANDARD.encode(format!("{}:{}", access.auth_username, password.expose())))
        });
        Ok(Self {
            repository,
            accept_empty: answers.accept_empty,
            default_label: answers.add_label_locations.then(|| answers.default_label.clone()),
            version: answers.version.clone(),
            decryption,
            overrides: answers.overrides.clone(),
            authorization,
            hosts,
            prefix: answers.prefix.clone(),
            permits: ReadPermits::default(),
        })
    }

    /// Returns the keys of encrypted values.
    #[must_use]
    pub fn keys(&self) -> Option<Keys> {
        self.decryption.keys.clone()
    }

    /// Checks that the client may read the configuration. With a password it needs nothing else, since no page of elsewhere
    /// has it. Without one, the names of this server keep such pages out: its answers have the decrypted values.
    fn admits(&self, request: &HttpRequest) -> Result<(), Refusal> {
        match &self.authorization {
            Some(wanted) if !has_password(request.headers(), wanted) => {
                refuse(401, "the password is missing or wrong")
            }
            Some(_) => Ok(()),
            None => {
                self.hosts.check(request).or_else(|why| refuse(why.status().as_u16(), hosts::advice(why)))
            }
        }
    }

    /// Checks that the shared files can be read, by a request for an application that has no files of its own.
    ///
    /// # Errors
    /// The file that cannot be read, or no file at all.
    pub fn check(&self) -> Result<String, String> {
        let form = Form::Environment;
        let request = Request { application: "app".into(), profiles: "default".into(), label: None, form };
        let sources = self.sources(&request).map_err(|refusal| refusal.message.into_owned())?;
        Ok(format!("{}: {} sources for app, default", self.repository.path(), sources.len()))
    }

    /// Returns the sources of a request, highest first: the overrides of the settings, then the files, decrypted.
    fn sources(&self, request: &Request) -> Result<Vec<PropertySource>, Refusal> {
        let label = request.label.as_deref().filter(|_| self.default_label.is_some());
        let plan = Plan::new(self.repository.path(), request, label.or(self.default_label.as_deref()));
        let root = self.repository.root();
        let found = root.and_then(|root| plan.sources(&|path| documents(&root, path)));
        let mut sources = found.or_else(|error| refuse(500, error.to_string()))?;
        for PropertySource { source, .. } in &mut sources {
            *source = self.decryption.decrypted(std::mem::take(source));
        }
        if let Some(overrides) = overrides(&self.overrides) {
            sources.insert(0, overrides);
        }
        if sources.is_empty() && !self.accept_empty {
            return refuse(404, "there is no file for this application and these profiles");
        }
        Ok(sources)
    }

    fn answer(&self, request: &Request) -> Result<(&'static str, String), Refusal> {
        let sources = self.sources(request)?;
        match request.form {
            Form::Environment => {
                let environment = Environment {
                    name: &request.application,
                    profiles: [&request.profiles],
                    label: request.label.as_deref(),
                    version: self.version.as_deref(),
                    state: None,
                    property_sources: &sources,
                };
                Ok(("application/json", json::text(&environment)?))
            }
            Form::Merged(format, resolve) => merged::answer(&sources, format, resolve),
        }
    }
}

fn has_password(headers: &HeaderMap, wanted: &Secret) -> bool {
    let sent = headers.get(header::AUTHORIZATION).map_or(&b""[..], HeaderValue::as_bytes);
    let end = sent.iter().position(|byte| *byte == b' ').unwrap_or(sent.len());
    let (scheme, pair) = sent.split_at(end);
    let is_right: bool = pair.trim_ascii().ct_eq(wanted.expose().as_bytes()).into();
    scheme.eq_ignore_ascii_case(b"basic") && is_right
}

/// Reads the documents of a file.
fn documents(root: &Root, path: &str) -> Result<Option<Vec<Properties>>, FileError> {
    let bytes = root.read(path);
    let documents = bytes.and_then(|bytes| bytes.map(|bytes| document::documents(path, &bytes)).transpose());
    documents.map_err(|error| FileError { path: path.to_owned(), error })
}

/// Returns the source of the overrides, all of them texts, with `\${` and `\{` without their backslash.
fn overrides(overrides: &Overrides) -> Option<PropertySource> {
    let plain = |text: &Secret| Scalar::Text(text.expose().replace("\\${", "${").replace("\\{", "{"));
    let source: Properties = overrides.0.iter().map(|(key, value)| (key.clone(), plain(value))).collect();
    (!source.is_empty()).then(|| PropertySource { name: "overrides".into(), source })
}

/// Answers every address without a more specific route.
async fn answer(State(server): State<Arc<Server>>, request: HttpRequest) -> Response {
    let admitted = server.admits(&request);
    let (parts, _) = request.into_parts();
    let accept = parts.headers.get(header::ACCEPT).map(|accept| accept.to_str().unwrap_or_default());
    let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
    let shown = format!("{}{path}", server.prefix);
    if let Err(refusal) = admitted {
        return refused(&refusal, &shown);
    }
    let parsed = request::parse(parts.method.as_str(), path, query, accept);
    let answered = match parsed {
        Err(refusal) => Err(refusal),
        Ok(request) => {
            let reader = Arc::clone(&server);
            server.permits.run(move || reader.answer(&request)).await
        }
    };
    match answered {
        Ok((kind, body)) => ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], body).into_response(),
        Err(refusal) => refused(&refusal, &shown),
    }
}

/// Returns an error as Spring Boot writes it. Only the log has the mistake in a file.
fn refused(refusal: &Refusal, path: &str) -> Response {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let message = match status {
        StatusCode::INTERNAL_SERVER_ERROR => {
            tracing::error!(path, "configuration cannot be served: {}", refusal.message);
            "a file cannot be read; the server's log has its name, line and reason"
        }
        _ => &*refusal.message,
    };
    let mut response = (
        status,
        Json(json!({
            "timestamp": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3f+00:00").to_string(),
            "status": status.as_u16(),
            "error": status.canonical_reason(),
            "message": message,
            "path": path,
        })),
    )
        .into_response();
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
    }
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, CHALLENGE);
    }
    response
}

/// Answers `GET /actuator/health` with one word.
async fn actuator_health(State(health): State<Arc<Health>>) -> impl IntoResponse {
    let (up, _) = health.report();
    let (status, word) = if up { (StatusCode::OK, "UP") } else { (StatusCode::SERVICE_UNAVAILABLE, "DOWN") };
    (status, Json(json!({ "status": word })))
}
