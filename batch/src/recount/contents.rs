//! What single deliveries say, word for word.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use datafusion::prelude::{Expr, ident, lit};
use hashbrown::HashMap;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::time::EventTime;
use serde_json::{Map, Value, json};

use super::places::Place;
use super::{PinnedLake, RecountError};

/// So many deliveries are looked for in one scan.
const PLACES_AT_ONCE: usize = 2000;

const COLUMNS: [&str; 9] =
    ["partition", "offset", "event_id", "name", "occurred_at", "user_id", "currency", "amount_minor", "properties"];

/// What a delivery says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    /// The event's id.
    pub(crate) event_id: String,
    /// When it says that the event happened.
    pub(crate) occurred_at: EventTime,
    /// All that it says about the event, as JSON.
    pub(crate) text: String,
}

impl PinnedLake {
    /// Looks deliveries up. Only files that can hold them are read.
    ///
    /// # Errors
    /// [`RecountError`]; [`RecountError::Damaged`] if one of them is not there.
    pub(crate) async fn contents(
        &self,
        tenant: &Tenant,
        places: &[Place],
    ) -> Result<HashMap<Place, Content>, RecountError> {
        let mut contents = HashMap::with_capacity(places.len());
        for places in places.chunks(PLACES_AT_ONCE) {
            self.scan_where(tenant, is_one_of(places), &COLUMNS, |batch| read(batch, &mut contents)).await?;
        }
        match places.iter().find(|place| !contents.contains_key(*place)) {
            None => Ok(contents),
            Some(place) => {
                let (partition, offset) = (place.partition(), place.offset());
                Err(RecountError::Damaged(format!("partition {partition} offset {offset} was there and is gone")))
            }
        }
    }
}

fn is_one_of(places: &[Place]) -> Expr {
    let mut by_partition: HashMap<i32, Vec<Expr>> = HashMap::new();
    for place in places {
        by_partition.entry(place.partition()).or_default().push(lit(place.offset()));
    }
    let of_partition = |(partition, offsets): (i32, Vec<Expr>)| {
        ident("partition").eq(lit(partition)).and(ident("offset").in_list(offsets, false))
    };
    by_partition.into_iter().map(of_partition).reduce(Expr::or).unwrap_or_else(|| lit(false))
}

fn read(batch: &RecordBatch, contents: &mut HashMap<Place, Content>) -> Result<(), RecountError> {
    let unexpected = |name: &str| RecountError::Damaged(format!("column {name} is not of its type"));
    let column = |name: &str| batch.column_by_name(name).ok_or_else(|| unexpected(name));
    let numbers = |name: &str| column(name)?.as_primitive_opt::<Int64Type>().ok_or_else(|| unexpected(name));
    let texts = |name: &str| column(name)?.as_string_view_opt().ok_or_else(|| unexpected(name));
    let partitions = column("partition")?.as_primitive_opt::<Int32Type>().ok_or_else(|| unexpected("partition"))?;
    let (offsets, instants, amounts) = (numbers("offset")?, numbers("occurred_at")?, numbers("amount_minor")?);
    let (ids, names) = (texts("event_id")?, texts("name")?);
    let (users, currencies) = (texts("user_id")?, texts("currency")?);
    let maps = column("properties")?.as_map_opt().ok_or_else(|| unexpected("properties"))?;
    for row in 0..batch.num_rows() {
        let entries = maps.value(row);
        let (keys, values) = (entries.column(0).as_string_opt::<i32>(), entries.column(1).as_string_opt::<i32>());
        let (keys, values) = keys.zip(values).ok_or_else(|| unexpected("properties"))?;
        let properties: Map<String, Value> =
            keys.iter().zip(values).filter_map(|(key, value)| Some((key?.to_owned(), value.into()))).collect();
        let occurred_at = EventTime(instants.value(row));
        let text = json!({
            "name": names.value(row),
            "occurred_at": occurred_at.to_string(),
            "user": users.is_valid(row).then(|| users.value(row)),
            "currency": currencies.is_valid(row).then(|| currencies.value(row)),
            "amount_minor": amounts.is_valid(row).then(|| amounts.value(row)),
            "properties": properties,
        });
        let content = Content { event_id: ids.value(row).to_owned(), occurred_at, text: text.to_string() };
        contents.insert(Place::new(partitions.value(row), offsets.value(row))?, content);
    }
    Ok(())
}
