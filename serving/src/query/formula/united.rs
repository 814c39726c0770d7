//! What stands behind several answers about one range, told as that of one.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::answer::{Adjustment, Answer, Coverage, Gap};
use crate::merge::plan::weaker;

/// The gaps of all of them, in the order of time.
pub(super) fn gaps(answers: &[Answer]) -> Vec<Gap> {
    let mut gaps: Vec<Gap> = Vec::new();
    for gap in answers.iter().flat_map(|answer| &answer.gaps) {
        if !gaps.contains(gap) {
            gaps.push(gap.clone());
        }
    }
    gaps.sort_by_key(|gap| (gap.from, gap.to));
    gaps
}

/// The parts of the range as the least certain of them has each.
pub(super) fn coverage(answers: &[Answer]) -> Vec<Coverage> {
    let parts = || answers.iter().flat_map(|answer| &answer.coverage);
    let borders: BTreeSet<Timestamp> = parts().flat_map(|part| [part.from, part.to]).collect();
    let spans = borders.iter().zip(borders.iter().skip(1));
    let covered = spans.filter_map(|(from, to)| {
        let there = parts().filter(|part| part.from < *to && *from < part.to).cloned();
        let united = there.reduce(|mut all, one| {
            all.layer = all.layer.max(one.layer);
            all.state = weaker(all.state, one.state);
            all.as_of = all.as_of.max(one.as_of);
            let news = one.run_ids.into_iter().filter(|run_id| !all.run_ids.contains(run_id));
            all.run_ids.extend(news.collect::<Vec<_>>());
            all.run_ids.truncate(Coverage::RUN_IDS_MAX);
            all.lake_version = all.lake_version.max(one.lake_version);
            all
        })?;
        Some(Coverage { from: *from, to: *to, ..united })
    });
    covered.collect()
}

/// What every aggregate would be adjusted by, in its own unit: a ratio of sums is not adjusted by a sum.
pub(super) fn adjustments(answers: &[Answer]) -> Vec<Adjustment> {
    let told = answers.iter().zip(1..).flat_map(|(answer, number)| {
        answer.adjustments.iter().map(move |adjustment| Adjustment {
            aggregate: Some(number),
            unit: Some(answer.unit.clone()),
            ..adjustment.clone()
        })
    });
    told.collect()
}
