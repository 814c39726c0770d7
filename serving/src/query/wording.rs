//! From merged numbers to the answer that is sent: units, provenance, gaps.

use jiff::Timestamp;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::sketch::Sketch;
use reckon_schemas::time::EventTime;

use super::params::Query;
use super::selection::Selection;
use super::solve::Solved;
use crate::answer::{Answer, Coverage, Gap, Group, LayerName, Method, Number, Part, Point, Value};
use crate::merge;
use crate::merge::plan::{Layer, Piece, Plan, Provenance};
use crate::merge::tally::Tally;

/// What the words of an answer are made of.
pub(super) struct Context<'a> {
    pub(super) query: &'a Query,
    pub(super) tenant: &'a Tenant,
    pub(super) solved: &'a Solved,
    pub(super) now: Timestamp,
}

/// Says the merged numbers.
pub(super) fn answer(context: &Context<'_>, other: Option<&merge::Group>) -> Answer {
    let Context { query, tenant, solved, now } = *context;
    let Solved { selection, plan, merged, progress, .. } = solved;
    let words = Words::new(selection, plan);
    let (from, to) = plan.span(0..plan.len()).unwrap_or_default();
    let mut groups: Vec<Group> = merged.groups.iter().map(|group| words.group(group)).collect();
    if groups.is_empty() && selection.by.is_empty() {
        // Nothing happened at all: still one series.
        groups.push(Group {
            dimensions: Default::default(),
            total: words.number(&words.whole, &merged.total),
            parts: words.parts(&merged.parts),
            points: Vec::new(),
        });
    }
    Answer {
        tenant: tenant.id.to_string(),
        metric: query.metric.clone(),
        segment: None,
        measure: selection.measure.name().to_owned(),
        unit: selection.unit_name().to_owned(),
        grain: selection.grain.to_string(),
        time_zone: tenant.time_zone.name().to_owned(),
        rollup: selection.rollup.name().to_owned(),
        from: from.to_timestamp(),
        to: to.to_timestamp(),
        horizon: plan.horizon().map(EventTime::to_timestamp),
        watermark: progress.watermark().map(EventTime::to_timestamp),
        computed_at: now,
        age_ms: 0,
        stale: None,
        speed_lag_ms: progress.lag_ms(now),
        coverage: coverage(plan),
        gaps: all_gaps(solved),
        adjustments: solved.beside.adjustments.clone(),
        notes: solved.notes.clone(),
        truncated: solved.is_truncated,
        groups_count: solved.groups_count.max(groups.len()),
        total: words.number(&words.whole, &merged.total),
        parts: words.parts(&merged.parts),
        groups: groups.into(),
        other: other.map(|rest| words.group(rest)),
        next: solved.next.clone(),
        comparison: None,
    }
}

/// Says one group alone.
pub(super) fn group(solved: &Solved, group: &merge::Group) -> Group {
    Words::new(&solved.selection, &solved.plan).group(group)
}

/// What all numbers of one answer have in common. The provenance of long ranges is the same for every group, so it is
/// found once.
struct Words<'a> {
    selection: &'a Selection,
    plan: &'a Plan,
    whole: Provenance,
    pieces: Vec<Provenance>,
}

impl<'a> Words<'a> {
    fn new(selection: &'a Selection, plan: &'a Plan) -> Self {
        let pieces = plan.pieces().iter().map(|piece| plan.provenance(piece.windows.clone())).collect();
        Self { selection, plan, whole: plan.provenance(0..plan.len()), pieces }
    }

    fn group(&self, group: &merge::Group) -> Group {
        let names = self.selection.by.iter().map(|index| self.selection.rollup.dimensions()[*index].clone());
        let points = group.points.iter().map(|(index, tally)| {
            let window = self.plan.window(*index);
            Point {
                start: window.start.to_timestamp(),
                end: window.end.to_timestamp(),
                number: self.number(&self.plan.provenance(*index..*index + 1), tally),
            }
        });
        Group {
            dimensions: names.zip(group.key.iter().cloned()).collect(),
            total: self.number(&self.whole, &group.total),
            parts: self.parts(&group.parts),
            points: points.collect(),
        }
    }

    fn parts(&self, tallies: &[Tally]) -> Vec<Part> {
        let pieces = self.plan.pieces().iter().zip(&self.pieces);
        let part = |((piece, provenance), tally): ((&Piece, &Provenance), &Tally)| Part {
            layer: layer_name(piece.layer),
            state: piece.state,
            from: piece.from.to_timestamp(),
            to: piece.to.to_timestamp(),
            number: self.number(provenance, tally),
        };
        pieces.zip(tallies).map(part).collect()
    }

