//! Rows of the lake as deliveries of events.

use arrow::array::{Array, AsArray, Int32Array, Int64Array, MapArray, RecordBatch, StringArray, StringViewArray};
use arrow::datatypes::{Int32Type, Int64Type};
use reckon_schemas::lake::COLUMN_PROPERTIES;
use reckon_schemas::money::Money;
use reckon_schemas::time::EventTime;

use super::firsts::Sighting;
use super::places::Place;
use super::{RecountError, User};

/// One delivery of an event, borrowed from a batch of rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery<'a> {
    /// Where it is in the log.
    pub(crate) place: Place,
    /// When the event happened.
    pub(crate) occurred_at: EventTime,
    /// The event's name.
    pub(crate) name: &'a str,
    /// Who did it, if that is known.
    pub(crate) user: Option<User>,
    /// The money it moved.
    pub(crate) money: Option<Money>,
    columns: &'a [&'a StringViewArray; COLUMN_PROPERTIES.len()],
    row: usize,
    others: Option<Properties<'a>>,
}

#[derive(Clone, Copy, Debug)]
struct Properties<'a> {
    names: &'a StringArray,
    values: &'a StringArray,
    from: usize,
    to: usize,
}

impl<'a> Delivery<'a> {
    /// The value of a property; the first one, as everywhere.
    ///
    /// # Panics
    /// If it is one of those that were not read, see [`counted_columns`].
    pub(crate) fn property(&self, name: &str) -> Option<&'a str> {
        if let Some(column) = COLUMN_PROPERTIES.iter().position(|known| *known == name) {
            let column = self.columns[column];
            return column.is_valid(self.row).then(|| column.value(self.row));
        }
        let Properties { names, values, from, to } = self.others.expect("the properties that are asked for were read");
        let found = (from..to).find(|index| names.value(*index) == name)?;
        values.is_valid(found).then(|| values.value(found))
    }
}

/// The columns that [`Sightings`] reads.
pub(super) const SIGHTING_COLUMNS: [&str; 7] =
    ["log_time", "partition", "offset", "event_key_high", "event_key_low", "content_key_high", "content_key_low"];

/// The columns that [`Deliveries`] reads, for whoever asks for these properties.
pub(crate) fn counted_columns<'a>(properties: impl IntoIterator<Item = &'a str>) -> Vec<&'static str> {
    let mut columns = vec!["partition", "offset", "occurred_at", "name", "user_key_high", "user_key_low", "user_hash"];
    columns.extend(["currency", "amount_minor"]);
    columns.extend(COLUMN_PROPERTIES);
    if properties.into_iter().any(|property| !COLUMN_PROPERTIES.contains(&property)) {
        columns.push("properties");
    }
    columns
}

/// A batch of [`SIGHTING_COLUMNS`].
pub(super) struct SightingRows<'a> {
    log_times_us: &'a Int64Array,
    places: PlaceColumns<'a>,
    keys: [&'a Int64Array; 2],
    contents: [&'a Int64Array; 2],
}

impl<'a> SightingRows<'a> {
    pub(super) fn new(batch: &'a RecordBatch) -> Result<Self, RecountError> {
        Ok(Self {
            log_times_us: never_null(numbers(batch, "log_time")?, "log_time")?,
            places: PlaceColumns::new(batch)?,
            keys: [present(batch, "event_key_high")?, present(batch, "event_key_low")?],
            contents: [present(batch, "content_key_high")?, present(batch, "content_key_low")?],
        })
    }

    #[inline]
    pub(super) fn get(&self, row: usize) -> Result<Sighting, RecountError> {
        let halves = |columns: &[&Int64Array; 2]| columns.map(|column| column.value(row).cast_unsigned());
        Ok(Sighting {
            key: halves(&self.keys),
            log_time_us: self.log_times_us.value(row),
            place: self.places.get(row)?,
            content: halves(&self.contents),
        })
    }
}

struct PlaceColumns<'a> {
    partitions: &'a Int32Array,
    offsets: &'a Int64Array,
}

impl<'a> PlaceColumns<'a> {
    fn new(batch: &'a RecordBatch) -> Result<Self, RecountError> {
        let partitions = column(batch, "partition")?.as_primitive_opt::<Int32Type>();
        let partitions = never_null(partitions.ok_or_else(|| unexpected(batch, "partition"))?, "partition")?;
        Ok(Self { partitions, offsets: present(batch, "offset")? })
    }

    #[inline]
    fn get(&self, row: usize) -> Result<Place, RecountError> {
        Place::new(self.partitions.value(row), self.offsets.value(row))
    }
}

