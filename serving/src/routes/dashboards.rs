//! Dashboards: made, read, changed, removed.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use reckon_schemas::catalog::Tenant;
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use super::App;
use super::body::Body;
use super::paging::Paging;
use super::params::{Params, PathOf};
use super::revision::{etag, matches};
use crate::access::{Editor, Reader};
use crate::accounts::documents::Document;
use crate::boards::dashboard::{DASHBOARDS, Dashboard};
use crate::problem::Problem;
use crate::records::{Page, page};

#[derive(OpenApi)]
#[openapi(
    paths(list, create, read, change, remove),
    tags((name = "boards", description = "What people save to look at again"))
)]
pub(super) struct Description;

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/v1/dashboards", get(list).post(create))
        .route("/v1/dashboards/{id}", get(read).put(change).delete(remove))
}

/// A dashboard and what is known about it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct SavedDashboard {
    /// Its identifier.
    id: String,
    /// Grows with every change; also the `ETag`.
    revision: i64,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// By whom.
    updated_by: String,
    /// What it is.
    #[serde(flatten)]
    dashboard: Dashboard,
}

/// A dashboard in a list, without its charts.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Listed {
    /// Its identifier.
    id: String,
    /// What it is called.
    name: String,
    /// Grows with every change.
    revision: i64,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// By whom.
    updated_by: String,
}

/// The tenant's dashboards.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct DashboardList {
    /// A page of them, by name.
    dashboards: Vec<Listed>,
    /// Ask for the next page with `after=` this; null at the end of the list.
    next: Option<String>,
}

/// The tenant's dashboards, by name.
#[utoipa::path(get, path = "/v1/dashboards", tag = "boards", security(("read_key" = []), ("session" = [])), params(Paging),
    responses(
        (status = 200, description = "A page of them", body = DashboardList),
        (status = 400, description = "A parameter cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Not signed in", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn list(
    State(app): State<App>,
    Reader(tenant): Reader,
    Params(paging): Params<Paging>,
) -> Result<Json<DashboardList>, Problem> {
    let (limit, after) = paging.in_order()?;
    let documents = app.access.accounts().documents(&tenant.id, DASHBOARDS, &after, limit).await?;
    let Page { items, next } = page(documents, limit);
    let listed = |document: Document| {
        let Document { id, name, revision, updated_at, updated_by, .. } = document;
        Listed { id, name, revision, updated_at, updated_by }
    };
    Ok(Json(DashboardList { dashboards: items.into_iter().map(listed).collect(), next }))
}

/// Saves a dashboard. Every chart has to be a question that can be asked.
#[utoipa::path(post, path = "/v1/dashboards", tag = "boards", security(("admin_key" = []), ("session" = [])),
    request_body = Dashboard,
    responses(
        (status = 201, description = "It is saved; `Location` says where", body = SavedDashboard),
        (status = 400, description = "The body is not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Not signed in", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "A key needs the scope admin, a person the scope read", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "There are as many as there may be", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not `application/json`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A chart is not a question that can be asked", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn create(
    State(app): State<App>,
    Editor(caller): Editor,
    Body(dashboard): Body<Dashboard>,
) -> Result<Response, Problem> {
    dashboard.check(has_metric(&app, &caller.tenant))?;
    let (name, body) = dashboard.kept()?;
    let id = uuid::Uuid::now_v7().simple().to_string();
    let accounts = app.access.accounts();
    let document = accounts.add_document(&caller.tenant.id, DASHBOARDS, id, name, body, &caller.actor).await?;
    let location = HeaderValue::from_str(&format!("/v1/dashboards/{}", document.id)).ok();
    let mut response = (StatusCode::CREATED, saved(document, dashboard)).into_response();
    response.headers_mut().extend(location.map(|location| (header::LOCATION, location)));
    Ok(response)
}

/// One dashboard.
#[utoipa::path(get, path = "/v1/dashboards/{id}", tag = "boards", security(("read_key" = []), ("session" = [])),
    params(("id" = String, Path, description = "Its identifier")),
    responses(
        (status = 200, description = "This is it; its version is in the `ETag`", body = SavedDashboard),
        (status = 401, description = "Not signed in", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is none of this name", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn read(
    State(app): State<App>,
    Reader(tenant): Reader,
    PathOf(id): PathOf<String>,
) -> Result<Response, Problem> {
    let document = app.access.accounts().document(&tenant.id, DASHBOARDS, &id).await?;
    let dashboard = Dashboard::read(&document)?;
    Ok(saved(document, dashboard))
}

/// Saves another version in the place of the one that you have read.
#[utoipa::path(put, path = "/v1/dashboards/{id}", tag = "boards", security(("admin_key" = []), ("session" = [])),
    params(
        ("id" = String, Path, description = "Its identifier"),
        ("If-Match" = String, Header, description = "The `ETag` of the version that you have read"),
    ),
    request_body = Dashboard,
    responses(
        (status = 200, description = "It is saved", body = SavedDashboard),
        (status = 400, description = "The body is not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Not signed in", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "A key needs the scope admin, a person the scope read", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is none of this name", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "It was changed meanwhile", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not `application/json`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A chart is not a question that can be asked", body = Problem, content_type = "application/problem+json"),
        (status = 428, description = "`If-Match` is missing", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn change(
    State(app): State<App>,
    Editor(caller): Editor,
    PathOf(id): PathOf<String>,
    headers: HeaderMap,
    Body(dashboard): Body<Dashboard>,
) -> Result<Response, Problem> {
    let accounts = app.access.accounts();
    let read = accounts.document(&caller.tenant.id, DASHBOARDS, &id).await?;
    matches(&headers, read.revision)?;
    dashboard.check(has_metric(&app, &caller.tenant))?;
    let changed = accounts.change_document(&caller.tenant.id, DASHBOARDS, &read, dashboard.kept()?, &caller.actor);
    Ok(saved(changed.await?, dashboard))
}

/// Removes the version that you have read.
#[utoipa::path(delete, path = "/v1/dashboards/{id}", tag = "boards", security(("admin_key" = []), ("session" = [])),
    params(
        ("id" = String, Path, description = "Its identifier"),
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
    let read = accounts.document(&caller.tenant.id, DASHBOARDS, &id).await?;
    matches(&headers, read.revision)?;
    accounts.remove_document(&caller.tenant.id, DASHBOARDS, &read, &caller.actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether the tenant has a metric of a name: in the catalog, or saved.
fn has_metric(app: &App, tenant: &Tenant) -> impl Fn(&str) -> bool {
    let saved = app.access.accounts().metrics().borrow().get(tenant.id.as_str()).cloned().unwrap_or_default();
    move |name| tenant.metric(name).is_some() || saved.contains_key(name)
}

fn saved(document: Document, dashboard: Dashboard) -> Response {
    let Document { id, revision, updated_at, updated_by, .. } = document;
    ([etag(revision)], Json(SavedDashboard { id, revision, updated_at, updated_by, dashboard })).into_response()
}
