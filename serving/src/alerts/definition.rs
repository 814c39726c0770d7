//! What a person writes down to be watched, checked before it is kept.

use bigdecimal::BigDecimal;
use jiff::{SignedDuration, Timestamp};
use reckon_schemas::catalog::{Measure, Tenant};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::rule::{Rule, Side};
use super::webhook::Webhooks;
use crate::problem::Problem;
use crate::query::params::Query;

const NAME_CHARS_MAX: usize = 100;
const SECONDS_MAX: u32 = 86_400;
const MINUTES_MAX: u32 = 1_440;
/// The last minute is only looked at when the speed layer has had time to count it.
const SETTLING: SignedDuration = SignedDuration::from_secs(10);

/// An alert as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Definition {
    /// What to call it: 1 to 100 characters.
    pub(crate) name: String,
    /// A metric of the catalog.
    pub(crate) metric: String,
    /// `dimension:value`, as for `/v1/query`.
    #[serde(default)]
    pub(crate) filter: Vec<String>,
    /// Over how many whole minutes up to now, 1 to 1,440. Active users have a range of their own.
    #[serde(default = "five")]
    pub(crate) over_minutes: u32,
    /// On which side of the threshold something is wrong.
    pub(crate) side: Side,
    /// The threshold, a decimal number as text.
    pub(crate) threshold: String,
    /// A firing alert is over when the number is back at this value or better; the threshold by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) clear: Option<String>,
    /// It fires when the threshold is crossed for more than so many consecutive seconds; 60 by default.
    #[serde(default = "sixty")]
    pub(crate) for_seconds: u32,
    /// After so many seconds without a number that is what is told; 300 by default.
    #[serde(default = "three_hundred")]
    pub(crate) no_data_seconds: u32,
    /// Where to send messages, beside the live ones: an `https://` address that is not inside of a network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) webhook: Option<String>,
}

const fn five() -> u32 {
    5
}

const fn sixty() -> u32 {
    60
}

const fn three_hundred() -> u32 {
    300
}

impl Definition {
    /// Checks it against the tenant's catalog; the question that would be asked now.
    ///
    /// # Errors
    /// 422 that says what is wrong with which field.
    pub(crate) fn check(&self, tenant: &Tenant, webhooks: &Webhooks) -> Result<Query, Problem> {
        let wrong = |field: &str, why: &str| Err(Problem::invalid_body(format!("`{field}` {why}")));
        if !(1..=NAME_CHARS_MAX).contains(&self.name.chars().count()) || self.name.chars().any(char::is_control) {
            return wrong("name", "has 1 to 100 characters");
        }
        let Some(metric) = tenant.metric(&self.metric) else {
            return wrong("metric", "is not in the catalog");
        };
        if metric.measure == Measure::Top {
            return wrong("metric", "is a list, not a number");
        }
        if !(1..=MINUTES_MAX).contains(&self.over_minutes) {
            return wrong("over_minutes", "lies between 1 and 1440");
        }
        if self.for_seconds > SECONDS_MAX || self.no_data_seconds > SECONDS_MAX {
            return wrong("for_seconds", "and `no_data_seconds` are at most 86400");
        }
        let rule = self.rule()?;
        let is_better = match self.side {
            Side::Above => rule.clear <= rule.threshold,
            Side::Below => rule.clear >= rule.threshold,
        };
        if !is_better {
            return wrong("clear", "lies on the wrong side of `threshold`");
        }
        if let Some(address) = &self.webhook
            && let Err(why) = webhooks.check(address)
        {
            return wrong("webhook", &why);
        }
        self.question(Timestamp::now(), metric.measure)
    }

    /// When it fires.
    ///
    /// # Errors
    /// 422 if a number is none.
    pub(crate) fn rule(&self) -> Result<Rule, Problem> {
        let number = |field: &str, text: &str| {
            let is_plain = text.len() <= 40 && !text.contains(['e', 'E', '_']);
            let number = text.parse::<BigDecimal>().ok().filter(|_| is_plain);
            number.ok_or_else(|| Problem::invalid_body(format!("`{field}` is not a decimal number as text")))
        };
        let threshold = number("threshold", &self.threshold)?;
        let clear = self.clear.as_deref().map_or_else(|| Ok(threshold.clone()), |clear| number("clear", clear))?;
        Ok(Rule {
            side: self.side,
            threshold,
            clear,
            for_at_least: SignedDuration::from_secs(self.for_seconds.into()),
            no_data_after: SignedDuration::from_secs(self.no_data_seconds.into()),
        })
    }

    /// The question whose total is watched.
    ///
    /// # Errors
    /// A filter cannot be read.
    pub(crate) fn question(&self, now: Timestamp, measure: Measure) -> Result<Query, Problem> {
        let mut pairs = vec![("metric".to_owned(), self.metric.clone())];
        pairs.extend(self.filter.iter().map(|filter| ("filter".to_owned(), filter.clone())));
        if measure != Measure::ActiveUsers {
            let seconds = (now - SETTLING).as_second();
            let to = seconds - seconds.rem_euclid(60);
            let from = to - i64::from(self.over_minutes) * 60;
            let instant = |second: i64| Timestamp::from_second(second).unwrap_or(Timestamp::MIN).to_string();
            pairs.extend([("from", instant(from)), ("to", instant(to))].map(|(name, at)| (name.to_owned(), at)));
            pairs.push(("grain".to_owned(), "1m".to_owned()));
        }
        Query::parse(&pairs)
    }
}
