//! Metrics that are written as a text and saved under a name.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use super::App;
use super::body::Body;
use super::paging::Paging;
use super::params::{Params, PathOf};
use super::revision::{etag, matches};
use crate::access::{Editor, Reader};
use crate::accounts::Error;
use crate::accounts::documents::{Document, METRICS};
use crate::boards::metric::SavedMetric;
use crate::problem::Problem;
use crate::records::{Page, page};

#[derive(OpenApi)]
#[openapi(paths(list, create, read, change, remove))]
pub(super) struct Description;

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/v1/metrics", get(list).post(create))
        .route("/v1/metrics/{id}", get(read).put(change).delete(remove))
}

/// A metric and what is known about it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct SavedMetricAnswer {
    /// Grows with every change; also the `ETag`.
    revision: i64,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// By whom.
    updated_by: String,
    /// What it is.
    #[serde(flatten)]
    metric: SavedMetric,
}

/// The tenant's saved metrics.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct MetricList {
    /// A page of them, by name. Those of the catalog are at `/v1/catalog`.
    metrics: Vec<SavedMetricAnswer>,
    /// Ask for the next page with `after=` this; null at the end of the list.
    next: Option<String>,
}

/// The metrics that people saved, by name.
#[utoipa::path(get, path = "/v1/metrics", tag = "boards", security(("read_key" = []), ("session" = [])), params(Paging),
    responses(
        (status = 200, description = "A page of them", body = MetricList),
        (status = 400, description = "A parameter cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Not signed in", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn list(
    State(app): State<App>,
    Reader(tenant): Reader,
    Params(paging): Params<Paging>,
) -> Result<Json<MetricList>, Problem> {
    let (limit, after) = paging.in_order()?;
    let documents = app.access.accounts().documents(&tenant.id, METRICS, &after, limit).await?;
    let Page { items, next } = page(documents, limit);
    Ok(Json(MetricList { metrics: items.into_iter().map(answer).collect::<Result<_, _>>()?, next }))
}

/// Saves a metric. From then on a question can name it, like those of the catalog; on other nodes after a second.
#[utoipa::path(post, path = "/v1/metrics", tag = "boards", security(("admin_key" = []), ("session" = [])),
    request_body = SavedMetric,
    responses(
        (status = 201, description = "It can be asked for", body = SavedMetricAnswer),
        (status = 400, description = "The body is not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Not signed in", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "A key needs the scope admin, a person the scope read", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "There is one of this name, or as many as there may be", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not `application/json`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The text is no metric", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn create(
    State(app): State<App>,
    Editor(caller): Editor,
    Body(metric): Body<SavedMetric>,
) -> Result<Response, Problem> {
    metric.check(&caller.tenant)?;
    let (name, body) = (metric.name.clone(), metric.kept()?);
    let accounts = app.access.accounts();
    let document = accounts.add_document(&caller.tenant.id, METRICS, name.clone(), name, body, &caller.actor).await?;
    let location = HeaderValue::from_str(&format!("/v1/metrics/{}", document.id)).ok();
    let mut response = (StatusCode::CREATED, tagged(document)?).into_response();
    response.headers_mut().extend(location.map(|location| (header::LOCATION, location)));
    Ok(response)
}

/// One saved metric.
#[utoipa::path(get, path = "/v1/metrics/{id}", tag = "boards", security(("read_key" = []), ("session" = [])),
    params(("id" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "This is it; its version is in the `ETag`", body = SavedMetricAnswer),
        (status = 401, description = "Not signed in", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is none of this name", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn read(
    State(app): State<App>,
    Reader(tenant): Reader,
    PathOf(id): PathOf<String>,
) -> Result<Response, Problem> {
    tagged(app.access.accounts().document(&tenant.id, METRICS, &id).await?)
}

/// Saves another version in the place of the one that you have read. Its name stays.
#[utoipa::path(put, path = "/v1/metrics/{id}", tag = "boards", security(("admin_key" = []), ("session" = [])),
    params(
        ("id" = String, Path, description = "Its name"),
        ("If-Match" = String, Header, description = "The `ETag` of the version that you have read"),
    ),
    request_body = SavedMetric,
    responses(
        (status = 200, description = "It is saved", body = SavedMetricAnswer),
        (status = 400, description = "The body is not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Not signed in", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "A key needs the scope admin, a person the scope read", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is none of this name", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "It was changed meanwhile", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "There is one of this name, or as many as there may be", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not `application/json`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The text is no metric", body = Problem, content_type = "application/problem+json"),
        (status = 428, description = "`If-Match` is missing", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn change(
    State(app): State<App>,
    Editor(caller): Editor,
    PathOf(id): PathOf<String>,
    headers: HeaderMap,
    Body(metric): Body<SavedMetric>,
) -> Result<Response, Problem> {
    let accounts = app.access.accounts();
    let read = accounts.document(&caller.tenant.id, METRICS, &id).await?;
    matches(&headers, read.revision)?;
    metric.check(&caller.tenant)?;
    if metric.name != id {
        return Err(Problem::invalid_body("a metric keeps its name: save another one under the new name"));
    }
    let kept = (id, metric.kept()?);
    tagged(accounts.change_document(&caller.tenant.id, METRICS, &read, kept, &caller.actor).await?)
}

/// Removes the version that you have read. Charts that ask for it say then that there is no such metric.
#[utoipa::path(delete, path = "/v1/metrics/{id}", tag = "boards", security(("admin_key" = []), ("session" = [])),
    params(
        ("id" = String, Path, description = "Its name"),
        ("If-Match" = String, Header, description = "The `ETag` of the version that you have read"),
    ),
    responses(
        (status = 204, description = "It is gone"),
        (status = 401, description = "Not signed in", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "A key needs the scope admin, a person the scope read", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is none of this name", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "It was changed meanwhile", body = Problem, content_type = "application/problem+json"),
        (status = 428, description = "`If-Match` is missing", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn remove(
    State(app): State<App>,
    Editor(caller): Editor,
    PathOf(id): PathOf<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let accounts = app.access.accounts();
    let read = accounts.document(&caller.tenant.id, METRICS, &id).await?;
    matches(&headers, read.revision)?;
    accounts.remove_document(&caller.tenant.id, METRICS, &read, &caller.actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn answer(document: Document) -> Result<SavedMetricAnswer, Error> {
    let metric = SavedMetric::read(&document)?;
    let Document { revision, updated_at, updated_by, .. } = document;
    Ok(SavedMetricAnswer { revision, updated_at, updated_by, metric })
}

fn tagged(document: Document) -> Result<Response, Problem> {
    let tag = etag(document.revision);
    Ok(([tag], Json(answer(document)?)).into_response())
}
