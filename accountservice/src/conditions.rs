//! The headers that make a request conditional (RFC 9110, section 13), and those that make a write repeatable and readable.
//!
//! The entity tag of an account is its version in quotes, as in `"7"`. `servedBy` is no part of it: the same account has the same tag
//! on every replica.

use std::fmt;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts},
};
use service::http::Problem;

/// Header with an id of the client's for a write: the second request with it gets the outcome of the first one
/// (draft-ietf-httpapi-idempotency-key-header).
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Header with the name of the stream and the offset of a write; a read that has it sees that write.
pub const POSITION: HeaderName = HeaderName::from_static("hops-position");

/// Most characters of an `Idempotency-Key`.
const KEY_MAX: usize = 128;

/// The value of `If-Match` or `If-None-Match`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tags {
    /// `*`: any account that exists.
    Any,
    /// Entity tags, as they were sent.
    These(Vec<String>),
}

/// The conditions of a read, which most reads do not have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadConditions {
    /// `If-Match`.
    pub if_match: Option<Tags>,
    /// `If-None-Match`.
    pub if_none_match: Option<Tags>,
    /// `Hops-Position`.
    pub position: Option<PositionTag>,
}

/// From the headers where they are: each read would copy all of them.
impl<S: Sync> FromRequestParts<S> for ReadConditions {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let headers = &parts.headers;
        Ok(Self {
            if_match: Tags::read(headers, &header::IF_MATCH)?,
            if_none_match: Tags::read(headers, &header::IF_NONE_MATCH)?,
            position: PositionTag::read(headers)?,
        })
    }
}

/// A position in the stream, as a client has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PositionTag {
    /// Name of the stream.
    pub stream: String,
    /// Offset of an entry.
    pub offset: u64,
}

impl Tags {
    /// Reads a header; `None` if it is absent.
    ///
    /// # Errors
    /// 400 for what is neither `*` nor a list of entity tags.
    pub fn read(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Self>, Problem> {
        if !headers.contains_key(name) {
            return Ok(None);
        }
        let mut tags = vec![];
        for value in headers.get_all(name) {
            let text = String::from_utf8_lossy(value.as_bytes());
            if text.trim() == "*" {
                return Ok(Some(Self::Any));
            }
            // Empty elements are none (RFC 9110, section 5.6.1.2).
            for tag in text.split(',').map(str::trim).filter(|tag| !tag.is_empty()) {
                let opaque = tag.strip_prefix("W/").unwrap_or(tag);
                let inner = opaque.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
                if inner.is_none_or(|inner| inner.contains('"')) {
                    return Err(Problem::bad_request(format!(
                        "{name}: `{tag}` is not an entity tag; send that of an earlier answer, such as \"7\" with its quotes"
                    )));
                }
                tags.push(tag.to_owned());
            }
        }
        Ok((!tags.is_empty()).then_some(Self::These(tags)))
    }

    /// Returns whether one of them is that of this version, in the strong comparison of `If-Match`. 0 is no account.
    #[must_use]
    pub fn match_strongly(&self, version: u64) -> bool {
        version > 0 && self.any(|tag| tag == format!("\"{version}\""))
    }

    /// Returns whether one of them is that of this version, in the weak comparison of `If-None-Match`. 0 is no account.
    #[must_use]
    pub fn match_weakly(&self, version: u64) -> bool {
        version > 0 && self.match_tag(&format!("\"{version}\""))
    }

    /// Returns whether one of them is this one, in the weak comparison.
    #[must_use]
    pub fn match_tag(&self, current: &str) -> bool {
        self.any(|tag| tag.trim_start_matches("W/") == current)
    }

    /// Returns the highest version that they name.
    #[must_use]
    pub fn highest(&self) -> Option<u64> {
        match self {
            Self::Any => None,
            Self::These(tags) => tags.iter().filter_map(|tag| tag.trim_matches('"').parse().ok()).max(),
        }
    }

    fn any(&self, is: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::Any => true,
            Self::These(tags) => tags.iter().any(|tag| is(tag)),
        }
    }
}

impl fmt::Display for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::These(tags) => f.write_str(&tags.join(", ")),
        }
    }
}

