//! `POST /v1/events`: one object, an array, or one object a line.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use reckon_schemas::event::{EventDraft, Rejection, Source, limits};
use reckon_schemas::time::EventTime;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::credentials;
use super::intake::{self, Intake, Item, Origin};
use super::problem::{Problem, ProblemDetails};
use super::trace::TraceContext;

/// As much as browsers let a page send while it is being left.
const BEACON_BYTES_MAX: usize = 64 * 1024;

/// The answer to a request whose items were all read: written to the log, or refused one by one.
#[derive(Serialize, ToSchema)]
pub(crate) struct Receipt {
    /// How many items are in the log as events.
    accepted: usize,
    /// The others; they can be asked for later, with their reasons.
    rejected: Vec<RejectedItem>,
}

/// An item that is not an event.
#[derive(Serialize, ToSchema)]
pub(crate) struct RejectedItem {
    /// Its place in the request, from 0.
    index: usize,
    /// The field that is wrong; `event` for the item as a whole.
    field: String,
    /// What is wrong with it.
    reason: String,
}

impl From<(usize, Rejection)> for RejectedItem {
    fn from((index, Rejection { field, reason }): (usize, Rejection)) -> Self {
        Self { index, field, reason }
    }
}

/// Send events.
///
/// The body is one event, an array of events, or one event a line (`application/x-ndjson`), plain or compressed with
/// gzip or zstd. A body `{"write_key": …, "events": […]}` of at most 64 KB, with any content type, needs no header: that
/// is what `navigator.sendBeacon` can send. The answer comes after the log's acknowledgement: what is accepted is never lost. Sending the same
/// request again is safe, since an `event_id` is counted once.
#[utoipa::path(
    post,
    path = "/v1/events",
    tag = "collect",
    security(("write_key" = [])),
    request_body(
        description = "`event_id`, `name` and `occurred_at` (RFC 3339) are required. Amounts are decimal strings or \
                       numbers, taken digit by digit. Properties are texts, numbers or booleans.",
        content(
            (serde_json::Value = "application/json", example = json!({
                "event_id": "order-1001", "name": "purchase", "occurred_at": "2026-01-31T23:59:59.5Z",
                "user_id": "u-7", "money": {"amount": "12.34", "currency": "EUR"}, "properties": {"store": "330"}
            })),
            (String = "application/x-ndjson")
        )
    ),
    responses(
        (status = 202, description = "Every item is in the log, as an event or as a reject", body = Receipt),
        (status = 400, description = "The body cannot be read; nothing was accepted", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "The key is not valid", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "The key may not write", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 413, description = "Too many bytes or events", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 415, description = "Unknown Content-Encoding", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 429, description = "Over the tenant's quota: come back after Retry-After", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 503, description = "The log is away: send the same request again after Retry-After", body = ProblemDetails, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn post_events(
    State(intake): State<Arc<Intake>>,
    Extension(trace): Extension<TraceContext>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let received_at = EventTime::from_timestamp(jiff::Timestamp::now());
    let by_header = credentials::bearer_key(&headers);
    let by_header = by_header.map(|key| credentials::tenant_of(&intake.doors, Some(key))).transpose()?;
    // Nobody has to be let in for reading a body without a key, so it is not much of one.
    let limits = intake.limits();
    let limits = if by_header.is_some() { limits } else { limits.of_bytes(BEACON_BYTES_MAX) };
    let body: Bytes = intake.body_memory.read(&headers, body, limits).await?;
    let events_max = intake.tuning.events_per_request_max;
    let (tenant, items) = match by_header {
        Some(tenant) => (tenant, split(&body, is_ndjson(&headers), events_max)?),
        None => {
            let beacon = Beacon::parse(&body)?;
            (credentials::tenant_of(&intake.doors, Some(&beacon.write_key))?, beacon.items(events_max)?)
        }
    };
    let client = intake.enricher.client(&headers, peer);
    let origin = Origin::of(&tenant, Source::Native, received_at, &trace, &client);
    intake.admit(&tenant, items.len())?;
    let sorted = intake::sort(items.into_iter().map(|raw| Item { raw, draft: read(raw) }), &origin, |name| name);
    // While the log is waited for, the request takes no more memory than its receipt.
    drop(body);
    intake.write(&sorted, &origin).await?;
    let rejected = sorted.rejected.into_iter().map(RejectedItem::from).collect();
    Ok((StatusCode::ACCEPTED, Json(Receipt { accepted: sorted.accepted, rejected })).into_response())
}

/// What a page sends while it is being left: `navigator.sendBeacon` can set no headers, so the key is in the body.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Beacon<'a> {
    #[serde(borrow)]
    write_key: Cow<'a, str>,
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
}

impl<'a> Beacon<'a> {
    fn parse(body: &'a [u8]) -> Result<Self, Problem> {
        serde_json::from_slice(body).map_err(|_| Problem::unauthorized("send a write key"))
    }

    fn items(&self, events_max: u32) -> Result<Vec<&'a [u8]>, Problem> {
        bounded(self.events.iter().map(|item| item.get().as_bytes()).collect(), events_max)
    }
}

