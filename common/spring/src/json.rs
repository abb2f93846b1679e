//! JSON answers. A number goes out with the digits that it came with, however many there are (see [`Scalar`]).
//!
//! [`Scalar`]: crate::Scalar

use serde::Serialize;

use crate::{PropertySource, request};

/// The first version of the JSON of an Environment, with all of its six fields.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Environment<'a> {
    /// The application, or several with commas.
    pub name: &'a str,
    /// The profiles, as one text.
    pub profiles: [&'a str; 1],
    /// The label of the request.
    pub label: Option<&'a str>,
    /// The version from the settings.
    pub version: Option<&'a str>,
    /// Always null: only other backends have a state.
    pub state: Option<&'a str>,
    /// The sources, highest first.
    pub property_sources: &'a [PropertySource],
}

/// Returns the JSON of an answer.
///
/// # Errors
/// 500 for a value that JSON cannot hold.
pub fn text(answer: &impl Serialize) -> Result<String, request::Refusal> {
    serde_json::to_string(answer)
        .or_else(|e| request::refuse(500, format!("the answer cannot be written as JSON: {e}")))
}
