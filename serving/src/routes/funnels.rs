//! Funnels.

use axum::Json;
use axum::extract::State;
use axum::response::Response;

use super::App;
use super::body::Body;
use super::questions::aged;
use crate::access::Reader;
use crate::funnel::answer::FunnelAnswer;
use crate::funnel::question::FunnelQuestion;
use crate::problem::Problem;

/// Counts users who take several steps one after the other.
///
/// A user reaches a step if there are events of the user for all steps up to it, each later than the one before, the last
/// one at most `within_s` after the first. Segments are by the value that the user's earliest event for the first step
/// has, so they add up. A range of the last days is read in ClickHouse; any other, also one that reaches into the last
/// days, in the lake, for at most 90 days. Both are exact as of what has arrived.
#[utoipa::path(post, path = "/v1/funnels", tag = "read", security(("read_key" = [])),
    request_body = FunnelQuestion,
    responses(
        (status = 200, description = "Users for each step", body = FunnelAnswer),
        (status = 400, description = "The question cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is no JSON", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The question is more than may be asked", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Over quota; see Retry-After", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The store that has the range is away; see Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn funnels(
    State(app): State<App>,
    reader: Reader,
    Body(question): Body<FunnelQuestion>,
) -> Result<Response, Problem> {
    let answer = app.answers.funnel(question, &reader.0).await?;
    let (age_ms, stale) = (answer.age_ms, answer.stale);
    Ok(aged(Json(answer), age_ms, stale))
}
