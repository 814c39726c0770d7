//! Deliveries by name: with their ids in full, for whoever looks for single events. The recount needs only their keys.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type};
use datafusion::dataframe::DataFrame;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::{Expr, SessionContext, cast, ident, lit};
use datafusion::scalar::ScalarValue;
use deltalake::DeltaTable;
use futures::StreamExt;
use reckon_schemas::ids::TenantId;
use reckon_schemas::money::Money;
use reckon_schemas::time::EventTime;
use sha2::{Digest, Sha256};

use crate::recount::RecountError;

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// When and where the log took a delivery. Of two deliveries of an event, the one with the lower place counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// When the broker took it.
    pub(crate) log_time: EventTime,
    /// Its partition.
    pub(crate) partition: i32,
    /// Its offset.
    pub(crate) offset: i64,
}

/// One delivery of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// Where it is in the log.
    pub(crate) place: Place,
    /// Where the first delivery of the same event is, on whatever day.
    pub(crate) first: Place,
    /// Whether the event's deliveries differ in content; those of other days differ in their time at least.
    pub(crate) conflicting: bool,
    /// A fingerprint of everything that it says.
    content: [u8; 16],
    /// The event's id.
    pub(crate) event_id: String,
    /// The event's name.
    pub(crate) name: String,
    /// When it happened.
    pub(crate) occurred_at: EventTime,
    /// Who did it, or empty.
    pub(crate) user: String,
    /// The money it moved.
    pub(crate) money: Option<Money>,
    /// Those of its properties that were asked for.
    pub(crate) properties: Vec<(String, String)>,
}

impl Named {
    /// Whether this is the delivery that counts.
    pub(crate) fn is_first(&self) -> bool {
        self.first == self.place
    }

    /// A sale in a department, for tests of what is made of it.
    #[cfg(test)]
    pub(crate) fn for_tests(place: Place, first: Place, id: &str, department: &str, minor: i64) -> Self {
        let currency = "EUR".parse().expect("known");
        Self {
            place,
            first,
            conflicting: false,
            content: [0; 16],
            event_id: id.to_owned(),
            name: "sale".to_owned(),
            occurred_at: EventTime(0),
            user: "u".to_owned(),
            money: Some(Money { currency, minor }),
            properties: vec![("department".to_owned(), department.to_owned())],
        }
    }

