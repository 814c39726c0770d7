//! A question as a body, or as a query string with a comparison. Whatever is written in either is read by the same
//! rules ([`super::params`]).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::compare::{Compared, Segment};
use super::filter::{self, Filter, Test};
use super::params::{Query, VALUE_BYTES_MAX, Written};
use crate::problem::Problem;

/// The most questions in one body.
pub(crate) const QUESTIONS_MAX: usize = 16;

/// A question, and what its answer is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    pub(crate) query: Query,
    pub(crate) compared: Option<Compared>,
}

/// A question as JSON. Give `metric` or `metric_text`; everything else may be left out.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenQuestion {
    /// A metric of the catalog.
    metric: Option<String>,
    /// Instead of a metric's name a text: `sum(money.USD) / count(*) filter (where department = 'DELI')`. There are
    /// `count(*)`, `sum(money.CODE)`, `sum(property)` and `uniq(user)`, conditions on dimensions and on `event`,
    /// numbers, `+ - * /` and parentheses, and one `where` for all aggregates at the end.
    metric_text: Option<String>,
    /// The first instant, or a date, which means its first instant in the tenant's zone.
    from: Option<String>,
    /// The first instant after the range, written likewise.
    to: Option<String>,
    /// `1s`, `1m`, `5m`, `1h` (the default) or `1d`.
    grain: Option<String>,
    /// Dimensions to group by.
    by: Vec<String>,
    /// Conditions, all of which have to hold.
    filters: Vec<WrittenFilter>,
    /// Count distinct users exactly, from the lake's single events.
    exact: bool,
    /// The most groups to name; the others are answered as `other`.
    limit: Option<usize>,
    /// Answer only so many windows, and say in `next` how to go on.
    page: Option<usize>,
    /// The `next` of the page before, instead of `from` and `to`.
    cursor: Option<String>,
    /// `previous` for the range of the same length before this one, or how much earlier: `7d`, `1mo`, `1y`, `36h`.
    compare: Option<String>,
    /// Two sets of conditions to compare with each other.
    segments: Vec<WrittenSegment>,
}

/// A condition on a dimension: exactly one of `in`, `not` and `prefix`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenFilter {
    /// The dimension.
    dimension: String,
    /// Its value is one of these.
    #[serde(rename = "in")]
    one_of: Option<Vec<String>>,
    /// Its value is none of these.
    not: Option<Vec<String>>,
    /// Its value begins with one of these.
    prefix: Option<Vec<String>>,
}

/// A set of conditions with a name.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenSegment {
    /// What to call it in the answer.
    name: String,
    /// Its conditions, beside those of the question.
    filters: Vec<WrittenFilter>,
}

impl Question {
    /// Reads the parameters of a query string.
    ///
    /// # Errors
    /// 400 that names the parameter.
    pub(crate) fn parse(pairs: &[(String, String)]) -> Result<Self, Problem> {
        let (compare, pairs): (Vec<_>, Vec<_>) = pairs.iter().cloned().partition(|(name, _)| name == "compare");
        let compared = match compare.as_slice() {
            [] => None,
            [(_, text)] => Some(Compared::Period(text.parse()?)),
            _ => return Err(Problem::invalid_parameter("compare", "given more than once")),
        };
        Ok(Self { query: Query::parse(&pairs)?, compared })
    }

    /// Reads a question of a body.
    ///
    /// # Errors
    /// 400 that names the field.
    pub(crate) fn read(written: &WrittenQuestion) -> Result<Self, Problem> {
        let WrittenQuestion { metric, metric_text, from, to, grain, by, filters, exact, limit, page, cursor, .. } =
            written;
        let texts = [metric, metric_text, from, to, grain, cursor].into_iter().flatten().chain(by);
        if texts.into_iter().any(|text| text.len() > VALUE_BYTES_MAX) {
            let detail = format!("a text in it is longer than {VALUE_BYTES_MAX} bytes");
            return Err(Problem::unreadable_body(detail));
        }
        let query = Query::read(Written {
            metric: metric.as_deref(),
            metric_text: metric_text.as_deref(),
            grain: grain.as_deref(),
            from: from.as_deref(),
            to: to.as_deref(),
            by: by.iter().map(String::as_str).collect(),
            filters: read_filters(filters)?,
            exact: *exact,
            limit: *limit,
            page: *page,
            cursor: cursor.as_deref(),
        })?;
        let compared = match (&written.compare, written.segments.as_slice()) {
            (None, []) => None,
            (Some(compare), []) => Some(Compared::Period(compare.parse()?)),
            (None, [first, second]) => {
                let segments = [read_segment(first)?, read_segment(second)?];
                Some(Compared::Segments(Box::new(segments)))
            }
            (None, _) => return Err(Problem::invalid_parameter("segments", "give two of them")),
            (Some(_), _) => {
                let detail = "compare with an earlier range or two segments, not both at once";
                return Err(Problem::invalid_parameter("segments", detail));
            }
        };
        Ok(Self { query, compared })
    }
}

