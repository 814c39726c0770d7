//! The members of a tenant.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use reckon_schemas::access::Scope;
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};

use super::App;
use super::body::Body;
use super::paging::Paging;
use super::params::{Params, PathOf};
use crate::access::Admin;
use crate::accounts::invitations::Waiting;
use crate::accounts::users::{Member, checked_email};
use crate::problem::Problem;
use crate::records::{Page, page};

#[derive(OpenApi)]
#[openapi(paths(list, invite, change, remove))]
pub(super) struct Description;

pub(super) fn router() -> Router<App> {
    Router::new().route("/v1/users", get(list).post(invite)).route("/v1/users/{id}", put(change).delete(remove))
}

/// Who is a member, and who is going to be.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct People {
    /// A page of the members, by address.
    members: Vec<Member>,
    /// Ask for the next page with `after=` this; null at the end of the list.
    next: Option<String>,
    /// The invitations that wait, on every page; at most 100 can.
    invitations: Vec<Waiting>,
}

/// Somebody to be invited.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Invitee {
    /// Their address.
    email: String,
    /// What they may do: `write`, `read`, `finance`, `admin`.
    #[schema(value_type = Vec<String>, min_items = 1)]
    scopes: Vec<Scope>,
}

/// An invitation that was just made.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Invitation {
    /// To be handed to the person, who accepts it at `/v1/session/accept`, or by the page. It is shown only now.
    invitation: String,
    /// What is kept of it.
    #[serde(flatten)]
    waiting: Waiting,
}

/// What somebody may do from now on.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scopes {
    /// `write`, `read`, `finance`, `admin`.
    #[schema(value_type = Vec<String>, min_items = 1)]
    scopes: Vec<Scope>,
}

/// The members of the tenant, and the invitations that wait.
#[utoipa::path(get, path = "/v1/users", tag = "access", security(("admin_key" = []), ("session" = [])), params(Paging),
    responses(
        (status = 200, description = "A page of them", body = People),
        (status = 400, description = "A parameter cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Not signed in", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Needs the scope admin", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn list(
    State(app): State<App>,
    Admin(caller): Admin,
    Params(paging): Params<Paging>,
) -> Result<Json<People>, Problem> {
    let (limit, after) = paging.in_order()?;
    let (accounts, tenant) = (app.access.accounts(), &caller.tenant.id);
    let Page { items: members, next } = page(accounts.members(tenant, &after, limit).await?, limit);
    Ok(Json(People { members, next, invitations: accounts.waiting(tenant).await? }))
}

/// Invites somebody. The answer does not depend on whether they have an account already.
#[utoipa::path(post, path = "/v1/users", tag = "access", security(("admin_key" = []), ("session" = [])),
    request_body = Invitee,
    responses(
        (status = 201, description = "Hand the invitation to the person", body = Invitation),
        (status = 400, description = "The body is not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Not signed in", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Needs the scope admin", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Too many invitations wait", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not `application/json`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A value cannot be taken", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn invite(
    State(app): State<App>,
    Admin(caller): Admin,
    Body(invitee): Body<Invitee>,
) -> Result<Response, Problem> {
    some(&invitee.scopes)?;
    let email = checked_email(&invitee.email)?;
    let invited = app.access.accounts().invite(&caller.tenant.id, email, invitee.scopes, &caller.actor).await?;
    let (invitation, waiting) = invited;
    Ok((StatusCode::CREATED, Json(Invitation { invitation, waiting }).into_response()).into_response())
}

/// Gives a member other scopes.
#[utoipa::path(put, path = "/v1/users/{id}", tag = "access", security(("admin_key" = []), ("session" = [])),
    params(("id" = String, Path, description = "The person's identifier")), request_body = Scopes,
    responses(
        (status = 204, description = "They may do this from now on"),
        (status = 400, description = "The body is not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Not signed in", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Needs the scope admin", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such member", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not `application/json`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A value cannot be taken", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn change(
    State(app): State<App>,
    Admin(caller): Admin,
    PathOf(id): PathOf<String>,
    Body(Scopes { scopes }): Body<Scopes>,
) -> Result<StatusCode, Problem> {
    some(&scopes)?;
    app.access.accounts().change_member(&caller.tenant.id, &id, Some(&scopes), &caller.actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends a membership, and the person's sessions in this tenant.
#[utoipa::path(delete, path = "/v1/users/{id}", tag = "access", security(("admin_key" = []), ("session" = [])),
    params(("id" = String, Path, description = "The person's identifier")),
    responses(
        (status = 204, description = "They see nothing of this tenant any more"),
        (status = 401, description = "Not signed in", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Needs the scope admin", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such member", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn remove(
    State(app): State<App>,
    Admin(caller): Admin,
    PathOf(id): PathOf<String>,
) -> Result<StatusCode, Problem> {
    app.access.accounts().change_member(&caller.tenant.id, &id, None, &caller.actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn some(scopes: &[Scope]) -> Result<(), Problem> {
    if scopes.is_empty() {
        return Err(Problem::invalid_body("give some `scopes`: write, read, finance, admin"));
    }
    Ok(())
}
