//! Lists for finance and operations: runs, periods, restatements, and what was refused.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use reckon_schemas::time::EventTime;
use serde::Deserialize;
use utoipa::{IntoParams, OpenApi};

use super::App;
use crate::access::Reader;
use crate::problem::Problem;
use crate::query::store_problem;
use crate::records::{Change, Cursor, PAGE, PAGE_MAX, Page, PeriodEntry, Rejected, Run, page};

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Paging {
    /// Items of the page, 100 by default, 1,000 at most.
    limit: Option<u32>,
    /// The `next` of the page before.
    after: Option<String>,
}

/// Which page of a list that has the oldest first.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct PagingSince {
    /// Items of the page, 100 by default, 1,000 at most.
    limit: Option<u32>,
    /// The `next` of the page before.
    after: Option<String>,
    /// Items since this instant (RFC 3339); all of them without it.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
}

#[derive(OpenApi)]
#[openapi(
    paths(runs, periods, changes, rejected),
    tags((name = "finance", description = "Runs, periods, restatements, and what was refused"))
)]
pub(super) struct Description;

type Parameters<T> = Result<Query<T>, QueryRejection>;

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/v1/reconciliations", get(runs))
        .route("/v1/periods", get(periods))
        .route("/v1/changes", get(changes))
        .route("/v1/rejected", get(rejected))
}

/// Settlement runs, the newest first.
#[utoipa::path(get, path = "/v1/reconciliations", tag = "finance", security(("read_key" = [])), params(Paging),
    responses(
        (status = 200, description = "A page of runs", body = Page<Run>),
        (status = 400, description = "A parameter cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The store of settled numbers is away; see Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn runs(
    State(app): State<App>,
    reader: Reader,
    paging: Parameters<Paging>,
) -> Result<Json<Page<Run>>, Problem> {
    let Paging { limit, after } = read(paging)?;
    let (limit, after) = (limit_of(limit)?, before(after)?);
    let runs = app.evaluator.stores().clickhouse.runs(&reader.0, &after, limit).await;
    Ok(Json(page(runs.map_err(|error| store_problem(&error))?, limit)))
}

/// The log of periods: closings, adjustments, reopenings, the newest first.
#[utoipa::path(get, path = "/v1/periods", tag = "finance", security(("read_key" = [])), params(Paging),
    responses(
        (status = 200, description = "A page of entries", body = Page<PeriodEntry>),
        (status = 400, description = "A parameter cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The store of settled numbers is away; see Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn periods(
    State(app): State<App>,
    reader: Reader,
    paging: Parameters<Paging>,
) -> Result<Json<Page<PeriodEntry>>, Problem> {
    let Paging { limit, after } = read(paging)?;
    let (limit, after) = (limit_of(limit)?, before(after)?);
    let entries = app.evaluator.stores().clickhouse.period_entries(&reader.0, &after, limit).await;
    Ok(Json(page(entries.map_err(|error| store_problem(&error))?, limit)))
}

/// What restatements changed, the oldest first: every number of a day before and after, with the run and the reason.
///
/// To follow the log, keep the last `next` and ask again with it: what is new comes after it.
#[utoipa::path(get, path = "/v1/changes", tag = "finance", security(("read_key" = [])), params(PagingSince),
    responses(
        (status = 200, description = "A page of changes", body = Page<Change>),
        (status = 400, description = "A parameter cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The store of settled numbers is away; see Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn changes(
    State(app): State<App>,
    reader: Reader,
    paging: Parameters<PagingSince>,
) -> Result<Json<Page<Change>>, Problem> {
    let PagingSince { limit, after, since } = read(paging)?;
    let (limit, after) = (limit_of(limit)?, behind(after, since)?);
    let changes = app.evaluator.stores().clickhouse.changes(&reader.0, &after, limit).await;
    Ok(Json(page(changes.map_err(|error| store_problem(&error))?, limit)))
}

/// Items that the collector refused, the oldest first, as far as they are archived: what was sent, which field is wrong, and
/// why. `reckon replay-rejected` sends corrected ones again.
#[utoipa::path(get, path = "/v1/rejected", tag = "finance", security(("read_key" = [])), params(PagingSince),
    responses(
        (status = 200, description = "A page of items", body = Page<Rejected>),
        (status = 400, description = "A parameter cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The page is too large for the memory that questions may take", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Over quota; see Retry-After", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The lake is away; see Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn rejected(
    State(app): State<App>,
    reader: Reader,
    paging: Parameters<PagingSince>,
) -> Result<Json<Page<Rejected>>, Problem> {
    let PagingSince { limit, after, since } = read(paging)?;
    let (limit, after) = (limit_of(limit)?, behind(after, since)?);
    Ok(Json(page(app.evaluator.rejected(&reader.0, &after, limit).await?, limit)))
}

fn read<T>(parameters: Parameters<T>) -> Result<T, Problem> {
    let Query(parameters) = parameters.map_err(|rejection| Problem::unreadable_query(rejection.body_text()))?;
    Ok(parameters)
}

fn limit_of(limit: Option<u32>) -> Result<u32, Problem> {
    let limit = limit.unwrap_or(PAGE);
    let detail = || format!("a page has 1 to {PAGE_MAX} items");
    (1..=PAGE_MAX).contains(&limit).then_some(limit).ok_or_else(|| Problem::invalid_parameter("limit", detail()))
}

/// Where a list begins that has the newest first.
fn before(after: Option<String>) -> Result<Cursor, Problem> {
    let newest = Cursor { at_us: i64::MAX, tie: String::new() };
    after.map_or(Ok(newest), |after| Cursor::decode(&after))
}

/// Where a list begins that has the oldest first.
fn behind(after: Option<String>, since: Option<Timestamp>) -> Result<Cursor, Problem> {
    match (after, since) {
        (Some(_), Some(_)) => Err(Problem::invalid_parameter("since", "give either `since` or `after`")),
        (Some(after), None) => Cursor::decode(&after),
        // The empty text is before every other, so that the instant itself is included.
        (None, since) => {
            let at_us = since.map_or(i64::MIN, |since| EventTime::from_timestamp(since).0);
            Ok(Cursor { at_us, tie: String::new() })
        }
    }
}
