//! What a number usually is at an hour of the week, and how far from it is unusual. Pure.

use jiff::civil::Weekday;
use reckon_schemas::time::{EventTime, Zone};

/// The least number of earlier weeks that says anything about a spread.
pub(crate) const WEEKS_MIN: usize = 3;

/// An hour of the week in a zone: hours of a Monday are the same ones in summer and in winter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HourOfWeek {
    day: Weekday,
    hour: i8,
}

impl HourOfWeek {
    /// The one that contains an instant.
    pub(crate) fn of(at: EventTime, zone: &Zone) -> Self {
        let shown = zone.shown_at(at);
        Self { day: shown.weekday(), hour: shown.hour() }
    }
}

/// What is usual.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Baseline {
    /// The mean of the weeks before.
    pub(crate) mean: f64,
    /// Their standard deviation (of a sample).
    pub(crate) deviation: f64,
    /// How many weeks that is.
    pub(crate) weeks: usize,
}

impl Baseline {
    /// Of the numbers of the same hour in earlier weeks; `None` if there are too few.
    pub(crate) fn of(earlier: &[f64]) -> Option<Self> {
        let weeks = earlier.len();
        if weeks < WEEKS_MIN {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a number of weeks")]
        let count = weeks as f64;
        let mean = earlier.iter().sum::<f64>() / count;
        let squares: f64 = earlier.iter().map(|number| (number - mean).powi(2)).sum();
        Some(Self { mean, deviation: (squares / (count - 1.0)).sqrt(), weeks })
    }

    /// The band of so many standard deviations around the mean.
    pub(crate) fn band(&self, deviations: f64) -> (f64, f64) {
        (self.mean - deviations * self.deviation, self.mean + deviations * self.deviation)
    }

    /// Whether a number lies outside of the band.
    pub(crate) fn is_unusual(&self, number: f64, deviations: f64) -> bool {
        let (low, high) = self.band(deviations);
        number < low || number > high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_band_is_that_of_a_sample() {
        let baseline = Baseline::of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]).expect("eight weeks");
        assert!((baseline.mean - 5.0).abs() < 1e-12 && (baseline.deviation - (32.0_f64 / 7.0).sqrt()).abs() < 1e-12);
        let (low, high) = baseline.band(2.0);
        assert!((low - 0.723_8).abs() < 1e-3 && (high - 9.276_2).abs() < 1e-3);
        assert!(!baseline.is_unusual(9.2, 2.0) && baseline.is_unusual(9.3, 2.0) && baseline.is_unusual(0.7, 2.0));
    }

    #[test]
    fn two_weeks_say_nothing_and_no_spread_is_a_narrow_band() {
        assert_eq!(Baseline::of(&[1.0, 2.0]), None);
        let same = Baseline::of(&[3.0, 3.0, 3.0]).expect("three weeks");
        assert!(!same.is_unusual(3.0, 2.0) && same.is_unusual(3.1, 2.0));
    }

    #[test]
    fn hours_are_those_of_the_wall_clock() {
        let zone = Zone::parse("Europe/Berlin").expect("known");
        let hour = |text: &str| HourOfWeek::of(EventTime::from_timestamp(text.parse().expect("valid")), &zone);
        // 09:30 on a Monday, before and after the clocks go forward.
        assert_eq!(hour("2026-03-23T08:30:00Z"), hour("2026-03-30T07:30:00Z"));
        assert_ne!(hour("2026-03-23T08:30:00Z"), hour("2026-03-30T08:30:00Z"));
        assert_ne!(hour("2026-03-23T08:30:00Z"), hour("2026-03-24T08:30:00Z"));
    }
}
