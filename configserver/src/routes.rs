//! From a request to an answer: the one place where the protocol's rules meet HTTP and the folder.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Request as HttpRequest, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hops_config::secret::Secret;
use serde_json::json;
use service::http::Health;
use subtle::ConstantTimeEq as _;

use crate::{
    readers::Readers,
    repository::{Repository, Root},
    settings::{Overrides, Settings},
    spring::{
        Properties, PropertySource, Scalar,
        cipher::{Decryption, Key},
        environment::{Broken, Plan},
        flatten::flatten,
        json::{self, Head},
        merged, properties,
        request::{self, Form, Refusal, Request, refuse},
        yaml::{self, Unreadable},
    },
};

/// What a client without the password is told.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"configserver\", charset=\"UTF-8\"");

/// All that an answer needs.
#[derive(Debug)]
pub struct Server {
    repository: Repository,
    accept_empty: bool,
    /// The label of requests without one, where labels have folders.
    default_label: Option<String>,
    version: Option<String>,
    decryption: Decryption,
    overrides: Overrides,
    /// What a client with the password sends after `Basic`.
    authorization: Option<Secret>,
    prefix: String,
    readers: Readers,
}

/// The addresses of the configuration, and beside them those of `encryption`. More specific ones may be added.
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
    configuration.route("/actuator/health", get(actuator_health).with_state(health))
}

impl Server {
    /// Puts the settings to use.
    ///
    /// # Errors
    /// A password's or a key's file that cannot be read, or a key that cannot be used.
    pub fn new(settings: &Settings, repository: Repository) -> Result<Self, String> {
        let (password, file) = (settings.auth_password.as_ref(), settings.auth_password_file.as_deref());
        let password = Secret::given_or_in_file("auth_password", password, file)?;
        let authorization = password.map(|password| {
            Secret::new(STANDARD.encode(format!("{}:{}", settings.auth_username, password.expose())))
        });
        Ok(Self {
            repository,
            accept_empty: settings.accept_empty,
            default_label: settings.add_label_locations.then(|| settings.default_label.clone()),
            version: settings.version.clone(),
            decryption: settings.decryption()?,
            overrides: settings.overrides.clone(),
            authorization,
            prefix: settings.prefix.clone(),
            readers: Readers::default(),
        })
    }

    /// The key of encrypted values, if there is one.
    #[must_use]
    pub fn key(&self) -> Option<Key> {
        self.decryption.key.clone()
    }

    /// Whether a client may read: it has the password, or there is none.
    #[must_use]
    pub fn lets_in(&self, headers: &HeaderMap) -> bool {
        let Some(wanted) = &self.authorization else { return true };
        let sent = headers.get(header::AUTHORIZATION).map_or(&b""[..], HeaderValue::as_bytes);
        let end = sent.iter().position(|byte| *byte == b' ').unwrap_or(sent.len());
        let (scheme, pair) = sent.split_at(end);
        let is_right: bool = pair.trim_ascii().ct_eq(wanted.expose().as_bytes()).into();
        scheme.eq_ignore_ascii_case(b"basic") && is_right
    }

    /// What is kept for `/readyz`: whether the shared files can be read, asked for an application that nobody has.
    ///
    /// # Errors
    /// The file that cannot be read, or that there is none.
    pub fn check(&self) -> Result<String, String> {
        let form = Form::Environment;
        let request = Request { application: "app".into(), profiles: "default".into(), label: None, form };
        let sources = self.sources(&request).map_err(|refusal| refusal.message.into_owned())?;
        Ok(format!("{}: {} sources for app, default", self.repository.shown(), sources.len()))
    }

