//! What is unusual.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use reckon_schemas::time::EventTime;

use super::App;
use super::params::{Pairs, Params};
use super::questions::aged;
use crate::access::Reader;
use crate::anomaly::{Judged, Judgement, judge};
use crate::problem::Problem;
use crate::query::params::Query;
use crate::query::question::Question;

const DEVIATIONS: f64 = 2.0;
const WEEKS: u32 = 8;
const WEEKS_MAX: u32 = 26;
const HOURS_A_WEEK: i64 = 7 * 24;
/// Without `from`, the last day is judged.
const DEFAULT_HOURS: i64 = 24;

/// Compares every hour with the same hour of the weeks before it, in the tenant's zone.
///
/// An hour is unusual if it is more than `deviations` standard deviations off the mean of the weeks before: the answer
/// has the band. Only hours that are over are judged, and only if three weeks or more are known. A sketch's error is
/// part of the spread.
#[utoipa::path(get, path = "/v1/anomalies", tag = "read", security(("read_key" = [])),
    params(
        ("metric" = String, Query, description = "A metric of the catalog"),
        ("from" = Option<String>, Query, description = "The first instant to be judged (RFC 3339); 24 hours before `to` by default"),
        ("to" = Option<String>, Query, description = "The first instant after the range; now by default"),
        ("by" = Option<String>, Query, description = "As for /v1/query"),
        ("filter" = Option<Vec<String>>, Query, description = "As for /v1/query"),
        ("deviations" = Option<f64>, Query, description = "How many standard deviations off are unusual; 2 by default"),
        ("weeks" = Option<u32>, Query, description = "With how many weeks before an hour is compared, 3 to 26; 8 by default"),
    ),
    responses(
        (status = 200, description = "Every hour, its band, and whether it left it", body = Judged),
        (status = 400, description = "A parameter cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such metric", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "It cannot be answered", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Over quota; see Retry-After", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The store of settled numbers is away; see Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn anomalies(
    State(app): State<App>,
    reader: Reader,
    Params(pairs): Params<Pairs>,
) -> Result<Response, Problem> {
    let now = Timestamp::now();
    let given = |wanted: &str| pairs.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    let (from, to) = (given("from").unwrap_or_default(), given("to"));
    let (query, judgement) = read(pairs, now)?;
    // Without an end it moves on with the time.
    let range = to.is_none().then(|| format!("from {from:?} until now, and {} weeks before", judgement.weeks));
    let question = Question { query, compared: None };
    let answer = app.answers.answer_over(range.as_deref(), &question, &reader.0, now).await?;
    let judged = judge(&answer, &reader.0.time_zone, judgement);
    Ok(aged(Json(judged), answer.age_ms, answer.stale))
}

/// The question that also covers the weeks before, and how to judge its answer.
fn read(pairs: Vec<(String, String)>, now: Timestamp) -> Result<(Query, Judgement), Problem> {
    let (mut from, mut to, mut deviations, mut weeks) = (None, now, DEVIATIONS, WEEKS);
    let mut rest = Vec::new();
    for (name, value) in pairs {
        match name.as_str() {
            "from" => from = Some(instant("from", &value)?),
            "to" => to = instant("to", &value)?,
            "deviations" => {
                let read = value.parse().ok().filter(|deviations| (0.1..=100.0).contains(deviations));
                deviations =
                    read.ok_or_else(|| Problem::invalid_parameter("deviations", "a number from 0.1 to 100"))?;
            }
            "weeks" => {
                let read = value.parse().ok().filter(|weeks| (3..=WEEKS_MAX).contains(weeks));
                let detail = || format!("a number from 3 to {WEEKS_MAX}");
                weeks = read.ok_or_else(|| Problem::invalid_parameter("weeks", detail()))?;
            }
            "grain" => return Err(Problem::not_answerable("grain", "leave it out: hours are compared")),
            _ => rest.push((name, value)),
        }
    }
    let before = |at: Timestamp, hours: i64| {
        let moved = at.checked_sub(jiff::SignedDuration::from_hours(hours));
        moved.map_err(|_| Problem::invalid_parameter("from", "too far away"))
    };
    let from = from.map_or_else(|| before(to, DEFAULT_HOURS), Ok)?;
    // One hour more, for the one that a clock change may have moved.
    let earliest = before(from, i64::from(weeks) * HOURS_A_WEEK + 1)?;
    rest.extend([("from", earliest.to_string()), ("to", to.to_string())].map(|(name, at)| (name.to_owned(), at)));
    rest.push(("grain".to_owned(), "1h".to_owned()));
    Ok((Query::parse(&rest)?, Judgement { from: EventTime::from_timestamp(from), deviations, weeks }))
}

fn instant(name: &'static str, text: &str) -> Result<Timestamp, Problem> {
    text.parse().map_err(|_| Problem::invalid_parameter(name, "write an instant such as 2026-01-31T12:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<(Query, Judgement), Problem> {
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        read(pairs, "2026-03-30T10:00:00Z".parse().expect("valid"))
    }

    #[test]
    fn the_question_reaches_back_for_the_weeks_before() {
        let (question, judgement) = read_text("metric=m&by=d&weeks=4").expect("readable");
        let same = [("metric", "m"), ("by", "d"), ("from", "2026-03-01T09:00:00Z"), ("to", "2026-03-30T10:00:00Z")];
        let same = same.into_iter().chain([("grain", "1h")]);
        let same: Vec<_> = same.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        assert_eq!(question, Query::parse(&same).expect("readable"));
        assert_eq!((judgement.from.to_string().as_str(), judgement.weeks), ("2026-03-29T10:00:00Z", 4));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (text, parameter) in [
            ("metric=m&weeks=2", "weeks"),
            ("metric=m&deviations=NaN", "deviations"),
            ("metric=m&deviations=0", "deviations"),
            ("metric=m&from=2026-01-01", "from"),
            ("metric=m&grain=1d", "grain"),
            ("weeks=4", "metric"),
        ] {
            assert_eq!(read_text(text).expect_err(text).parameter, Some(parameter), "{text}");
        }
    }
}
