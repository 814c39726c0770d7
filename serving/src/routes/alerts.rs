//! Alerts: written down, changed, removed; and what they told, live.

use std::convert::Infallible;
use std::time::Duration;

use async_stream::stream;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::Stream;
use jiff::Timestamp;
use rand::TryRngCore;
use rand::rngs::OsRng;
use reckon_schemas::catalog::Tenant;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use utoipa::{IntoParams, OpenApi, ToSchema};

use super::App;
use super::body::Body;
use super::params::{Params, PathOf};
use crate::access::watcher::{Admission, Watcher};
use crate::access::{Editor, Place, Reader};
use crate::accounts::Accounts;
use crate::alerts::definition::Definition;
use crate::alerts::kept::EVENTS_MAX;
use crate::alerts::rule::Phase;
use crate::alerts::webhook::secret_from_random;
use crate::alerts::{Alert, Event, TICK};
use crate::problem::Problem;

#[derive(OpenApi)]
#[openapi(
    paths(list, create, read, change, remove, events, live),
    tags((name = "alerts", description = "Numbers that are watched for people"))
)]
pub(super) struct Description;

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/v1/alerts", get(list).post(create))
        .route("/v1/alerts/{id}", get(read).put(change).delete(remove))
        .route("/v1/alert-events", get(events))
}

/// Streams have no time limit.
pub(super) fn live_router() -> Router<App> {
    Router::new().route("/v1/alert-events/live", get(live))
}

/// An alert and where it stands.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct AlertAnswer {
    /// Its id.
    id: String,
    /// What was written down.
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
    /// Who wrote it down first.
    created_by: String,
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

/// All alerts of a tenant.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct AlertList {
    /// The oldest first.
    alerts: Vec<AlertAnswer>,
}

/// What a tenant was told.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct EventList {
    /// The oldest first.
    events: Vec<Event>,
}

/// Which events.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventQuery {
    /// Those after the event of this id; all that are kept without it.
    after: Option<String>,
    /// How many, 1 to 500; 100 by default.
    limit: Option<i64>,
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
            created_by: alert.created_by,
            updated_at: alert.updated_at,
        }
    }
}

/// The tenant's alerts, and where each stands.
#[utoipa::path(get, path = "/v1/alerts", tag = "alerts", security(("read_key" = []), ("session" = [])),
    responses(
        (status = 200, description = "They are these", body = AlertList),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn list(State(app): State<App>, reader: Reader) -> Result<Json<AlertList>, Problem> {
    let alerts = app.access.accounts().alerts(reader.0.id.as_str()).await?;
    Ok(Json(AlertList { alerts: alerts.into_iter().map(AlertAnswer::from).collect() }))
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
    Ok((StatusCode::CREATED, [revision, NO_STORE], body).into_response())
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
    reader: Reader,
    PathOf(id): PathOf<String>,
) -> Result<Response, Problem> {
    let alert = app.access.accounts().alert(reader.0.id.as_str(), &id).await?;
    let revision = revision_tag(&alert);
    Ok(([revision, NO_STORE], Json(AlertAnswer::from(alert))).into_response())
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
    Ok(([revision, NO_STORE], Json(AlertAnswer::from(alert))).into_response())
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

/// What the tenant was told in the last 90 days, the oldest first.
#[utoipa::path(get, path = "/v1/alert-events", tag = "alerts", security(("read_key" = []), ("session" = [])), params(EventQuery),
    responses(
        (status = 200, description = "Events", body = EventList),
        (status = 400, description = "A parameter cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn events(
    State(app): State<App>,
    reader: Reader,
    Params(EventQuery { after, limit }): Params<EventQuery>,
) -> Result<Json<EventList>, Problem> {
    let limit = limit.unwrap_or(100);
    if !(1..=EVENTS_MAX).contains(&limit) {
        return Err(Problem::invalid_parameter("limit", format!("between 1 and {EVENTS_MAX}")));
    }
    let after = after.unwrap_or_default();
    Ok(Json(EventList { events: app.access.accounts().alert_events(reader.0.id.as_str(), &after, limit).await? }))
}

/// The same, as it happens: server-sent events `alert`, whose `id` is the event's, with heartbeat comments.
#[utoipa::path(get, path = "/v1/alert-events/live", tag = "alerts", security(("read_key" = []), ("session" = [])),
    params(("Last-Event-ID" = Option<String>, Header, description = "The last event seen; without it only what is new comes")),
    responses(
        (status = 200, description = "The stream", body = Event, content_type = "text/event-stream"),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Too many live clients; see Retry-After", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn live(State(app): State<App>, watcher: Watcher, headers: HeaderMap) -> Result<Response, Problem> {
    let Watcher { tenant, admission } = watcher;
    let place = app.access.allowance(&tenant.id).take_place(TICK)?;
    let accounts = app.access.accounts().clone();
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let seen = match seen {
        Some(seen) => seen,
        None => accounts.newest_alert_event(tenant.id.as_str()).await?,
    };
    let events = told(
        accounts,
        tenant.id.to_string(),
        seen,
        app.newest_alert_event.clone(),
        (place, admission),
        app.shutdown.clone(),
    );
    let heartbeat = KeepAlive::new().interval(app.tuning.heartbeat);
    Ok((NO_STORE_HEADERS, Sse::new(events).keep_alive(heartbeat)).into_response())
}

/// New events, until shutdown or until who watches may not any more. `newest` tells when there is something new.
fn told(
    accounts: Accounts,
    tenant: String,
    mut seen: String,
    mut newest: watch::Receiver<String>,
    (place, admission): (Place, Admission),
    shutdown: CancellationToken,
) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    stream! {
        let _place = place;
        let mut ended = std::pin::pin!(admission.ended());
        loop {
            // What comes while the store is asked is asked for next.
            newest.mark_unchanged();
            let events = accounts.alert_events(&tenant, &seen, EVENTS_MAX).await;
            // While the store is away nothing comes, and nothing is missed.
            let retry = if events.is_err() { TICK } else { Duration::MAX };
            for event in events.unwrap_or_default() {
                seen.clone_from(&event.id);
                if let Ok(sent) = sse::Event::default().event("alert").id(&event.id).json_data(&event) {
                    yield Ok(sent);
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                problem = &mut ended => {
                    if let Ok(sent) = sse::Event::default().event("problem").json_data(&problem) {
                        yield Ok(sent);
                    }
                    return;
                }
                changed = newest.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(retry) => {}
            }
        }
    }
}

/// Whether it can be watched: as written, and without reading single events again and again.
fn check(app: &App, definition: &Definition, tenant: &Tenant) -> Result<(), Problem> {
    let question = definition.check(tenant, &app.webhooks)?;
    if app.evaluator.reads_events(&question, tenant) {
        let detail = "`filter` has a dimension that no rollup has, and single events are not read again and again";
        return Err(Problem::invalid_body(detail.to_owned()));
    }
    Ok(())
}

const NO_STORE: (header::HeaderName, HeaderValue) = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
const NO_STORE_HEADERS: [(header::HeaderName, HeaderValue); 1] = [NO_STORE];

fn revision_tag(alert: &Alert) -> (header::HeaderName, HeaderValue) {
    let tag = format!("\"{}\"", alert.revision);
    (header::ETAG, HeaderValue::try_from(tag).unwrap_or(HeaderValue::from_static("\"0\"")))
}
