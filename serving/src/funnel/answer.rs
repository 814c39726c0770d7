//! What is said about a funnel.

use std::collections::BTreeMap;

use jiff::Timestamp;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::time::EventTime;
use serde::Serialize;
use utoipa::ToSchema;

use super::Reached;
use super::question::Funnel;
use crate::answer::{Coverage, Gap, Method, Number, Stale, Value};
use crate::cache::newest::Aging;
use crate::merge::plan::{Plan, Provenance};
use crate::query::wording;

/// What an answer takes in memory beside its steps, and each of them, in bytes; a guess.
const ANSWER_BYTES: usize = 2_000;
const STEP_BYTES: usize = 300;

/// The answer to a funnel.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct FunnelAnswer {
    /// Whose numbers these are: the tenant of the key.
    pub(crate) tenant: String,
    /// The zone that dates are in.
    pub(crate) time_zone: String,
    /// The first instant of the range.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) from: Timestamp,
    /// The first instant after it.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) to: Timestamp,
    /// How long after its first step an attempt may take its last one, in seconds.
    pub(crate) within_s: u64,
    /// The instant up to which every window is settled; null if nothing is.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) horizon: Option<Timestamp>,
    /// When this answer was computed.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) computed_at: Timestamp,
    /// How long before it was sent this answer was computed, in milliseconds.
    pub(crate) age_ms: i64,
    /// Set if it is older than it would be, because a store is away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stale: Option<Stale>,
    /// Where the range was read: in `raw` events or in the `lake`.
    pub(crate) coverage: Vec<Coverage>,
    /// Parts of the range that nobody has events of; a missing number there is not a zero.
    pub(crate) gaps: Vec<Gap>,
    /// What else there is to know about this answer.
    pub(crate) notes: Vec<String>,
    /// Whether segments were left out; `steps` has them all the same.
    pub(crate) truncated: bool,
    /// All users together.
    pub(crate) steps: Vec<FunnelStepAnswer>,
    /// By the value that users are segmented by, the largest first.
    pub(crate) segments: Vec<FunnelSegment>,
    /// The segments that were left out, added up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) other: Option<Vec<FunnelStepAnswer>>,
}

/// The users of one segment.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct FunnelSegment {
    /// The value that they have in common.
    pub(crate) dimensions: BTreeMap<String, String>,
    /// How far they came.
    pub(crate) steps: Vec<FunnelStepAnswer>,
}

/// How many users came to a step.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct FunnelStepAnswer {
    /// The event of the step.
    pub(crate) event: String,
    /// The users who reached it.
    pub(crate) users: Number,
    /// Their share of those who took the first step, as a decimal number with four decimals; null if nobody did.
    pub(crate) conversion: Option<String>,
    /// Their share of those who reached the step before; null for the first step, and if nobody did.
    pub(crate) conversion_from_previous: Option<String>,
    /// How many reached the step before and not this one; 0 for the first step.
    pub(crate) drop_off: u64,
}

impl Aging for FunnelAnswer {
    fn computed_at(&self) -> Timestamp {
        self.computed_at
    }

    fn bytes(&self) -> u32 {
        let numbers = (self.segments.len() + 2) * self.steps.len();
        u32::try_from(ANSWER_BYTES + numbers * STEP_BYTES).unwrap_or(u32::MAX)
    }

    fn age(&mut self, age_ms: i64, stale: Option<Stale>) {
        self.age_ms = age_ms;
        self.stale = stale;
    }
}

/// What an answer says beside its numbers.
pub(crate) struct Context<'a> {
    pub(crate) tenant: &'a Tenant,
    pub(crate) plan: &'a Plan,
    pub(crate) now: Timestamp,
    pub(crate) notes: Vec<String>,
    /// The most segments.
    pub(crate) segments_max: usize,
}

/// Says what was counted.
pub(crate) fn answer(context: Context<'_>, funnel: &Funnel, reached: Reached) -> FunnelAnswer {
    let Context { tenant, plan, now, notes, segments_max } = context;
    let provenance = plan.provenance(0..plan.len());
    let said = |levels: &[u64]| steps(funnel, levels, &provenance);
    let mut sum = vec![0; funnel.steps.len()];
    reached.values().for_each(|levels| add(&mut sum, levels));
    let mut segments: Vec<(String, Vec<u64>)> =
        if funnel.by.is_some() { reached.into_iter().collect() } else { Vec::new() };
    let size = |levels: &[u64]| levels.iter().sum::<u64>();
    segments.sort_by(|(a, a_levels), (b, b_levels)| size(b_levels).cmp(&size(a_levels)).then_with(|| a.cmp(b)));
    let rest = segments.split_off(segments_max.min(segments.len()));
    let mut other = vec![0; funnel.steps.len()];
    rest.iter().for_each(|(_, levels)| add(&mut other, levels));
    let dimensions = |value: String| funnel.by.iter().map(|by| (by.clone(), value.clone())).collect();
    FunnelAnswer {
        tenant: tenant.id.to_string(),
        time_zone: tenant.time_zone.name().to_owned(),
        from: funnel.from.to_timestamp(),
        to: funnel.to.to_timestamp(),
        within_s: funnel.within_s,
        horizon: plan.horizon().map(EventTime::to_timestamp),
        computed_at: now,
        age_ms: 0,
        stale: None,
        coverage: wording::coverage(plan),
        gaps: wording::gaps(plan, false),
        notes,
        truncated: !rest.is_empty(),
        steps: said(&sum),
        other: (!rest.is_empty()).then(|| said(&other)),
        segments: segments
            .into_iter()
            .map(|(value, levels)| FunnelSegment { steps: said(&levels), dimensions: dimensions(value) })
            .collect(),
    }
}

fn add(sum: &mut [u64], levels: &[u64]) {
    sum.iter_mut().zip(levels).for_each(|(sum, count)| *sum += count);
}

/// `levels` has the users who came so far and no further.
fn steps(funnel: &Funnel, levels: &[u64], provenance: &Provenance) -> Vec<FunnelStepAnswer> {
    let reached = |step: usize| levels.iter().skip(step).sum::<u64>();
    let first = reached(0);
    let said = funnel.steps.iter().enumerate().map(|(step, asked)| {
        let users = reached(step);
        let before = step.checked_sub(1).map(reached);
        FunnelStepAnswer {
            event: asked.event.clone(),
            users: Number {
                value: Value::Integer(users.into()),
                method: Method::Exact,
                error_bound: Value::Integer(0),
                state: provenance.state,
                as_of: provenance.as_of,
                run_id: None,
            },
            conversion: share(users, first),
            conversion_from_previous: before.and_then(|before| share(users, before)),
            drop_off: before.map_or(0, |before| before - users),
        }
    });
    said.collect()
}

/// To four decimals, rounded to the nearest.
fn share(part: u64, whole: u64) -> Option<String> {
    let ten_thousandths = (u128::from(part) * 20_000 + u128::from(whole)).checked_div(2 * u128::from(whole))?;
    Some(format!("{}.{:04}", ten_thousandths / 10_000, ten_thousandths % 10_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_to_four_decimals() {
        let shares = [(0, 3), (1, 3), (2, 3), (3, 3), (1, 20_000), (1, 20_001)];
        let shares = shares.map(|(part, whole)| share(part, whole).expect("not of nothing"));
        assert_eq!(shares, ["0.0000", "0.3333", "0.6667", "1.0000", "0.0001", "0.0000"]);
        assert_eq!(share(0, 0), None);
    }
}
