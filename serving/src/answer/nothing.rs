//! What an answer says where it has no number.

use jiff::Timestamp;
use reckon_schemas::money::Currency;

use super::{Answer, Coverage, Group, LayerName, Method, Number, Value};
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

    /// What it says of a span of a group that it has no number for: that nothing happened. `None` where nobody has counted
    /// all of it; and of a group that it does not name, if that may be among those that are left out.
    pub(crate) fn unsaid(&self, group: Option<&Group>, from: Timestamp, to: Timestamp) -> Option<Number> {
        let is_known = group.is_some() || !self.truncated;
        (is_known && !self.has_gap(from, to)).then(|| self.nothing(from, to))
    }

    /// Nothing happened, as far as whoever answers for the span has counted.
    pub(crate) fn nothing(&self, from: Timestamp, to: Timestamp) -> Number {
        let covered = || self.coverage.iter().filter(|part| part.from < to && from < part.to);
        let run_id = match covered().collect::<Vec<_>>()[..] {
            [Coverage { layer: LayerName::Batch, run_ids, .. }] if run_ids.len() == 1 => run_ids.first().cloned(),
            _ => None,
        };
        // As the answer writes it.
        let zero = match self.unit.parse::<Currency>() {
            Ok(currency) if self.measure == "money" => Value::Decimal(currency.format_minor(0)),
            _ => Value::Integer(0),
        };
        Number {
            value: zero.clone(),
            method: Method::Exact,
            error_bound: zero,
            state: covered().map(|part| part.state).reduce(weaker).unwrap_or(self.total.state),
            as_of: covered().map(|part| part.as_of).max().flatten(),
            run_id,
        }
    }
}
