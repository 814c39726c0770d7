//! The public listener: what is answered under which path, and what bounds every request.

mod accept;
mod accounts;
mod alert_events;
mod alerts;
mod anomalies;
mod api;
mod body;
mod catalog;
mod dashboards;
mod funnels;
mod grafana;
mod health;
mod openapi;
mod page;
mod paging;
mod params;
mod questions;
mod records;
mod revision;
mod saved_metrics;
mod session;
mod users;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRef, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::access::{Access, meter};
use crate::alerts::webhook::Webhooks;
use crate::cache::Answers;
use crate::live::Hub;
use crate::problem::Problem;
use crate::query::Evaluator;
use crate::tuning::Tuning;

/// The longest query string, in bytes.
const QUERY_STRING_BYTES_MAX: usize = 8 * 1024;
/// The most bytes of all headers' values together.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// The largest body.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) access: Arc<Access>,
    pub(crate) evaluator: Evaluator,
    pub(crate) answers: Answers,
    pub(crate) hub: Hub,
    pub(crate) tuning: Arc<Tuning>,
    pub(crate) webhooks: Arc<Webhooks>,
    /// Moves on whenever somebody is told something about an alert.
    pub(crate) newest_alert_event: watch::Receiver<String>,
    pub(crate) shutdown: CancellationToken,
}

impl FromRef<App> for Arc<Access> {
    fn from_ref(app: &App) -> Self {
        app.access.clone()
    }
}

/// Every route. `extra` are the documents of other parts' interfaces, shown together with this one's.
pub(crate) fn router(app: App, extra: Vec<utoipa::openapi::OpenApi>) -> Router {
    // Longer than a query's own limit, which answers with a problem document.
    let time_max = app.tuning.query_timeout.max(app.tuning.events_timeout) * 2;
    let documents = Router::new()
        .route("/v1/funnels", post(funnels::funnels))
        .route("/v1/reconciliations/latest", get(records::latest))
        .route("/v1/anomalies", get(anomalies::anomalies))
        .route("/v1/catalog", get(catalog::catalog))
        .route("/v1/heatmap", get(questions::heat_map))
        .merge(health::router())
        .merge(accounts::router())
        .merge(session::router())
        .merge(users::router())
        .merge(dashboards::router())
        .merge(alerts::router())
        .merge(alert_events::router())
        .merge(grafana::router())
        .merge(saved_metrics::router())
        .layer(middleware::from_fn(accept::no_rows));
    let streams = Router::new()
        .route("/v1/live", get(api::live))
        .merge(alert_events::live_router())
        .route("/v1/live/ws", any(api::live_ws))
        .layer(middleware::from_fn(accept::no_rows));
    let answered_at_once = |router: Router<App>| {
        router.layer(middleware::from_fn_with_state(time_max, bounded_time)).layer(CompressionLayer::new())
    };
    let api = answered_at_once(documents.merge(questions::router()).merge(records::router()))
        .merge(streams)
        // Answers belong to one credential and one moment: no cache in between may keep them.
        .layer(constant_header(header::CACHE_CONTROL, "no-store"));
    let cors = cors(&app.tuning.cors_origins);
    let router = Router::new()
        .merge(api)
        .merge(answered_at_once(openapi::router(extra).merge(page::router())))
        .fallback(async || Problem::not_found("nothing is here; the interface is described under /docs"))
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .with_state(app)
        .layer(RequestBodyLimitLayer::new(BODY_BYTES_MAX))
        .layer(middleware::from_fn(meter::metered))
        .layer(middleware::from_fn(bounded_head))
        .layer(constant_header(
            header::CONTENT_SECURITY_POLICY,
            "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'; object-src 'none'",
        ))
        .layer(constant_header(header::X_FRAME_OPTIONS, "DENY"))
        .layer(constant_header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(constant_header(header::REFERRER_POLICY, "no-referrer"))
        .layer(CatchPanicLayer::custom(panicked));
    match cors {
        Some(cors) => router.layer(cors),
        None => router,
    }
}

/// For pages of other sites that read with a key. Their browsers send no cookies along.
fn cors(origins: &[String]) -> Option<CorsLayer> {
    let origins: Vec<HeaderValue> = origins.iter().filter_map(|origin| origin.parse().ok()).collect();
    let headers =
        [header::AUTHORIZATION, header::CONTENT_TYPE, header::IF_MATCH, HeaderName::from_static("last-event-id")];
    let layer = CorsLayer::new()
        .allow_origin(origins.clone())
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers(headers)
        .expose_headers([
            header::AGE,
            header::ETAG,
            header::LOCATION,
            header::RETRY_AFTER,
            paging::NEXT,
            questions::STALE,
        ])
        .max_age(Duration::from_secs(3_600));
    (!origins.is_empty()).then_some(layer)
}

fn constant_header(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value))
}

async fn bounded_time(State(time_max): State<Duration>, request: Request, next: Next) -> Response {
    let answer = tokio::time::timeout(time_max, next.run(request)).await;
    answer.unwrap_or_else(|_| Problem::timed_out().into_response())
}

async fn bounded_head(request: Request, next: Next) -> Response {
    let query_bytes = request.uri().query().map_or(0, str::len);
    let header_bytes: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if query_bytes > QUERY_STRING_BYTES_MAX || header_bytes > HEADER_BYTES_MAX {
        return Problem::too_long(QUERY_STRING_BYTES_MAX, HEADER_BYTES_MAX).into_response();
    }
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: usize| length > BODY_BYTES_MAX) {
        let detail = format!("at most {BODY_BYTES_MAX} bytes are read: ask for less at once");
        return Problem::refused_body(StatusCode::PAYLOAD_TOO_LARGE, detail).into_response();
    }
    next.run(request).await
}

// The signature is that of the layer.
#[expect(clippy::needless_pass_by_value)]
fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = text, "a request handler panicked");
    Problem::internal().into_response()
}
