//! Alerts: written down, changed, removed.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use rand::TryRngCore;
use rand::rngs::OsRng;
use reckon_schemas::catalog::Tenant;
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use super::App;
use super::body::Body;
use super::paging::Paging;
use super::params::{Params, PathOf};
use crate::access::{Editor, Viewer};
use crate::alerts::Alert;
use crate::alerts::definition::Definition;
use crate::alerts::rule::Phase;
use crate::alerts::webhook::{origin, secret_from_random};
use crate::problem::Problem;
use crate::records::{Page, page};

#[derive(OpenApi)]
#[openapi(
    paths(list, create, read, change, remove),
    tags((name = "alerts", description = "Numbers that are watched for people"))
)]
pub(super) struct Description;

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/v1/alerts", get(list).post(create))
        .route("/v1/alerts/{id}", get(read).put(change).delete(remove))
}

/// An alert and where it stands.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct AlertAnswer {
    /// Its id.
    id: String,
    /// What was written down. Who may not change it sees of `webhook` only whose it is: a path may open something.
    #[serde(flatten)]
    definition: Definition,
    /// Where it stands.
    phase: Phase,
    /// Since when.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// The number that was seen last; null if there was none.
    number: Option<String>,
    /// When it was looked at last.
    #[schema(value_type = Option<String>, format = DateTime)]
    seen_at: Option<Timestamp>,
    /// Who wrote it down first; absent for who may not change it.
    #[serde(skip_serializing_if = "Option::is_none")]
    created_by: Option<String>,
    /// When it was changed last.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// A new alert.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct NewAlertAnswer {
    /// As it is kept.
    #[serde(flatten)]
    alert: AlertAnswer,
    /// Signs its messages (Standard Webhooks). It is shown only now.
    secret: String,
}

/// The alerts of a tenant.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct AlertList {
    /// A page of them, the oldest first.
    alerts: Vec<AlertAnswer>,
    /// The identifiers of those on this page that this build cannot read, and does not look at. Remove them, and write them
    /// down again.
    unreadable: Vec<String>,
    /// Ask for the next page with `after=` this; null at the end of the list.
    next: Option<String>,
}

impl From<Alert> for AlertAnswer {
    fn from(alert: Alert) -> Self {
        Self {
            id: alert.id,
            definition: alert.definition,
            phase: alert.standing.phase,
            since: alert.standing.since,
            number: alert.number,
            seen_at: alert.standing.seen_at,
            created_by: Some(alert.created_by),
            updated_at: alert.updated_at,
        }
    }
}

impl AlertAnswer {
    /// As whoever asks may see it. A key that only reads may be in the pages of a web site.
    fn seen_by(viewer: &Viewer, alert: Alert) -> Self {
        let whole = Self::from(alert);
        if viewer.is_editor {
            return whole;
        }
        let webhook = whole.definition.webhook.as_deref().map(origin);
        Self { definition: Definition { webhook, ..whole.definition }, created_by: None, ..whole }
    }
}

