//! For probes.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use utoipa::OpenApi;

use super::App;
use crate::problem::Problem;

#[derive(OpenApi)]
#[openapi(paths(healthz, readyz), tags((name = "operate", description = "For probes")))]
pub(super) struct Description;

pub(super) fn router() -> Router<App> {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz))
}

/// Whether the process runs.
#[utoipa::path(get, path = "/healthz", tag = "operate", responses((status = 200, description = "It runs")))]
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether questions can be answered: ClickHouse has to be there; without Redis answers are a little older.
#[utoipa::path(get, path = "/readyz", tag = "operate",
    responses(
        (status = 200, description = "They can"),
        (status = 503, description = "ClickHouse does not answer", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn readyz(State(app): State<App>) -> Result<&'static str, Problem> {
    let stores = app.evaluator.stores();
    let (clickhouse, redis) = tokio::join!(stores.clickhouse.ping(), stores.redis.ping());
    clickhouse?;
    Ok(if redis.is_ok() { "ready\n" } else { "ready, without Redis\n" })
}
