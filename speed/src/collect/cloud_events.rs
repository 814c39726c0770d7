//! `POST /v1/cloudevents`: CloudEvents over HTTP 1.0.2, in all three content modes, so that the project's own libraries
//! and usage meters work unchanged.

mod binary;
mod message;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{ConnectInfo, Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use reckon_schemas::event::{Rejection, Source, limits};
use reckon_schemas::time::EventTime;
use serde::Serialize;
use serde_json::value::RawValue;

use self::message::Message;
use super::credentials;
use super::intake::{self, Intake, Item, Origin};
use super::native::RejectedItem;
use super::problem::{Problem, ProblemDetails};
use super::trace::TraceContext;

/// The answer to a request of which some items are not events. The others are in the log.
#[derive(Serialize)]
pub(crate) struct PartlyRejected {
    #[serde(flatten)]
    problem: ProblemDetails,
    /// How many items are in the log as events.
    accepted: usize,
    /// The others; they are kept, and can be asked for later, with their reasons.
    rejected: Vec<RejectedItem>,
}

/// Send CloudEvents.
///
/// The content type says how: `application/cloudevents-batch+json` is an array of events,
/// `application/cloudevents+json` one event, anything else is the data of one event whose attributes are in `ce-`
/// headers. `source` and `id` together are the event's id, `type` is its name, `subject` its user, `time` (the time of
/// receipt if it is missing) when it happened. `data` is flattened with dots into properties, extension attributes
/// become properties named `ce.…`, and `revenue` or `value` with a `currency` in `data` is the event's money.
#[utoipa::path(
    post,
    path = "/v1/cloudevents",
    tag = "cloudevents",
    security(("write_key" = [])),
    request_body(
        description = "One event, an array of events, or the data of one event",
        content(
            (serde_json::Value = "application/cloudevents+json", example = json!({
                "specversion": "1.0", "id": "order-1001", "source": "shop", "type": "purchase", "subject": "u-7",
                "time": "2026-01-31T23:59:59.5Z", "data": {"revenue": "12.34", "currency": "EUR", "store": "330"}
            })),
            (Vec<serde_json::Value> = "application/cloudevents-batch+json")
        )
    ),
    responses(
        (status = 204, description = "Every item is in the log"),
        (status = 400, description = "The body cannot be read and nothing was accepted; or, with the further members `accepted` (how many) and `rejected` (`index`, `field` and `reason` of each), those items are not events and all others are in the log", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "The key is not valid", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "The key may not write", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 413, description = "Too many bytes or events", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 415, description = "Unknown Content-Encoding", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 429, description = "Over the tenant's quota: come back after Retry-After", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 503, description = "The log is away: send the same request again after Retry-After", body = ProblemDetails, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn post_cloud_events(
    State(intake): State<Arc<Intake>>,
    Extension(trace): Extension<TraceContext>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let received_at = EventTime::from_timestamp(jiff::Timestamp::now());
    let tenant = credentials::tenant_of(&intake.doors, credentials::bearer_key(&headers))?;
    let body = intake.body_memory.read(&headers, body, intake.limits()).await?;
    let client = intake.enricher.client(&headers, peer);
    let origin = Origin::of(&tenant, Source::CloudEvents, received_at, &trace, &client);
    let sorted = {
        let items = items(&headers, &body, intake.tuning.events_per_request_max)?;
        intake.admit(&tenant, items.len())?;
        let items = items.iter().map(|text| Item { raw: text.as_bytes(), draft: read(text, received_at) });
        intake::sort(items, &origin, attribute_of)
    };
    drop(body);
    intake.write(&sorted, &origin).await?;
    if sorted.rejected.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let detail = "the items under `rejected` are not events; all others are in the log, sending them again is safe";
    let problem = Problem::bad_request(detail).details();
    let rejected = sorted.rejected.into_iter().map(RejectedItem::from).collect();
    let body = Json(PartlyRejected { problem, accepted: sorted.accepted, rejected });
    Ok((StatusCode::BAD_REQUEST, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response())
}

/// The events of a request, each as the JSON text of one event, unread.
fn items<'a>(headers: &HeaderMap, body: &'a [u8], events_max: u32) -> Result<Vec<Cow<'a, str>>, Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.to_ascii_lowercase();
    let not_json = |error| Problem::bad_request(format!("the body is not JSON: {error}"));
    // The one name begins with the other, so the longer one is asked for first.
    if kind.starts_with("application/cloudevents-batch") {
        let items: Vec<&RawValue> = serde_json::from_slice(body).map_err(not_json)?;
        if !u32::try_from(items.len()).is_ok_and(|events| events <= events_max) {
            return Err(Problem::too_large(format!("send at most {events_max} events at a time")));
        }
        Ok(items.into_iter().map(|item| Cow::Borrowed(item.get())).collect())
    } else if kind.starts_with("application/cloudevents") {
        let item: &RawValue = serde_json::from_slice(body).map_err(not_json)?;
        Ok(vec![Cow::Borrowed(item.get())])
    } else {
        Ok(vec![Cow::Owned(binary::structured(headers, body)?)])
    }
}

pub(super) fn read(text: &str, received_at: EventTime) -> Result<reckon_schemas::event::EventDraft, Rejection> {
    if text.len() > limits::MESSAGE_BYTES_MAX {
        return Err(Rejection::new("event", format!("is larger than {} bytes", limits::MESSAGE_BYTES_MAX)));
    }
    Message::parse(text)?.draft(received_at)
}

/// The attribute that a field of the event comes from.
pub(super) fn attribute_of(field: &str) -> &str {
    match field {
        "event_id" => "id",
        "name" => "type",
        "user_id" => "subject",
        "occurred_at" => "time",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(kind: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, kind.parse().expect("a header value"))])
    }

    #[test]
    fn the_content_type_says_how_events_are_written() {
        let count = |kind: &str, body: &str| items(&headers(kind), body.as_bytes(), 2).map(|items| items.len());
        assert_eq!(count("application/cloudevents-batch+json; charset=UTF-8", "[{},{}]"), Ok(2));
        assert_eq!(count("Application/CloudEvents+JSON", "{}"), Ok(1));
        let too_many = count("application/cloudevents-batch+json", "[{},{},{}]").expect_err("three");
        assert_eq!(too_many.status(), StatusCode::PAYLOAD_TOO_LARGE);
        for (kind, body) in
            [("application/cloudevents-batch+json", "{}"), ("application/cloudevents+json", "{"), ("text/plain", "x")]
        {
            let refused = count(kind, body).expect_err(kind);
            assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{kind}");
        }
    }
}
