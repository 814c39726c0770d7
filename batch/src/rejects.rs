//! What the collector refused, read from the lake: for people who correct it.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use datafusion::prelude::{SessionContext, cast, ident, lit};
use jiff::Timestamp;
use reckon_schemas::ids::TenantId;
use reckon_schemas::stores;
use reckon_schemas::time::EventTime;
use serde::Serialize;

use crate::Error;
use crate::lake::Lake;
use crate::recount::RecountError;

/// A rejected item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reject {
    /// Its partition in the topic of rejects.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// When the log took it.
    pub log_time: Timestamp,
    /// The door that it came in through.
    pub source: String,
    /// The field that is wrong.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
    /// The item as it was received, cut after 32 KB.
    pub raw: String,
}

/// The rejected items of a tenant since an instant of the log's time, in the order of the log, as far as they are archived.
///
/// # Errors
/// [`Error::Retryable`] if the lake is away.
pub async fn rejects(lake: &stores::Lake, tenant: &TenantId, since: Timestamp) -> Result<Vec<Reject>, Error> {
    let table = Lake::open(lake).await?.rejected().await?;
    let context = SessionContext::new();
    let unreadable = |error: &dyn std::fmt::Display| Error::Unreadable(format!("the lake cannot be read: {error}"));
    table.update_datafusion_session(&context.state()).map_err(|error| unreadable(&error))?;
    let provider = table.table_provider().await.map_err(|error| unreadable(&error))?;
    let text = |name| cast(ident(name), DataType::Utf8).alias(name);
    let number = |name| cast(ident(name), DataType::Int64).alias(name);
    let rows = context
        .read_table(provider)
        .and_then(|rows| rows.filter(ident("tenant").eq(lit(tenant.as_str()))))
        .and_then(|rows| {
            let raw = cast(ident("raw"), DataType::Binary).alias("raw");
            let place =
                [cast(ident("partition"), DataType::Int32).alias("partition"), number("offset"), number("log_time")];
            rows.select(place.into_iter().chain(["source", "field", "reason"].map(text)).chain([raw]))
        })
        .map_err(RecountError::from)?;
    let mut rejects = Vec::new();
    for batch in rows.collect().await.map_err(RecountError::from)? {
        let (partitions, offsets) =
            (batch.column(0).as_primitive::<Int32Type>(), batch.column(1).as_primitive::<Int64Type>());
        let log_times = batch.column(2).as_primitive::<Int64Type>();
        let texts = [3, 4, 5].map(|column| batch.column(column).as_string::<i32>());
        let raws = batch.column(6).as_binary::<i32>();
        for row in 0..batch.num_rows() {
            let log_time = EventTime(log_times.value(row)).to_timestamp();
            let text = |column: usize| {
                let column = texts[column];
                if column.is_null(row) { String::new() } else { column.value(row).to_owned() }
            };
            if log_time < since {
                continue;
            }
            rejects.push(Reject {
                partition: partitions.value(row),
                offset: offsets.value(row),
                log_time,
                source: text(0),
                field: text(1),
                reason: text(2),
                raw: String::from_utf8_lossy(raws.value(row)).into_owned(),
            });
        }
    }
    rejects.sort_unstable_by_key(|reject| (reject.partition, reject.offset));
    Ok(rejects)
}
