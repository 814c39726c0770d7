//! The question as it is sent, and as it is asked.

use std::collections::BTreeMap;

use reckon_schemas::cell::Rollup;
use reckon_schemas::time::{EventTime, Zone};
use serde::Deserialize;
use utoipa::ToSchema;

use super::STEPS_MAX;
use crate::problem::Problem;
use crate::query::range;

/// The longest name of an event and value of a filter, in bytes.
const TEXT_BYTES_MAX: usize = 1024;
/// The most values of all filters of a step.
const VALUES_MAX: usize = 64;
/// The longest time limit.
const WITHIN_S_MAX: u64 = 366 * 86_400;

/// A funnel: which steps, how fast, in which range.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FunnelQuestion {
    /// Two to ten steps, in order.
    steps: Vec<FunnelStep>,
    /// How long after its first step an attempt may take its last one, in seconds.
    within_s: u64,
    /// A property, or `user_id`, to segment users by: the value of the user's earliest event for the first step.
    #[serde(default)]
    by: Option<String>,
    /// The first instant: RFC 3339, or a date, which means its first instant in the tenant's zone. 24 hours before `to`
    /// if absent.
    #[serde(default)]
    from: Option<String>,
    /// The first instant after the range, written likewise; now if absent.
    #[serde(default)]
    to: Option<String>,
}

/// One step: an event that fulfils all filters.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FunnelStep {
    /// The event's name.
    pub(crate) event: String,
    /// Properties, or `user_id`, and the values that each may have.
    #[serde(default)]
    pub(crate) filters: BTreeMap<String, Vec<String>>,
}

/// A question that can be asked.
#[derive(Clone, Debug)]
pub(crate) struct Funnel {
    pub(crate) steps: Vec<FunnelStep>,
    pub(crate) within_s: u64,
    pub(crate) within_us: i64,
    pub(crate) by: Option<String>,
    pub(crate) from: EventTime,
    pub(crate) to: EventTime,
}

impl FunnelQuestion {
    /// Holds the question against its bounds.
    ///
    /// # Errors
    /// 400 or 422 that names the field.
    pub(crate) fn check(self, now: EventTime, zone: &Zone) -> Result<Funnel, Problem> {
        let Self { steps, within_s, by, from, to } = self;
        if !(2..=STEPS_MAX).contains(&steps.len()) {
            return Err(Problem::not_answerable("steps", format!("a funnel has 2 to {STEPS_MAX} steps")));
        }
        steps.iter().try_for_each(FunnelStep::check)?;
        if !(1..=WITHIN_S_MAX).contains(&within_s) {
            return Err(Problem::not_answerable("within_s", format!("give 1 to {WITHIN_S_MAX} seconds")));
        }
        check_dimensions("by", by.iter())?;
        let (from, to) = range::parse(from.as_deref(), to.as_deref(), now, zone)?;
        let within_us = i64::try_from(within_s).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        Ok(Funnel { steps, within_s, within_us, by, from, to })
    }
}

impl FunnelStep {
    fn check(&self) -> Result<(), Problem> {
        check_dimensions("steps", self.filters.keys())?;
        let values = || self.filters.values().flatten();
        let is_long = values().chain([&self.event]).any(|text| text.len() > TEXT_BYTES_MAX);
        if is_long || self.event.is_empty() || values().count() > VALUES_MAX {
            let detail = format!(
                "a step has the name of an event and at most {VALUES_MAX} values to filter by, of at most \
                 {TEXT_BYTES_MAX} bytes each"
            );
            return Err(Problem::not_answerable("steps", detail));
        }
        Ok(())
    }
}

/// What names a dimension of a rollup names one here.
fn check_dimensions<'a>(field: &'static str, names: impl Iterator<Item = &'a String>) -> Result<(), Problem> {
    let checked = Rollup::new(names.cloned());
    checked.map(drop).map_err(|error| Problem::not_answerable(field, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(question: &str) -> Result<Funnel, Problem> {
        let question: FunnelQuestion = serde_json::from_str(question).expect("readable");
        question.check(EventTime(0), &Zone::UTC)
    }

    #[test]
    fn bounds_are_named() {
        let steps = |count: usize| vec![r#"{"event":"a","filters":{"p":["1"]}}"#; count].join(",");
        let funnel = check(&format!(r#"{{"steps":[{}],"within_s":60,"by":"country"}}"#, steps(10))).expect("fits");
        assert_eq!((funnel.within_us, funnel.to.0 - funnel.from.0), (60_000_000, 86_400_000_000));
        for (question, field) in [
            (format!(r#"{{"steps":[{}],"within_s":60}}"#, steps(1)), "steps"),
            (format!(r#"{{"steps":[{}],"within_s":60}}"#, steps(11)), "steps"),
            (format!(r#"{{"steps":[{}],"within_s":0}}"#, steps(2)), "within_s"),
            (format!(r#"{{"steps":[{}],"within_s":60,"by":"a,b"}}"#, steps(2)), "by"),
            (format!(r#"{{"steps":[{}],"within_s":60,"from":"soon"}}"#, steps(2)), "from"),
            (r#"{"steps":[{"event":""},{"event":"b"}],"within_s":60}"#.to_owned(), "steps"),
        ] {
            let problem = check(&question).expect_err(&question);
            assert_eq!(problem.parameter, Some(field), "{question}");
        }
    }
}