/// Returns the entity tag of a version.
#[must_use]
pub fn entity_tag(version: u64) -> HeaderValue {
    // Most accounts were never changed.
    if version == 1 {
        return HeaderValue::from_static("\"1\"");
    }
    // Digits and quotes are always a header's value.
    HeaderValue::try_from(format!("\"{version}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// Reads the `Idempotency-Key`; `None` if it is absent.
///
/// # Errors
/// 400 for a key that is empty, too long or not visible.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = value.to_str().unwrap_or_default();
    let is_key = (1..=KEY_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    match is_key {
        true => Ok(Some(key.to_owned())),
        false => Err(Problem::bad_request(format!(
            "{IDEMPOTENCY_KEY}: send 1 to {KEY_MAX} visible ASCII characters, such as a UUID"
        ))),
    }
}

impl PositionTag {
    /// Reads the header; `None` if it is absent.
    ///
    /// # Errors
    /// 400 for what is no position.
    pub fn read(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let Some(value) = headers.get(POSITION) else { return Ok(None) };
        let parts = value.to_str().ok().and_then(|text| text.rsplit_once(':'));
        let position = parts.filter(|(stream, _)| !stream.is_empty()).and_then(|(stream, offset)| {
            Some(Self { stream: stream.to_owned(), offset: offset.parse().ok()? })
        });
        position.map(Some).ok_or_else(|| {
            Problem::bad_request(format!(
                "{POSITION}: send the value of an earlier answer, such as 3f2a9c01:1184"
            ))
        })
    }
}

impl fmt::Display for PositionTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.stream, self.offset)
    }
}

/// Returns whether the body of a request is JSON, by its `Content-Type`. A page of another site can send no such body without asking
/// first (<https://fetch.spec.whatwg.org/#cors-safelisted-request-header>).
#[must_use]
pub fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn entity_tags_are_compared_as_the_rfc_says() {
        for (sent, version, strongly, weakly) in [
            (&["\"7\""][..], 7, true, true),
            (&["\"7\""], 8, false, false),
            (&["W/\"7\""], 7, false, true),
            (&["\"6\", \"7\""], 7, true, true),
            (&["\"6\"", "\"7\""], 7, true, true),
            (&["*"], 7, true, true),
            (&["*"], 0, false, false),
            (&["\"0\""], 0, false, false),
            (&["\"\""], 7, false, false),
            (&["\"7\","], 7, true, true),
        ] {
            let tags = Tags::read(&headers(&header::IF_MATCH, sent), &header::IF_MATCH).unwrap().unwrap();
            assert_eq!(
                (tags.match_strongly(version), tags.match_weakly(version)),
                (strongly, weakly),
                "{sent:?} and {version}"
            );
        }
        for bad in ["7", "\"7", "7\"", "\"a\"b\"", "\"7\" \"8\""] {
            assert!(Tags::read(&headers(&header::IF_MATCH, &[bad]), &header::IF_MATCH).is_err(), "{bad}");
        }
        assert_eq!(Tags::read(&HeaderMap::new(), &header::IF_MATCH), Ok(None));
    }

    #[test]
    fn the_highest_version_is_the_one_that_has_to_be_there() {
        let highest = |sent| {
            Tags::read(&headers(&header::IF_MATCH, &[sent]), &header::IF_MATCH).unwrap().unwrap().highest()
        };
        assert_eq!(highest("\"6\", \"9\", W/\"12\""), Some(9));
        assert_eq!(highest("*"), None);
        assert_eq!(highest("\"x\""), None);
    }

    #[test]
    fn a_key_is_short_and_visible() {
        let key = |text: &str| idempotency_key(&headers(&IDEMPOTENCY_KEY, &[text]));
        assert_eq!(key("a-1").unwrap().as_deref(), Some("a-1"));
        assert!(key(&"x".repeat(128)).is_ok());
        for bad in ["", "a b", &"x".repeat(129)] {
            assert!(key(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_position_names_its_stream() {
        let read = |text: &str| PositionTag::read(&headers(&POSITION, &[text]));
        assert_eq!(read("3f2a9c01:1184").unwrap().unwrap().to_string(), "3f2a9c01:1184");
        for bad in ["1184", "3f2a9c01:", "3f2a9c01:-1", "a:b"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