fn is_ndjson(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    ["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"]
        .iter()
        .any(|ndjson| media_type.eq_ignore_ascii_case(ndjson))
}

/// The items of a body, unread. Lines stand on their own, so that a broken one is an item that is rejected; an array
/// must be readable as a whole.
fn split(body: &[u8], ndjson: bool, events_max: u32) -> Result<Vec<&[u8]>, Problem> {
    let trimmed = body.trim_ascii();
    let items = match trimmed.first() {
        None => return Err(Problem::bad_request("the body is empty")),
        Some(_) if ndjson => lines(trimmed),
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_slice(trimmed).map_err(|error| unreadable(&error))?;
            items.into_iter().map(|item| item.get().as_bytes()).collect()
        }
        Some(b'{') => match serde_json::from_slice::<&RawValue>(trimmed) {
            Ok(item) => vec![item.get().as_bytes()],
            Err(error) => several_lines(trimmed).ok_or_else(|| unreadable(&error))?,
        },
        Some(_) => return Err(Problem::bad_request("the body is neither an object, nor an array, nor NDJSON")),
    };
    bounded(items, events_max)
}

fn bounded(items: Vec<&[u8]>, events_max: u32) -> Result<Vec<&[u8]>, Problem> {
    if u32::try_from(items.len()).is_ok_and(|events| events <= events_max) {
        Ok(items)
    } else {
        Err(Problem::too_large(format!("send at most {events_max} events at a time")))
    }
}

fn lines(body: &[u8]) -> Vec<&[u8]> {
    body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()).collect()
}

/// The lines of a body that does not say that it is NDJSON: it is if its first line is a whole object.
fn several_lines(body: &[u8]) -> Option<Vec<&[u8]>> {
    let lines = lines(body);
    let first_is_whole = lines.len() > 1 && serde_json::from_slice::<&RawValue>(lines[0]).is_ok();
    first_is_whole.then_some(lines)
}

fn unreadable(error: &serde_json::Error) -> Problem {
    Problem::bad_request(format!("the body is not JSON: {error}"))
}

/// An item of this door as an event, as far as its format goes.
pub(super) fn read(item: &[u8]) -> Result<EventDraft, Rejection> {
    // More than this cannot become a message, so it is not worth reading.
    if item.len() > limits::MESSAGE_BYTES_MAX {
        return Err(Rejection::new("event", format!("is larger than {} bytes", limits::MESSAGE_BYTES_MAX)));
    }
    let text = std::str::from_utf8(item).map_err(|_| Rejection::new("event", "is not UTF-8"))?;
    // A list of the fields' values in order is an object to the JSON reader, but not to the format.
    if text.starts_with('[') {
        return Err(Rejection::new("event", "is not an object"));
    }
    EventDraft::from_native(text)
}

#[cfg(test)]
mod tests {
    use super::super::intake::tests::sort_for_test;
    use super::*;

