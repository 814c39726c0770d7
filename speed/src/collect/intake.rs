//! The way that all doors share: from items of a request to acknowledged messages of the log.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use reckon_schemas::event::{EVENT_VERSION, EventDraft, Rejected, Rejection, Source, limits};
use reckon_schemas::ids::TenantId;
use reckon_schemas::kafka::message_key;
use reckon_schemas::time::EventTime;

use super::Tuning;
use super::body::{BodyLimits, BodyMemory};
use super::credentials::Doors;
use super::enrich::{Client, Enricher};
use super::problem::Problem;
use super::producer::{EventLog, Record, Topic, Unwritten};
use super::quota::Quotas;
use super::trace::TraceContext;

/// When a client comes back after the log was away or its queue full.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// A rejection is cut to these lengths: a client's own text must not make it larger than a message may be.
const FIELD_CHARS_MAX: usize = 128;
const REASON_CHARS_MAX: usize = 512;

/// Everything that requests share.
pub(crate) struct Intake {
    pub(crate) doors: Doors,
    pub(crate) enricher: Enricher,
    pub(crate) tuning: Tuning,
    pub(crate) body_memory: BodyMemory,
    log: Arc<EventLog>,
    quotas: Quotas,
}

/// What all items of a request have in common.
pub(crate) struct Origin<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) source: Source,
    pub(crate) received_at: EventTime,
    pub(crate) traceparent: &'a str,
    pub(crate) client: &'a Client,
}

impl<'a> Origin<'a> {
    pub(crate) fn of(
        tenant: &'a TenantId,
        source: Source,
        received_at: EventTime,
        trace: &'a TraceContext,
        client: &'a Client,
    ) -> Self {
        Self { tenant, source, received_at, traceparent: trace.traceparent(), client }
    }
}

/// One item: its text as it came, and what it was read as.
pub(crate) struct Item<'a> {
    pub(crate) raw: &'a [u8],
    pub(crate) draft: Result<EventDraft, Rejection>,
}

/// What becomes of a request's items once they are written.
#[derive(Debug, Default)]
pub(crate) struct Sorted {
    /// How many are events.
    pub(crate) accepted: usize,
    /// The others: their places, from 0, and what is wrong with them.
    pub(crate) rejected: Vec<(usize, Rejection)>,
    records: Vec<Record>,
}

impl Sorted {
    /// The messages, rejects included.
    pub(crate) fn records(&self) -> &[Record] {
        &self.records
    }
}

impl Intake {
    pub(crate) fn new(doors: Doors, quotas: Quotas, log: Arc<EventLog>, enricher: Enricher, tuning: Tuning) -> Self {
        let body_memory = BodyMemory::new(tuning.body_memory_bytes_max);
        Self { doors, enricher, tuning, body_memory, log, quotas }
    }

    /// Whether the log is there, so that it makes sense to send events.
    pub(crate) fn is_ready(&self) -> bool {
        self.log.is_reachable()
    }

    /// The bounds of a body of whoever has shown a key.
    pub(crate) fn limits(&self) -> BodyLimits {
        BodyLimits {
            bytes_max: self.tuning.body_bytes_max,
            decompressed_bytes_max: self.tuning.decompressed_bytes_max,
            read_timeout: self.tuning.body_read_timeout,
        }
    }

    /// Whether this many events of the tenant may come in now. A log that is away costs no quota.
    pub(crate) fn admit(&self, tenant: &TenantId, events: usize) -> Result<(), Problem> {
        if !self.is_ready() {
            return Err(unwritten(Unwritten::Away));
        }
        self.quotas.take(tenant, events)
    }

    /// Writes what was sorted and waits for the log's acknowledgement of all of it, rejects included.
    pub(crate) async fn write(&self, sorted: &Sorted, origin: &Origin<'_>) -> Result<(), Problem> {
        self.log.write(&sorted.records, origin.traceparent, origin.received_at).await.map_err(unwritten)?;
        let (accepted, rejected) = (sorted.accepted, sorted.rejected.len());
        tracing::debug!(tenant = %origin.tenant, source = origin.source.name(), accepted, rejected, "written");
        Ok(())
    }
}

