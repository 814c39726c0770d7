//! Cells, put together from a cluster's answers.

use arrow::array::{Array, Int64Array, RecordBatch, StringArray};
use hashbrown::HashMap;
use jiff::civil::Date;
use reckon_schemas::cell::DimensionValues;
use reckon_schemas::money::Currency;
use reckon_schemas::sketch::Sketch;
use reckon_schemas::sums::Unit;
use reckon_schemas::time::EventTime;
use reckon_schemas::window::{Grain, Window};

use super::calendar::Calendar;
use super::cells::HALF_BITS;
use super::read::{known, list, lists, numbers, present, texts};
use super::shape::{Shape, text_column, window_column};
use crate::recount::{Cell, Cells, Exact, Groups, RecountError, User};

/// How often a user is in a cell of grain `1d`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visits {
    /// The cell's group.
    pub(crate) group: u32,
    /// The cell's day.
    pub(crate) day: Date,
    /// The user.
    pub(crate) user: User,
    /// How many events.
    pub(crate) events: u64,
}

/// What was counted on a cluster.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    /// The cells, with their users.
    pub(crate) cells: Cells,
    /// The users of days' cells.
    pub(crate) visits: Vec<Visits>,
}

/// Cells while answers come in.
pub(super) struct Assembly<'a> {
    shape: &'a Shape,
    calendar: &'a Calendar,
    groups: &'a mut Groups,
    cells: Vec<Cell>,
    /// By cell: its events as the question for amounts counted them.
    events: Vec<u64>,
    numbers: HashMap<(u32, Window, Date), usize>,
    visits: Vec<Visits>,
    users_of_days: Vec<(u32, u128)>,
}

/// The columns of an answer that name its cells.
struct Names {
    name: StringArray,
    day: Int64Array,
    windows: Vec<(Grain, Int64Array)>,
    values: Vec<StringArray>,
}

impl<'a> Assembly<'a> {
    pub(super) fn new(shape: &'a Shape, calendar: &'a Calendar, groups: &'a mut Groups) -> Self {
        let (cells, events, numbers) = (Vec::new(), Vec::new(), HashMap::new());
        Self { shape, calendar, groups, cells, events, numbers, visits: Vec::new(), users_of_days: Vec::new() }
    }

    /// Takes events and sums of money.
    pub(super) fn take_amounts(&mut self, batch: &RecordBatch) -> Result<(), RecountError> {
        let names = self.names(batch)?;
        let (currencies, events) = (texts(batch, "currency")?, present(batch, "events")?);
        let (low, high) = (numbers(batch, "low")?, numbers(batch, "high")?);
        for row in 0..batch.num_rows() {
            let unit = match currencies.is_valid(row).then(|| currencies.value(row)) {
                None => None,
                Some(code) => Some(Unit::from(code.parse::<Currency>().map_err(|error| damaged(&format!("{error}")))?)),
            };
            let count = events.value(row).unsigned_abs();
            if count >> (HALF_BITS - 1) != 0 {
                return Err(damaged(&format!("a cell of {count} events is more than can be summed there")));
            }
            for number in self.cells_of(&names, row)? {
                self.events[number] += count;
                if let Some(unit) = &unit {
                    let halves = known(&low, row).zip(known(&high, row)).ok_or_else(|| damaged("a sum is missing"))?;
                    let sum = (i128::from(halves.1) << HALF_BITS) + i128::from(halves.0);
                    self.cells[number].exact.sums.add(unit, sum)?;
                }
            }
        }
        Ok(())
    }

    /// Takes events by the text of a property that is summed.
    pub(super) fn take_texts(&mut self, batch: &RecordBatch, text: usize, unit: &Unit) -> Result<(), RecountError> {
        let names = self.names(batch)?;
        let (texts, events) = (texts(batch, &text_column(text))?, present(batch, "events")?);
        for row in 0..batch.num_rows() {
            let Some(amount) = texts.is_valid(row).then(|| Unit::parse_property(texts.value(row))).flatten() else {
                continue;
            };
            let sum = i128::from(amount).checked_mul(i128::from(events.value(row)));
            let sum = sum.ok_or(reckon_schemas::sums::SumOverflow)?;
            for number in self.cells_of(&names, row)? {
                self.cells[number].exact.sums.add(unit, sum)?;
            }
        }
        Ok(())
    }

