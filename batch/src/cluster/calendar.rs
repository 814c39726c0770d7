//! Days and windows as expressions over the microseconds of an event: executors know no tenant's zone.

use std::collections::BTreeMap;

use datafusion::logical_expr::{Expr, lit, when};
use jiff::civil::Date;
use reckon_schemas::time::{EventTime, Zone};
use reckon_schemas::window::{Grain, Window};

use crate::recount::RecountError;

/// Some days of a zone, by their first instant.
#[derive(Clone, Debug)]
pub(super) struct Calendar {
    days: BTreeMap<i64, (Date, i64)>,
}

/// Days of one length without a gap: nearly all of a year is two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    from: i64,
    to: i64,
    length: i64,
}

impl Calendar {
    pub(super) fn new(days: impl IntoIterator<Item = Date>, zone: &Zone) -> Self {
        let day = |day: Date| (zone.day_start(day).0, (day, zone.day_end(day).0));
        Self { days: days.into_iter().map(day).collect() }
    }

    /// The first instant of the day that an instant lies on; null if it lies on none of them.
    ///
    /// # Errors
    /// [`RecountError::Damaged`] if there are no days.
    pub(super) fn day_of(&self, at: &Expr) -> Result<Expr, RecountError> {
        let mut stretches = self.stretches().into_iter().map(|stretch| {
            let Stretch { from, to, length } = stretch;
            let inside = at.clone().gt_eq(lit(from)).and(at.clone().lt(lit(to)));
            (inside, lit(from) + (at.clone() - lit(from)) / lit(length) * lit(length))
        });
        let none = || RecountError::Damaged("no day is asked for".to_owned());
        let (inside, start) = stretches.next().ok_or_else(none)?;
        let mut cases = when(inside, start);
        for (inside, start) in stretches {
            cases = cases.when(inside, start);
        }
        Ok(cases.end()?)
    }

    /// The day that begins at an instant.
    ///
    /// # Errors
    /// [`RecountError::Damaged`] if none of them does.
    pub(super) fn day_at(&self, start: i64) -> Result<(Date, Window), RecountError> {
        let (day, end) = self.days.get(&start).ok_or_else(|| {
            RecountError::Damaged(format!("the cluster counted a day that begins at {}", EventTime(start)))
        })?;
        Ok((*day, Window { grain: Grain::Day, start: EventTime(start), end: EventTime(*end) }))
    }

    fn stretches(&self) -> Vec<Stretch> {
        let mut stretches: Vec<Stretch> = Vec::new();
        for (from, (_, to)) in &self.days {
            let day = Stretch { from: *from, to: *to, length: to - from };
            match stretches.last_mut() {
                Some(last) if last.to == day.from && last.length == day.length => last.to = day.to,
                _ => stretches.push(day),
            }
        }
        stretches
    }
}

/// The first instant of the window of a fixed length that an instant lies in, before 1970, too.
pub(super) fn window_start(at: &Expr, length_us: i64) -> Expr {
    at.clone() - (at.clone() % lit(length_us) + lit(length_us)) % lit(length_us)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn a_year_is_a_few_stretches_and_a_gap_ends_one() {
        let zone = Zone::parse("Europe/Berlin").expect("known");
        let year = std::iter::successors(Some(date(2026, 1, 1)), |day| day.tomorrow().ok()).take(365);
        let hours: Vec<i64> =
            Calendar::new(year, &zone).stretches().iter().map(|days| days.length / 3_600_000_000).collect();
        assert_eq!(hours, [24, 23, 24, 25, 24]);
        let apart = Calendar::new([date(2026, 5, 1), date(2026, 5, 2), date(2026, 5, 4)], &zone);
        assert_eq!(apart.stretches().len(), 2);
    }
}
