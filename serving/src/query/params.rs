//! Reading a query's parameters. What comes out is normalised: equal questions are equal values.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use reckon_schemas::cell::ROLLUP_DIMENSIONS_MAX;
use reckon_schemas::time::{EventTime, Zone};
use reckon_schemas::window::{Grain, Window};

use super::filter::{self, Filter, Test};
use super::formula::Formula;
pub(crate) use super::range::Bounds;
use super::range::Range;
use crate::problem::Problem;

/// The longest value of any parameter, in bytes.
pub(super) const VALUE_BYTES_MAX: usize = 1024;

/// A question, not yet held against a catalog.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Query {
    /// The metric's name, or the text of one that has none.
    pub(crate) metric: String,
    /// What a metric that was given as a text computes.
    pub(crate) formula: Option<Arc<Formula>>,
    pub(crate) grain: Grain,
    pub(crate) by: Vec<String>,
    pub(crate) filters: BTreeSet<Filter>,
    /// Whether distinct users are to be counted exactly, whatever that takes.
    pub(crate) exact: bool,
    /// The most groups to name.
    pub(crate) limit: Option<usize>,
    pub(crate) range: Range,
}

/// The parameters as they were written, from a query string or a body.
#[derive(Clone, Debug, Default)]
pub(super) struct Written<'a> {
    pub(super) metric: Option<&'a str>,
    pub(super) metric_text: Option<&'a str>,
    pub(super) grain: Option<&'a str>,
    pub(super) from: Option<&'a str>,
    pub(super) to: Option<&'a str>,
    pub(super) by: Vec<&'a str>,
    pub(super) filters: Vec<Filter>,
    pub(super) exact: bool,
    pub(super) limit: Option<usize>,
    pub(super) page: Option<usize>,
    pub(super) cursor: Option<&'a str>,
}

impl Query {
    /// The parameters of a query string.
    const KNOWN: [&'static str; 13] = [
        "metric",
        "metric_text",
        "from",
        "to",
        "grain",
        "by",
        "filter",
        "not",
        "prefix",
        "exact",
        "limit",
        "page",
        "cursor",
    ];

    /// Reads the parameters of a query string.
    ///
    /// # Errors
    /// 400 that names the parameter.
    pub(crate) fn parse(pairs: &[(String, String)]) -> Result<Self, Problem> {
        let mut single: BTreeMap<&'static str, &str> = BTreeMap::new();
        let mut filters = Vec::new();
        for (name, value) in pairs {
            let name = known(name, &Self::KNOWN)?;
            if value.len() > VALUE_BYTES_MAX {
                return Err(Problem::invalid_parameter(name, format!("longer than {VALUE_BYTES_MAX} bytes")));
            }
            if matches!(name, "filter" | "not" | "prefix") {
                let (dimension, value) = value.split_once(':').ok_or_else(|| {
                    Problem::invalid_parameter(name, "write it as `dimension:value`, once for each value")
                })?;
                let values = BTreeSet::from([value.to_owned()]);
                let test = match name {
                    "not" => Test::NotIn(values),
                    "prefix" => Test::Prefix(values),
                    _ => Test::In(values),
                };
                filter::add_alternatives(&mut filters, dimension, test);
            } else if single.insert(name, value).is_some() {
                return Err(Problem::invalid_parameter(name, "given more than once"));
            }
        }
        let text = |name| single.get(name).copied();
        let by = text("by").unwrap_or_default().split(',').filter(|dimension| !dimension.is_empty());
        Self::read(Written {
            metric: text("metric"),
            metric_text: text("metric_text"),
            grain: text("grain"),
            from: text("from"),
            to: text("to"),
            by: by.collect(),
            filters,
            exact: truth("exact", text("exact"))?,
            limit: number("limit", text("limit"))?,
            page: number("page", text("page"))?,
            cursor: text("cursor"),
        })
    }

    pub(super) fn read(written: Written<'_>) -> Result<Self, Problem> {
        let (metric, formula) = match (written.metric.filter(|metric| !metric.is_empty()), written.metric_text) {
            (Some(metric), None) => (metric, None),
            (None, Some(text)) => (text, Some(Arc::new(Formula::parse(text)?))),
            (None, None) => return Err(Problem::invalid_parameter("metric", "say which metric")),
            (Some(_), Some(_)) => {
                return Err(Problem::invalid_parameter("metric_text", "give a metric's name or its text, not both"));
            }
        };
        let grain = written.grain.unwrap_or(Grain::Hour.name());
        if written.limit == Some(0) {
            return Err(Problem::invalid_parameter("limit", "at least one group has to be named"));
        }
        if written.limit.is_some() && (written.page.is_some() || written.cursor.is_some()) {
            let detail = "a page has every group of its windows: leave out `limit`, or `page` and `cursor`";
            return Err(Problem::invalid_parameter("limit", detail));
        }
        Ok(Self {
            metric: metric.to_owned(),
            formula,
            grain: grain.parse().map_err(|error| Problem::invalid_parameter("grain", format!("{error}")))?,
            by: dimensions(&written.by)?,
            filters: filter::bounded(written.filters)?,
            exact: written.exact,
            limit: written.limit,
            range: Range::parse(written.from, written.to, written.page, written.cursor)?,
        })
    }