fn read_segment(written: &WrittenSegment) -> Result<Segment, Problem> {
    if written.name.len() > VALUE_BYTES_MAX {
        return Err(Problem::invalid_parameter("segments", format!("a name is longer than {VALUE_BYTES_MAX} bytes")));
    }
    Ok(Segment { name: written.name.clone(), filters: read_filters(&written.filters)? })
}

fn read_filters(written: &[WrittenFilter]) -> Result<Vec<Filter>, Problem> {
    let filters = written.iter().map(read_filter).collect::<Result<Vec<_>, _>>()?;
    filter::bounded(filters).map(|filters| filters.into_iter().collect())
}

fn read_filter(written: &WrittenFilter) -> Result<Filter, Problem> {
    let WrittenFilter { dimension, one_of, not, prefix } = written;
    let values = |values: &Vec<String>| values.iter().cloned().collect();
    let test = match (one_of, not, prefix) {
        (Some(allowed), None, None) => Test::In(values(allowed)),
        (None, Some(refused), None) => Test::NotIn(values(refused)),
        (None, None, Some(prefixes)) => Test::Prefix(values(prefixes)),
        _ => return Err(Problem::invalid_parameter("filters", "give each filter one of `in`, `not` and `prefix`")),
    };
    let is_long = |text: &String| text.len() > VALUE_BYTES_MAX;
    if is_long(dimension) || test.values().iter().any(is_long) {
        return Err(Problem::invalid_parameter("filters", format!("a text is longer than {VALUE_BYTES_MAX} bytes")));
    }
    Ok(Filter { dimension: dimension.clone(), test })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: serde_json::Value) -> Result<Question, Problem> {
        Question::read(&serde_json::from_value(body).expect("readable"))
    }

    fn parse(pairs: &[(&str, &str)]) -> Result<Question, Problem> {
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Question::parse(&pairs)
    }

    #[test]
    fn a_body_and_a_query_string_ask_the_same() {
        let body = read(json!({
            "metric": "m", "from": "2026-01-01", "to": "2026-02-01", "grain": "1d", "by": ["a", "b"], "limit": 3,
            "compare": "previous",
            "filters": [{"dimension": "c", "in": ["2", "1"]}, {"dimension": "c", "not": ["3"]}, {"dimension": "d", "prefix": ["x"]}],
        }));
        let pairs = [
            ("metric", "m"),
            ("from", "2026-01-01"),
            ("to", "2026-02-01"),
            ("grain", "1d"),
            ("by", "a,b"),
            ("limit", "3"),
            ("compare", "previous"),
            ("filter", "c:1"),
            ("filter", "c:2"),
            ("not", "c:3"),
            ("prefix", "d:x"),
        ];
        assert_eq!(body.expect("valid"), parse(&pairs).expect("valid"));
    }

    #[test]
    fn what_is_not_a_question_is_named() {
        for unknown in
            [json!({"metric": "m", "tenant": "other"}), json!({"filters": [{"dimension": "d", "like": ["x"]}]})]
        {
            assert!(serde_json::from_value::<WrittenQuestion>(unknown).is_err());
        }
        let filter = |filter| json!({"metric": "m", "filters": [filter]});
        let segment = json!({"name": "s", "filters": []});
        for (body, parameter) in [
            (json!({}), "metric"),
            (filter(json!({"dimension": "d"})), "filters"),
            (filter(json!({"dimension": "d", "in": ["1"], "not": ["2"]})), "filters"),
            (filter(json!({"dimension": "d", "in": ["x".repeat(1025)]})), "filters"),
            (json!({"metric": "m", "segments": [segment]}), "segments"),
            (json!({"metric": "m", "segments": [segment, segment], "compare": "previous"}), "segments"),
            (json!({"metric": "m", "compare": "sometime"}), "compare"),
        ] {
            let problem = read(body.clone()).expect_err("refused");
            assert_eq!((problem.status, problem.parameter), (400, Some(parameter)), "{body}");
        }
        assert_eq!(
            parse(&[("metric", "m"), ("compare", "7d"), ("compare", "8d")]).map_err(|problem| problem.status),
            Err(400)
        );
    }
}
