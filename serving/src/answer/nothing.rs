//! What an answer says where it has no number.

use jiff::Timestamp;

use super::{Answer, Coverage, LayerName, Method, Number, Value};
use crate::merge::plan::weaker;

impl Coverage {
    /// The most settlement runs that are named for one part of a range.
    pub(crate) const RUN_IDS_MAX: usize = 10;
}

impl Answer {
    /// Whether some of a span was not counted.
    pub(crate) fn has_gap(&self, from: Timestamp, to: Timestamp) -> bool {
        self.gaps.iter().any(|gap| gap.from < to && from < gap.to)
    }

    /// The number of a span that it has none for: nothing happened, as far as whoever answers for the span has counted.
    pub(crate) fn nothing(&self, from: Timestamp, to: Timestamp) -> Number {
        let covered = || self.coverage.iter().filter(|part| part.from < to && from < part.to);
        let run_id = match covered().collect::<Vec<_>>()[..] {
            [Coverage { layer: LayerName::Batch, run_ids, .. }] if run_ids.len() == 1 => run_ids.first().cloned(),
            _ => None,
        };
        Number {
            value: Value::Integer(0),
            method: Method::Exact,
            error_bound: Value::Integer(0),
            state: covered().map(|part| part.state).reduce(weaker).unwrap_or(self.total.state),
            as_of: covered().map(|part| part.as_of).max().flatten(),
            run_id,
        }
    }
}