    /// The sources of a request, highest first: files, deciphered, and above them what the settings override.
    fn sources(&self, request: &Request) -> Result<Vec<PropertySource>, Refusal> {
        let label = request.label.as_deref().filter(|_| self.default_label.is_some());
        let plan = Plan::new(self.repository.shown(), request, label.or(self.default_label.as_deref()));
        let root = self.repository.root();
        let found = root.and_then(|root| plan.sources(&|path| documents(&root, path)));
        let mut sources = found.or_else(|broken| refuse(500, broken.to_string()))?;
        for PropertySource { source, .. } in &mut sources {
            *source = self.decryption.decrypted(std::mem::take(source));
        }
        if let Some(overrides) = overrides(&self.overrides) {
            sources.insert(0, overrides);
        }
        if sources.is_empty() && !self.accept_empty {
            return refuse(404, "no file is for this application and these profiles");
        }
        Ok(sources)
    }

    fn answer(&self, request: &Request) -> Result<(&'static str, String), Refusal> {
        let sources = self.sources(request)?;
        match request.form {
            Form::Environment => {
                let head = Head {
                    name: &request.application,
                    profiles: &request.profiles,
                    label: request.label.as_deref(),
                    version: self.version.as_deref(),
                };
                Ok(("application/json", json::environment(head, &sources)))
            }
            Form::Merged(format, resolve) => merged::answer(&sources, format, resolve),
        }
    }
}

/// A file's documents.
fn documents(root: &Root, path: &str) -> Result<Option<Vec<Properties>>, Broken> {
    let read = || {
        let Some(bytes) = root.read(path)? else { return Ok(None) };
        if path.ends_with(".properties") {
            return properties::documents(&bytes).map(Some);
        }
        let text = std::str::from_utf8(&bytes).map_err(|e| {
            let line = bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
            Unreadable { line, why: "is not UTF-8".into() }
        })?;
        let documents = yaml::documents(text)?.into_iter();
        let flat = documents.map(|node| flatten(node).map_err(|why| Unreadable { line: 1, why }));
        flat.collect::<Result<_, _>>().map(Some)
    };
    read().map_err(|error| Broken { path: path.to_owned(), error })
}

/// The source of the overrides: all texts, `\${` and `\{` without their backslash.
fn overrides(overrides: &Overrides) -> Option<PropertySource> {
    let plain = |text: &Secret| Scalar::Text(text.expose().replace("\\${", "${").replace("\\{", "{"));
    let source: Properties = overrides.0.iter().map(|(key, value)| (key.clone(), plain(value))).collect();
    (!source.is_empty()).then(|| PropertySource { name: "overrides".into(), source })
}

/// Any address that is none of the more specific ones.
async fn answer(State(server): State<Arc<Server>>, request: HttpRequest) -> Response {
    let (parts, _) = request.into_parts();
    let accept = parts.headers.get(header::ACCEPT).map(|accept| accept.to_str().unwrap_or_default());
    let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
    let shown = format!("{}{path}", server.prefix);
    if !server.lets_in(&parts.headers) {
        let refusal =
            Refusal { status: 401, message: "configuration is for those who have the password".into() };
        return refused(&refusal, &shown);
    }
    let parsed = request::parse(parts.method.as_str(), path, query, accept);
    let answered = match parsed {
        Err(refusal) => Err(refusal),
        Ok(request) => {
            let reader = Arc::clone(&server);
            server.readers.run(move || reader.answer(&request)).await
        }
    };
    match answered {
        Ok((kind, body)) => ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], body).into_response(),
        Err(refusal) => refused(&refusal, &shown),
    }
}

/// An error as Spring Boot writes it. What is wrong with a file is for the log alone.
fn refused(refusal: &Refusal, path: &str) -> Response {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let message = match status {
        StatusCode::INTERNAL_SERVER_ERROR => {
            tracing::error!(path, "configuration cannot be answered: {}", refusal.message);
            "a file cannot be read; the log has its name, line and reason"
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

/// `GET /actuator/health`: one word.
async fn actuator_health(State(health): State<Arc<Health>>) -> impl IntoResponse {
    let (up, _) = health.report();
    let (status, word) = if up { (StatusCode::OK, "UP") } else { (StatusCode::SERVICE_UNAVAILABLE, "DOWN") };
    (status, Json(json!({ "status": word })))
}
