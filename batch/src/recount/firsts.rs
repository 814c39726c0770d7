//! Which delivery of an event counts: the first one.

use hashbrown::HashMap;

use super::Position;

/// For every event of a few days, its first delivery in the whole lake.
///
/// The whole lake, because an event may come again with another `occurred_at`: it must not count on two days. The first
/// is the one with the lowest (log time, partition, offset), which no later delivery can change.
#[derive(Debug, Default)]
pub(crate) struct FirstDeliveries {
    positions: HashMap<u128, Position>,
}

impl FirstDeliveries {
    /// Makes room for events.
    pub(crate) fn with_capacity(events: usize) -> Self {
        Self { positions: HashMap::with_capacity(events) }
    }

    /// Enters a delivery of the days in question.
    pub(crate) fn enter(&mut self, key: u128, at: Position) {
        self.positions.entry(key).and_modify(|first| *first = at.min(*first)).or_insert(at);
    }

    /// Enters a delivery from anywhere: it matters only if the event is one of those in question.
    pub(crate) fn enter_known(&mut self, key: u128, at: Position) {
        if let Some(first) = self.positions.get_mut(&key) {
            *first = at.min(*first);
        }
    }

    /// Whether this delivery is the first one of its event.
    pub(crate) fn is_first(&self, key: u128, at: Position) -> bool {
        self.positions.get(&key) == Some(&at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_delivery_wins_whatever_order_they_are_read_in() {
        let at = |log_time_us, partition, offset| Position { log_time_us, partition, offset };
        let deliveries = [at(5, 0, 9), at(5, 1, 2), at(4, 3, 70), at(4, 3, 71)];
        for start in 0..deliveries.len() {
            let mut firsts = FirstDeliveries::default();
            for index in 0..deliveries.len() {
                firsts.enter(7, deliveries[(start + index) % deliveries.len()]);
            }
            let first: Vec<_> = deliveries.iter().filter(|delivery| firsts.is_first(7, **delivery)).collect();
            assert_eq!(first, [&at(4, 3, 70)]);
        }
    }

    #[test]
    fn an_earlier_delivery_on_another_day_takes_the_event_away() {
        let at = |offset| Position { log_time_us: offset, partition: 0, offset };
        let mut firsts = FirstDeliveries::default();
        firsts.enter(1, at(10));
        firsts.enter_known(1, at(3));
        firsts.enter_known(2, at(4));
        assert!(!firsts.is_first(1, at(10)));
        assert!(!firsts.is_first(2, at(4)));
    }
}
