//! When an alert fires: a pure function of what was observed, in order, with time as an argument.

use std::cmp::Ordering;

use bigdecimal::BigDecimal;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// On which side of the threshold something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Side {
    /// Above it.
    Above,
    /// Below it.
    Below,
}

/// When an alert fires, and when it stops to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) side: Side,
    pub(crate) threshold: BigDecimal,
    /// A firing alert is over when the number is back on this side of this value: the hysteresis.
    pub(crate) clear: BigDecimal,
    /// The threshold has to be crossed for longer than this, without a pause.
    pub(crate) for_at_least: SignedDuration,
    /// Without a number for longer than this, that is what is told.
    pub(crate) no_data_after: SignedDuration,
}

/// Where an alert stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// Nothing is wrong.
    #[default]
    Ok,
    /// The threshold is crossed, not yet for long enough.
    Pending,
    /// It was crossed for long enough.
    Firing,
    /// There is no number.
    NoData,
}

/// What an alert remembers. Kept across restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    pub(crate) phase: Phase,
    /// Since when it stands so.
    pub(crate) since: Option<Timestamp>,
    /// Since when the threshold is crossed without a pause.
    pub(crate) crossed_since: Option<Timestamp>,
    /// Since when there is no number.
    pub(crate) missing_since: Option<Timestamp>,
    /// When it was looked at last.
    pub(crate) seen_at: Option<Timestamp>,
}

impl Rule {
    /// Where the alert stands after one more look: at a number, or in vain. What was not looked at for longer than
    /// `pause_max` was not observed without a pause.
    pub(crate) fn step(
        &self,
        before: &Standing,
        seen: Option<&BigDecimal>,
        now: Timestamp,
        pause_max: SignedDuration,
    ) -> Standing {
        let paused = before.seen_at.is_none_or(|at| now.duration_since(at) > pause_max);
        let going_on = |since: Option<Timestamp>| if paused { Some(now) } else { since.or(Some(now)) };
        let crossed = seen.is_some_and(|number| self.is_beyond(number, &self.threshold));
        let after = Standing {
            phase: before.phase,
            since: before.since,
            // A look in vain neither proves nor disproves that it goes on.
            crossed_since: match seen {
                Some(_) if crossed => going_on(before.crossed_since),
                Some(_) => None,
                None => before.crossed_since,
            },
            missing_since: if seen.is_none() { going_on(before.missing_since) } else { None },
            seen_at: Some(now),
        };
        let phase = self.phase(&after, seen, now);
        let since = if phase == before.phase { before.since.or(Some(now)) } else { Some(now) };
        Standing { phase, since, ..after }
    }

    fn phase(&self, standing: &Standing, seen: Option<&BigDecimal>, now: Timestamp) -> Phase {
        let lasts = |since: Option<Timestamp>, limit| since.is_some_and(|since| now.duration_since(since) > limit);
        let Some(number) = seen else {
            return if lasts(standing.missing_since, self.no_data_after) { Phase::NoData } else { standing.phase };
        };
        if standing.phase == Phase::Firing {
            // Between the two values it stays as it is, so that a number that trembles does not ring twice.
            return if self.is_beyond(number, &self.clear) { Phase::Firing } else { Phase::Ok };
        }
        match standing.crossed_since {
            Some(_) if lasts(standing.crossed_since, self.for_at_least) => Phase::Firing,
            // That there is a number again is no all-clear as long as it is on the wrong side.
            Some(_) if standing.phase == Phase::NoData => Phase::NoData,
            Some(_) => Phase::Pending,
            None => Phase::Ok,
        }
    }

    fn is_beyond(&self, number: &BigDecimal, limit: &BigDecimal) -> bool {
        number.cmp(limit) == if self.side == Side::Above { Ordering::Greater } else { Ordering::Less }
    }
}

