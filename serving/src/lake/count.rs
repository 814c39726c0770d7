//! What is counted of the lake's events for one question.

use std::collections::{HashMap, HashSet};
use std::ops::Not;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::logical_expr::when;
use datafusion::prelude::{Expr, cast, ident, lit};
use reckon_schemas::catalog::{Measure, Metric};
use reckon_schemas::cell::DimensionValues;
use reckon_schemas::sums::Unit;
use reckon_schemas::window::Window;

use super::events::{passes, value_of};
use super::pinned::{PinnedLake, for_each_batch, integer, integers};
use super::users::{Users, Visit};
use super::{broken, failed};
use crate::merge::plan::{Layer, Plan};
use crate::merge::tally::Tally;
use crate::merge::{Cell, Counted, Key};
use crate::query::selection::Selection;
use crate::stores::StoreError;

/// What a number of an answer takes beside the texts of its key, in bytes; a guess on the high side.
const NUMBER_BYTES: usize = 250;

/// A question to a version of the lake: equal ones have equal answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Asked {
    selection: Selection,
    version: u64,
    windows: Vec<Window>,
    /// The first windows of the pieces of the range that the lake answers.
    pieces: Vec<usize>,
}

impl Asked {
    /// What a plan asks of a version of the lake.
    pub(crate) fn new(selection: &Selection, plan: &Plan, version: u64) -> Self {
        let windows = plan.windows_of(Layer::Lake);
        let pieces = plan.pieces().iter().filter(|piece| piece.layer == Layer::Lake);
        Self {
            selection: selection.clone(),
            version,
            windows: windows.map(|index| *plan.window(index)).collect(),
            pieces: pieces.map(|piece| piece.windows.start).collect(),
        }
    }

    pub(super) fn tenant(&self) -> &str {
        self.selection.tenant.as_str()
    }
}

impl PinnedLake {
    /// Counts. At most so many numbers.
    pub(super) async fn count(&self, asked: &Asked, numbers_max: u64) -> Result<Counted, StoreError> {
        let reservation = self.reserve("a question's numbers");
        let (Some(first), Some(last)) = (asked.windows.first(), asked.windows.last()) else {
            return Counting::new(asked.clone()).finish(reservation).await;
        };
        let selection = &asked.selection;
        let dimension = |index: &usize| selection.rollup.dimensions()[*index].as_str();
        let condition = condition(selection);
        let mut columns = vec![cast(ident("occurred_at"), DataType::Int64).alias("at")];
        columns.extend(selection.by.iter().enumerate().map(|(n, index)| value_of(dimension(index)).alias(key_name(n))));
        columns.extend(amount(selection).map_err(|error| failed(&error))?);
        let events = self.events(asked.tenant(), first.start..last.end, condition, columns)?;
        let mut counting = Counting::new(asked.clone());
        for_each_batch(events, |batch| {
            counting.take(batch)?;
            if counting.sums.len() as u64 > numbers_max {
                return Err(StoreError::TooMuch { rows_max: numbers_max });
            }
            reservation.try_resize(counting.bytes()).map_err(|error| failed(&error))
        })
        .await?;
        counting.finish(reservation).await
    }
}

/// Which events count.
fn condition(selection: &Selection) -> Expr {
    let dimension = |index: &usize| selection.rollup.dimensions()[*index].as_str();
    let is_any = selection.event == Metric::ANY_EVENT;
    let of_event = if is_any { lit(true) } else { ident("name").eq(lit(selection.event.as_str())) };
    let passing = selection.filters.iter().map(|(index, test)| passes(dimension(index), test));
    let is_of = |group: &Key| {
        let values = selection.except_by.iter().zip(group);
        let all = values.map(|(index, value)| value_of(dimension(index)).eq(lit(value.as_str()))).reduce(Expr::and);
        all.unwrap_or(lit(true))
    };
    let elsewhere = selection.except.iter().map(|group| is_of(group).not());
    passing.chain(elsewhere).fold(of_event, Expr::and)
}

/// What is added up of an event.
fn amount(selection: &Selection) -> Result<Vec<Expr>, DataFusionError> {
    Ok(match (selection.measure, &selection.unit) {
        (Measure::Users, _) => vec![ident("user_key_high"), ident("user_key_low")],
        (_, Some(Unit::Currency(currency))) => {
            let is_in_it = ident("currency").eq(lit(currency.code()));
            vec![when(is_in_it, ident("amount_minor")).otherwise(lit(0_i64))?.alias("amount")]
        }
        // Read by the one reader of such numbers that there is.
        (_, Some(Unit::Property(name))) => vec![value_of(name).alias("text")],
        _ => vec![lit(1_i64).alias("amount")],
    })
}