    const GOOD: &str = r#"{"event_id":"1","name":"n","occurred_at":"2026-01-01T00:00:00Z"}"#;

    fn counts(body: &[u8], ndjson: bool) -> Result<(usize, usize), StatusCode> {
        let items = split(body, ndjson, 10).map_err(|problem| problem.status())?;
        let sorted = sort_for_test(items.into_iter().map(|raw| Item { raw, draft: read(raw) }), |name| name);
        Ok((sorted.accepted, sorted.rejected.len()))
    }

    #[test]
    fn all_three_shapes_are_split() {
        assert_eq!(counts(GOOD.as_bytes(), false), Ok((1, 0)));
        assert_eq!(counts(format!(" [{GOOD} , {GOOD}]\n").as_bytes(), false), Ok((2, 0)));
        assert_eq!(counts(b"[]", false), Ok((0, 0)));
        for ndjson in [false, true] {
            assert_eq!(counts(format!("{GOOD}\r\n\n{GOOD}\n").as_bytes(), ndjson), Ok((2, 0)));
        }
    }

    #[test]
    fn a_beacon_brings_its_key_along() {
        let body = format!(r#"{{"write_key":"rk_1_2","events":[{GOOD},7]}}"#);
        let beacon = Beacon::parse(body.as_bytes()).expect("readable");
        assert_eq!((&*beacon.write_key, beacon.items(2).map(|items| items.len())), ("rk_1_2", Ok(2)));
        assert_eq!(beacon.items(1).map_err(|problem| problem.status()), Err(StatusCode::PAYLOAD_TOO_LARGE));
        for body in ["", GOOD, "[]", r#"{"write_key":"x"}"#, r#"{"write_key":"x","events":[],"more":1}"#] {
            let refused = Beacon::parse(body.as_bytes()).map(|_| ()).map_err(|problem| problem.status());
            assert_eq!(refused, Err(StatusCode::UNAUTHORIZED), "{body}");
        }
    }

    #[test]
    fn a_broken_line_is_one_reject() {
        let deep = "[".repeat(10_000);
        for broken in [
            "{\"event_id\":\"1",
            "{\"event_id\":\"\0\"}",
            "7",
            "null",
            &deep,
            "[\"1\",\"n\",\"2026-01-01T00:00:00Z\",null,null,null]",
        ] {
            assert_eq!(counts(format!("{GOOD}\n{broken}\n{GOOD}").as_bytes(), true), Ok((2, 1)), "{broken:.40}");
        }
        let mut invalid = format!("{GOOD}\n").into_bytes();
        invalid.extend_from_slice(b"{\"event_id\":\"\xff\xfe\"}");
        assert_eq!(counts(&invalid, true), Ok((1, 1)));
        assert_eq!(counts(&invalid, false), Ok((1, 1)), "recognised by its first line");
    }

    #[test]
    fn nesting_is_no_danger() {
        let (open, close) = ("[".repeat(10_000), "]".repeat(10_000));
        let nested = format!(
            r#"{{"event_id":"1","name":"n","occurred_at":"2026-01-01T00:00:00Z","properties":{{"a":{open}{close}}}}}"#
        );
        assert_eq!(counts(format!("[{nested},{GOOD},{open}{close}]").as_bytes(), false), Ok((1, 2)));
    }

    #[test]
    fn unreadable_bodies_are_refused_as_a_whole() {
        let truncated = format!("[{GOOD},{{\"event_id\"");
        let open = "[".repeat(10_000);
        for body in ["", "  \n", "{", &GOOD[..20], &truncated, &open, "\"text\"", "7", "NaN"] {
            assert_eq!(counts(body.as_bytes(), false), Err(StatusCode::BAD_REQUEST), "{body:.40}");
        }
        assert_eq!(counts(b"[\"\xff\"]", false), Err(StatusCode::BAD_REQUEST));
        let many = format!("[{}]", [GOOD; 11].join(","));
        assert_eq!(counts(many.as_bytes(), false), Err(StatusCode::PAYLOAD_TOO_LARGE));
    }
}
