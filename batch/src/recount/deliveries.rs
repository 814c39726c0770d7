//! Rows of the lake as deliveries of events.

use std::cell::Cell;

use arrow::array::{Array, AsArray, Int64Array, MapArray, RecordBatch, StringArray, StringViewArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{Int32Type, Int64Type};
use reckon_schemas::lake::COLUMN_PROPERTIES;
use reckon_schemas::money::{Currency, Money};
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
    name_view: u128,
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
    /// The event's name and the values that have columns of their own, as numbers that are equal if the texts are: to be
    /// looked up faster than texts. None if one of them is long.
    #[inline]
    pub(super) fn short_texts(&self) -> Option<[u128; COLUMN_PROPERTIES.len() + 1]> {
        let mut texts = [self.name_view; COLUMN_PROPERTIES.len() + 1];
        for (text, column) in texts[1..].iter_mut().zip(self.columns) {
            *text = if is_valid(column, self.row) { column.views()[self.row] } else { MISSING };
        }
        texts.iter().all(|text| *text == MISSING || is_inline(*text)).then_some(texts)
    }

    /// The value of a property; the first one, as everywhere.
    ///
    /// # Panics
    /// If it is one of those that were not read, see [`counted_columns`].
    pub(crate) fn property(&self, name: &str) -> Option<&'a str> {
        if let Some(column) = COLUMN_PROPERTIES.iter().position(|known| *known == name) {
            let column = self.columns[column];
            return if is_valid(column, self.row) { Some(column.value(self.row)) } else { None };
        }
        let Properties { names, values, from, to } = self.others.expect("the properties that are asked for were read");
        let found = (from..to).find(|index| names.value(*index) == name)?;
        values.is_valid(found).then(|| values.value(found))
    }
}

/// A view of Arrow's holds texts of up to so many bytes.
const INLINE_BYTES_MAX: u128 = 12;
/// In place of the view of a text that is not there; of a length that no text has.
const MISSING: u128 = u128::MAX;

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
    log_times_us: &'a [i64],
    places: PlaceColumns<'a>,
    keys: [&'a [i64]; 2],
    contents: [&'a [i64]; 2],
}

impl<'a> SightingRows<'a> {
    pub(super) fn new(batch: &'a RecordBatch) -> Result<Self, RecountError> {
        Ok(Self {
            log_times_us: present(batch, "log_time")?,
            places: PlaceColumns::new(batch)?,
            keys: [present(batch, "event_key_high")?, present(batch, "event_key_low")?],
            contents: [present(batch, "content_key_high")?, present(batch, "content_key_low")?],
        })
    }

    #[inline]
    pub(super) fn get(&self, row: usize) -> Result<Sighting, RecountError> {
        let [key_high, key_low] = self.keys;
        let [content_high, content_low] = self.contents;
        Ok(Sighting {
            key: [key_high[row].cast_unsigned(), key_low[row].cast_unsigned()],
            log_time_us: self.log_times_us[row],
            place: self.places.get(row)?,
            content: [content_high[row].cast_unsigned(), content_low[row].cast_unsigned()],
        })
    }
}

struct PlaceColumns<'a> {
    partitions: &'a [i32],
    offsets: &'a [i64],
}

impl<'a> PlaceColumns<'a> {
    fn new(batch: &'a RecordBatch) -> Result<Self, RecountError> {
        let partitions = column(batch, "partition")?.as_primitive_opt::<Int32Type>();
        let partitions = never_null(partitions.ok_or_else(|| unexpected(batch, "partition"))?, "partition")?;
        Ok(Self { partitions: partitions.values(), offsets: present(batch, "offset")? })
    }

    #[inline]
    fn get(&self, row: usize) -> Result<Place, RecountError> {
        Place::new(self.partitions[row], self.offsets[row])
    }
}

/// A batch of [`counted_columns`].
pub(crate) struct Deliveries<'a> {
    places: PlaceColumns<'a>,
    occurred_us: &'a [i64],
    names: &'a StringViewArray,
    user_keys: [Nullable<'a>; 2],
    user_hashes: Nullable<'a>,
    currencies: &'a StringViewArray,
    /// The last currency that was read, by the bytes that say it.
    last_currency: Cell<Option<(u128, Currency)>>,
    amounts: Nullable<'a>,
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
            user_keys: [Nullable::new(batch, "user_key_high")?, Nullable::new(batch, "user_key_low")?],
            user_hashes: Nullable::new(batch, "user_hash")?,
            currencies: texts(batch, "currency")?,
            last_currency: Cell::new(None),
            amounts: Nullable::new(batch, "amount_minor")?,
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
            occurred_at: EventTime(self.occurred_us[row]),
            name: self.names.value(row),
            name_view: self.names.views()[row],
            user: self.user(row, place)?,
            money: self.money(row, place)?,
            columns: &self.columns,
            row,
            others: self.others.map(|map| properties_of(map, row)),
        })
    }

    #[inline]
    fn user(&self, row: usize, at: Place) -> Result<Option<User>, RecountError> {
        let [high, low] = &self.user_keys;
        match (high.get(row), low.get(row), self.user_hashes.get(row)) {
            (None, None, None) => Ok(None),
            (Some(high), Some(low), Some(hash)) => {
                let key = u128::from(high.cast_unsigned()) << 64 | u128::from(low.cast_unsigned());
                Ok(Some(User { key, hash: hash.cast_unsigned() }))
            }
            _ => Err(damaged(at, "only some of a user's keys")),
        }
    }

    #[inline]
    fn money(&self, row: usize, at: Place) -> Result<Option<Money>, RecountError> {
        match (is_valid(self.currencies, row), self.amounts.get(row)) {
            (false, None) => Ok(None),
            (true, Some(minor)) => Ok(Some(Money { currency: self.currency(row, at)?, minor })),
            _ => Err(damaged(at, "an amount without a currency, or the reverse")),
        }
    }

    #[inline]
    fn currency(&self, row: usize, at: Place) -> Result<Currency, RecountError> {
        let view = self.currencies.views()[row];
        match self.last_currency.get() {
            Some((last, currency)) if last == view && is_inline(view) => Ok(currency),
            _ => {
                let currency = self.currencies.value(row).parse();
                let currency = currency.map_err(|error| damaged(at, &format!("{error}")))?;
                self.last_currency.set(Some((view, currency)));
                Ok(currency)
            }
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
fn present<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a [i64], RecountError> {
    Ok(never_null(numbers(batch, name)?, name)?.values())
}

/// Numbers that not every row has.
struct Nullable<'a> {
    values: &'a [i64],
    nulls: Option<&'a NullBuffer>,
}

impl<'a> Nullable<'a> {
    fn new(batch: &'a RecordBatch, name: &str) -> Result<Self, RecountError> {
        let column = numbers(batch, name)?;
        Ok(Self { values: column.values(), nulls: column.nulls() })
    }

    #[inline]
    fn get(&self, row: usize) -> Option<i64> {
        let is_there = match self.nulls {
            None => true,
            Some(nulls) => nulls.is_valid(row),
        };
        if is_there { Some(self.values[row]) } else { None }
    }
}

#[inline]
fn is_valid(column: &StringViewArray, row: usize) -> bool {
    match column.nulls() {
        None => true,
        Some(nulls) => nulls.is_valid(row),
    }
}

/// Whether a view holds its whole text: then texts are equal if their views are.
#[inline]
const fn is_inline(view: u128) -> bool {
    // The length is in the lowest four bytes.
    view & 0xffff_ffff <= INLINE_BYTES_MAX
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