fn key_name(position: usize) -> String {
    format!("key_{position}")
}

struct Counting {
    asked: Asked,
    numbers: HashMap<String, u32>,
    keys: Vec<Key>,
    key_bytes: usize,
    /// By group and window. Users are in `visits`, and here is a zero.
    sums: HashMap<(u32, u32), i128>,
    visits: HashSet<Visit>,
}

impl Counting {
    fn new(asked: Asked) -> Self {
        let (numbers, keys, sums, visits) = Default::default();
        Self { asked, numbers, keys, key_bytes: 0, sums, visits }
    }

    fn bytes(&self) -> usize {
        // An entry of a hash table is what it holds, a byte of its own, and its share of the room that is free.
        self.key_bytes * 3 + self.sums.capacity() * 40 + self.visits.capacity() * 40
    }

    fn take(&mut self, batch: &RecordBatch) -> Result<(), StoreError> {
        let at = integers(batch, "at")?;
        let by = (0..self.asked.selection.by.len()).map(|position| texts(batch, &key_name(position)));
        let by = by.collect::<Result<Vec<_>, _>>()?;
        let amounts = Amounts::new(batch, &self.asked.selection)?;
        let mut encoded = String::new();
        for row in 0..batch.num_rows() {
            let windows = &self.asked.windows;
            let after = windows.partition_point(|window| window.start.0 <= at.value(row));
            let Some(window) = after.checked_sub(1).and_then(|window| u32::try_from(window).ok()) else { continue };
            encoded.clear();
            let values: Vec<&str> = by.iter().map(|column| column.value(row)).collect();
            encoded.push_str(DimensionValues::new(&values).as_str());
            let group = self.group(&encoded, &values);
            let sum = self.sums.entry((group, window)).or_default();
            match amounts.get(row)? {
                Amount::Sum(amount) => {
                    *sum = sum.checked_add(amount.into()).ok_or_else(|| broken("a sum left 128 bits"))?;
                }
                Amount::User(Some(user)) => drop(self.visits.insert((user, group, window))),
                Amount::User(None) => {}
            }
        }
        Ok(())
    }

    fn group(&mut self, encoded: &str, values: &[&str]) -> u32 {
        if let Some(number) = self.numbers.get(encoded) {
            return *number;
        }
        let number = u32::try_from(self.keys.len()).expect("fewer groups than numbers that an answer may have");
        self.numbers.insert(encoded.to_owned(), number);
        self.keys.push(values.iter().map(|value| (*value).to_owned()).collect());
        self.key_bytes += 2 * encoded.len() + 100;
        number
    }

    /// What the numbers and the sorted visits take beside what is there already.
    fn bytes_to_finish(&self) -> usize {
        // A number has its key's texts with it, and users are also counted by group and piece.
        let key_bytes = self.key_bytes / self.keys.len().max(1);
        let users = if self.is_users() { 2 } else { 1 };
        self.sums.len() * users * (NUMBER_BYTES + key_bytes) + self.visits.len() * size_of::<Visit>()
    }

    fn is_users(&self) -> bool {
        self.asked.selection.measure == Measure::Users
    }

    /// On a thread that may take its time, within the memory that is reserved: many users are many seconds of sorting,
    /// and nobody else waits for that.
    async fn finish(self, reservation: MemoryReservation) -> Result<Counted, StoreError> {
        let bytes = self.bytes() + self.bytes_to_finish();
        reservation.try_resize(bytes).map_err(|error| failed(&error))?;
        let counted = tokio::task::spawn_blocking(move || {
            let counted = self.counted();
            drop(reservation);
            counted
        });
        counted.await.map_err(|error| broken(error.to_string()))
    }

