//! How far one user comes.

use super::STEPS_MAX;

/// Takes a user's events in the order of time.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    steps: usize,
    within_us: i64,
    /// For each step the latest start of an attempt that has reached it: the one that has the most time left.
    starts: [Option<i64>; STEPS_MAX],
    instant: i64,
    /// The steps that events of this instant are for, bit 0 the first.
    pending: u32,
}

impl Walk {
    /// At the beginning of a funnel of so many steps.
    pub(crate) fn new(steps: usize, within_us: i64) -> Self {
        Self { steps: steps.min(STEPS_MAX), within_us, starts: [None; STEPS_MAX], instant: 0, pending: 0 }
    }

    /// An event for the steps of a mask, bit 0 the first.
    pub(crate) fn take(&mut self, at_us: i64, mask: u32) {
        if at_us != self.instant {
            self.advance();
            self.instant = at_us;
        }
        self.pending |= mask;
    }

    /// How many steps were reached.
    pub(crate) fn finish(mut self) -> usize {
        self.advance();
        self.starts.iter().take_while(|start| start.is_some()).count()
    }

    /// The last step first, so that no step of an instant is reached from another one of the same instant.
    fn advance(&mut self) {
        let is_pending = |pending: u32, step: usize| pending & (1 << step) != 0;
        for step in (1..self.steps).rev().filter(|step| is_pending(self.pending, *step)) {
            if let Some(start) = self.starts[step - 1]
                && self.instant - start <= self.within_us
            {
                self.starts[step] = Some(start);
            }
        }
        if is_pending(self.pending, 0) {
            self.starts[0] = Some(self.instant);
        }
        self.pending = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// From every possible start, always to the next event that will do.
    fn naive(events: &[(i64, u32)], steps: usize, within_us: i64) -> usize {
        let starts = events.iter().filter(|(_, mask)| mask & 1 != 0);
        let reached = starts.map(|(start, _)| {
            let mut at = *start;
            for step in 1..steps {
                let next = events.iter().filter(|(then, mask)| *then > at && mask & (1 << step) != 0);
                match next.map(|(then, _)| *then).min() {
                    Some(next) if next - start <= within_us => at = next,
                    _ => return step,
                }
            }
            steps
        });
        reached.max().unwrap_or(0)
    }

    proptest! {
        #[test]
        fn as_far_as_from_the_best_of_all_starts(
            mut events in prop::collection::vec((0..25_i64, 0..16_u32), 0..30),
            steps in 1..5_usize,
            within_us in 0..15_i64,
        ) {
            events.sort_by_key(|(at, _)| *at);
            let mut walk = Walk::new(steps, within_us);
            events.iter().for_each(|(at, mask)| walk.take(*at, *mask));
            prop_assert_eq!(walk.finish(), naive(&events, steps, within_us));
        }
    }

    #[test]
    fn the_same_instant_is_not_later_and_the_limit_is_inside() {
        let reached = |events: &[(i64, u32)]| {
            let mut walk = Walk::new(2, 10);
            events.iter().for_each(|(at, mask)| walk.take(*at, *mask));
            walk.finish()
        };
        assert_eq!(reached(&[(5, 0b11)]), 1);
        assert_eq!(reached(&[(5, 0b01), (5, 0b10)]), 1);
        assert_eq!(reached(&[(4, 0b01), (5, 0b01), (5, 0b10)]), 2);
        assert_eq!(reached(&[(5, 0b01), (15, 0b10)]), 2);
        assert_eq!(reached(&[(5, 0b01), (16, 0b10)]), 1);
        assert_eq!(reached(&[(5, 0b10)]), 0);
    }
}
