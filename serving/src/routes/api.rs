//! One question: answered once, or again and again.

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{self, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use jiff::Timestamp;

use super::params::{Pairs, Params};
use super::questions::say;
use super::{App, accept};
use crate::access::Reader;
use crate::access::watcher::Watcher;
use crate::answer::Answer;
use crate::live::change::{LiveMessage, Position};
use crate::live::websocket::{self, Host};
use crate::problem::Problem;
use crate::query::params::Query;
use crate::query::question::Question;
use crate::server::Place;

/// Answers a question about one metric.
///
/// Each window of the range is answered by exactly one layer: batch up to the horizon, speed after it. At most 10,000
/// windows, 100 groups (the largest) and 100,000 points by default.
///
/// A dimension that no rollup has is a property of the events, or `user_id`: then single events are read, those of the
/// last days in ClickHouse and older ones in the lake, for at most 90 days and within limits on rows, memory and time.
/// `coverage` says so (`raw`, `lake`), and whether the numbers are as settled as the days are.
///
/// Two kinds of metrics are answered by the speed layer alone, and stay provisional. `active_users` is the number of
/// distinct users of the last five minutes, up to this second: it takes no range, dimensions or filters. `top` has the
/// most frequent values of its property as groups, the most frequent first, of windows of `5m`, `1h` or `1d` (at most
/// 100 by default); `total` is how often any value occurred. `method`, `error_bound`, `as_of` and `speed_lag_ms` say
/// how good and how fresh they are.
///
/// An answer may be a kept one: of a range that is settled until a settlement changes it, of one that is over for a minute
/// (five, if it was over an hour ago), of one that is not over for a second. `computed_at` and `age_ms` say how old it is.
/// While a store is away the last good answer is given, and `stale` says so; so it does if the speed layer is behind.
#[utoipa::path(get, path = "/v1/query", tag = "read", security(("read_key" = [])),
    params(
        ("metric" = String, Query, description = "A metric of the catalog"),
        ("from" = Option<String>, Query, description = "The first instant: RFC 3339, or a date, which means its first instant in the tenant's zone. 24 hours before `to` by default, 5 minutes for `1s`; widened to whole windows"),
        ("to" = Option<String>, Query, description = "The first instant after the range, written likewise; now by default"),
        ("grain" = Option<String>, Query, description = "`1s`, `1m`, `5m`, `1h` (the default) or `1d`, the calendar day in the tenant's zone. Seconds are kept for ten minutes only, and never settled"),
        ("by" = Option<String>, Query, description = "Dimensions to group by, separated by commas: those of a rollup, or any property, or `user_id`"),
        ("filter" = Option<Vec<String>>, Query, description = "`dimension:value`, as often as needed: values of one dimension are alternatives, dimensions have to hold all"),
        ("not" = Option<Vec<String>>, Query, description = "`dimension:value` that it must not be, as often as needed"),
        ("prefix" = Option<Vec<String>>, Query, description = "`dimension:beginning` of the value, as often as needed: alternatives"),
        ("metric_text" = Option<String>, Query, description = "Instead of `metric` a text such as `sum(money.USD) / count(*) where event = 'purchase'`, see POST"),
        ("limit" = Option<usize>, Query, description = "The most groups to name, the largest; the others are answered as `other`"),
        ("page" = Option<usize>, Query, description = "Answer only so many windows, and say in `next` how to go on; see POST"),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before, instead of `from` and `to`"),
        ("compare" = Option<String>, Query, description = "`previous` for the range of the same length before this one, or how much earlier: `7d`, `1mo`, `1y`, `36h`. Days and months are those of the calendar in the tenant's zone; the earlier range has to be made of whole windows"),
        ("exact" = Option<bool>, Query, description = "`true`: distinct users are counted from the lake's single events, exactly, over any range of up to a year"),
    ),
    responses(
        (status = 200, description = "The answer", content(
            (Answer = "application/json"), (String = "text/csv"), (Vec<u8> = "application/vnd.apache.arrow.stream"))),
        (status = 406, description = "There is no such form", body = Problem, content_type = "application/problem+json"),
        (status = 400, description = "A parameter cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such metric", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "No rollup has these dimensions, or the answer would be too large", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Over quota; see Retry-After", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The store of settled numbers is away, and there is no last good answer; see Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn query(
    State(app): State<App>,
    reader: Reader,
    headers: HeaderMap,
    Params(given): Params<Pairs>,
) -> Result<Response, Problem> {
    let form = accept::form(&headers, accept::FORMS)?;
    let question = Question::parse(&given)?;
    say(form, &app.answers.answer(&question, &reader.0, Timestamp::now()).await?, &question)
}

/// The same question, answered again whenever its answer changes.
///
/// Server-sent events `snapshot` and `change`, each with its position as its `id`, and heartbeat comments every
/// 15 seconds. Where nothing moves, a change every 5 seconds says how fresh the numbers are. A question that no rollup answers
/// reads single events every 10 seconds, of the last days only. `Last-Event-ID` resumes, on
/// every node. An event `problem` says why the stream ends.
#[utoipa::path(get, path = "/v1/live", tag = "read", security(("read_key" = [])),
    params(
        ("metric" = String, Query, description = "As for /v1/query, like all other parameters"),
        ("from" = Option<String>, Query, description = "As for /v1/query"),
        ("to" = Option<String>, Query, description = "As for /v1/query; without it the range moves on with the time"),
        ("grain" = Option<String>, Query, description = "As for /v1/query"),
        ("by" = Option<String>, Query, description = "As for /v1/query"),
        ("filter" = Option<Vec<String>>, Query, description = "As for /v1/query, like `not` and `prefix`"),
        ("metric_text" = Option<String>, Query, description = "As for /v1/query"),
        ("limit" = Option<usize>, Query, description = "As for /v1/query"),
        ("Last-Event-ID" = Option<String>, Header, description = "The `position` of the last message seen: what came after it is sent, or a snapshot"),
    ),
    responses(
        (status = 200, description = "The stream", body = LiveMessage, content_type = "text/event-stream"),
        (status = 400, description = "A parameter cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such metric", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "It reads the lake, or the answer would be too large", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Too many live clients or questions; see Retry-After", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The store of settled numbers is away; see Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn live(
    State(app): State<App>,
    watcher: Watcher,
    headers: HeaderMap,
    Params(given): Params<Pairs>,
) -> Result<Response, Problem> {
    let query = Query::parse(&given)?;
    let seen = headers.get("last-event-id").and_then(|id| Position::parse(id.to_str().ok()?));
    let place = app.hub.take_place(&watcher.tenant)?;
    let mut subscription = app.hub.subscribe(query, &watcher.tenant)?;
    subscription.ready().await?;
    Ok(subscription.into_sse(seen, place, watcher.admission, app.shutdown.clone()))
}

/// The same over a WebSocket, several questions on one connection.
///
/// Messages are JSON. A client without a key in its request (browsers cannot send one) says
/// `{"type":"auth","key":"…"}` first. `{"type":"subscribe","id":"a","query":"metric=revenue&grain=1h","resume":"…"}` begins a
/// question: `query` as for /v1/live, `resume` is the `position` of the last message seen, if any. Its messages come as
/// `{"type":"message","id":"a","message":{…}}`. `{"type":"unsubscribe","id":"a"}` ends it. `problem` says what was
/// refused, `heartbeat` comes every 15 seconds. A connection takes one of the places for live clients, a question costs
/// one query.
#[utoipa::path(get, path = "/v1/live/ws", tag = "read", security((), ("read_key" = [])),
    responses(
        (status = 101, description = "The conversation begins"),
        (status = 400, description = "This is no WebSocket handshake", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn live_ws(
    State(app): State<App>,
    place: Option<extract::Extension<Place>>,
    headers: HeaderMap,
    watcher: Result<Watcher, Problem>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|rejection| Problem::unreadable_message(rejection.body_text()))?;
    // What a browser sends by itself proves nothing about the page that opens the connection: it has to say its key.
    let watcher = if headers.contains_key(header::AUTHORIZATION) { Some(watcher?) } else { None };
    let App { access, hub, tuning, shutdown, .. } = app;
    let host = Host { access, hub, tuning, shutdown };
    let upgrade = upgrade
        .read_buffer_size(websocket::READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(websocket::MESSAGE_BYTES_MAX)
        .max_frame_size(websocket::MESSAGE_BYTES_MAX);
    Ok(upgrade.on_upgrade(async move |socket| {
        websocket::converse(socket, host, watcher).await;
        drop(place);
    }))
}
