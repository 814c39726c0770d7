//! Asking: one question or several, a metric's history, a heat map.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::future::join_all;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};

use super::paging::NEXT;
use super::params::{Pairs, Params, PathOf};
use super::{App, accept, api};
use crate::access::Reader;
use crate::answer::{Answer, Stale};
use crate::heat::HeatMap;
use crate::problem::Problem;
use crate::query::question::{QUESTIONS_MAX, Question, WrittenQuestion};
use crate::table::Form;

/// Says that an answer is older than it should be, and why.
pub(super) const STALE: HeaderName = HeaderName::from_static("reckon-stale");

/// The description of these routes.
#[derive(OpenApi)]
#[openapi(paths(ask, history, heat_map))]
pub(super) struct Description;

/// One question, or a list of them.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Asked {
    /// Is answered with its answer.
    One(Box<WrittenQuestion>),
    /// Is answered with a list of the same length. At most 16.
    Several(Vec<WrittenQuestion>),
}

/// What became of one question of a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It was answered.
    Answer(Box<Answer>),
    /// It was not.
    Problem(Problem),
}

/// What the body is answered with.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Answered {
    /// One question. `say` writes it, in any form.
    #[expect(dead_code, reason = "for the document only")]
    One(Box<Answer>),
    /// A list of them, in their order.
    Several(Vec<Outcome>),
}

/// `/v1/query` and the same under another name: answers that are rows, too.
pub(super) fn router() -> Router<App> {
    Router::new().route("/v1/query", get(api::query).post(ask)).route("/v1/metrics/{id}/history", get(history))
}

