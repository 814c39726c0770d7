//! Which events came too late for a closed period, and belong to it all the same.
//!
//! Pure. A delivery is late if it is dated on a day of the period and lies at or beyond the offsets that were in the lake
//! when the period was closed. Its event is posted if that delivery is the first one of the event, as for every
//! count, and if no closed period has the event in its numbers already.

use std::collections::BTreeMap;

use hashbrown::{HashMap, HashSet};
use jiff::civil::Date;
use reckon_schemas::period::Period;

use crate::recount::Position;

/// What is needed to know of a closed period.
#[derive(Clone, Debug)]
pub(super) struct Border {
    pub(super) period: Period,
    /// The first offset of each partition that the lake did not hold at the close; a partition that is not named had
    /// none.
    pub(super) next_offsets: BTreeMap<i32, i64>,
}

impl Border {
    fn was_there(&self, at: Position) -> bool {
        self.next_offsets.get(&at.partition).is_some_and(|next| at.offset < *next)
    }
}

/// The late deliveries of one period.
#[derive(Debug)]
pub(super) struct Late<T> {
    border: Border,
    posted: HashSet<u128>,
    /// By event: its first late delivery.
    found: HashMap<u128, (Position, T)>,
}

impl<T> Late<T> {
    /// None yet; the events that are posted already are left out.
    pub(super) fn new(border: Border, posted: HashSet<u128>) -> Self {
        Self { border, posted, found: HashMap::new() }
    }

    /// Takes a delivery of the tenant; what it says is asked for only if it is late.
    pub(super) fn take<E>(
        &mut self,
        key: u128,
        at: Position,
        day: Date,
        content: impl FnOnce() -> Result<T, E>,
    ) -> Result<(), E> {
        if !self.border.period.contains(day) || self.border.was_there(at) || self.posted.contains(&key) {
            return Ok(());
        }
        if self.found.get(&key).is_none_or(|(first, _)| at < *first) {
            self.found.insert(key, (at, content()?));
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Every delivery of the tenant has to be shown to the judge before it decides.
    pub(super) fn judge<'a>(&self, closed: &'a [Border]) -> Judge<'a> {
        let verdicts = self.found.iter().map(|(key, (at, _))| (*key, Verdict::new(*at, closed.len())));
        Judge { closed, verdicts: verdicts.collect() }
    }

    /// The events to be posted, in the order of their deliveries.
    pub(super) fn decide(self, judge: &Judge<'_>) -> Vec<(u128, Position, T)> {
        let mut events: Vec<_> = self
            .found
            .into_iter()
            .filter(|(key, (at, _))| judge.posts(*key, *at))
            .map(|(key, (at, content))| (key, at, content))
            .collect();
        events.sort_unstable_by_key(|(_, at, _)| *at);
        events
    }
}

/// What is known of an event that may be posted.
#[derive(Debug)]
struct Verdict {
    first: Position,
    /// For each closed period the first delivery that the lake held when it was closed, and whether it is dated in it.
    at_close: Vec<Option<(Position, bool)>>,
}

impl Verdict {
    fn new(first: Position, closed: usize) -> Self {
        Self { first, at_close: vec![None; closed] }
    }
}

/// Decides over events by all of their deliveries.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    closed: &'a [Border],
    verdicts: HashMap<u128, Verdict>,
}

impl Judge<'_> {
    /// Takes a delivery of the tenant.
    pub(super) fn take(&mut self, key: u128, at: Position, day: Date) {
        let Some(verdict) = self.verdicts.get_mut(&key) else { return };
        verdict.first = verdict.first.min(at);
        for (border, known) in self.closed.iter().zip(&mut verdict.at_close) {
            if border.was_there(at) && known.is_none_or(|(first, _)| at < first) {
                *known = Some((at, border.period.contains(day)));
            }
        }
    }

    fn posts(&self, key: u128, at: Position) -> bool {
        let Some(verdict) = self.verdicts.get(&key) else { return false };
        verdict.first == at && !verdict.at_close.iter().flatten().any(|(_, counted)| *counted)
    }
}

#[cfg(test)]
mod tests {
    use reckon_schemas::time::EventTime;

    use super::*;
    use jiff::civil::date;
    use std::convert::Infallible;

    const IN_OCTOBER: Date = date(2026, 10, 31);
    const IN_NOVEMBER: Date = date(2026, 11, 1);

    fn at(log_time_us: i64, offset: i64) -> Position {
        Position { log_time: EventTime(log_time_us), partition: 0, offset }
    }

    fn border(period: &str, next_offset: i64) -> Border {
        Border { period: period.parse().expect("a month"), next_offsets: BTreeMap::from([(0, next_offset)]) }
    }

    /// The keys that are posted for October, which was closed at offset 10, of these deliveries.
    fn posted(closed: &[Border], known: &[u128], deliveries: &[(u128, Position, Date)]) -> Vec<u128> {
        let mut late = Late::new(closed[0].clone(), known.iter().copied().collect());
        for (key, at, day) in deliveries {
            late.take(*key, *at, *day, || Ok::<_, Infallible>(())).expect("never fails");
        }
        let mut judge = late.judge(closed);
        for (key, at, day) in deliveries {
            judge.take(*key, *at, *day);
        }
        late.decide(&judge).into_iter().map(|(key, ..)| key).collect()
    }

    #[test]
    fn an_event_is_posted_if_its_first_delivery_came_after_the_close() {
        let closed = [border("2026-10", 10)];
        let october = |key, offset| (key, at(offset, offset), IN_OCTOBER);
        let deliveries = [october(1, 9), october(2, 10), october(3, 11), october(3, 12), (4, at(13, 13), IN_NOVEMBER)];
        assert_eq!(posted(&closed, &[], &deliveries), [2, 3]);
        assert_eq!(posted(&closed, &[2], &deliveries), [3], "what is posted is not posted again");
    }

    #[test]
    fn a_second_delivery_is_never_posted() {
        let closed = [border("2026-10", 10)];
        let again = (1, at(20, 20), IN_OCTOBER);
        assert_eq!(posted(&closed, &[], &[(1, at(5, 5), IN_OCTOBER), again]), [] as [u128; 0]);
        assert_eq!(posted(&closed, &[], &[(1, at(5, 5), IN_NOVEMBER), again]), [] as [u128; 0], "counted in November");
        // A producer whose clock is behind: its late delivery has an earlier log time than the one that was counted.
        let early = (1, at(1, 20), IN_OCTOBER);
        assert_eq!(posted(&closed, &[], &[(1, at(5, 5), IN_OCTOBER), early]), [] as [u128; 0], "it is in the numbers");
        assert_eq!(posted(&closed, &[], &[(1, at(5, 5), IN_NOVEMBER), early]), [1], "November gives it away");
        let closed = [border("2026-10", 10), border("2026-11", 15)];
        assert_eq!(posted(&closed, &[], &[(1, at(5, 5), IN_NOVEMBER), early]), [] as [u128; 0], "November is closed");
    }

    #[test]
    fn a_partition_that_was_not_there_is_late_from_its_beginning() {
        let closed = [border("2026-10", 10)];
        let elsewhere = Position { log_time: EventTime(1), partition: 7, offset: 0 };
        assert_eq!(posted(&closed, &[], &[(1, elsewhere, IN_OCTOBER)]), [1]);
    }
}
