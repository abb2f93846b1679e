//! From a path, a query and an Accept header to a request, or to a refusal.
//!
//! The routes overlap, so their segments decide, in one place.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// First segments that are not applications: they belong to other parts of the server.
const RESERVED: [&str; 5] = ["actuator", "monitor", "encrypt", "decrypt", "key"];
/// Limit for the applications, profiles or labels of a request: each combination of them is a file to search.
const MAX_LIST: usize = 16;
/// Replacement for a slash in applications and labels.
const SLASH: &str = "(_)";

/// A request for configuration. Names and labels have their slashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The application, or several with commas.
    pub application: String,
    /// The profile, or several with commas.
    pub profiles: String,
    /// The label, or several with commas.
    pub label: Option<String>,
    /// Form of the answer.
    pub form: Form,
}

/// Form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// All sources, as JSON.
    Environment,
    /// One map in a format, with or without its placeholders resolved.
    Merged(Format, bool),
}

/// A format of the merged view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `.yml` and `.yaml`
    Yaml,
    /// `.properties`
    Properties,
    /// `.json`
    Json,
}

/// Reason why a request is not answered, for the log and the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// Sentence that says what is wrong.
    pub message: Cow<'static, str>,
}

/// Returns a refusal with this status.
pub fn refuse<T>(status: u16, message: impl Into<Cow<'static, str>>) -> Result<T, Refusal> {
    Err(Refusal { status, message: message.into() })
}

/// Reads a request. `path` is as the client sent it, percent-encoded, below the prefix.
///
/// # Errors
/// Spring's status and a reason.
pub fn parse(method: &str, path: &str, query: &str, accept: Option<&str>) -> Result<Request, Refusal> {
    let segments = path.strip_prefix('/').unwrap_or(path).split('/').map(decoded);
    let segments = segments.collect::<Result<Vec<_>, _>>()?;
    let words: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
    let request = match words[..] {
        _ if words.contains(&"") => refuse(404, "no such resource"),
        _ if words.contains(&"..") => refuse(400, "`..` is not allowed in an address"),
        [first, ..] if RESERVED.contains(&first) => refuse(404, "no such resource"),
        [file] => merged(None, file, query)?.map_or_else(|| refuse(404, "no such resource"), Ok),
        [first, second] => match merged(Some(first), second, query)? {
            Some(request) => Ok(request),
            None if has_extension(second) => refuse(404, "a profile cannot have an extension"),
            None => Ok(environment(first, second, None)),
        },
        [name, profiles, label] if value(query, "useDefaultLabel").is_none() => {
            Ok(environment(name, profiles, Some(label)))
        }
        [name, profiles, label, ..] => {
            checked(environment(name, profiles, Some(label)))?;
            refuse(404, "this server does not serve plain files")
        }
        [] => refuse(404, "no such resource"),
    }?;
    if !["GET", "HEAD"].contains(&method) {
        return refuse(405, "only GET and HEAD are allowed here");
    }
    if request.form == Form::Environment && !accepts_json(accept) {
        return refuse(406, "only application/json is available");
    }
    checked(request)
}

/// Checks an application and its profiles, as the client sent them, where they are not used.
///
/// # Errors
/// Spring's status and a reason.
pub fn check_names(application: &str, profiles: &str) -> Result<(), Refusal> {
    checked(environment(&decoded(application)?, &decoded(profiles)?, None)).map(drop)
}

/// Decodes a segment, without its `;parameters`.
fn decoded(segment: &str) -> Result<Cow<'_, str>, Refusal> {
    let segment = segment.split(';').next().unwrap_or_default();
    let well_formed = segment
        .split('%')
        .skip(1)
        .all(|rest| rest.len() >= 2 && rest.bytes().take(2).all(|b| b.is_ascii_hexdigit()));
    match percent_decode_str(segment).decode_utf8() {
        Ok(text) if well_formed && !text.contains(['/', '\\', '\0']) => Ok(text),
        _ => refuse(400, "an encoded slash, a backslash or a wrong escape"),
    }
}

