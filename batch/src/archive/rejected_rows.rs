//! Rows of the table `rejected`.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder, StringBuilder, TimestampMicrosecondBuilder};
use reckon_schemas::event::Rejected;
use reckon_schemas::lake::{Column, REJECTED_COLUMNS, UNREADABLE_TENANT};

use super::record::{Record, unreadable};
use super::rows::{Place, Rows, timestamps};

/// Rows of the table `rejected`.
#[derive(Debug)]
pub(crate) struct RejectedRows {
    place: Place,
    received_at: TimestampMicrosecondBuilder,
    source: StringBuilder,
    field: StringBuilder,
    reason: StringBuilder,
    traceparent: StringBuilder,
    problem: StringBuilder,
    raw: BinaryBuilder,
}

impl Default for RejectedRows {
    fn default() -> Self {
        Self {
            place: Place::default(),
            received_at: timestamps(),
            source: StringBuilder::new(),
            field: StringBuilder::new(),
            reason: StringBuilder::new(),
            traceparent: StringBuilder::new(),
            problem: StringBuilder::new(),
            raw: BinaryBuilder::new(),
        }
    }
}

impl Rows for RejectedRows {
    const COLUMNS: &'static [Column] = REJECTED_COLUMNS;

    fn push(&mut self, record: &Record<'_>) {
        let decoded = match record.payload {
            Some(payload) => Rejected::decode(payload).map_err(|error| error.to_string()),
            None => Err("the record has no value".to_owned()),
        };
        match decoded {
            Ok(rejected) => {
                self.place.push(rejected.tenant.as_str(), record.log_time, record);
                self.received_at.append_value(rejected.received_at.0);
                self.source.append_value(rejected.source.name());
                self.field.append_value(rejected.rejection.field);
                self.reason.append_value(rejected.rejection.reason);
                self.traceparent.append_value(rejected.traceparent);
                self.problem.append_null();
                self.raw.append_value(rejected.raw);
            }
            Err(problem) => {
                let (raw, problem) = unreadable(record.payload, &problem);
                self.place.push(UNREADABLE_TENANT, record.log_time, record);
                self.received_at.append_null();
                self.source.append_null();
                self.field.append_null();
                self.reason.append_null();
                self.traceparent.append_option(record.traceparent);
                self.problem.append_value(problem);
                self.raw.append_value(raw);
            }
        }
    }

    fn take_columns(&mut self) -> Vec<ArrayRef> {
        let mut columns = self.place.take_columns();
        let own: [ArrayRef; 7] = [
            Arc::new(self.received_at.finish()),
            Arc::new(self.source.finish()),
            Arc::new(self.field.finish()),
            Arc::new(self.reason.finish()),
            Arc::new(self.traceparent.finish()),
            Arc::new(self.problem.finish()),
            Arc::new(self.raw.finish()),
        ];
        columns.extend(own);
        columns
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use reckon_schemas::event::{Rejection, Source};
    use reckon_schemas::time::EventTime;

    use super::*;

    #[test]
    fn readable_and_unreadable_rejects_become_rows() {
        let rejected = Rejected {
            version: 2,
            tenant: "acme".parse().expect("a tenant"),
            received_at: EventTime(1),
            source: Source::Segment,
            index: 4,
            rejection: Rejection::new("name", "is missing"),
            traceparent: "00-1-2-01".to_owned(),
            raw: "{}".to_owned(),
        }
        .encode();
        let mut rows = RejectedRows::default();
        for payload in [Some(rejected.as_slice()), Some(b"\xff".as_slice()), None] {
            let log_time = EventTime(0);
            rows.push(&Record { partition: 0, offset: 0, log_time, traceparent: None, payload });
        }
        let batch = rows.take();
        let column = |name| batch.column_by_name(name).expect(name);
        let tenants: Vec<_> = column("tenant").as_string::<i32>().iter().flatten().collect();
        assert_eq!(tenants, ["acme", UNREADABLE_TENANT, UNREADABLE_TENANT]);
        assert_eq!(column("reason").as_string::<i32>().value(0), "is missing");
        assert_eq!(column("raw").as_binary::<i32>().value(1), b"\xff");
        assert_eq!(column("problem").null_count(), 1);
    }
}
