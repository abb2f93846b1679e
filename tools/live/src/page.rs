//! The files of the page, embedded into the program: plain HTML, CSS and ES modules that no step has built.
//!
//! They hold no data, so they need no token.

use axum::{
    Router,
    http::{HeaderName, HeaderValue, header},
    response::IntoResponse as _,
    routing::get,
};

/// Content types of the files.
const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// Headers of every answer: the page runs nothing but its own modules, talks to its own server, and stands in no frame.
pub(crate) const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
             frame-ancestors 'none'; base-uri 'none'",
        ),
    ),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// Paths of the files with their types and contents.
const FILES: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("../page/index.html")),
    ("/style.css", CSS, include_str!("../page/style.css")),
    ("/actions.js", JAVASCRIPT, include_str!("../page/actions.js")),
    ("/api.js", JAVASCRIPT, include_str!("../page/api.js")),
    ("/detail.js", JAVASCRIPT, include_str!("../page/detail.js")),
    ("/dom.js", JAVASCRIPT, include_str!("../page/dom.js")),
    ("/layout.js", JAVASCRIPT, include_str!("../page/layout.js")),
    ("/main.js", JAVASCRIPT, include_str!("../page/main.js")),
    ("/player.js", JAVASCRIPT, include_str!("../page/player.js")),
    ("/save.js", JAVASCRIPT, include_str!("../page/save.js")),
    ("/state.js", JAVASCRIPT, include_str!("../page/state.js")),
    ("/view.js", JAVASCRIPT, include_str!("../page/view.js")),
    ("/words.js", JAVASCRIPT, include_str!("../page/words.js")),
];

/// Returns the routes of the files.
pub(crate) fn routes() -> Router {
    FILES.iter().fold(Router::new(), |router, (path, kind, text)| {
        router.route(path, get(async move || ([(header::CONTENT_TYPE, *kind)], *text).into_response()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_of_the_page_is_embedded() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/page");
        let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
        let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
        let mut names: Vec<_> = files.map(|entry| entry.file_name().into_string().unwrap()).collect();
        let path = |(path, ..): &(&str, &str, &str)| match path.trim_start_matches('/') {
            "" => "index.html".to_owned(),
            name => name.to_owned(),
        };
        let mut embedded: Vec<_> = FILES.iter().map(path).collect();
        names.sort();
        embedded.sort();
        assert_eq!(embedded, names);
    }
}
