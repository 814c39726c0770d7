//! Segment's HTTP tracking API, so that its client libraries work unchanged.
//!
//! As there, nearly every request that can be read is answered with 200, also if an item turns out not to be an event:
//! such items are kept with their reasons and can be asked for. Only what the libraries should send again is an error.

mod message;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{ConnectInfo, Extension, State};
use axum::http::{HeaderMap, Uri};
use reckon_schemas::event::{EventDraft, Rejection, Source};
use reckon_schemas::time::EventTime;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use self::message::{Kind, Message, Outer};
use super::credentials;
use super::enrich::Enricher;
use super::intake::{self, Intake, Item, Origin};
use super::problem::{Problem, ProblemDetails};
use super::trace::TraceContext;

/// Segment's bounds: a request, one event, and the events of a batch.
const BODY_BYTES_MAX: usize = 500 * 1024;
const EVENT_BYTES_MAX: usize = 32 * 1024;
pub(crate) const BATCH_EVENTS_MAX: u32 = 2_500;

/// What Segment's libraries expect to read.
#[derive(Serialize, ToSchema)]
pub(crate) struct Success {
    /// Always true.
    success: bool,
}

/// Segment's `batch`: several messages of any type.
///
/// The outer `context` and `sentAt` hold for every message that has none of its own. At most 2,500 messages, 500 KB
/// together, 32 KB each. Authenticate with the write key as user name, or as `writeKey` in the body.
#[utoipa::path(
    post,
    path = "/v1/batch",
    tag = "segment",
    security(("write_key_as_user" = [])),
    request_body(content = serde_json::Value, example = json!({
        "writeKey": "rk_…", "batch": [{"type": "track", "event": "Signed Up", "userId": "u-7", "messageId": "m-1"}]
    })),
    responses(
        (status = 200, description = "Received; messages that are not events are kept as rejects", body = Success),
        (status = 400, description = "Too large or not JSON", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "The key is not valid", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 429, description = "Over the tenant's quota: come back after Retry-After", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 503, description = "The log is away: come back after Retry-After", body = ProblemDetails, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn post_batch(
    State(intake): State<Arc<Intake>>,
    Extension(trace): Extension<TraceContext>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Success>, Problem> {
    receive(&intake, &trace, peer, &headers, body, Shape::Batch).await
}

/// Segment's calls with one message: `track`, `identify`, `page`, `screen`, `group` and `alias`.
///
/// A track message becomes an event of its own name, the others become events named after their type. `messageId` is
/// the event's id, `userId` (or else `anonymousId`) its user. `properties` (or `traits`) are flattened with dots.
/// `revenue`, in `currency` or else in USD, is its money; `value` is money if there is a `currency`.
///
/// `/v1/identify`, `/v1/page`, `/v1/screen`, `/v1/group` and `/v1/alias` take and answer theirs in the same way.
#[utoipa::path(
    post,
    path = "/v1/track",
    tag = "segment",
    security(("write_key_as_user" = [])),
    request_body(content = serde_json::Value, example = json!({
        "event": "Order Completed", "userId": "u-7", "messageId": "m-1", "timestamp": "2026-01-31T23:59:59.5Z",
        "properties": {"revenue": 12.34, "currency": "EUR"}
    })),
    responses(
        (status = 200, description = "Received; a message that is not an event is kept as a reject", body = Success),
        (status = 400, description = "Too large or not JSON", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "The key is not valid", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 429, description = "Over the tenant's quota: come back after Retry-After", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 503, description = "The log is away: come back after Retry-After", body = ProblemDetails, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn post_message(
    State(intake): State<Arc<Intake>>,
    Extension(trace): Extension<TraceContext>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Success>, Problem> {
    let kind = uri.path().rsplit('/').next().and_then(Kind::parse);
    let kind = kind.ok_or_else(|| Problem::bad_request("unknown type of message"))?;
    receive(&intake, &trace, peer, &headers, body, Shape::One(kind)).await
}

/// What a body is.
#[derive(Clone, Copy)]
enum Shape {
    One(Kind),
    Batch,
}

/// A batch with its messages unread; a single message has the outer fields as its own.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    #[serde(borrow)]
    batch: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    write_key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    context: Option<&'a RawValue>,
    #[serde(borrow)]
    sent_at: Option<&'a RawValue>,
}

async fn receive(
    intake: &Intake,
    trace: &TraceContext,
    peer: SocketAddr,
    headers: &HeaderMap,
    body: Body,
    shape: Shape,
) -> Result<Json<Success>, Problem> {
    let received_at = EventTime::from_timestamp(jiff::Timestamp::now());
    let user = credentials::basic_user(headers);
    // A key in a header is checked before the body is read.
    let tenant = user.as_deref().map(|key| credentials::tenant_of(&intake.doors, Some(key))).transpose()?;
    let limits = intake.limits().of_bytes(BODY_BYTES_MAX);
    let body = intake.body_memory.read(headers, body, limits).await.map_err(Problem::too_large_as_bad_request)?;
    let not_json = |error| Problem::bad_request(format!("the body is not Segment's JSON: {error}"));
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Problem::bad_request("the body is not an object"));
    }
    let envelope: Envelope<'_> = serde_json::from_slice(&body).map_err(not_json)?;
    let tenant = match tenant {
        Some(tenant) => tenant,
        None => credentials::tenant_of(&intake.doors, envelope.write_key.as_deref())?,
    };
    let client = intake.enricher.client(headers, peer);
    let origin = Origin::of(&tenant, Source::Segment, received_at, trace, &client);
    let outer = Outer { context: envelope.context, sent_at: envelope.sent_at, received_at };
    let sorted = match shape {
        Shape::One(_) if body.len() > EVENT_BYTES_MAX => {
            return Err(Problem::bad_request(format!("the message is larger than {EVENT_BYTES_MAX} bytes")));
        }
        Shape::One(kind) => {
            let text = std::str::from_utf8(&body).map_err(|_| Problem::bad_request("the body is not UTF-8"))?;
            intake.admit(&tenant, 1)?;
            let draft = Message::parse(text).and_then(|message| message.draft(Some(kind), &outer, &intake.enricher));
            let raw = without_key(text, envelope.write_key.as_deref());
            intake::sort(std::iter::once(Item { raw: raw.as_bytes(), draft }), &origin, client_name)
        }
        Shape::Batch => {
            let batch = envelope.batch.ok_or_else(|| Problem::bad_request("`batch` is missing"))?;
            if !u32::try_from(batch.len()).is_ok_and(|events| events <= BATCH_EVENTS_MAX) {
                return Err(Problem::bad_request(format!("send at most {BATCH_EVENTS_MAX} events at a time")));
            }
            intake.admit(&tenant, batch.len())?;
            let items = batch.into_iter().map(|raw| Item {
                raw: raw.get().as_bytes(),
                draft: bounded(raw).and_then(|message| message.draft(None, &outer, &intake.enricher)),
            });
            intake::sort(items, &origin, client_name)
        }
    };
    intake.write(&sorted, &origin).await?;
    Ok(Json(Success { success: true }))
}

fn bounded(raw: &RawValue) -> Result<Message<'_>, Rejection> {
    if raw.get().len() > EVENT_BYTES_MAX {
        return Err(Rejection::new("event", format!("is larger than {EVENT_BYTES_MAX} bytes")));
    }
    Message::parse(raw.get())
}

/// An item that stands alone as an event, as far as its format goes: it needs a `type` of its own.
pub(super) fn read(text: &str, received_at: EventTime, enricher: &Enricher) -> Result<EventDraft, Rejection> {
    if text.len() > EVENT_BYTES_MAX {
        return Err(Rejection::new("event", format!("is larger than {EVENT_BYTES_MAX} bytes")));
    }
    Message::parse(text)?.draft(None, &Outer { context: None, sent_at: None, received_at }, enricher)
}

/// Rejects are kept and shown: the key that came in the same body must not be among them.
fn without_key<'a>(text: &'a str, key: Option<&str>) -> Cow<'a, str> {
    match key {
        Some(key) if !key.is_empty() => Cow::Owned(text.replace(key, "…")),
        _ => Cow::Borrowed(text),
    }
}

/// The name that a field of the event has in Segment's API.
pub(super) fn client_name(field: &str) -> &str {
    match field {
        "event_id" => "messageId",
        "name" => "event",
        "user_id" => "userId",
        "occurred_at" => "timestamp",
        other => other,
    }
}
