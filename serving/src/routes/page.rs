//! The page and the client library for browsers, compiled into the binary.

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rust_embed::RustEmbed;

use super::App;
use super::params::PathOf;
use crate::problem::Problem;

#[derive(RustEmbed)]
#[folder = "ui/dist"]
#[allow_missing = true]
struct Built;

/// Where the client library for browsers is.
const SDK: &str = "sdk/";

const NOT_BUILT: &str = "The page was not built into this binary: run `make ui` and build it again.\n\
                         The interface works all the same, see /docs.\n";

/// `/` and the page's files.
pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/", get(async || index()))
        .route("/{*file}", get(async |PathOf(path): PathOf<String>| file(&path)))
}

fn index() -> Response {
    match Built::get("index.html") {
        Some(_) => file("index.html"),
        None => (StatusCode::SERVICE_UNAVAILABLE, NOT_BUILT).into_response(),
    }
}

fn file(path: &str) -> Response {
    let Some(file) = Built::get(path) else {
        return Problem::not_found("nothing is here; the interface is described under /docs").into_response();
    };
    let kind = HeaderValue::from_str(file.metadata.mimetype()).ok();
    let kind = kind.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    // The bundler names its files after their content, the page itself keeps its name.
    let cache = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, HeaderValue::from_static(cache))];
    let mut response = (headers, file.data).into_response();
    if path.starts_with(SDK) {
        // The library is for other sites' pages; it is the same for everybody.
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
    response
}