/// A batch of [`counted_columns`].
pub(crate) struct Deliveries<'a> {
    places: PlaceColumns<'a>,
    occurred_us: &'a Int64Array,
    names: &'a StringViewArray,
    user_keys: [&'a Int64Array; 2],
    user_hashes: &'a Int64Array,
    currencies: &'a StringViewArray,
    amounts: &'a Int64Array,
    columns: [&'a StringViewArray; COLUMN_PROPERTIES.len()],
    others: Option<&'a MapArray>,
}

impl<'a> Deliveries<'a> {
    /// # Errors
    /// [`RecountError::Damaged`] if a column is missing or not of its type, or lacks what every delivery has.
    pub(crate) fn new(batch: &'a RecordBatch) -> Result<Self, RecountError> {
        let [country, device] = COLUMN_PROPERTIES.map(|name| texts(batch, name));
        let others = match batch.column_by_name("properties") {
            None => None,
            Some(found) => {
                let map = found.as_map_opt().filter(|map| {
                    map.keys().as_string_opt::<i32>().is_some() && map.values().as_string_opt::<i32>().is_some()
                });
                Some(map.ok_or_else(|| unexpected(batch, "properties"))?)
            }
        };
        Ok(Self {
            places: PlaceColumns::new(batch)?,
            occurred_us: present(batch, "occurred_at")?,
            names: never_null(texts(batch, "name")?, "name")?,
            user_keys: [numbers(batch, "user_key_high")?, numbers(batch, "user_key_low")?],
            user_hashes: numbers(batch, "user_hash")?,
            currencies: texts(batch, "currency")?,
            amounts: numbers(batch, "amount_minor")?,
            columns: [country?, device?],
            others,
        })
    }

    /// The delivery of a row.
    ///
    /// # Errors
    /// [`RecountError::Damaged`] if the archive cannot have written it.
    #[inline]
    pub(crate) fn get(&self, row: usize) -> Result<Delivery<'_>, RecountError> {
        let place = self.places.get(row)?;
        Ok(Delivery {
            place,
            occurred_at: EventTime(self.occurred_us.value(row)),
            name: self.names.value(row),
            user: self.user(row, place)?,
            money: self.money(row, place)?,
            columns: &self.columns,
            row,
            others: self.others.map(|map| properties_of(map, row)),
        })
    }

    #[inline]
    fn user(&self, row: usize, at: Place) -> Result<Option<User>, RecountError> {
        let [high, low] = self.user_keys;
        match (high.is_valid(row), low.is_valid(row), self.user_hashes.is_valid(row)) {
            (false, false, false) => Ok(None),
            (true, true, true) => {
                let [high, low] = [high, low].map(|column| u128::from(column.value(row).cast_unsigned()));
                Ok(Some(User { key: high << 64 | low, hash: self.user_hashes.value(row).cast_unsigned() }))
            }
            _ => Err(damaged(at, "only some of a user's keys")),
        }
    }

    #[inline]
    fn money(&self, row: usize, at: Place) -> Result<Option<Money>, RecountError> {
        match (self.currencies.is_valid(row), self.amounts.is_valid(row)) {
            (false, false) => Ok(None),
            (true, true) => {
                let currency = self.currencies.value(row).parse();
                let currency = currency.map_err(|error| damaged(at, &format!("{error}")))?;
                Ok(Some(Money { currency, minor: self.amounts.value(row) }))
            }
            _ => Err(damaged(at, "an amount without a currency, or the reverse")),
        }
    }
}

fn properties_of(map: &MapArray, row: usize) -> Properties<'_> {
    let offsets = map.value_offsets();
    let bound = |index: usize| usize::try_from(offsets[index]).expect("Arrow's offsets are not negative");
    let (from, to) = if map.is_valid(row) { (bound(row), bound(row + 1)) } else { (0, 0) };
    Properties { names: map.keys().as_string::<i32>(), values: map.values().as_string::<i32>(), from, to }
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a dyn Array, RecountError> {
    let found = batch.column_by_name(name).map(AsRef::as_ref);
    found.ok_or_else(|| RecountError::Damaged(format!("column {name} is missing")))
}

fn numbers<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a Int64Array, RecountError> {
    column(batch, name)?.as_primitive_opt::<Int64Type>().ok_or_else(|| unexpected(batch, name))
}

/// Numbers that every row of a tenant has.
fn present<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a Int64Array, RecountError> {
    never_null(numbers(batch, name)?, name)
}

pub(super) fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringViewArray, RecountError> {
    column(batch, name)?.as_string_view_opt().ok_or_else(|| unexpected(batch, name))
}

pub(super) fn never_null<'a, A: Array>(column: &'a A, name: &str) -> Result<&'a A, RecountError> {
    if column.null_count() == 0 {
        return Ok(column);
    }
    Err(RecountError::Damaged(format!("{name} is missing in a row that is filed under a tenant")))
}

fn damaged(at: Place, problem: &str) -> RecountError {
    RecountError::Damaged(format!("partition {} offset {}: {problem}", at.partition(), at.offset()))
}

fn unexpected(batch: &RecordBatch, name: &str) -> RecountError {
    let found = batch.column_by_name(name).map(|column| column.data_type().clone());
    RecountError::Damaged(format!("column {name} is of type {found:?}"))
}
