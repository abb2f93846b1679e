//! The addresses of a service as a table. Its router is made from it, and it is compared with the OpenAPI document.

use axum::{
    Router,
    http::{Method, StatusCode, header},
    response::IntoResponse,
    routing::MethodRouter,
};

/// One operation: a method, an address with its parameters in braces, and the handler. A handler of `GET` answers `HEAD`, too.
pub type Route<S> = (Method, &'static str, fn() -> MethodRouter<S>);

/// Returns the router of a table, in which the operations of one address stand next to each other. `OPTIONS` is answered 204, with the
/// methods of the address in `Allow` (RFC 9110, section 9.3.7).
pub fn table<S: Clone + Send + Sync + 'static>(routes: &[Route<S>]) -> Router<S> {
    routes.chunk_by(|(_, one, _), (_, other, _)| one == other).fold(Router::new(), |router, operations| {
        let names = operations.iter().map(|(method, ..)| match *method {
            Method::GET => "GET, HEAD",
            _ => method.as_str(),
        });
        let allowed = names.chain(["OPTIONS"]).collect::<Vec<_>>().join(", ");
        let handlers =
            operations.iter().map(|(.., handler)| handler()).fold(MethodRouter::new(), MethodRouter::merge);
        router.route(
            operations[0].1,
            handlers.options(async move || (StatusCode::NO_CONTENT, [(header::ALLOW, allowed)])),
        )
    })
}

/// Returns a service's own OpenAPI document, as `/openapi.json` answers it.
pub fn openapi(document: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], document)
}
