//! A chart is a question with a title.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::problem::Problem;
use crate::query::params::Query;

/// The longest title, in characters.
const TITLE_CHARS_MAX: usize = 200;
/// The most values of all parameters together.
const VALUES_MAX: usize = 100;
/// The columns that a page has.
const COLUMNS: u8 = 12;
/// How far back a chart reaches at most.
const LAST_DAYS_MAX: u32 = 3_660;

/// How a chart is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Shape {
    /// One number.
    Figure,
    /// A line per group.
    Line,
    /// A bar per window or group.
    Bar,
    /// Rows and columns.
    Table,
    /// Hours by weekdays.
    HeatMap,
}

/// A chart: a question, and how its answer is drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Chart {
    /// What stands above it.
    #[schema(max_length = 200)]
    title: String,
    /// How it is drawn.
    shape: Shape,
    /// The parameters of `/v1/query`: texts, or lists of texts where a parameter is given more than once.
    #[schema(value_type = BTreeMap<String, Object>)]
    question: BTreeMap<String, Values>,
    /// The range moves on with the time and is this long, such as `24h` or `30d`; then the question has no `from` and `to`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<String>,
    /// How many of the 12 columns it takes.
    #[serde(default = "Chart::default_width")]
    #[schema(minimum = 1, maximum = 12)]
    width: u8,
}

/// One value or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Values {
    One(String),
    Several(Vec<String>),
}

impl Chart {
    const fn default_width() -> u8 {
        COLUMNS / 2
    }

    /// Whether this can be asked, by who has these metrics.
    ///
    /// # Errors
    /// 422 that names the chart and what is wrong with it.
    pub(super) fn check(&self, index: usize, has_metric: &impl Fn(&str) -> bool) -> Result<(), Problem> {
        let wrong = |detail: String| Problem::invalid_body(format!("charts[{index}]: {detail}"));
        if self.title.chars().count() > TITLE_CHARS_MAX || self.title.chars().any(char::is_control) {
            return Err(wrong(format!("the title is one line of at most {TITLE_CHARS_MAX} characters")));
        }
        if !(1..=COLUMNS).contains(&self.width) {
            return Err(wrong(format!("`width` is 1 to {COLUMNS}")));
        }
        if let Some(last) = &self.last {
            if self.question.contains_key("from") || self.question.contains_key("to") {
                return Err(wrong("give either `last`, or `from` and `to` in the question".to_owned()));
            }
            if !is_span(last) {
                return Err(wrong(
                    "write `last` as a number of minutes, hours or days: `90m`, `24h`, `30d`".to_owned(),
                ));
            }
        }
        let query = Query::parse(&self.pairs(index)?).map_err(|problem| wrong(problem.detail))?;
        let is_there = query.formula.is_some() || has_metric(&query.metric);
        is_there.then_some(()).ok_or_else(|| wrong("there is no metric of this name".to_owned()))
    }

    fn pairs(&self, index: usize) -> Result<Vec<(String, String)>, Problem> {
        let mut pairs = Vec::new();
        for (name, values) in &self.question {
            match values {
                Values::One(value) => pairs.push((name.clone(), value.clone())),
                Values::Several(values) => pairs.extend(values.iter().map(|value| (name.clone(), value.clone()))),
            }
        }
        if pairs.len() > VALUES_MAX {
            return Err(Problem::invalid_body(format!("charts[{index}]: more than {VALUES_MAX} values")));
        }
        Ok(pairs)
    }
}

fn is_span(text: &str) -> bool {
    let Some((digits, unit)) = text.split_at_checked(text.len().saturating_sub(1)) else { return false };
    let minutes_per = match unit {
        "m" => 1,
        "h" => 60,
        "d" => 24 * 60,
        _ => return false,
    };
    let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let minutes = digits.parse::<u32>().ok().filter(|_| is_plain).and_then(|number| number.checked_mul(minutes_per));
    minutes.is_some_and(|minutes| (1..=LAST_DAYS_MAX * 24 * 60).contains(&minutes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short_and_plain() {
        for good in ["1m", "90m", "24h", "30d", "3660d"] {
            assert!(is_span(good), "{good}");
        }
        for wrong in ["", "m", "0d", "-1d", "+1d", "1.5h", "3661d", "1w", "99999999999d", "é", "1é"] {
            assert!(!is_span(wrong), "{wrong}");
        }
    }
}
