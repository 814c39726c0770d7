//! What alerts told people: page by page, and live.

use std::convert::Infallible;
use std::time::Duration;

use async_stream::stream;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::Stream;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use utoipa::{OpenApi, ToSchema};

use super::App;
use super::params::Params;
use crate::access::watcher::{Admission, Watcher};
use crate::access::{Place, Reader};
use crate::accounts::Accounts;
use crate::alerts::kept::EVENTS_MAX;
use crate::alerts::{Event, TICK};
use crate::problem::Problem;

/// How many events there are on a page that does not say.
const PAGE: i64 = 100;

#[derive(OpenApi)]
#[openapi(paths(events, live))]
pub(super) struct Description;

pub(super) fn router() -> Router<App> {
    Router::new().route("/v1/alert-events", get(events))
}

/// Streams have no time limit.
pub(super) fn live_router() -> Router<App> {
    Router::new().route("/v1/alert-events/live", get(live))
}

/// What a tenant was told.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct EventPage {
    /// The newest first; with `after`, the oldest first.
    events: Vec<Event>,
    /// Give this as `before`, or as `after` if that was given, for the next page; there is none if absent.
    next: Option<String>,
}

/// Which events.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventQuery {
    before: Option<String>,
    after: Option<String>,
    limit: Option<i64>,
}

/// What the tenant was told in the last 90 days.
#[utoipa::path(get, path = "/v1/alert-events", tag = "alerts", security(("read_key" = []), ("session" = [])),
    params(
        ("before" = Option<String>, Query, description = "Only events before the one of this identifier: `next` of the page before"),
        ("after" = Option<String>, Query, description = "Only events after the one of this identifier, the oldest first: for who goes on from the last one seen"),
        ("limit" = Option<i64>, Query, description = "How many events, 1 to 500; 100 by default"),
    ),
    responses(
        (status = 200, description = "A page of it", body = EventPage),
        (status = 400, description = "A parameter cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn events(
    State(app): State<App>,
    Reader(tenant): Reader,
    Params(EventQuery { before, after, limit }): Params<EventQuery>,
) -> Result<Response, Problem> {
    let limit = limit.unwrap_or(PAGE);
    if !(1..=EVENTS_MAX).contains(&limit) {
        return Err(Problem::invalid_parameter("limit", format!("between 1 and {EVENTS_MAX}")));
    }
    let is_id = |text: &str| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    for (name, id) in [("before", &before), ("after", &after)] {
        if id.as_deref().is_some_and(|id| !is_id(id)) {
            return Err(Problem::invalid_parameter(name, "give the `id` of an event, or `next` of the page before"));
        }
    }
    let (accounts, tenant) = (app.access.accounts(), tenant.id.as_str());
    let events = match (before, after) {
        (Some(_), Some(_)) => return Err(Problem::invalid_parameter("before", "give this or `after`, not both")),
        (before, None) => accounts.alert_events_before(tenant, before.as_deref(), limit).await?,
        (None, Some(after)) => accounts.alert_events_after(tenant, &after, limit).await?,
    };
    let is_full = i64::try_from(events.len()) == Ok(limit);
    let next = events.last().filter(|_| is_full).map(|event| event.id.clone());
    Ok(Json(EventPage { events, next }).into_response())
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
    Ok(Sse::new(events).keep_alive(heartbeat).into_response())
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
            let events = accounts.alert_events_after(&tenant, &seen, EVENTS_MAX).await;
            let again_in = match &events {
                // There may be more behind a full page.
                Ok(events) if i64::try_from(events.len()) == Ok(EVENTS_MAX) => Duration::ZERO,
                Ok(_) => Duration::MAX,
                // While the store is away nothing comes, and nothing is missed.
                Err(_) => TICK,
            };
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
                () = tokio::time::sleep(again_in) => {}
            }
        }
    }
}
