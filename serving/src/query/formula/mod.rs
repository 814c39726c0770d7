//! Metrics that are written as a text: `sum(money.USD) / count(*) filter (where department = 'DELI')`.
//!
//! The text is parsed by a parser of SQL and held against a list of what is allowed; what comes out are questions like
//! any other, one for each aggregate, and arithmetic on their answers. Nothing of the text reaches a store but the
//! values that dimensions are compared with, which are bound as parameters.

mod compile;
mod evaluate;
mod united;
mod units;

use std::collections::BTreeSet;

use num_rational::Ratio;
use reckon_schemas::catalog::{Measure, Metric};
use reckon_schemas::sums::Unit;

pub(super) use self::evaluate::Combined;
use super::filter::Filter;
use crate::exact::{Estimate, Operation, OutOfRange, Style};
use crate::problem::Problem;

/// The longest text, in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 1000;
/// The most aggregates in one text: each is a question of its own.
pub(crate) const AGGREGATES_MAX: usize = 8;
/// How deep a text may be nested.
pub(crate) const DEPTH_MAX: usize = 16;

/// A text that can be computed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Formula {
    /// What is asked for, each once.
    pub(super) aggregates: Vec<Aggregate>,
    root: Node,
    unit: units::UnitText,
}

/// One measure of some events.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Aggregate {
    measure: Measure,
    unit: Option<Unit>,
    /// The events that count; [`Metric::ANY_EVENT`] for all of them.
    event: String,
    pub(super) filters: BTreeSet<Filter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Node {
    Aggregate(usize),
    Constant(Ratio<i128>),
    Negated(Box<Node>),
    Operation(Operation, Box<Node>, Box<Node>),
}

impl Formula {
    /// Reads a text.
    ///
    /// # Errors
    /// 400 with the position of what is not allowed, and what is.
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        compile::compile(text)
    }

    /// What the numbers are in: `USD/events`; empty if they have no unit.
    pub(super) fn unit_name(&self) -> &str {
        self.unit.name()
    }

    /// How the numbers are written.
    pub(super) fn style(&self) -> Style {
        self.unit.style()
    }

    /// The number that the aggregates' numbers make; `None` where it is not defined.
    ///
    /// # Errors
    /// [`OutOfRange`].
    pub(super) fn value(&self, aggregates: &[Option<Estimate>]) -> Result<Option<Estimate>, OutOfRange> {
        self.root.value(aggregates)
    }
}

impl Node {
    fn value(&self, aggregates: &[Option<Estimate>]) -> Result<Option<Estimate>, OutOfRange> {
        match self {
            Node::Aggregate(index) => Ok(aggregates.get(*index).cloned().flatten()),
            Node::Constant(constant) => Ok(Some(Estimate::exact(*constant))),
            Node::Negated(node) => node.value(aggregates)?.map(Estimate::negated).transpose(),
            Node::Operation(operation, left, right) => match (left.value(aggregates)?, right.value(aggregates)?) {
                (Some(left), Some(right)) => left.with(*operation, &right),
                _ => Ok(None),
            },
        }
    }
}

impl Aggregate {
    /// The same as a metric that has no name.
    pub(super) fn metric(&self) -> Metric {
        let (currency, property) = match &self.unit {
            Some(Unit::Currency(currency)) => (Some(*currency), None),
            Some(Unit::Property(name)) => (None, Some(name.to_string())),
            None => (None, None),
        };
        let (event, measure) = (self.event.clone(), self.measure);
        Metric { name: String::new(), event, measure, currency, property, limit: None }
    }
}

#[cfg(test)]
mod tests;
