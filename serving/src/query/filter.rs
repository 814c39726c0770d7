//! Conditions on the values of dimensions.

use std::collections::BTreeSet;

use reckon_schemas::cell::ROLLUP_DIMENSIONS_MAX;

use crate::problem::Problem;

/// The most conditions of one question.
pub(super) const FILTERS_MAX: usize = 2 * ROLLUP_DIMENSIONS_MAX;
/// The most values of all conditions of one question.
pub(super) const FILTER_VALUES_MAX: usize = 64;

/// What has to hold for one dimension; all filters of a question have to hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Filter {
    /// The property's name.
    pub(crate) dimension: String,
    pub(crate) test: Test,
}

/// What a value has to be. An event without the property has the empty value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Test {
    /// One of these.
    In(BTreeSet<String>),
    /// None of these.
    NotIn(BTreeSet<String>),
    /// Something that begins with one of these.
    Prefix(BTreeSet<String>),
}

impl Test {
    /// How the statements name the kind of test.
    pub(crate) const fn code(&self) -> u8 {
        match self {
            Test::In(_) => 0,
            Test::NotIn(_) => 1,
            Test::Prefix(_) => 2,
        }
    }

    /// What a value is compared with.
    pub(crate) const fn values(&self) -> &BTreeSet<String> {
        match self {
            Test::In(values) | Test::NotIn(values) | Test::Prefix(values) => values,
        }
    }

    /// Whether a value passes.
    pub(crate) fn allows(&self, value: &str) -> bool {
        match self {
            Test::In(values) => values.contains(value),
            Test::NotIn(values) => !values.contains(value),
            Test::Prefix(prefixes) => prefixes.iter().any(|prefix| value.starts_with(prefix.as_str())),
        }
    }

    fn add(&mut self, other: Test) {
        match self {
            Test::In(values) | Test::NotIn(values) | Test::Prefix(values) => {
                values.extend(match other {
                    Test::In(more) | Test::NotIn(more) | Test::Prefix(more) => more,
                });
            }
        }
    }
}

/// Adds a condition of which the values are alternatives to those of the same kind that were given before: so
/// `filter=d:1&filter=d:2` is one of both, and `not=d:1&not=d:2` none of both.
pub(super) fn add_alternatives(filters: &mut Vec<Filter>, dimension: &str, test: Test) {
    let known = filters.iter_mut().find(|known| known.dimension == dimension && known.test.code() == test.code());
    match known {
        Some(known) => known.test.add(test),
        None => filters.push(Filter { dimension: dimension.to_owned(), test }),
    }
}

/// The conditions in one order, if they are not too many.
///
/// # Errors
/// 400 if they are.
pub(super) fn bounded(filters: impl IntoIterator<Item = Filter>) -> Result<BTreeSet<Filter>, Problem> {
    let filters: BTreeSet<Filter> = filters.into_iter().collect();
    let values: usize = filters.iter().map(|filter| filter.test.values().len()).sum();
    if filters.len() > FILTERS_MAX || values > FILTER_VALUES_MAX {
        let detail = format!("more than {FILTERS_MAX} conditions or {FILTER_VALUES_MAX} values");
        return Err(Problem::invalid_parameter("filter", detail));
    }
    Ok(filters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_compares_and_never_interprets() {
        let values = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        assert!(Test::In(values(&["DELI", "%"])).allows("%"));
        assert!(!Test::In(values(&["%"])).allows("DELI"));
        assert!(!Test::NotIn(values(&["DELI", ""])).allows(""));
        assert!(Test::NotIn(values(&["DELI"])).allows("deli"));
        assert!(Test::Prefix(values(&["DE", "x_"])).allows("DELI"));
        assert!(!Test::Prefix(values(&["x_"])).allows("xy"));
    }
}
