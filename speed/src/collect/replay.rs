//! Rejected items, corrected by a person, sent again: read, checked and written as if they came in through their door.
//!
//! They keep their event ids, so the same event sent twice counts once, here as there. What is rejected again is kept
//! again, with its reason.

use std::time::Duration;

use reckon_schemas::event::{EventDraft, Rejection, Source};
use reckon_schemas::ids::TenantId;
use reckon_schemas::stores::Kafka;
use reckon_schemas::time::EventTime;

use super::enrich::{Client, Enricher};
use super::intake::{self, Item, Origin};
use super::producer::EventLog;
use super::trace::TraceContext;
use super::{Error, Tuning, cloud_events, native, segment};

/// As many at once as a request brings.
const ITEMS_MAX: usize = 500;
const FLUSH_TIME_MAX: Duration = Duration::from_secs(10);

/// An item that was rejected, as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corrected {
    /// The door that it came in through.
    pub source: Source,
    /// Its text.
    pub item: String,
}

/// Why items were not sent again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The collector could not run with this configuration either.
    #[error(transparent)]
    Configuration(#[from] Error),
    /// The log is away: send all of them again later, none is counted twice.
    #[error("the log did not take all items; send them again, none is counted twice")]
    Unwritten,
}

/// Sends items of a tenant again and returns, one by one, why they were rejected again; `None` if they are in the log.
///
/// # Errors
/// [`ReplayError`].
pub async fn replay(
    kafka: &Kafka,
    tuning: &Tuning,
    tenant: &TenantId,
    items: &[Corrected],
) -> Result<Vec<Option<Rejection>>, ReplayError> {
    let enricher = Enricher::open(tuning)?;
    let log = EventLog::open(kafka, tuning)?;
    let trace = TraceContext::new();
    let mut outcome = Vec::with_capacity(items.len());
    for items in items.chunks(ITEMS_MAX) {
        let mut rejections = vec![None; items.len()];
        for source in Source::ALL {
            let of_source = || items.iter().enumerate().filter(move |(_, item)| item.source == source);
            let received_at = EventTime::from_timestamp(jiff::Timestamp::now());
            // What the first request said of its client is not known any more.
            let client = Client::default();
            let origin = Origin::of(tenant, source, received_at, &trace, &client);
            let read = |item: &Corrected| read(source, &item.item, received_at, &enricher);
            let drafts = of_source().map(|(_, item)| Item { raw: item.item.as_bytes(), draft: read(item) });
            let sorted = intake::sort(drafts, &origin, name_of(source));
            let written = log.write(sorted.records(), origin.traceparent, received_at).await;
            written.map_err(|_| ReplayError::Unwritten)?;
            let places: Vec<usize> = of_source().map(|(place, _)| place).collect();
            for (index, rejection) in sorted.rejected {
                rejections[places[index]] = Some(rejection);
            }
        }
        outcome.extend(rejections);
    }
    log.flush(FLUSH_TIME_MAX).await;
    Ok(outcome)
}

fn read(source: Source, item: &str, received_at: EventTime, enricher: &Enricher) -> Result<EventDraft, Rejection> {
    match source {
        Source::Native => native::read(item.as_bytes()),
        Source::Segment => segment::read(item, received_at, enricher),
        Source::CloudEvents => cloud_events::read(item, received_at),
    }
}

/// What the door calls a field of an event.
fn name_of(source: Source) -> fn(&str) -> &str {
    match source {
        Source::Native => |field| field,
        Source::Segment => segment::client_name,
        Source::CloudEvents => cloud_events::attribute_of,
    }
}