    /// The windows asked for: whole ones, without a gap, at least one and at most `windows_max`.
    ///
    /// # Errors
    /// 400 if the range is empty, 422 if it has too many windows, or begins with seconds that are gone.
    pub(crate) fn windows(&self, now: EventTime, zone: &Zone, bounds: Bounds) -> Result<Vec<Window>, Problem> {
        self.range.windows(self.grain, now, zone, bounds)
    }
}

impl Query {
    /// For metrics that are not grouped by the client.
    ///
    /// # Errors
    /// 422 if there is a dimension to group or filter by.
    pub(super) fn refuse_groups(&self, why: &str) -> Result<(), Problem> {
        let parameter = match (self.by.is_empty(), self.filters.is_empty()) {
            (false, _) => "by",
            (true, false) => "filter",
            (true, true) => return Ok(()),
        };
        Err(Problem::not_answerable(parameter, format!("leave it out: {why}")))
    }

    /// For metrics that have a range of their own.
    ///
    /// # Errors
    /// 422 if there is a range.
    pub(super) fn refuse_range(&self, why: &str) -> Result<(), Problem> {
        let parameter = match self.range {
            Range { from: Some(_), .. } => "from",
            Range { to: Some(_), .. } => "to",
            Range { page: Some(_), .. } => "page",
            Range { from: None, to: None, page: None } => return Ok(()),
        };
        Err(Problem::not_answerable(parameter, format!("leave it out: {why}")))
    }
}

/// The parameter of that name.
///
/// # Errors
/// 400 if there is none.
pub(super) fn known<const N: usize>(name: &str, all: &[&'static str; N]) -> Result<&'static str, Problem> {
    all.iter().find(|known| **known == name).copied().ok_or_else(|| {
        let shown: String = name.chars().take(64).collect();
        let detail = format!("there is no parameter {shown:?}; there are: {}", all.join(", "));
        Problem { parameter: None, ..Problem::invalid_parameter("", detail) }
    })
}

fn number(name: &'static str, text: Option<&str>) -> Result<Option<usize>, Problem> {
    let number = text.map(str::parse).transpose();
    number.map_err(|_| Problem::invalid_parameter(name, "write a whole number, 1 or more"))
}

fn truth(name: &'static str, text: Option<&str>) -> Result<bool, Problem> {
    text.map_or(Ok(false), str::parse).map_err(|_| Problem::invalid_parameter(name, "write `true` or `false`"))
}

fn dimensions(names: &[&str]) -> Result<Vec<String>, Problem> {
    let is_repeated = |(index, name): (usize, &&str)| names[..index].contains(name);
    if names.len() > ROLLUP_DIMENSIONS_MAX || names.iter().enumerate().any(is_repeated) {
        let detail = format!("at most {ROLLUP_DIMENSIONS_MAX} dimensions, each once, separated by commas");
        return Err(Problem::invalid_parameter("by", detail));
    }
    Ok(names.iter().map(|name| (*name).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Query, Problem> {
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        let pairs: Vec<(String, String)> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Query::parse(&pairs)
    }

    #[test]
    fn equal_questions_are_equal() {
        let a = parse("metric=m&filter=d:2&filter=d:1&grain=1h&not=e:9").expect("valid");
        let b = parse("filter=d:1&not=e:9&metric=m&filter=d:2&filter=d:1").expect("valid");
        assert_eq!(a, b);
        assert_ne!(a, parse("metric=m&filter=d:1").expect("valid"));
        assert_ne!(a, parse("metric=m&filter=d:2&filter=d:1&prefix=e:9").expect("valid"));
        let text = |text: &str| parse(&format!("metric_text={text}")).expect("valid");
        assert_eq!(text("count(*)"), text("count(*)"));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (query, parameter) in [
            ("grain=1d", "metric"),
            ("metric=", "metric"),
            ("metric=m&metric=n", "metric"),
            ("metric=m&metric_text=count(*)", "metric_text"),
            ("metric_text=drop table", "metric_text"),
            ("metric=m&grain=1w", "grain"),
            ("metric=m&from=yesterday", "from"),
            ("metric=m&from=2026-02-30", "from"),
            ("metric=m&to=-009999-01-01T00:00:00Z", "to"),
            ("metric=m&by=a,a", "by"),
            ("metric=m&filter=a", "filter"),
            ("metric=m&not=a", "not"),
            ("metric=m&limit=0", "limit"),
            ("metric=m&limit=-1", "limit"),
            ("metric=m&limit=1&page=5", "limit"),
            ("metric=m&page=0", "page"),
        ] {
            let problem = parse(query).expect_err(query);
            assert_eq!((problem.status, problem.parameter), (400, Some(parameter)), "{query}");
        }
        let problem = parse("metric=m&tenant=other").expect_err("not a parameter");
        assert_eq!((problem.status, problem.parameter), (400, None));
        let many: String = (0..65).map(|value| format!("&filter=d:{value}")).collect();
        assert_eq!(parse(&format!("metric=m{many}")).map_err(|problem| problem.parameter), Err(Some("filter")));
    }
}