    /// The value of a property, the first one of its name.
    pub(crate) fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Every delivery of a tenant whose event happened in a span, ordered by place; of its properties those in `wanted`.
///
/// # Errors
/// [`RecountError`].
pub(crate) async fn deliveries(
    table: &DeltaTable,
    tenant: &TenantId,
    span: Range<EventTime>,
    wanted: &[&str],
) -> Result<Vec<Named>, RecountError> {
    let rows = rows_of(table, tenant).await?;
    let mut found = Vec::new();
    read(dated(rows.clone(), &span)?, &COLUMNS, |batch| take(batch, &span, wanted, &mut found)).await?;
    // An event of this span may have been delivered first with another date.
    let mut firsts: HashMap<String, Place> = HashMap::with_capacity(found.len());
    for delivery in &found {
        let first = firsts.entry(delivery.event_id.clone()).or_insert(delivery.place);
        *first = delivery.place.min(*first);
    }
    read(rows, &COLUMNS[..4], |batch| {
        let ids = batch.column(3).as_string_opt::<i32>().ok_or_else(|| damaged("event_id"))?;
        for row in 0..batch.num_rows() {
            if let Some(first) = firsts.get_mut(ids.value(row)) {
                *first = place(batch, row)?.min(*first);
            }
        }
        Ok(())
    })
    .await?;
    for delivery in &mut found {
        delivery.first = firsts[&delivery.event_id];
    }
    mark_conflicts(&mut found);
    found.sort_unstable_by_key(|delivery| delivery.place);
    Ok(found)
}

/// Calls back with every delivery of a tenant whose event happened in a span, in no order, one at a time; each passes for
/// its event's first one. Of its properties it has those in `wanted`.
///
/// # Errors
/// [`RecountError`], or what the callback returns.
pub(crate) async fn each<E: From<RecountError>>(
    table: &DeltaTable,
    tenant: &TenantId,
    span: Range<EventTime>,
    wanted: &[&str],
    mut receive: impl FnMut(Named) -> Result<(), E>,
) -> Result<(), E> {
    let rows = dated(rows_of(table, tenant).await?, &span)?;
    let mut stream = stream(rows, &COLUMNS).await?;
    let mut found = Vec::new();
    while let Some(batch) = stream.next().await {
        take(&batch.map_err(RecountError::from)?, &span, wanted, &mut found)?;
        found.drain(..).try_for_each(&mut receive)?;
    }
    Ok(())
}

/// What is read, in this order; the first four make a place and an id.
const COLUMNS: [&str; 10] = [
    "log_time",
    "partition",
    "offset",
    "event_id",
    "occurred_at",
    "name",
    "user_id",
    "currency",
    "amount_minor",
    "properties",
];

async fn rows_of(table: &DeltaTable, tenant: &TenantId) -> Result<DataFrame, RecountError> {
    let context = SessionContext::new();
    table.update_datafusion_session(&context.state())?;
    let rows = context.read_table(table.table_provider().await?)?;
    Ok(rows.filter(ident("tenant").eq(lit(tenant.as_str())))?)
}

/// Those of rows that are filed under the dates of a span.
fn dated(rows: DataFrame, span: &Range<EventTime>) -> Result<DataFrame, RecountError> {
    let date = |at: i64| {
        let day = i32::try_from(at.div_euclid(MICROS_PER_DAY)).unwrap_or(if at < 0 { i32::MIN } else { i32::MAX });
        lit(ScalarValue::Date32(Some(day)))
    };
    let first = ident("event_date").gt_eq(date(span.start.0));
    let last = ident("event_date").lt_eq(date(span.end.0.saturating_sub(1)));
    Ok(rows.filter(first.and(last))?)
}

async fn stream(rows: DataFrame, columns: &[&str]) -> Result<SendableRecordBatchStream, RecountError> {
    Ok(rows.select(columns.iter().map(|name| typed(name)))?.execute_stream().await?)
}

async fn read(
    rows: DataFrame,
    columns: &[&str],
    mut receive: impl FnMut(&RecordBatch) -> Result<(), RecountError>,
) -> Result<(), RecountError> {
    let mut stream = stream(rows, columns).await?;
    while let Some(batch) = stream.next().await {
        receive(&batch?)?;
    }
    Ok(())
}

/// A column in the type that is read here, whatever view or dictionary the scan makes of it.
fn typed(name: &str) -> Expr {
    let data_type = match name {
        "partition" => DataType::Int32,
        "offset" | "log_time" | "occurred_at" | "amount_minor" => DataType::Int64,
        "properties" => {
            let text = |name, nullable| Field::new(name, DataType::Utf8, nullable);
            let entries = DataType::Struct(vec![text("key", false), text("value", true)].into());
            DataType::Map(Arc::new(Field::new("key_value", entries, false)), false)
        }
        _ => DataType::Utf8,
    };
    cast(ident(name), data_type).alias(name)
}

fn damaged(column: &str) -> RecountError {
    RecountError::Damaged(format!("{column} is missing or of another type in a row that is filed under a tenant"))
}

fn text(batch: &RecordBatch, column: usize, row: usize) -> Option<&str> {
    let texts = batch.column(column).as_string_opt::<i32>()?;
    texts.is_valid(row).then(|| texts.value(row))
}

fn number(batch: &RecordBatch, column: usize, row: usize) -> Option<i64> {
    let numbers = batch.column(column).as_primitive_opt::<Int64Type>()?;
    numbers.is_valid(row).then(|| numbers.value(row))
}

fn place(batch: &RecordBatch, row: usize) -> Result<Place, RecountError> {
    let partitions = batch.column(1).as_primitive_opt::<Int32Type>().ok_or_else(|| damaged("partition"))?;
    Ok(Place {
        log_time: EventTime(number(batch, 0, row).ok_or_else(|| damaged("log_time"))?),
        partition: partitions.value(row),
        offset: number(batch, 2, row).ok_or_else(|| damaged("offset"))?,
    })
}

fn take(
    batch: &RecordBatch,
    span: &Range<EventTime>,
    wanted: &[&str],
    found: &mut Vec<Named>,
) -> Result<(), RecountError> {
    for row in 0..batch.num_rows() {
        let occurred_at = EventTime(number(batch, 4, row).ok_or_else(|| damaged("occurred_at"))?);
        if !span.contains(&occurred_at) {
            continue;
        }
        let required = |column: usize| text(batch, column, row).ok_or_else(|| damaged(COLUMNS[column]));
        let place = place(batch, row)?;
        let money = match (text(batch, 7, row), number(batch, 8, row)) {
            (Some(currency), Some(minor)) => {
                let currency =
                    currency.parse().map_err(|error| RecountError::Damaged(format!("{place:?}: {error}")))?;
                Some(Money { currency, minor })
            }
            (None, None) => None,
            _ => return Err(RecountError::Damaged(format!("{place:?}: an amount without a currency, or the reverse"))),
        };
        found.push(Named {
            place,
            first: place,
            conflicting: false,
            content: content(batch, row),
            event_id: required(3)?.to_owned(),
            name: required(5)?.to_owned(),
            occurred_at,
            user: text(batch, 6, row).unwrap_or_default().to_owned(),
            money,
            properties: properties(batch, row, wanted)?,
        });
    }
    Ok(())
}

/// An event is in conflict if one of its deliveries here says something else than its first one.
fn mark_conflicts(found: &mut [Named]) {
    let mut contents: HashMap<&str, [u8; 16]> = HashMap::new();
    for delivery in found.iter() {
        if delivery.is_first() {
            contents.insert(&delivery.event_id, delivery.content);
        }
    }
    let differs = |delivery: &&Named| contents.get(delivery.event_id.as_str()) != Some(&delivery.content);
    let conflicts: HashSet<String> = found.iter().filter(differs).map(|delivery| delivery.event_id.clone()).collect();
    for delivery in found {
        delivery.conflicting = conflicts.contains(&delivery.event_id);
    }
}

/// 128 bits of a SHA-256 over what the event says: name, user, currency, time, amount, properties; each preceded by its length.
fn content(batch: &RecordBatch, row: usize) -> [u8; 16] {
    let mut hash = Sha256::new();
    let mut add = |bytes: Option<&[u8]>| {
        hash.update(bytes.map_or(u64::MAX, |bytes| bytes.len() as u64).to_le_bytes());
        hash.update(bytes.unwrap_or_default());
    };
    for column in [5, 6, 7] {
        add(text(batch, column, row).map(str::as_bytes));
    }
    for column in [4, 8] {
        add(number(batch, column, row).map(i64::to_le_bytes).as_ref().map(<[u8; 8]>::as_slice));
    }
    if let Some(maps) = batch.column(9).as_map_opt().filter(|maps| maps.is_valid(row)) {
        let entries = maps.value(row);
        let texts = |column: usize| entries.column(column).as_string_opt::<i32>();
        if let (Some(names), Some(values)) = (texts(0), texts(1)) {
            let mut pairs: Vec<(&str, &str)> =
                (0..entries.len()).map(|at| (names.value(at), values.value(at))).collect();
            pairs.sort_unstable();
            pairs.iter().for_each(|(name, value)| [name, value].iter().for_each(|text| add(Some(text.as_bytes()))));
        }
    }
    let mut content = [0; 16];
    content.copy_from_slice(&hash.finalize()[..16]);
    content
}

fn properties(batch: &RecordBatch, row: usize, wanted: &[&str]) -> Result<Vec<(String, String)>, RecountError> {
    let maps = batch.column(9).as_map_opt().ok_or_else(|| damaged("properties"))?;
    if wanted.is_empty() || maps.is_null(row) {
        return Ok(Vec::new());
    }
    let entries = maps.value(row);
    let texts = |column: usize| entries.column(column).as_string_opt::<i32>().ok_or_else(|| damaged("properties"));
    let (names, values) = (texts(0)?, texts(1)?);
    let kept = (0..entries.len()).filter(|entry| values.is_valid(*entry) && wanted.contains(&names.value(*entry)));
    Ok(kept.map(|entry| (names.value(entry).to_owned(), values.value(entry).to_owned())).collect())
}