/// Tells events from rejects and encodes both. `name_of` gives a field the name it has at this door.
pub(crate) fn sort<'a>(
    items: impl Iterator<Item = Item<'a>>,
    origin: &Origin<'_>,
    name_of: fn(&str) -> &str,
) -> Sorted {
    let mut sorted = Sorted { records: Vec::with_capacity(items.size_hint().0), ..Sorted::default() };
    for (index, item) in items.enumerate() {
        match item.draft.and_then(|draft| event_record(draft, origin)) {
            Ok(record) => {
                sorted.accepted += 1;
                sorted.records.push(record);
            }
            Err(Rejection { field, reason }) => {
                let rejection = Rejection {
                    field: name_of(&field).chars().take(FIELD_CHARS_MAX).collect(),
                    reason: reason.chars().take(REASON_CHARS_MAX).collect(),
                };
                sorted.records.push(reject_record(index, item.raw, rejection.clone(), origin));
                sorted.rejected.push((index, rejection));
            }
        }
    }
    sorted
}

fn event_record(mut draft: EventDraft, origin: &Origin<'_>) -> Result<Record, Rejection> {
    origin.client.enrich(&mut draft);
    let event = draft.check(origin.tenant, origin.received_at)?;
    let payload = event.encode();
    // Each field is within its bounds, but together they can be more than a reader of the log takes.
    if payload.len() > limits::MESSAGE_BYTES_MAX {
        let reason = format!("is larger than {} bytes", limits::MESSAGE_BYTES_MAX);
        return Err(Rejection::new("event", reason));
    }
    Ok(Record { topic: Topic::Events, key: message_key(&event.tenant, &event.user, &event.id), payload })
}

fn reject_record(index: usize, raw: &[u8], rejection: Rejection, origin: &Origin<'_>) -> Record {
    let rejected = Rejected {
        version: EVENT_VERSION,
        tenant: origin.tenant.clone(),
        received_at: origin.received_at,
        source: origin.source,
        index,
        rejection,
        traceparent: origin.traceparent.to_owned(),
        raw: Rejected::keep_raw(raw),
    };
    Record { topic: Topic::Rejected, key: origin.tenant.as_str().into(), payload: rejected.encode() }
}

fn unwritten(why: Unwritten) -> Problem {
    let detail = match why {
        Unwritten::Away => {
            "the log is away: send the same request again, events that it has already are not counted twice"
        }
        Unwritten::QueueFull => "too many events wait for the log: send the same request again",
    };
    Problem::later(StatusCode::SERVICE_UNAVAILABLE, detail, RETRY_AFTER)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sort_for_test<'a>(items: impl Iterator<Item = Item<'a>>, name_of: fn(&str) -> &str) -> Sorted {
        let origin = Origin {
            tenant: &"acme".parse().expect("valid"),
            source: Source::Native,
            received_at: EventTime(1_800_000_000_000_000),
            traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            client: &Client::default(),
        };
        sort(items, &origin, name_of)
    }

    fn item(raw: &str) -> Item<'_> {
        Item { raw: raw.as_bytes(), draft: EventDraft::from_native(raw) }
    }

    #[test]
    fn events_and_rejects_are_both_written() {
        let good = r#"{"event_id":"1","name":"n","occurred_at":"2026-01-01T00:00:00Z","user_id":"u"}"#;
        let sorted = sort_for_test([item(good), item("{"), item(good)].into_iter(), |name| name);
        assert_eq!((sorted.accepted, sorted.rejected.len(), sorted.records.len()), (2, 1, 3));
        assert_eq!(sorted.records[0].key, b"acme\x1fu");
        let reject = Rejected::decode(&sorted.records[1].payload).expect("readable");
        assert_eq!((reject.index, reject.raw.as_str(), sorted.records[1].key.as_slice()), (1, "{", &b"acme"[..]));
    }

    #[test]
    fn a_reject_is_never_larger_than_a_message_may_be() {
        let long = format!(
            r#"{{"event_id":"1","name":"n","occurred_at":"2026-01-01T00:00:00Z","properties":{{"{}":{{}}}}}}"#,
            "\\u0001".repeat(200_000)
        );
        let sorted = sort_for_test([item(&long)].into_iter(), |name| name);
        assert_eq!(sorted.rejected[0].1.field.chars().count(), FIELD_CHARS_MAX);
        assert!(sorted.records[0].payload.len() < 500_000);
    }

    #[test]
    fn an_event_that_no_reader_would_take_is_rejected() {
        let properties: Vec<String> = (0..64).map(|n| format!(r#""p{n}":"{}""#, "\\u0001".repeat(1024))).collect();
        let large = format!(
            r#"{{"event_id":"1","name":"n","occurred_at":"2026-01-01T00:00:00Z","properties":{{{}}}}}"#,
            properties.join(",")
        );
        let sorted = sort_for_test([item(&large)].into_iter(), |name| name);
        assert_eq!((sorted.accepted, sorted.rejected[0].1.field.as_str()), (0, "event"));
    }
}
