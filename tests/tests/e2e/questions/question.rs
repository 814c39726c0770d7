//! Questions of every kind, at random, and how they are asked.

use anyhow::{Context, Result};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

use super::Source;

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;
/// Values to filter by: some that are frequent, some that are rare, some that nothing has.
const VALUES: &[(&str, &[&str])] = &[
    ("department", &["GROCERY", "DRUG GM", "PRODUCE", "MEAT", "FUEL", "", "NO SUCH"]),
    ("store", &["367", "406", "429", "343", "361", "1"]),
    ("quantity", &["1", "2", "3", "10", "0"]),
    ("user_id", &["household-1716", "household-2373", "household-253", "household-0"]),
];
/// Beginnings of them.
const BEGINNINGS: &[(&str, &[&str])] = &[
    ("department", &["G", "D", "PRO", "NO "]),
    ("store", &["3", "40", "31"]),
    ("quantity", &["1", "2"]),
    ("user_id", &["household-1", "household-23", "nobody"]),
];
/// What is grouped by; the first four are rollups.
const GROUPINGS: &[&[&str]] = &[
    &[],
    &["department"],
    &["store"],
    &[],
    &["department", "store"],
    &["quantity"],
    &["user_id"],
    &["basket"],
    &["product"],
    &["store", "quantity"],
];

/// A dimension, how its value is tested, and with what.
#[derive(Clone, Debug)]
pub(super) struct Filter(pub(super) &'static str, pub(super) &'static str, pub(super) Vec<String>);

/// Numbers of one metric by window and group.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) metric: &'static str,
    pub(super) grain: &'static str,
    pub(super) from_us: i64,
    pub(super) to_us: i64,
    pub(super) by: &'static [&'static str],
    pub(super) filters: Vec<Filter>,
    pub(super) exact: bool,
}

/// A metric that is written as a text.
#[derive(Clone, Debug)]
pub(super) enum Formula {
    /// Dollars by purchase.
    Mean,
    /// Dollars and events in one sum.
    Difference,
    /// How much of all is of one department.
    Share(&'static str),
}

#[derive(Clone, Debug)]
pub(super) struct Funnel {
    pub(super) from_us: i64,
    pub(super) to_us: i64,
    pub(super) within_s: i64,
    pub(super) by: Option<&'static str>,
    /// The filters of each.
    pub(super) steps: Vec<Vec<Filter>>,
}

#[derive(Clone, Debug)]
pub(super) enum Asked {
    Rows(Question),
    /// Only so many groups, and the others as one.
    Limited(Question, usize),
    /// With the same days so many days before.
    Compared(Question, i64),
    /// With other filters.
    Segments(Question, [Vec<Filter>; 2]),
    Formula(Question, Formula),
    Heat(Question),
    Funnel(Funnel),
}

impl Asked {
    /// Ten plain ones, and one of each other kind.
    pub(super) const A_ROUND: usize = 16;

    pub(super) fn random(random: &mut StdRng, source: &Source, of_round: usize) -> Result<Self> {
        let mut question = Question::random(random, source)?;
        Ok(match of_round {
            10 => {
                question.by =
                    *GROUPINGS.iter().filter(|by| !by.is_empty()).collect::<Vec<_>>().choose(random).context("by")?;
                question.shorten();
                Self::Limited(question, random.random_range(1..20))
            }
            11 => {
                question.grain = "1d";
                question.by = GROUPINGS[random.random_range(0..5)];
                let days = *[1, 7, 30].choose(random).context("days")?;
                // So that there is something before.
                let (first, end) = (us(source.first)? + days * DAY_US, us(source.end)?);
                let from_us = if first < end { random.random_range(first..end) } else { end - DAY_US };
                (question.from_us, question.to_us) = days_of(from_us, (from_us + 9 * DAY_US).min(end - 1))?;
                Self::Compared(question, if first < end { days } else { 1 })
            }
            12 => {
                question.exact = question.metric == "households";
                Self::Segments(question, [some_filters(random)?, some_filters(random)?])
            }
            13 => {
                let department = VALUES[0].1.choose(random).context("a department")?;
                let formulas = [Formula::Mean, Formula::Difference, Formula::Share(department)];
                Self::Formula(question.formula(), formulas.choose(random).context("a formula")?.clone())
            }
            14 => {
                (question.grain, question.by, question.exact) = ("1h", &[], false);
                // Users of hours are united from rollups, and there is none of two dimensions.
                question.filters.truncate(usize::from(question.metric != "households") * 2);
                Self::Heat(question)
            }
            15 => Self::Funnel(Funnel::random(random, source)?),
            _ => Self::Rows(question),
        })
    }

