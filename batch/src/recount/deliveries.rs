//! Rows of the lake as deliveries of events.

use arrow::array::{Array, AsArray, Int32Array, Int64Array, MapArray, RecordBatch, StringArray};
use arrow::datatypes::{Int32Type, Int64Type};
use reckon_schemas::ids::event_key;
use reckon_schemas::money::Money;
use reckon_schemas::time::EventTime;

use super::RecountError;

/// Where and when a delivery came into the log. The order of these is the order of deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// When the broker took it, in microseconds.
    pub(crate) log_time_us: i64,
    /// Its partition.
    pub(crate) partition: i32,
    /// Its offset.
    pub(crate) offset: i64,
}

/// One delivery of an event, borrowed from a batch of rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery<'a> {
    /// Where it is in the log.
    pub(crate) position: Position,
    /// The key of its event.
    pub(crate) key: u128,
    /// The id that the key stands for.
    pub(crate) id: &'a str,
    /// When the event happened.
    pub(crate) occurred_at: EventTime,
    /// The event's name.
    pub(crate) name: &'a str,
    /// Who did it, or empty.
    pub(crate) user: &'a str,
    /// The money it moved.
    pub(crate) money: Option<Money>,
    properties: Properties<'a>,
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
    pub(crate) fn property(&self, name: &str) -> Option<&'a str> {
        let Properties { names, values, from, to } = self.properties;
        let found = (from..to).find(|index| names.value(*index) == name)?;
        values.is_valid(found).then(|| values.value(found))
    }
}

/// The columns of `lake::EVENTS_COLUMNS` that a position and a key need, in the order that [`Keys`] reads.
pub(super) const KEY_COLUMNS: [&str; 4] = ["log_time", "partition", "offset", "event_id"];
/// What [`Deliveries`] reads beyond [`KEY_COLUMNS`], in this order.
pub(super) const COUNTED_COLUMNS: [&str; 6] =
    ["occurred_at", "name", "user_id", "currency", "amount_minor", "properties"];

/// A batch of [`KEY_COLUMNS`].
pub(super) struct Keys<'a> {
    tenant: &'a str,
    log_times_us: &'a Int64Array,
    partitions: &'a Int32Array,
    offsets: &'a Int64Array,
    ids: &'a StringArray,
}

impl<'a> Keys<'a> {
    pub(super) fn new(tenant: &'a str, batch: &'a RecordBatch) -> Result<Self, RecountError> {
        let keys = Self {
            tenant,
            log_times_us: batch.column(0).as_primitive_opt::<Int64Type>().ok_or_else(|| unexpected(batch, 0))?,
            partitions: batch.column(1).as_primitive_opt::<Int32Type>().ok_or_else(|| unexpected(batch, 1))?,
            offsets: batch.column(2).as_primitive_opt::<Int64Type>().ok_or_else(|| unexpected(batch, 2))?,
            ids: batch.column(3).as_string_opt::<i32>().ok_or_else(|| unexpected(batch, 3))?,
        };
        for column in 0..KEY_COLUMNS.len() {
            never_null(batch, column)?;
        }
        Ok(keys)
    }

    pub(super) fn get(&self, row: usize) -> (u128, Position) {
        let position = Position {
            log_time_us: self.log_times_us.value(row),
            partition: self.partitions.value(row),
            offset: self.offsets.value(row),
        };
        (event_key(self.tenant, self.ids.value(row)), position)
    }
}

/// A batch of [`KEY_COLUMNS`] and [`COUNTED_COLUMNS`].
pub(super) struct Deliveries<'a> {
    keys: Keys<'a>,
    occurred_us: &'a Int64Array,
    names: &'a StringArray,
    users: &'a StringArray,
    currencies: &'a StringArray,
    amounts: &'a Int64Array,
    properties: &'a MapArray,
}

impl<'a> Deliveries<'a> {
    pub(super) fn new(tenant: &'a str, batch: &'a RecordBatch) -> Result<Self, RecountError> {
        let text = |column| batch.column(column).as_string_opt::<i32>().ok_or_else(|| unexpected(batch, column));
        let number =
            |column| batch.column(column).as_primitive_opt::<Int64Type>().ok_or_else(|| unexpected(batch, column));
        let properties = batch.column(9).as_map_opt().ok_or_else(|| unexpected(batch, 9))?;
        if properties.keys().as_string_opt::<i32>().is_none() || properties.values().as_string_opt::<i32>().is_none() {
            return Err(unexpected(batch, 9));
        }
        never_null(batch, 4)?;
        never_null(batch, 5)?;
        Ok(Self {
            keys: Keys::new(tenant, batch)?,
            occurred_us: number(4)?,
            names: text(5)?,
            users: text(6)?,
            currencies: text(7)?,
            amounts: number(8)?,
            properties,
        })
    }

    pub(super) fn get(&self, row: usize) -> Result<Delivery<'a>, RecountError> {
        let (key, position) = self.keys.get(row);
        let user = if self.users.is_valid(row) { self.users.value(row) } else { "" };
        Ok(Delivery {
            position,
            key,
            id: self.keys.ids.value(row),
            occurred_at: EventTime(self.occurred_us.value(row)),
            name: self.names.value(row),
            user,
            money: self.money(row, position)?,
            properties: self.properties_of(row),
        })
    }

    fn money(&self, row: usize, at: Position) -> Result<Option<Money>, RecountError> {
        match (self.currencies.is_valid(row), self.amounts.is_valid(row)) {
            (false, false) => Ok(None),
            (true, true) => {
                let currency = self.currencies.value(row).parse();
                let currency = currency.map_err(|error| RecountError::Damaged(format!("{at:?}: {error}")))?;
                Ok(Some(Money { currency, minor: self.amounts.value(row) }))
            }
            _ => Err(RecountError::Damaged(format!("{at:?}: an amount without a currency, or the reverse"))),
        }
    }

    fn properties_of(&self, row: usize) -> Properties<'a> {
        let offsets = self.properties.value_offsets();
        let bound = |index: usize| usize::try_from(offsets[index]).expect("Arrow's offsets are not negative");
        let (from, to) = if self.properties.is_valid(row) { (bound(row), bound(row + 1)) } else { (0, 0) };
        Properties {
            names: self.properties.keys().as_string::<i32>(),
            values: self.properties.values().as_string::<i32>(),
            from,
            to,
        }
    }
}

fn never_null(batch: &RecordBatch, column: usize) -> Result<(), RecountError> {
    if batch.column(column).null_count() == 0 {
        return Ok(());
    }
    let name = batch.schema_ref().field(column).name().clone();
    Err(RecountError::Damaged(format!("{name} is missing in a row that is filed under a tenant")))
}

fn unexpected(batch: &RecordBatch, column: usize) -> RecountError {
    let schema = batch.schema_ref();
    let field = schema.field(column);
    RecountError::Damaged(format!("column {} is of type {}", field.name(), field.data_type()))
}