    /// Takes the users of days, one by one.
    pub(super) fn take_days(&mut self, batch: &RecordBatch) -> Result<(), RecountError> {
        let names = self.names(batch)?;
        let (high, low) = (numbers(batch, "user_key_high")?, numbers(batch, "user_key_low")?);
        let (hashes, events) = (numbers(batch, "user_hash")?, present(batch, "events")?);
        for row in 0..batch.num_rows() {
            let key = known(&high, row).zip(known(&low, row)).zip(known(&hashes, row));
            let user = key.map(|((high, low), hash)| {
                let half = |half: i64| u128::from(half.cast_unsigned());
                User { key: half(high) << 64 | half(low), hash: hash.cast_unsigned() }
            });
            let events = events.value(row).unsigned_abs();
            for number in self.cells_of(&names, row)? {
                let cell = &mut self.cells[number];
                cell.exact.count += events;
                if let Some(user) = user {
                    cell.exact.add_new_user(user);
                    let (group, day) = (cell.group, cell.day);
                    self.visits.push(Visits { group, day, user, events });
                    let number = u32::try_from(number).expect("a chunk of days has far fewer than 2^32 cells");
                    self.users_of_days.push((number, user.key));
                }
            }
        }
        Ok(())
    }

    /// Takes events and users of finer windows.
    pub(super) fn take_users(&mut self, batch: &RecordBatch) -> Result<(), RecountError> {
        let names = self.names(batch)?;
        let (events, users) = (present(batch, "events")?, present(batch, "users")?);
        let (hashes, registers) = (lists(batch, "hashes")?, lists(batch, "registers")?);
        for row in 0..batch.num_rows() {
            let mut sketch = if registers.is_null(row) { Sketch::new() } else { Sketch::of_registers() };
            for hash in list(&hashes, row).into_iter().chain(list(&registers, row)) {
                sketch.insert_hash(hash.cast_unsigned());
            }
            for number in self.cells_of(&names, row)? {
                let exact = &mut self.cells[number].exact;
                exact.count += events.value(row).unsigned_abs();
                exact.users_exact += users.value(row).unsigned_abs();
                exact.users.merge(&sketch);
            }
        }
        Ok(())
    }

    /// The cells, if every question counted the same events.
    pub(super) fn finish(self) -> Result<Elsewhere, RecountError> {
        for (cell, events) in self.cells.iter().zip(&self.events) {
            if cell.exact.count != *events {
                return Err(RecountError::Unreadable(
                    format!(
                        "the cluster counted {} events and then {events} in one cell of {} from {}: a part of an answer \
                         is missing",
                        cell.exact.count, cell.window.grain, cell.window.start
                    )
                    .into(),
                ));
            }
        }
        Ok(Elsewhere { cells: Cells::counted(self.cells, self.users_of_days), visits: self.visits })
    }

    fn names(&self, batch: &RecordBatch) -> Result<Names, RecountError> {
        let windows = Grain::KEPT.into_iter().filter(|grain| batch.column_by_name(&window_column(*grain)).is_some());
        let windows = windows.map(|grain| Ok((grain, numbers(batch, &window_column(grain))?)));
        let values = self.shape.dimensions().map(|(column, _)| texts(batch, &column));
        Ok(Names {
            name: texts(batch, "name")?,
            day: present(batch, "day")?,
            windows: windows.collect::<Result<_, RecountError>>()?,
            values: values.collect::<Result<_, _>>()?,
        })
    }

    /// The numbers of the cells of a row: one for each rollup over its dimensions.
    fn cells_of(&mut self, names: &Names, row: usize) -> Result<Vec<usize>, RecountError> {
        let (day, whole) = self.calendar.day_at(names.day.value(row))?;
        let finer = names.windows.iter().find_map(|(grain, starts)| Some((*grain, known(starts, row)?)));
        let window = match finer.and_then(|(grain, start)| Some((grain, start, grain.fixed_length_us()?))) {
            None => whole,
            Some((grain, start, length)) => {
                Window { grain, start: EventTime(start), end: EventTime(start.saturating_add(length)) }
            }
        };
        let grouped: Vec<usize> =
            (0..names.values.len()).filter(|number| names.values[*number].is_valid(row)).collect();
        let shape = self.shape;
        let rollups = shape.rollups_of(&grouped);
        if rollups.is_empty() {
            return Err(damaged(&format!("no rollup groups by the dimensions {grouped:?}")));
        }
        let cells = rollups.iter().map(|(rollup, dimensions)| {
            let values: Vec<&str> = dimensions.iter().map(|number| names.values[*number].value(row)).collect();
            let group = self.groups.of_cell(*rollup, names.name.value(row), &DimensionValues::new(&values));
            *self.numbers.entry((group, window, day)).or_insert_with(|| {
                self.cells.push(Cell { group, day, window, exact: Exact::default() });
                self.events.push(0);
                self.cells.len() - 1
            })
        });
        Ok(cells.collect())
    }
}

fn damaged(problem: &str) -> RecountError {
    RecountError::Damaged(format!("the cluster's answer: {problem}"))
}