    /// The path, and the body if it is not asked for with a query string.
    pub(super) fn request(&self) -> Result<(String, Option<Value>)> {
        let query = |question: &Question, path: &str, more: &[(&str, String)]| {
            let mut parameters = question.parameters();
            parameters.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
            let url = reqwest::Url::parse_with_params("http://x", &parameters)?;
            anyhow::Ok((format!("{path}?{}", url.query().unwrap_or_default()), None))
        };
        match self {
            Self::Rows(question) => query(question, "/v1/query", &[]),
            Self::Limited(question, limit) => query(question, "/v1/query", &[("limit", limit.to_string())]),
            Self::Compared(question, days) => query(question, "/v1/query", &[("compare", format!("{days}d"))]),
            Self::Formula(question, formula) => {
                let (path, _) = query(question, "/v1/query", &[("metric_text", formula.text())])?;
                Ok((path.replacen(&format!("metric={}&", question.metric), "", 1), None))
            }
            Self::Heat(question) => {
                let (path, _) = query(question, "/v1/heatmap", &[])?;
                Ok((path.replacen("&grain=1h&by=&exact=false", "", 1), None))
            }
            Self::Segments(question, [first, second]) => {
                let segment = |name: &str, filters: &[Filter]| json!({ "name": name, "filters": written(filters) });
                let body = json!({
                    "metric": question.metric, "grain": question.grain, "by": question.by, "exact": question.exact,
                    "from": instant(question.from_us), "to": instant(question.to_us),
                    "filters": written(&question.filters),
                    "segments": [segment("first", first), segment("second", second)],
                });
                Ok(("/v1/query".to_owned(), Some(body)))
            }
            Self::Funnel(funnel) => Ok(("/v1/funnels".to_owned(), Some(funnel.body()))),
        }
    }
}

impl Question {
    fn random(random: &mut StdRng, source: &Source) -> Result<Self> {
        let (first, end) = (us(source.first)?, us(source.end)?);
        let grain = *["1d", "1d", "1h", "5m", "1m"].choose(random).context("a grain")?;
        let (mut from_us, mut to_us) = (random.random_range(first..end), random.random_range(first..end));
        if from_us > to_us {
            (from_us, to_us) = (to_us, from_us);
        }
        let is_deep = random.random_bool(0.5);
        let groupings = if is_deep { GROUPINGS } else { &GROUPINGS[..4] };
        let by = *groupings.choose(random).context("dimensions")?;
        let mut filters: Vec<Filter> = Vec::new();
        for _ in 0..random.random_range(0..=2) {
            // What is not grouped by, too; in half of the questions nothing that takes single events.
            let filter = some_filter(random, if is_deep { VALUES.len() } else { 2 })?;
            let is_of_one_rollup =
                by.iter().all(|dimension| *dimension == filter.0) && filters.iter().all(|other| other.0 == filter.0);
            if (is_deep || is_of_one_rollup) && filters.iter().all(|other| other.0 != filter.0) {
                filters.push(filter);
            }
        }
        let metric = *["purchases", "revenue", "households", "households"].choose(random).context("a metric")?;
        let exact = random.random_bool(0.3);
        let mut question = Self { metric, grain, from_us, to_us, by, filters, exact };
        question.shorten();
        Ok(question)
    }

    /// To as many windows as may be asked for, and as many days of single events.
    fn shorten(&mut self) {
        let longest_days = match self.grain {
            "1m" => 4,
            "5m" => 30,
            _ if self.dimensions().len() > 1
                || !["department", "store"].contains(self.dimensions().first().unwrap_or(&"store")) =>
            {
                85
            }
            _ => 366,
        };
        self.to_us = self.to_us.min(self.from_us + longest_days * DAY_US).max(self.from_us + 1);
    }

    fn dimensions(&self) -> Vec<&'static str> {
        let mut all: Vec<&str> = self.by.iter().copied().chain(self.filters.iter().map(|filter| filter.0)).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// As a question whose numbers have no bound of an error.
    fn formula(mut self) -> Self {
        self.exact = false;
        self
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let mut parameters = vec![
            ("metric".to_owned(), self.metric.to_owned()),
            ("from".to_owned(), instant(self.from_us)),
            ("to".to_owned(), instant(self.to_us)),
            ("grain".to_owned(), self.grain.to_owned()),
            ("by".to_owned(), self.by.join(",")),
            ("exact".to_owned(), self.exact.to_string()),
        ];
        for Filter(name, test, values) in &self.filters {
            let test = if *test == "in" { "filter" } else { test };
            parameters.extend(values.iter().map(|value| (test.to_owned(), format!("{name}:{value}"))));
        }
        parameters
    }