    fn number(&self, provenance: &Provenance, tally: &Tally) -> Number {
        number(self.selection, provenance, tally)
    }
}

/// Says one number.
pub(super) fn number(selection: &Selection, provenance: &Provenance, tally: &Tally) -> Number {
    let (value, method, error_bound) = match tally {
        Tally::Sum(sum) => (*sum, Method::Exact, 0),
        Tally::Users(users) if users.exact.is_some() => (i128::from(users.count()), Method::Exact, 0),
        Tally::Frequent { at_least, at_most } if at_least == at_most && provenance.layer == Some(Layer::Batch) => {
            (i128::from(*at_most), Method::Exact, 0)
        }
        Tally::Frequent { at_least, at_most } => {
            (i128::from(*at_most), Method::FrequentItems, i128::from(at_most - at_least))
        }
        Tally::Users(users) => {
            let error_bound = users.sketch.as_ref().map_or(0, Sketch::error_bound);
            (i128::from(users.count()), Method::Hll, i128::from(error_bound))
        }
    };
    let run_id = match (provenance.layer, provenance.run_ids.as_slice()) {
        (Some(Layer::Batch), [one]) => Some(one.to_string()),
        _ => None,
    };
    let in_unit = |amount: i128| match &selection.unit {
        Some(unit) => Value::Decimal(unit.format(amount)),
        None => Value::Integer(amount),
    };
    Number {
        value: in_unit(value),
        method,
        error_bound: in_unit(error_bound),
        state: provenance.state,
        as_of: provenance.as_of,
        run_id,
    }
}

/// Which layer answers which part of the range.
pub(crate) fn coverage(plan: &Plan) -> Vec<Coverage> {
    let said = plan.pieces().iter().map(|piece| {
        let provenance = plan.provenance(piece.windows.clone());
        Coverage {
            from: piece.from.to_timestamp(),
            to: piece.to.to_timestamp(),
            layer: layer_name(piece.layer),
            state: piece.state,
            as_of: provenance.as_of,
            run_ids: provenance.run_ids.iter().take(Coverage::RUN_IDS_MAX).map(ToString::to_string).collect(),
            lake_version: plan.lake_version().filter(|_| piece.layer == Layer::Lake),
        }
    });
    said.collect()
}

/// Windows of which the layer that is to answer has never said anything are not zero, they are unknown; so are those that
/// the settled days do not fit.
pub(crate) fn gaps(plan: &Plan, nothing_counted: bool) -> Vec<Gap> {
    let missing = |layer, is_missing: bool| plan.span(plan.windows_of(layer)).filter(|_| is_missing);
    let uncounted = "not settled yet, and the speed layer has not counted anything yet";
    let unread = "the raw events of this time are not there, or not those of every partition of the log: is `reckon raw` \
                  running, and keeping up?";
    let unfit = "settled by days of another time zone, which begin and end at other hours: ask for windows of 1h";
    let gaps = [
        joined(missing(Layer::Speed, nothing_counted), uncounted),
        joined(plan.raw_events_missing(), unread),
        joined(plan.unknown(), unfit),
    ];
    gaps.concat()
}

/// These, what is beside the numbers, and what was counted by windows that are none of the plan's.
fn all_gaps(solved: &Solved) -> Vec<Gap> {
    let unplaced = solved.merged.unplaced.iter().filter_map(|start| solved.plan.around(*start));
    let unplaced = joined(unplaced, "counted by days of another time zone: ask for windows of 1h");
    [gaps(&solved.plan, solved.progress.is_empty()), solved.beside.gaps.clone(), unplaced].concat()
}

/// Spans, in their order, as gaps: those that meet are one.
fn joined(spans: impl IntoIterator<Item = (EventTime, EventTime)>, reason: &str) -> Vec<Gap> {
    let mut gaps: Vec<Gap> = Vec::new();
    for (from, to) in spans {
        let (from, to) = (from.to_timestamp(), to.to_timestamp());
        match gaps.last_mut() {
            Some(last) if from <= last.to => last.to = to,
            _ => gaps.push(Gap { from, to, reason: reason.to_owned() }),
        }
    }
    gaps
}

const fn layer_name(layer: Layer) -> LayerName {
    match layer {
        Layer::Batch => LayerName::Batch,
        Layer::Speed => LayerName::Speed,
        Layer::Lake => LayerName::Lake,
        Layer::Raw => LayerName::Raw,
    }
}
