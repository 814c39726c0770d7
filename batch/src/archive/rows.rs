//! Records on their way into the lake: rows that become one Arrow batch.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Builder, Int32Builder, Int64Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder,
};
use reckon_schemas::lake::Column;
use reckon_schemas::time::EventTime;

use super::record::Record;
use crate::lake::arrow_schema;

/// Rows of one table.
pub(crate) trait Rows: Default + Send {
    /// The table's columns.
    const COLUMNS: &'static [Column];

    /// Adds a record. Every record becomes a row, also one that cannot be read.
    fn push(&mut self, record: &Record<'_>);

    /// Takes the rows' columns, in the order of [`Self::COLUMNS`], and leaves no rows.
    fn take_columns(&mut self) -> Vec<ArrayRef>;

    /// Takes the rows as one batch and leaves none.
    fn take(&mut self) -> RecordBatch {
        let columns = self.take_columns();
        RecordBatch::try_new(arrow_schema(Self::COLUMNS), columns).expect("the builders follow the table's columns")
    }
}

/// The columns that both tables begin with.
#[derive(Debug)]
pub(crate) struct Place {
    tenant: StringBuilder,
    event_date: Date32Builder,
    partition: Int32Builder,
    offset: Int64Builder,
    log_time: TimestampMicrosecondBuilder,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            tenant: StringBuilder::new(),
            event_date: Date32Builder::new(),
            partition: Int32Builder::new(),
            offset: Int64Builder::new(),
            log_time: timestamps(),
        }
    }
}

impl Place {
    /// Files a record under a tenant and the UTC date of `dated`.
    pub(crate) fn push(&mut self, tenant: &str, dated: EventTime, record: &Record<'_>) {
        self.tenant.append_value(tenant);
        self.event_date.append_value(dated.utc_day_number());
        self.partition.append_value(record.partition);
        self.offset.append_value(record.offset);
        self.log_time.append_value(record.log_time.0);
    }

    pub(crate) fn take_columns(&mut self) -> Vec<ArrayRef> {
        vec![
            Arc::new(self.tenant.finish()),
            Arc::new(self.event_date.finish()),
            Arc::new(self.partition.finish()),
            Arc::new(self.offset.finish()),
            Arc::new(self.log_time.finish()),
        ]
    }
}

/// A builder of instants, in the type that the tables have.
pub(crate) fn timestamps() -> TimestampMicrosecondBuilder {
    TimestampMicrosecondBuilder::new().with_timezone("UTC")
}
