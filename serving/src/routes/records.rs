//! Lists for finance and operations: runs, periods, restatements, and what was refused.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use utoipa::OpenApi;

use super::paging::{FORMS, Paging, PagingSince, say};
use super::params::Params;
use super::{App, accept};
use crate::access::Finance;
use crate::problem::Problem;
use crate::reconciliation::Reconciliation;
use crate::records::{Change, Page, PeriodEntry, Rejected, Run, page};

#[derive(OpenApi)]
#[openapi(
    paths(runs, latest, periods, changes, rejected),
    tags((name = "finance", description = "Runs, periods, restatements, and what was refused"))
)]
pub(super) struct Description;

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/v1/reconciliations", get(runs))
        .route("/v1/periods", get(periods))
        .route("/v1/changes", get(changes))
        .route("/v1/rejected", get(rejected))
}

/// Settlement runs, the newest first.
#[utoipa::path(get, path = "/v1/reconciliations", tag = "finance", security(("finance_key" = []), ("session" = [])), params(Paging),
    responses(
        (status = 200, description = "A page of runs; as CSV its `next` is in the header `Reckon-Next`", content(
            (Page<Run> = "application/json"), (String = "text/csv"))),
        (status = 400, description = "A parameter cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Needs the scope finance", body = Problem, content_type = "application/problem+json"),
        (status = 406, description = "There is no such form", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The store of settled numbers is away; see Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn runs(
    State(app): State<App>,
    Finance(tenant): Finance,
    headers: HeaderMap,
    Params(paging): Params<Paging>,
) -> Result<Response, Problem> {
    let form = accept::form(&headers, FORMS)?;
    let (limit, after) = paging.newest_first()?;
    let runs = app.evaluator.stores().clickhouse.runs(&tenant, &after, limit).await?;
    say(form, page(runs, limit))
}

/// The newest settlement run and its comparison with the speed layer.
#[utoipa::path(get, path = "/v1/reconciliations/latest", tag = "finance", security(("finance_key" = []), ("session" = [])),
    responses(
        (status = 200, description = "The comparison", body = Reconciliation),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Needs the scope finance", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "Nothing was settled yet", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The store of settled numbers is away; see Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn latest(State(app): State<App>, Finance(tenant): Finance) -> Result<Json<Reconciliation>, Problem> {
    let latest = app.evaluator.stores().clickhouse.latest_reconciliation(&tenant).await?;
    let latest = latest.ok_or_else(|| Problem::not_found("nothing was settled yet: run `reckon nightly`"))?;
    Ok(Json(latest))
}

/// The log of periods: closings, adjustments, reopenings, the newest first.
#[utoipa::path(get, path = "/v1/periods", tag = "finance", security(("finance_key" = []), ("session" = [])), params(Paging),
    responses(
        (status = 200, description = "A page of entries; as CSV its `next` is in the header `Reckon-Next`", content(
            (Page<PeriodEntry> = "application/json"), (String = "text/csv"))),
        (status = 400, description = "A parameter cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Needs the scope finance", body = Problem, content_type = "application/problem+json"),
        (status = 406, description = "There is no such form", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The store of settled numbers is away; see Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn periods(
    State(app): State<App>,
    Finance(tenant): Finance,
    headers: HeaderMap,
    Params(paging): Params<Paging>,
) -> Result<Response, Problem> {
    let form = accept::form(&headers, FORMS)?;
    let (limit, after) = paging.newest_first()?;
    let entries = app.evaluator.stores().clickhouse.period_entries(&tenant, &after, limit).await?;
    say(form, page(entries, limit))
}

/// What restatements changed, the oldest first: every number of a day before and after, with the run and the reason.
///
/// To follow the log, ask with the newest `changed_at` that you have as `since`: what is of that instant comes once more.
#[utoipa::path(get, path = "/v1/changes", tag = "finance", security(("finance_key" = []), ("session" = [])), params(PagingSince),
    responses(
        (status = 200, description = "A page of changes; as CSV its `next` is in the header `Reckon-Next`", content(
            (Page<Change> = "application/json"), (String = "text/csv"))),
        (status = 400, description = "A parameter cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Needs the scope finance", body = Problem, content_type = "application/problem+json"),
        (status = 406, description = "There is no such form", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The store of settled numbers is away; see Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn changes(
    State(app): State<App>,
    Finance(tenant): Finance,
    headers: HeaderMap,
    Params(paging): Params<PagingSince>,
) -> Result<Response, Problem> {
    let form = accept::form(&headers, FORMS)?;
    let (limit, after) = paging.oldest_first()?;
    let changes = app.evaluator.stores().clickhouse.changes(&tenant, &after, limit).await?;
    say(form, page(changes, limit))
}

/// Items that the collector refused, the oldest first, as far as they are archived: what was sent, which field is wrong, and
/// why. `reckon replay-rejected` sends corrected ones again.
#[utoipa::path(get, path = "/v1/rejected", tag = "finance", security(("finance_key" = []), ("session" = [])), params(PagingSince),
    responses(
        (status = 200, description = "A page of items; as CSV its `next` is in the header `Reckon-Next`", content(
            (Page<Rejected> = "application/json"), (String = "text/csv"))),
        (status = 400, description = "A parameter cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Needs the scope finance", body = Problem, content_type = "application/problem+json"),
        (status = 406, description = "There is no such form", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The page is too large for the memory that questions may take", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Over quota; see Retry-After", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The lake is away; see Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn rejected(
    State(app): State<App>,
    Finance(tenant): Finance,
    headers: HeaderMap,
    Params(paging): Params<PagingSince>,
) -> Result<Response, Problem> {
    let form = accept::form(&headers, FORMS)?;
    let (limit, after) = paging.oldest_first()?;
    let rejected = app.evaluator.rejected(&tenant, &after, limit).await?;
    say(form, page(rejected, limit))
}