/// Answers questions that are written as JSON.
///
/// The same questions as `GET /v1/query`, and more: segments to compare. A list of at most 16 questions is answered with
/// a list, each entry with its `answer` or its `problem`; it costs one query of the quota for each question.
///
/// `Accept` chooses the form, as for every answer: `application/json`, `text/csv` or
/// `application/vnd.apache.arrow.stream`. As CSV or Arrow there is one answer. Its rows have a
/// `kind`: `point` (a window of a group), `total` (a group), `other_point` and `other_total` (groups beyond the limit)
/// and `grand_total`; then the dimensions, `start`, `end`, `value`, `unit`, `method`, `error_bound`, `state`, `as_of`,
/// `run_id`. A comparison has the same of its base beside it, as `base_start` to `base_run_id`, then `difference`,
/// `difference_error_bound`, `ratio` and `ratio_error_bound`; what is not known is empty, in Arrow null. Do not add up
/// `value` of users: that is what the totals are for. In CSV a text that a spreadsheet would take for a formula has a quote
/// before it.
///
/// **Pages.** With `page` an answer has only so many windows, with all of their groups, and `next` (also the header
/// `Reckon-Next`) is the `cursor` of the next page. A cursor is a range of time. So whatever arrives between two pages
/// changes numbers, and never moves, repeats or skips a row; and the range ends where it ended for the first page.
#[utoipa::path(post, path = "/v1/query", tag = "read", security(("read_key" = [])),
    request_body = Asked,
    responses(
        (status = 200, description = "The answer, or a list of outcomes", content(
            (Answered = "application/json"), (String = "text/csv"), (Vec<u8> = "application/vnd.apache.arrow.stream"))),
        (status = 400, description = "The body cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such metric", body = Problem, content_type = "application/problem+json"),
        (status = 406, description = "There is no such form", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "It cannot be answered, or the answer would be too large", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Over quota; see Retry-After", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The store of settled numbers is away; see Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn ask(State(app): State<App>, reader: Reader, request: Request) -> Result<Response, Problem> {
    let form = accept::form(request.headers(), accept::FORMS)?;
    let now = Timestamp::now();
    match asked(request).await? {
        Asked::One(written) => {
            let question = Question::read(&written)?;
            say(form, &app.answers.answer(&question, &reader.0, now).await?, &question)
        }
        Asked::Several(written) => {
            if form != Form::Json {
                return Err(Problem::not_acceptable("several answers are sent as application/json only"));
            }
            if written.len() > QUESTIONS_MAX {
                return Err(Problem::unreadable_body(format!("more than {QUESTIONS_MAX} questions")));
            }
            app.access.charge(&reader.0, written.len().saturating_sub(1))?;
            let outcomes = written.iter().map(async |written| {
                let answer = match Question::read(written) {
                    Ok(question) => app.answers.answer(&question, &reader.0, now).await,
                    Err(problem) => Err(problem),
                };
                answer.map_or_else(Outcome::Problem, |answer| Outcome::Answer(Box::new(answer)))
            });
            Ok(Json(Answered::Several(join_all(outcomes).await)).into_response())
        }
    }
}

/// The history of one metric.
///
/// `GET /v1/query` under another name: `granularity` is its `grain`, all its other parameters may be given, too.
#[utoipa::path(get, path = "/v1/metrics/{id}/history", tag = "read", security(("read_key" = [])),
    params(
        ("id" = String, Path, description = "A metric of the catalog"),
        ("from" = Option<String>, Query, description = "As for /v1/query, like all other parameters"),
        ("to" = Option<String>, Query, description = "As for /v1/query"),
        ("granularity" = Option<String>, Query, description = "`1s`, `1m`, `5m`, `1h` (the default) or `1d`"),
        ("by" = Option<String>, Query, description = "As for /v1/query"),
        ("filter" = Option<Vec<String>>, Query, description = "As for /v1/query, like `not` and `prefix`"),
        ("limit" = Option<usize>, Query, description = "As for /v1/query"),
        ("compare" = Option<String>, Query, description = "As for /v1/query"),
        ("page" = Option<usize>, Query, description = "Answer only so many windows"),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before, instead of `from` and `to`"),
    ),
    responses(
        (status = 200, description = "The answer", content(
            (Answer = "application/json"), (String = "text/csv"), (Vec<u8> = "application/vnd.apache.arrow.stream"))),
        (status = 400, description = "A parameter cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such metric", body = Problem, content_type = "application/problem+json"),
        (status = 406, description = "There is no such form", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "It cannot be answered, or the answer would be too large", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Over quota; see Retry-After", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The store of settled numbers is away; see Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn history(
    State(app): State<App>,
    reader: Reader,
    PathOf(metric): PathOf<String>,
    headers: HeaderMap,
    Params(mut given): Params<Pairs>,
) -> Result<Response, Problem> {
    let form = accept::form(&headers, accept::FORMS)?;
    for (name, _) in &mut given {
        match name.as_str() {
            "granularity" => "grain".clone_into(name),
            // Of the path, or under its other name: neither can be given here.
            "metric" | "metric_text" | "grain" => name.insert_str(0, "history "),
            _ => {}
        }
    }
    given.push(("metric".to_owned(), metric));
    let question = Question::parse(&given)?;
    say(form, &app.answers.answer(&question, &reader.0, Timestamp::now()).await?, &question)
}

/// A metric by hour of the day and day of the week, in the tenant's zone.
///
/// Every hour of the range is counted where a clock in the tenant's zone shows it: one that a clock change repeats
/// counts twice, one that it skips is not there; `hours` says how many are behind each number. Users are united over the
/// hours of a cell, so they are estimates.
#[utoipa::path(get, path = "/v1/heatmap", tag = "read", security(("read_key" = [])),
    params(
        ("metric" = String, Query, description = "A metric of the catalog that is counted in hours"),
        ("from" = Option<String>, Query, description = "As for /v1/query; four weeks before `to` by default"),
        ("to" = Option<String>, Query, description = "As for /v1/query"),
        ("filter" = Option<Vec<String>>, Query, description = "As for /v1/query, like `not` and `prefix`"),
    ),
    responses(
        (status = 200, description = "The heat map", body = HeatMap),
        (status = 400, description = "A parameter cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such metric", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "It cannot be answered", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Over quota; see Retry-After", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The store of settled numbers is away; see Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn heat_map(
    State(app): State<App>,
    reader: Reader,
    Params(given): Params<Pairs>,
) -> Result<Response, Problem> {
    let map = app.answers.heat_map(given, &reader.0).await?;
    let (age_ms, stale) = (map.age_ms, map.stale);
    Ok(aged(Json(map), age_ms, stale))
}

/// An answer in the form that was asked for.
pub(super) fn say(form: Form, answer: &Answer, question: &Question) -> Result<Response, Problem> {
    let mut response = form.bytes(answer, &question.query.by)?.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(form.content_type()));
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    if let Some(next) = answer.next.as_deref().and_then(|next| HeaderValue::from_str(next).ok()) {
        headers.insert(NEXT, next);
    }
    Ok(aged(response, answer.age_ms, answer.staleness()))
}

/// Says in the headers how old an answer is, and why if it is older than it should be.
pub(super) fn aged(answer: impl IntoResponse, age_ms: i64, stale: Option<Stale>) -> Response {
    let mut response = answer.into_response();
    let headers = response.headers_mut();
    headers.insert(header::AGE, HeaderValue::from(age_ms / 1000));
    if let Some(Stale { age_ms, reason }) = stale
        && let Ok(value) = HeaderValue::from_str(&format!("{}; age_ms={age_ms}", reason.name()))
    {
        headers.insert(STALE, value);
    }
    response
}

/// The body as questions.
async fn asked(request: Request) -> Result<Asked, Problem> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let detail = "send the question as `content-type: application/json`";
        return Err(Problem::refused_body(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let bytes = Bytes::from_request(request, &()).await.map_err(|rejection| {
        Problem::refused_body(rejection.status(), format!("{}: ask for less at once", rejection.body_text()))
    })?;
    // By its first sign, so that what is wrong is told of the question and not of "any of both".
    let is_list = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let read = if is_list {
        serde_json::from_slice(&bytes).map(Asked::Several)
    } else {
        serde_json::from_slice(&bytes).map(|one| Asked::One(Box::new(one)))
    };
    read.map_err(|error| Problem::unreadable_body(error.to_string().chars().take(400).collect::<String>()))
}