fn environment(name: &str, profiles: &str, label: Option<&str>) -> Request {
    let (application, profiles, label) = (name.to_owned(), profiles.to_owned(), label.map(str::to_owned));
    Request { application, profiles, label, form: Form::Environment }
}

/// Reads `{name}-{profile}.{extension}`, split at the last hyphen.
fn merged(label: Option<&str>, file: &str, query: &str) -> Result<Option<Request>, Refusal> {
    let formats = [
        (".yml", Format::Yaml),
        (".yaml", Format::Yaml),
        (".properties", Format::Properties),
        (".json", Format::Json),
    ];
    let found = formats.iter().find_map(|(end, format)| Some((file.strip_suffix(end)?, *format)));
    let Some((stem, format)) = found else { return Ok(None) };
    let Some((name, profile)) = stem.rsplit_once('-').filter(|(n, p)| !n.is_empty() && !p.is_empty()) else {
        return Ok(None);
    };
    let resolve = match value(query, "resolvePlaceholders").map(str::to_ascii_lowercase).as_deref() {
        None | Some("" | "true" | "on" | "yes" | "1") => true,
        Some("false" | "off" | "no" | "0") => false,
        Some(_) => return refuse(400, "resolvePlaceholders must be true or false"),
    };
    Ok(Some(Request { form: Form::Merged(format, resolve), ..environment(name, profile, label) }))
}

/// Returns true for a profile with `.yml` or another extension in it, as a word.
fn has_extension(profile: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    [".yml", ".yaml", ".properties", ".json"].iter().any(|extension| {
        profile.match_indices(extension).any(|(at, _)| {
            let before = profile[..at].chars().next_back().is_some_and(is_word);
            before && !profile[at + extension.len()..].starts_with(is_word)
        })
    })
}

fn value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// Returns whether a client accepts JSON.
fn accepts_json(accept: Option<&str>) -> bool {
    let accept = accept.map(str::trim).filter(|accept| !accept.is_empty()).unwrap_or("*/*");
    accept.split(',').any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let quality = |parameter: &str| parameter.strip_prefix("q=").and_then(|q| q.parse::<f32>().ok());
        let refused = parts.any(|parameter| quality(parameter) == Some(0.0));
        !refused && ["*/*", "application/*", "application/json"].contains(&kind.as_str())
    })
}

fn checked(request: Request) -> Result<Request, Refusal> {
    let place = |name: &str, text: &str| match is_place(text) {
        true => Ok(text.replace(SLASH, "/")),
        false => refuse(400, format!("the {name} must not contain `..` or `#`, or begin with a slash")),
    };
    let label = request.label.as_deref().unwrap_or_default();
    let lists = [&request.application, &request.profiles, label];
    if lists.iter().any(|list| list.matches(',').count() >= MAX_LIST) {
        return refuse(400, format!("at most {MAX_LIST} applications, profiles and labels are allowed"));
    }
    if !request.profiles.split(',').all(is_profile) || !is_place(&request.profiles) {
        return refuse(
            400,
            "a profile may contain letters, digits and -_.+@, and begins and ends with a letter or digit",
        );
    }
    Ok(Request {
        application: place("application", &request.application)?,
        label: request.label.as_deref().map(|label| place("label", label)).transpose()?,
        ..request
    })
}

/// Returns whether a name or a label stays in its folder, even if it is decoded once more.
#[must_use]
pub fn is_place(text: &str) -> bool {
    let inside = |text: &str| !text.contains("..") && !text.contains(['#', '\0']) && !text.starts_with(SLASH);
    let again = percent_decode_str(text).decode_utf8_lossy();
    inside(text) && inside(&again) && !text.starts_with('/')
}

fn is_profile(profile: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let allowed = |c: char| c.is_alphanumeric() || "-_.+@".contains(c);
    ends(profile.chars().next()) && ends(profile.chars().next_back()) && profile.chars().all(allowed)
}

#[cfg(test)]
mod tests;