    fn counted(self) -> Counted {
        let is_users = self.is_users();
        let Self { asked, keys, sums, visits, .. } = self;
        let visits: Vec<Visit> = visits.into_iter().collect();
        let users = Users::of(visits, &asked.pieces);
        let cells = sums.iter().map(|(place, sum)| Cell {
            window_start: asked.windows[place.1 as usize].start,
            key: keys[place.0 as usize].clone(),
            tally: match is_users {
                true => Tally::exact_users(users.by_place.get(place).copied().unwrap_or(0)),
                false => Tally::Sum(*sum),
            },
        });
        let cells = cells.collect();
        let mut unions = HashMap::new();
        if is_users {
            let key = |group: u32| keys[group as usize].clone();
            let mut unite = |piece, key, count| drop(unions.insert((piece, key), Tally::exact_users(count)));
            unite(None, None, users.all);
            users.by_group.into_iter().for_each(|(group, count)| unite(None, Some(key(group)), count));
            users.by_piece.into_iter().enumerate().for_each(|(piece, count)| unite(Some(piece), None, count));
            let of_pieces = users.by_group_and_piece.into_iter();
            of_pieces.for_each(|((group, piece), count)| unite(Some(piece), Some(key(group)), count));
        }
        let zero = if is_users { Tally::exact_users(0) } else { Tally::Sum(0) };
        Counted { layers: vec![(Layer::Lake, cells)], unions, zero }
    }
}

enum Amount {
    Sum(i64),
    User(Option<u128>),
}

enum Amounts<'a> {
    Integers(&'a Int64Array),
    Texts(&'a StringArray),
    Users([&'a Int64Array; 2]),
}

impl<'a> Amounts<'a> {
    fn new(batch: &'a RecordBatch, selection: &Selection) -> Result<Self, StoreError> {
        Ok(match (selection.measure, &selection.unit) {
            (Measure::Users, _) => Self::Users([integers(batch, "user_key_high")?, integers(batch, "user_key_low")?]),
            (_, Some(Unit::Property(_))) => Self::Texts(texts(batch, "text")?),
            _ => Self::Integers(integers(batch, "amount")?),
        })
    }

    fn get(&self, row: usize) -> Result<Amount, StoreError> {
        Ok(match self {
            Self::Integers(amounts) => Amount::Sum(integer(amounts, row).unwrap_or(0)),
            Self::Texts(texts) => Amount::Sum(Unit::parse_property(texts.value(row)).unwrap_or(0)),
            Self::Users([high, low]) => match (integer(high, row), integer(low, row)) {
                (None, None) => Amount::User(None),
                (Some(high), Some(low)) => Amount::User(Some(user_key(high, low))),
                _ => return Err(broken("half of a user's key is missing")),
            },
        })
    }
}

/// Both halves of a key, as the lake keeps them.
pub(super) fn user_key(high: i64, low: i64) -> u128 {
    u128::from(high.cast_unsigned()) << 64 | u128::from(low.cast_unsigned())
}

/// A column of texts.
pub(super) fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringArray, StoreError> {
    let column = batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
    column.ok_or_else(|| broken(format!("the column {name} is not one of texts")))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryConsumer, MemoryPool};
    use reckon_schemas::cell::Rollup;
    use reckon_schemas::time::EventTime;
    use reckon_schemas::window::Grain;

    use super::*;

    fn counting(visits: u32) -> Counting {
        let selection = Selection {
            tenant: "acme".parse().expect("valid"),
            event: "view".to_owned(),
            measure: Measure::Users,
            unit: None,
            rollup: Rollup::new::<String>([]).expect("valid"),
            grain: Grain::Day,
            by: Vec::new(),
            filters: Vec::new(),
            except: Vec::new(),
            except_by: Vec::new(),
        };
        let window = Window { grain: Grain::Day, start: EventTime(0), end: EventTime(86_400_000_000) };
        let asked = Asked { selection, version: 1, windows: vec![window], pieces: vec![0] };
        let mut counting = Counting::new(asked);
        let group = counting.group("", &[]);
        counting.sums.insert((group, 0), 0);
        counting.visits = (0..visits).map(|user| (u128::from(user.reverse_bits()), group, 0)).collect();
        counting
    }

    fn reserved(bytes: usize) -> MemoryReservation {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(bytes));
        MemoryConsumer::new("test").register(&pool)
    }

    #[tokio::test]
    async fn users_are_told_apart_beside_the_runtime_and_within_the_memory() {
        let many = counting(1_000_000);
        // The visits fit, and not once more.
        let refused = counting(1_000_000).finish(reserved(many.bytes())).await;
        assert!(matches!(refused, Err(StoreError::OverLimit { .. })), "{refused:?}");
        let late = tokio::time::timeout(Duration::from_millis(1), many.finish(reserved(1 << 30))).await;
        assert!(late.is_err(), "who asked does not have to wait for it");
        let counted = counting(1_000).finish(reserved(1 << 20)).await.expect("fits");
        assert_eq!(counted.unions[&(None, None)], Tally::exact_users(1_000));
    }
}