impl Phase {
    /// Whether people are told that it went from one to the other: a threshold that is crossed for a moment is nothing.
    pub(crate) fn is_told(before: Phase, after: Phase) -> bool {
        let told = |phase| if phase == Phase::Pending { Phase::Ok } else { phase };
        told(before) != told(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> Rule {
        Rule {
            side: Side::Above,
            threshold: BigDecimal::from(100),
            clear: BigDecimal::from(90),
            for_at_least: SignedDuration::from_secs(10),
            no_data_after: SignedDuration::from_secs(20),
        }
    }

    const PAUSE_MAX: SignedDuration = SignedDuration::from_secs(15);

    /// The phases after looks at (second, number).
    fn phases(rule: &Rule, looks: &[(i64, Option<i64>)]) -> Vec<Phase> {
        phases_with(rule, PAUSE_MAX, looks)
    }

    fn phases_with(rule: &Rule, pause_max: SignedDuration, looks: &[(i64, Option<i64>)]) -> Vec<Phase> {
        let mut standing = Standing::default();
        let step = |(second, number): &(i64, Option<i64>)| {
            let now = Timestamp::from_second(*second).expect("in range");
            standing = rule.step(&standing, number.map(BigDecimal::from).as_ref(), now, pause_max);
            standing.phase
        };
        looks.iter().map(step).collect()
    }

    #[test]
    fn it_fires_after_consecutive_seconds_and_clears_with_hysteresis() {
        use Phase::{Firing, Ok, Pending};
        let looks = [
            (0, Some(100)),
            (5, Some(101)),
            (10, Some(99)),
            (15, Some(101)),
            (20, Some(150)),
            // Not longer than ten seconds yet.
            (25, Some(101)),
            (30, Some(101)),
            (35, Some(95)),
            (40, Some(91)),
            (45, Some(90)),
            (50, Some(101)),
        ];
        let expected = [Ok, Pending, Ok, Pending, Pending, Pending, Firing, Firing, Firing, Ok, Pending];
        assert_eq!(phases(&rule(), &looks), expected);
    }

    #[test]
    fn below_is_the_other_way_round_and_exact() {
        use Phase::{Firing, Ok, Pending};
        let rule = Rule {
            side: Side::Below,
            threshold: "0.1".parse().expect("a number"),
            clear: "0.3".parse().expect("a number"),
            ..rule()
        };
        let mut standing = Standing::default();
        let mut seen = Vec::new();
        for (second, number) in [(0, "0.10"), (5, "0.09"), (17, "0.0999999999999999999"), (20, "0.2"), (25, "0.3")] {
            let now = Timestamp::from_second(second).expect("in range");
            standing = rule.step(&standing, Some(&number.parse().expect("a number")), now, PAUSE_MAX);
            seen.push(standing.phase);
        }
        assert_eq!(seen, [Ok, Pending, Firing, Firing, Ok]);
    }

    #[test]
    fn no_number_is_told_and_what_comes_after_it_too() {
        use Phase::{Firing, NoData, Ok, Pending};
        let looks = [(0, Some(1)), (5, None), (15, None), (25, None), (26, None), (30, Some(101)), (41, Some(101))];
        assert_eq!(phases(&rule(), &looks), [Ok, Ok, Ok, Ok, NoData, NoData, Firing]);
        assert_eq!(phases(&rule(), &[(0, None), (10, None), (21, None), (30, Some(99))])[2..], [NoData, Ok]);
        // A look in vain in between does not end what was crossed before and after it.
        let looks = [(0, Some(101)), (5, None), (11, Some(101))];
        assert_eq!(phases(&rule(), &looks), [Pending, Pending, Firing]);
    }

    #[test]
    fn what_nobody_looked_at_is_not_consecutive() {
        use Phase::{Firing, Pending};
        // As after a restart: the state is known, the time in between is not.
        let looks = [(0, Some(101)), (16, Some(101)), (27, Some(101))];
        assert_eq!(phases(&rule(), &looks), [Pending, Pending, Firing]);
        // What fires goes on firing.
        let looks = [(0, Some(101)), (11, Some(101)), (1_000, Some(95))];
        assert_eq!(phases(&rule(), &looks), [Pending, Firing, Firing]);
    }

    #[test]
    fn looks_that_are_far_apart_for_everybody_are_no_pause() {
        use Phase::{Firing, NoData, Ok, Pending};
        // There is so much to look at that each alert has its turn every forty seconds.
        let slow = SignedDuration::from_secs(60);
        let crossed = [(0, Some(101)), (40, Some(101)), (80, Some(101))];
        assert_eq!(phases_with(&rule(), slow, &crossed), [Pending, Firing, Firing]);
        assert_eq!(phases(&rule(), &crossed), [Pending, Pending, Pending], "it would never fire");
        assert_eq!(phases_with(&rule(), slow, &[(0, None), (40, None)]), [Ok, NoData]);
    }

    #[test]
    fn a_moment_beyond_the_threshold_is_not_told() {
        assert!(!Phase::is_told(Phase::Ok, Phase::Pending) && !Phase::is_told(Phase::Pending, Phase::Ok));
        assert!(Phase::is_told(Phase::Pending, Phase::Firing) && Phase::is_told(Phase::NoData, Phase::Ok));
    }
}
