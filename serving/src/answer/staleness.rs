//! That an answer is older than it should be: it says so, and so does what it is compared with.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Answer;

/// How old numbers are that should be newer, and why they are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Stale {
    /// How old, in milliseconds.
    pub(crate) age_ms: i64,
    /// Why.
    pub(crate) reason: StaleReason,
}

/// Why numbers are older than they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StaleReason {
    /// The speed layer is further behind the log than it should be, or has not been heard of for so long.
    SpeedBehind,
    /// A store is away: this is the last good answer.
    StoreAway,
}

impl StaleReason {
    /// The name used in headers.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            StaleReason::SpeedBehind => "speed_behind",
            StaleReason::StoreAway => "store_away",
        }
    }
}

impl Answer {
    /// Says so if the speed layer is behind, and this answer needs it; the same of what it is compared with.
    pub(crate) fn mark_if_behind(&mut self, lag_max: Duration) {
        let lag_max_ms = i64::try_from(lag_max.as_millis()).unwrap_or(i64::MAX);
        let behind = self.speed_lag_ms.filter(|lag_ms| *lag_ms > lag_max_ms && self.is_provisional());
        self.stale = behind.map(|age_ms| Stale { age_ms, reason: StaleReason::SpeedBehind });
        if let Some(comparison) = &mut self.comparison {
            comparison.base.mark_if_behind(lag_max);
        }
    }

    /// Says that it is the last good one of its moment; the same of what it is compared with.
    pub(crate) fn mark_last_good(&mut self, now: Timestamp) {
        let age_ms = now.as_millisecond().saturating_sub(self.computed_at.as_millisecond()).max(0);
        // What is not known to be less.
        self.speed_lag_ms = self.speed_lag_ms.map(|lag_ms| lag_ms.saturating_add(age_ms - self.age_ms));
        self.age_ms = age_ms;
        self.stale = Some(Stale { age_ms, reason: StaleReason::StoreAway });
        if let Some(comparison) = &mut self.comparison {
            comparison.base.mark_last_good(now);
        }
    }

    /// Why any of its numbers is older than it should be: its own, or those that they are compared with.
    pub(crate) fn staleness(&self) -> Option<Stale> {
        self.stale.or_else(|| self.comparison.as_ref()?.base.stale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::{Comparison, Coverage, Delta, LayerName};
    use crate::live::change::tests::answer;
    use reckon_schemas::settlement::State;

    fn covered(state: State) -> Answer {
        let made = answer(&[("a", &[(0, 1)])], 0);
        let (layer, from, to) = (LayerName::Speed, made.from, made.to);
        let part = Coverage { from, to, layer, state, as_of: None, run_ids: Vec::new(), lake_version: None };
        Answer { coverage: vec![part], speed_lag_ms: Some(6_000), ..made }
    }

    fn compared(own: State, base: State) -> Answer {
        let total = Delta { difference: None, ratio: None };
        let (kind, groups, base) = ("period".to_owned(), Vec::new(), covered(base));
        let comparison = Comparison { kind, base, same_state: true, total, groups, other: None };
        Answer { comparison: Some(Box::new(comparison)), ..covered(own) }
    }

    fn base(answer: &Answer) -> Option<Stale> {
        answer.comparison.as_ref().and_then(|comparison| comparison.base.stale)
    }

    #[test]
    fn each_side_says_that_it_needs_what_is_behind() {
        let behind = Some(Stale { age_ms: 6_000, reason: StaleReason::SpeedBehind });
        for (own, of_base) in [
            (State::Provisional, State::Provisional),
            (State::Provisional, State::Settled),
            (State::Settled, State::Provisional),
            (State::Settled, State::Settled),
        ] {
            let mut answer = compared(own, of_base);
            answer.mark_if_behind(Duration::from_secs(5));
            let said = |state| behind.filter(|_| state == State::Provisional);
            assert_eq!((answer.stale, base(&answer)), (said(own), said(of_base)), "{own:?} {of_base:?}");
            assert_eq!(answer.staleness(), said(own).or(said(of_base)));
            answer.mark_if_behind(Duration::from_secs(7));
            assert_eq!((answer.stale, base(&answer), answer.staleness()), (None, None, None));
        }
    }

    #[test]
    fn both_sides_are_the_last_good_ones() {
        let mut answer = compared(State::Settled, State::Settled);
        let now = answer.computed_at + jiff::SignedDuration::from_secs(9);
        answer.mark_last_good(now);
        let away = Some(Stale { age_ms: 9_000, reason: StaleReason::StoreAway });
        assert_eq!((answer.stale, base(&answer)), (away, away));
        assert_eq!(answer.comparison.map(|comparison| comparison.base.age_ms), Some(9_000));
    }
}