    /// The windows that cover the range, and the end of the last one.
    pub(super) fn windows(&self) -> Result<(Vec<i64>, i64)> {
        if self.grain == "1d" {
            let mut day = jiff::Timestamp::from_microsecond(self.from_us)?.in_tz("America/New_York")?.start_of_day()?;
            let mut starts = Vec::new();
            while day.timestamp().as_microsecond() < self.to_us {
                starts.push(day.timestamp().as_microsecond());
                day = day.tomorrow()?.start_of_day()?;
            }
            return Ok((starts, day.timestamp().as_microsecond()));
        }
        let length_us = match self.grain {
            "1h" => HOUR_US,
            "5m" => HOUR_US / 12,
            _ => HOUR_US / 60,
        };
        let first = self.from_us - self.from_us.rem_euclid(length_us);
        let starts: Vec<i64> = (0..).map(|n| first + n * length_us).take_while(|start| *start < self.to_us).collect();
        let end = starts.last().context("a window")? + length_us;
        Ok((starts, end))
    }

    /// The same question about the days so many days before.
    pub(super) fn earlier(&self, days: i64) -> Result<Self> {
        let back = |us: i64| -> Result<i64> {
            let at = jiff::Timestamp::from_microsecond(us)?.in_tz("America/New_York")?;
            Ok(at.checked_sub(jiff::ToSpan::days(days))?.timestamp().as_microsecond())
        };
        Ok(Self { from_us: back(self.from_us)?, to_us: back(self.to_us)?, ..self.clone() })
    }

    pub(super) fn with(&self, more: &[Filter]) -> Self {
        Self { filters: [&self.filters[..], more].concat(), ..self.clone() }
    }
}

impl Formula {
    fn text(&self) -> String {
        match self {
            Self::Mean => "sum(money.USD) / count(*)".to_owned(),
            Self::Difference => "sum(money.USD) - 0.25 * sum(money.USD)".to_owned(),
            Self::Share(department) => format!("count(*) filter (where department = '{department}') / count(*)"),
        }
    }
}

impl Funnel {
    fn random(random: &mut StdRng, source: &Source) -> Result<Self> {
        let (first, end) = (us(source.first)?, us(source.end)?);
        let from_us = random.random_range(first..end - DAY_US);
        let to_us = random.random_range(from_us + HOUR_US..=end).min(from_us + 60 * DAY_US);
        let steps = (0..random.random_range(2..=4)).map(|_| {
            let filter = some_filter(random, 3)?;
            Ok(if filter.1 == "in" { vec![filter] } else { vec![] })
        });
        let steps = steps.collect::<Result<_>>()?;
        let within_s = *[3_600, 86_400, 7 * 86_400, 40 * 86_400].choose(random).context("a time")?;
        // One that all events of a user's instant have in common.
        let by = *[None, Some("store"), Some("user_id")].choose(random).context("by")?;
        Ok(Self { from_us, to_us, within_s, by, steps })
    }

    fn body(&self) -> Value {
        let step = |filters: &Vec<Filter>| {
            let filters: serde_json::Map<_, _> =
                filters.iter().map(|Filter(name, _, values)| ((*name).to_owned(), json!(values))).collect();
            json!({ "event": "purchase", "filters": filters })
        };
        json!({ "steps": self.steps.iter().map(step).collect::<Vec<_>>(), "within_s": self.within_s, "by": self.by,
                "from": instant(self.from_us), "to": instant(self.to_us) })
    }
}

/// Of the first so many dimensions.
fn some_filter(random: &mut StdRng, dimensions: usize) -> Result<Filter> {
    let test = *["in", "in", "not", "prefix"].choose(random).context("a test")?;
    let candidates = if test == "prefix" { BEGINNINGS } else { VALUES };
    let (name, values) = candidates[..dimensions].choose(random).context("a filter")?;
    let chosen = values.choose_multiple(random, if test == "prefix" { 2 } else { 3 });
    Ok(Filter(name, test, chosen.map(|value| (*value).to_owned()).collect()))
}

fn some_filters(random: &mut StdRng) -> Result<Vec<Filter>> {
    Ok(vec![some_filter(random, 2)?])
}

fn written(filters: &[Filter]) -> Vec<Value> {
    filters.iter().map(|Filter(name, test, values)| json!({ "dimension": name, *test: values })).collect()
}

pub(super) fn us(text: &str) -> Result<i64> {
    Ok(text.parse::<jiff::Timestamp>()?.as_microsecond())
}

fn instant(us: i64) -> String {
    jiff::Timestamp::from_microsecond(us).map_or_else(|_| String::new(), |at| at.to_string())
}

/// Whole days from that of one instant to that of another.
fn days_of(from_us: i64, to_us: i64) -> Result<(i64, i64)> {
    let day = |us: i64| anyhow::Ok(jiff::Timestamp::from_microsecond(us)?.in_tz("America/New_York")?.start_of_day()?);
    let end = day(to_us)?.tomorrow()?.start_of_day()?;
    Ok((day(from_us)?.timestamp().as_microsecond(), end.timestamp().as_microsecond()))
}