/// The tenant's alerts, and where each stands.
#[utoipa::path(get, path = "/v1/alerts", tag = "alerts", security(("read_key" = []), ("session" = [])), params(Paging),
    responses(
        (status = 200, description = "A page of them", body = AlertList),
        (status = 400, description = "A parameter cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn list(
    State(app): State<App>,
    viewer: Viewer,
    Params(paging): Params<Paging>,
) -> Result<Json<AlertList>, Problem> {
    let (limit, after) = paging.in_order()?;
    let alerts = app.access.accounts().alerts(viewer.tenant.id.as_str(), &after, limit).await?;
    let Page { items, next } = page(alerts, limit);
    let mut list = AlertList { alerts: Vec::with_capacity(items.len()), unreadable: Vec::new(), next };
    for item in items {
        match item {
            Ok(alert) => list.alerts.push(AlertAnswer::seen_by(&viewer, alert)),
            Err(id) => list.unreadable.push(id),
        }
    }
    Ok(Json(list))
}

/// Writes an alert down. The answer is the only place where its secret is shown.
#[utoipa::path(post, path = "/v1/alerts", tag = "alerts", security(("admin_key" = []), ("session" = [])), request_body = Definition,
    responses(
        (status = 201, description = "It is watched from now on", body = NewAlertAnswer),
        (status = 400, description = "The body cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Needs a person who may read, or a key of an admin", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "There are as many alerts as there may be", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "It cannot be watched", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn create(
    State(app): State<App>,
    Editor(caller): Editor,
    Body(definition): Body<Definition>,
) -> Result<Response, Problem> {
    check(&app, &definition, &caller.tenant)?;
    let mut random = [0_u8; 24];
    OsRng.try_fill_bytes(&mut random).map_err(|_| Problem::internal())?;
    let secret = secret_from_random(random);
    let accounts = app.access.accounts();
    let alert = accounts.create_alert(caller.tenant.id.as_str(), &definition, &secret, &caller.actor).await?;
    let revision = revision_tag(&alert);
    let body = Json(NewAlertAnswer { alert: alert.into(), secret });
    Ok((StatusCode::CREATED, [revision], body).into_response())
}

/// One alert, and where it stands.
#[utoipa::path(get, path = "/v1/alerts/{id}", tag = "alerts", security(("read_key" = []), ("session" = [])),
    params(("id" = String, Path, description = "The alert's id")),
    responses(
        (status = 200, description = "The alert; its revision is in `ETag`", body = AlertAnswer),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such alert", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn read(
    State(app): State<App>,
    viewer: Viewer,
    PathOf(id): PathOf<String>,
) -> Result<Response, Problem> {
    let alert = app.access.accounts().alert(viewer.tenant.id.as_str(), &id).await?;
    let revision = revision_tag(&alert);
    Ok(([revision], Json(AlertAnswer::seen_by(&viewer, alert))).into_response())
}

/// Replaces what was written down. The alert begins anew; its secret stays.
#[utoipa::path(put, path = "/v1/alerts/{id}", tag = "alerts", security(("admin_key" = []), ("session" = [])), request_body = Definition,
    params(
        ("id" = String, Path, description = "The alert's id"),
        ("If-Match" = Option<String>, Header, description = "The revision that was read; refused if there is a newer one"),
    ),
    responses(
        (status = 200, description = "The alert as it is now", body = AlertAnswer),
        (status = 400, description = "The body cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Needs a person who may read, or a key of an admin", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such alert", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "It was changed meanwhile", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "It cannot be watched", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn change(
    State(app): State<App>,
    Editor(caller): Editor,
    PathOf(id): PathOf<String>,
    headers: HeaderMap,
    Body(definition): Body<Definition>,
) -> Result<Response, Problem> {
    check(&app, &definition, &caller.tenant)?;
    let accounts = app.access.accounts();
    let before = accounts.alert(caller.tenant.id.as_str(), &id).await?;
    if headers.get(header::IF_MATCH).is_some_and(|known| known != "*" && *known != revision_tag(&before).1) {
        return Err(crate::accounts::Error::Changed.into());
    }
    let alert = accounts.change_alert(&before, &definition, &caller.actor).await?;
    let revision = revision_tag(&alert);
    Ok(([revision], Json(AlertAnswer::from(alert))).into_response())
}

/// Removes an alert, and messages of it that did not arrive yet.
#[utoipa::path(delete, path = "/v1/alerts/{id}", tag = "alerts", security(("admin_key" = []), ("session" = [])),
    params(("id" = String, Path, description = "The alert's id")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Needs a person who may read, or a key of an admin", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such alert", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn remove(
    State(app): State<App>,
    Editor(caller): Editor,
    PathOf(id): PathOf<String>,
) -> Result<StatusCode, Problem> {
    app.access.accounts().delete_alert(caller.tenant.id.as_str(), &id, &caller.actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether it can be watched: as written, and without reading single events again and again.
fn check(app: &App, definition: &Definition, tenant: &Tenant) -> Result<(), Problem> {
    let question = definition.check(tenant, &app.webhooks)?;
    app.evaluator.watchable(&question, tenant).map(|_| ()).map_err(|_| {
        let detail = "`filter` has a dimension that no rollup has, and single events are not read again and again";
        Problem::invalid_body(detail.to_owned())
    })
}

fn revision_tag(alert: &Alert) -> (header::HeaderName, HeaderValue) {
    let tag = format!("\"{}\"", alert.revision);
    (header::ETAG, HeaderValue::try_from(tag).unwrap_or(HeaderValue::from_static("\"0\"")))
}
