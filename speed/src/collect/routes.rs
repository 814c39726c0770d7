//! Which request goes where, and what every one of them passes through.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Router, middleware};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::intake::Intake;
use super::problem::{Problem, ProblemDetails};
use super::{Error, cloud_events, native, segment, trace, unread};

/// How long a browser may remember that it may send: the longest that any of them does.
const PREFLIGHT_AGE_MAX: Duration = Duration::from_secs(2 * 3600);

#[derive(OpenApi)]
#[openapi(
    modifiers(&WriteKeys),
    tags(
        (name = "collect", description = "Sending events"),
        (name = "segment", description = "Segment's HTTP tracking API, for its client libraries"),
        (name = "cloudevents", description = "CloudEvents over HTTP 1.0.2, as usage meters speak it")
    )
)]
struct Description;

struct WriteKeys;

impl Modify for WriteKeys {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_default();
        for (name, scheme) in [("write_key", HttpAuthScheme::Bearer), ("write_key_as_user", HttpAuthScheme::Basic)] {
            components.add_security_scheme(name, SecurityScheme::Http(Http::new(scheme)));
        }
    }
}

/// The collector's routes. Pages of `origins` may send events; keys are in headers, never in cookies.
pub(crate) fn router(intake: Arc<Intake>, origins: AllowOrigin) -> Router {
    let (described, _) = described().split_for_parts();
    let mut router = described;
    for kind in ["identify", "page", "screen", "group", "alias"] {
        router = router.route(&format!("/v1/{kind}"), post(segment::post_message));
    }
    router
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method")
        })
        .with_state(intake)
        .layer(cors(origins))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(unread::discard))
        .layer(middleware::from_fn(trace::correlate))
}

fn cors(origins: AllowOrigin) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::POST])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, header::CONTENT_ENCODING])
        .expose_headers([header::RETRY_AFTER])
        .max_age(PREFLIGHT_AGE_MAX)
}

/// The origins of the configuration.
///
/// # Errors
/// [`Error::Configuration`] names the one that is none.
pub(crate) fn allowed_origins(origins: &[String]) -> Result<AllowOrigin, Error> {
    if origins.iter().any(|origin| origin == "*") {
        return Ok(AllowOrigin::any());
    }
    let parsed = origins.iter().map(|origin| {
        let is_origin = origin.contains("://") && !origin.ends_with('/');
        origin.parse::<HeaderValue>().ok().filter(|_| is_origin).ok_or_else(|| Error::Configuration {
            key: "collect.cors_origins",
            reason: format!("`{origin}` is not an origin such as `https://shop.example`, without a path"),
        })
    });
    Ok(AllowOrigin::list(parsed.collect::<Result<Vec<_>, Error>>()?))
}

/// The description of these routes.
pub(crate) fn openapi() -> utoipa::openapi::OpenApi {
    described().into_openapi()
}

fn described() -> OpenApiRouter<Arc<Intake>> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(native::post_events))
        .routes(routes!(segment::post_message))
        .routes(routes!(segment::post_batch))
        .routes(routes!(cloud_events::post_cloud_events))
        .routes(routes!(healthz))
        .routes(routes!(readyz))
}

/// Whether the process is up.
#[utoipa::path(get, path = "/healthz", tag = "collect", responses((status = 204, description = "It is")))]
async fn healthz() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// Whether events can be sent: the log is there.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "collect",
    responses(
        (status = 204, description = "They can"),
        (status = 503, description = "The log is away", body = ProblemDetails, content_type = "application/problem+json"),
    )
)]
async fn readyz(State(intake): State<Arc<Intake>>) -> Result<StatusCode, Problem> {
    if intake.is_ready() {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::later(StatusCode::SERVICE_UNAVAILABLE, "the log is away", Duration::from_secs(2)))
    }
}

/// A defect in one request must not take the connection's other requests with it, nor tell the client about itself.
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let reason = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(reason, "a request panicked");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "this should not happen").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_has_every_door() {
        let openapi = openapi();
        for path in ["/v1/events", "/v1/track", "/v1/batch", "/v1/cloudevents", "/healthz", "/readyz"] {
            assert!(openapi.paths.paths.contains_key(path), "{path}");
        }
        let components = openapi.components.expect("schemas");
        assert!(components.schemas.contains_key("Receipt") && components.schemas.contains_key("ProblemDetails"));
        assert_eq!(components.security_schemes.len(), 2);
    }
}
