//! The exact cells of a few days, at every grain that is kept.

use hashbrown::{HashMap, HashSet};
use jiff::civil::Date;
use reckon_schemas::sums::{SumOverflow, Unit};
use reckon_schemas::time::{EventTime, Zone};
use reckon_schemas::window::{Grain, Window, WindowCursor};

use super::{Exact, User};

/// One exact cell: what happened in a window on one calendar day of the tenant.
///
/// The day matters where a window of universal time lies in two of them, as an hour does in a zone that is half an hour
/// off: such a window has one cell for each day, so that settling a day never touches the day beside it. Counts, sums
/// and sketches of the two unite; exact numbers of users do not add up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The number of its group, see [`super::Groups`].
    pub group: u32,
    /// The day that it is settled with.
    pub day: Date,
    /// Its window.
    pub window: Window,
    /// What was counted.
    pub exact: Exact,
}

/// The cells of a few days.
#[derive(Debug)]
pub struct Cells {
    windows: [WindowCursor; Grain::KEPT.len()],
    numbers: HashMap<(u32, Window, Date), u32>,
    cells: Vec<Cell>,
    seen: HashSet<(u32, u128)>,
}

impl Cells {
    /// No cells yet; days begin and end in this zone.
    #[must_use]
    pub fn new(zone: &Zone) -> Self {
        Self {
            windows: Grain::KEPT.map(|grain| WindowCursor::new(grain, zone.clone())),
            numbers: HashMap::new(),
            cells: Vec::new(),
            seen: HashSet::new(),
        }
    }

    /// Counts one event, which no other delivery was counted for, in all of its groups and at every grain that is kept.
    ///
    /// # Errors
    /// [`SumOverflow`] if a sum leaves 128 bits.
    pub fn count(
        &mut self,
        at: EventTime,
        day: Date,
        groups: &[u32],
        amounts: &[(Unit, i64)],
        user: Option<User>,
    ) -> Result<(), SumOverflow> {
        let windows = self.windows.each_mut().map(|cursor| cursor.window_at(at));
        for group in groups {
            // Finest first: who was there in this minute was there in this hour and on this day.
            let mut new_user = user;
            for window in windows {
                let number = self.number(*group, window, day);
                let exact = &mut self.cells[number as usize].exact;
                exact.add_event(amounts)?;
                new_user = new_user.filter(|user| self.seen.insert((number, user.key)));
                if let Some(user) = new_user {
                    exact.add_new_user(user);
                }
            }
        }
        Ok(())
    }

    /// All cells, in no order.
    #[must_use]
    pub fn all(&self) -> &[Cell] {
        &self.cells
    }

    /// The cell of a group and a whole day.
    #[must_use]
    pub fn of_day(&self, group: u32, day: Date, window: Window) -> Option<&Cell> {
        self.numbers.get(&(group, window, day)).map(|number| &self.cells[*number as usize])
    }

    /// The exact users of every cell of grain `1d`, each once, in no order.
    pub fn users_of_days(&self) -> impl Iterator<Item = (&Cell, u128)> {
        self.seen.iter().filter_map(|(number, key)| {
            let cell = &self.cells[*number as usize];
            (cell.window.grain == Grain::Day).then_some((cell, *key))
        })
    }

    fn number(&mut self, group: u32, window: Window, day: Date) -> u32 {
        *self.numbers.entry((group, window, day)).or_insert_with(|| {
            let number = u32::try_from(self.cells.len()).expect("a chunk of days has far fewer than 2^32 cells");
            self.cells.push(Cell { group, day, window, exact: Exact::default() });
            number
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn coarser_cells_count_every_event_and_each_user_once() {
        let zone = Zone::parse("Europe/Berlin").expect("known");
        let mut cells = Cells::new(&zone);
        let [eur, quantity] = ["EUR", "#quantity"].map(|unit| unit.parse::<Unit>().expect("known"));
        let start = zone.day_start(date(2026, 10, 25));
        // 25 hours, an event every ten minutes, three users in turn.
        for step in 0..150_i64 {
            let at = start.plus_micros(step * 600_000_000);
            let user = User::of("t", &format!("user-{}", step % 3));
            let amounts = [(eur.clone(), step), (quantity.clone(), 2)];
            cells.count(at, date(2026, 10, 25), &[0], &amounts, user).expect("small");
        }
        let of = |grain| cells.all().iter().filter(move |cell| cell.window.grain == grain);
        assert_eq!(Grain::ALL.map(|grain| of(grain).count()), [0, 150, 150, 25, 1]);
        let day = of(Grain::Day).next().expect("one");
        assert_eq!((day.exact.count, day.exact.users_exact, day.exact.users.estimate()), (150, 3, 3));
        assert_eq!((day.exact.sums.get(eur), day.exact.sums.get(quantity)), ((0..150).sum::<i128>(), 300));
        assert_eq!(of(Grain::Hour).map(|cell| cell.exact.users_exact).sum::<u64>(), 75);
        assert_eq!(cells.users_of_days().count(), 3);
    }

    #[test]
    fn an_hour_in_two_days_has_a_cell_for_each() {
        let zone = Zone::parse("Asia/Kolkata").expect("known");
        let mut cells = Cells::new(&zone);
        let midnight = zone.day_start(date(2026, 5, 2));
        let user = User::of("t", "u");
        cells.count(midnight.plus_micros(-1), date(2026, 5, 1), &[0], &[], user).expect("no money");
        cells.count(midnight, date(2026, 5, 2), &[0], &[], user).expect("no money");
        let hours: Vec<_> = cells.all().iter().filter(|cell| cell.window.grain == Grain::Hour).collect();
        assert_eq!(hours.len(), 2);
        assert_eq!(hours[0].window, hours[1].window);
        assert!(hours.iter().all(|cell| cell.exact.count == 1));
    }
}
