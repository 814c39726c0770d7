//! The stored cells of a few days against those that were counted again.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use jiff::civil::Date;
use reckon_schemas::sums::Sums;
use reckon_schemas::time::{EventTime, day_of_number};

use super::recount::Recounted;
use super::{Finding, Verification};
use crate::Error;
use crate::recount::Cell;
use crate::settle::{Store, StoredCellRow, StoredUsersRow};

/// What tells cells apart: rollup, event, dimension values, grain, start, day.
type Key = (String, String, Vec<String>, String, i64, Date);
/// What tells the users of days' cells apart.
type UsersKey = (String, String, Vec<String>, Date);

/// The days' cells, recounted, by name.
pub(super) struct Expected<'a> {
    cells: HashMap<Key, &'a Cell>,
    users: HashMap<UsersKey, (u64, u128)>,
}

impl<'a> Expected<'a> {
    pub(super) fn new(recounted: &'a Recounted) -> Self {
        let groups = &recounted.groups;
        let name = |cell: &Cell| {
            let rollup = groups.rollup_of(cell.group).name().to_owned();
            (rollup, groups.get(cell.group).event.clone(), groups.values_of(cell.group))
        };
        let cells = recounted.cells.all().iter().map(|cell| {
            let (rollup, event, values) = name(cell);
            ((rollup, event, values, cell.window.grain.name().to_owned(), cell.window.start.0, cell.day), cell)
        });
        let mut users: HashMap<UsersKey, (u64, u128)> = HashMap::new();
        for (cell, key) in recounted.cells.users_of_days() {
            let (rollup, event, values) = name(cell);
            let (keys, folded) = users.entry((rollup, event, values, cell.day)).or_default();
            *keys += 1;
            *folded ^= key;
        }
        Self { cells: cells.collect(), users }
    }

    /// Compares with what a run has stored for the days between two, but for those that it counted `elsewhere`.
    ///
    /// # Errors
    /// [`Error::Retryable`] if ClickHouse is away.
    pub(super) async fn compare(
        mut self,
        store: &Store,
        run_id: &str,
        days: (Date, Date),
        elsewhere: &BTreeSet<Date>,
        found: &mut Verification,
    ) -> Result<(), Error> {
        let tenant = found.tenant.clone();
        let is_here = |day: i32| !elsewhere.contains(&day_of_number(day));
        let compare = |stored: StoredCellRow| {
            if is_here(stored.day) {
                self.compare_cell(stored, found);
            }
            Ok(())
        };
        store.cells_of_run(&tenant, run_id, days, compare).await?;
        let compare = |stored: StoredUsersRow| {
            if is_here(stored.day) {
                self.compare_users(stored, found);
            }
            Ok(())
        };
        store.user_keys_of_run(&tenant, run_id, days, compare).await?;
        let mut missing: Vec<_> = self.cells.keys().map(place).collect();
        missing.sort_unstable();
        for place in missing {
            found.find(Finding { what: "cell", place, stored: "nothing".to_owned(), expected: "a cell".to_owned() });
        }
        let mut missing: Vec<_> = self.users.into_iter().map(|(key, (keys, _))| (users_place(&key), keys)).collect();
        missing.sort_unstable();
        for (place, keys) in missing {
            let (stored, expected) = ("nothing".to_owned(), format!("{keys} users"));
            found.find(Finding { what: "users", place, stored, expected });
        }
        Ok(())
    }

    fn compare_cell(&mut self, stored: StoredCellRow, found: &mut Verification) {
        found.cells += 1;
        let day = day_of_number(stored.day);
        let key = (stored.rollup, stored.event, stored.dimensions, stored.grain, stored.start_us, day);
        let place = place(&key);
        // A cell that is there twice is not expected the second time.
        let Some(cell) = self.cells.remove(&key) else {
            let (stored, expected) = (format!("{} events", stored.count), "nothing".to_owned());
            return found.find(Finding { what: "cell", place, stored, expected });
        };
        let exact = &cell.exact;
        found.expect("cell", format!("{place}, events"), &stored.count.to_string(), &exact.count.to_string());
        let users = (stored.users_exact.to_string(), exact.users_exact.to_string());
        found.expect("cell", format!("{place}, users"), &users.0, &users.1);
        compare_sums(&place, &stored.money, &exact.sums, found);
        let window_end = (EventTime(stored.end_us).to_string(), cell.window.end.to_string());
        found.expect("cell", format!("{place}, end"), &window_end.0, &window_end.1);
        if stored.users != exact.users {
            let text = |users: &reckon_schemas::sketch::Sketch| format!("a sketch of about {} users", users.estimate());
            let (stored, expected) = (text(&stored.users), text(&exact.users));
            found.find(Finding { what: "cell", place: format!("{place}, sketch"), stored, expected });
        }
    }

    fn compare_users(&mut self, stored: StoredUsersRow, found: &mut Verification) {
        let key = (stored.rollup, stored.event, stored.dimensions, day_of_number(stored.day));
        let (keys, folded) = self.users.remove(&key).unwrap_or_default();
        let text = |keys: u64, folded: u128| format!("{keys} users, folded {folded:032x}");
        found.expect("users", users_place(&key), &text(stored.keys, stored.folded), &text(keys, folded));
    }
}

fn compare_sums(place: &str, stored: &Sums, expected: &Sums, found: &mut Verification) {
    for (unit, sum) in expected.iter() {
        let known = stored.iter().find(|(known, _)| *known == unit);
        let known = known.map_or("nothing".to_owned(), |(_, sum)| unit.format(sum));
        found.expect("cell", format!("{place}, {unit}"), &known, &unit.format(sum));
    }
    for (unit, sum) in stored.iter().filter(|(unit, _)| expected.iter().all(|(known, _)| known != *unit)) {
        found.expect("cell", format!("{place}, {unit}"), &unit.format(sum), "nothing");
    }
}

fn place((rollup, event, values, grain, start, day): &Key) -> String {
    format!("{day} {rollup} {event} {values:?} {grain} from {}", EventTime(*start))
}

fn users_place((rollup, event, values, day): &UsersKey) -> String {
    format!("{day} {rollup} {event} {values:?}")
}
