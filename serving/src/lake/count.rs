//! What is counted of the lake's events for one question.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Not;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::when;
use datafusion::prelude::{Expr, cast, ident, lit};
use reckon_schemas::catalog::{Measure, Metric};
use reckon_schemas::cell::DimensionValues;
use reckon_schemas::sums::Unit;
use reckon_schemas::window::Window;

use super::events::{passes, value_of};
use super::pinned::{PinnedLake, for_each_batch, integer, integers};
use super::{broken, failed};
use crate::merge::plan::{Layer, Plan};
use crate::merge::tally::Tally;
use crate::merge::{Cell, Counted, Key};
use crate::query::selection::Selection;
use crate::stores::StoreError;

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
        let (Some(first), Some(last)) = (asked.windows.first(), asked.windows.last()) else {
            return Ok(Counting::new(asked).finish());
        };
        let selection = &asked.selection;
        let dimension = |index: &usize| selection.rollup.dimensions()[*index].as_str();
        let condition = condition(selection);
        let mut columns = vec![cast(ident("occurred_at"), DataType::Int64).alias("at")];
        columns.extend(selection.by.iter().enumerate().map(|(n, index)| value_of(dimension(index)).alias(key_name(n))));
        columns.extend(amount(selection).map_err(|error| failed(&error))?);
        let events = self.events(asked.tenant(), first.start..last.end, condition, columns)?;
        let mut counting = Counting::new(asked);
        let reservation = self.reserve("a question's numbers");
        for_each_batch(events, |batch| {
            counting.take(batch)?;
            if counting.sums.len() as u64 > numbers_max {
                return Err(StoreError::TooMuch { rows_max: numbers_max });
            }
            reservation.try_resize(counting.bytes()).map_err(|error| failed(&error))
        })
        .await?;
        Ok(counting.finish())
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

struct Counting<'a> {
    asked: &'a Asked,
    numbers: HashMap<String, u32>,
    keys: Vec<Key>,
    key_bytes: usize,
    /// By group and window. Users are in `visits`, and here is a zero.
    sums: HashMap<(u32, u32), i128>,
    visits: HashSet<(u32, u32, u128)>,
}

impl<'a> Counting<'a> {
    fn new(asked: &'a Asked) -> Self {
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
                Amount::User(Some(user)) => drop(self.visits.insert((group, window, user))),
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

    fn finish(self) -> Counted {
        let is_users = self.asked.selection.measure == Measure::Users;
        let visits: Vec<(u32, u32, u128)> = self.visits.into_iter().collect();
        let users = distinct(&visits, |group, window| (group, window));
        let cells = self.sums.iter().map(|(place, sum)| Cell {
            window_start: self.asked.windows[place.1 as usize].start,
            key: self.keys[place.0 as usize].clone(),
            tally: if is_users { Tally::exact_users(users.get(place).copied().unwrap_or(0)) } else { Tally::Sum(*sum) },
        });
        let cells = cells.collect();
        let mut unions = HashMap::new();
        if is_users {
            let piece = |window: u32| self.asked.pieces.partition_point(|first| *first <= window as usize) - 1;
            let key = |group: u32| self.keys[group as usize].clone();
            let whole = distinct(&visits, |_, _| ());
            let by_group = distinct(&visits, |group, _| group);
            let by_piece = distinct(&visits, |_, window| piece(window));
            let by_both = distinct(&visits, |group, window| (group, piece(window)));
            let mut unite = |piece, key, count| drop(unions.insert((piece, key), Tally::exact_users(count)));
            unite(None, None, whole.get(&()).copied().unwrap_or(0));
            by_group.into_iter().for_each(|(group, count)| unite(None, Some(key(group)), count));
            for piece in 0..self.asked.pieces.len() {
                unite(Some(piece), None, by_piece.get(&piece).copied().unwrap_or(0));
            }
            by_both.into_iter().for_each(|((group, piece), count)| unite(Some(piece), Some(key(group)), count));
        }
        let zero = if is_users { Tally::exact_users(0) } else { Tally::Sum(0) };
        Counted { layers: vec![(Layer::Lake, cells)], unions, zero }
    }
}

/// How many different users there are of each set of groups and windows.
fn distinct<K: Ord>(visits: &[(u32, u32, u128)], set: impl Fn(u32, u32) -> K) -> BTreeMap<K, u64> {
    let mut members: Vec<(K, u128)> =
        visits.iter().map(|(group, window, user)| (set(*group, *window), *user)).collect();
    members.sort_unstable();
    members.dedup();
    let mut counts = BTreeMap::new();
    members.into_iter().for_each(|(set, _)| *counts.entry(set).or_default() += 1);
    counts
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
    use super::*;

    #[test]
    fn a_user_of_many_windows_is_one_user_of_their_union() {
        let visits = [(0, 0, 7), (0, 1, 7), (1, 1, 7), (0, 1, 8)];
        assert_eq!(distinct(&visits, |_, _| ()), BTreeMap::from([((), 2)]));
        assert_eq!(distinct(&visits, |group, _| group), BTreeMap::from([(0, 2), (1, 1)]));
        assert_eq!(
            distinct(&visits, |group, window| (group, window)),
            BTreeMap::from([((0, 0), 1), ((0, 1), 2), ((1, 1), 1)])
        );
        assert!(distinct(&[], |group, _| group).is_empty());
    }
}
