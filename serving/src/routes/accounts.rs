//! Keys, bounds and the audit log: what an admin of a tenant sees and changes.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{delete, get};
use axum::{Json, Router};
use jiff::Timestamp;
use reckon_schemas::access::{AccessKey, Scope};
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};

use super::App;
use super::body::Body;
use super::paging::Paging;
use super::params::{Params, PathOf};
use crate::access::{Admin, Reader};
use crate::accounts::audit::Entry;
use crate::accounts::keys::{KeyEntry, KeyWish};
use crate::problem::Problem;
use crate::records::{Page, page};

/// The longest name that something may have.
const NAME_CHARS_MAX: usize = 100;

#[derive(OpenApi)]
#[openapi(
    paths(list_keys, create_key, revoke_key, quotas, audit),
    tags((name = "access", description = "Who may do what, how much of it, and who changed it"))
)]
pub(super) struct Description;

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/v1/keys", get(list_keys).post(create_key))
        .route("/v1/keys/{prefix}", delete(revoke_key))
        .route("/v1/quotas", get(quotas))
        .route("/v1/audit", get(audit))
}

/// The keys of a tenant.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct KeyList {
    /// A page of those that were made here, the newest first; those that were revoked stay in the list.
    keys: Vec<KeyEntry>,
    /// Ask for the next page with `after=` this; null at the end of the list.
    next: Option<String>,
    /// Those in the operator's catalog, on every page; only the operator can change them.
    in_catalog: Vec<CatalogKey>,
}

/// A key in the operator's catalog.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct CatalogKey {
    /// The key's public part.
    prefix: String,
    /// What it may do.
    #[schema(value_type = Vec<String>)]
    scopes: Vec<Scope>,
    /// When it stops to work; never if absent.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

/// A key to be made.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewKeyRequest {
    /// What to call it: 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// What it may do: `write`, `read`, `finance`, `admin`.
    #[schema(value_type = Vec<String>, min_items = 1)]
    scopes: Vec<Scope>,
    /// When it stops to work; never if absent.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

/// A key that was just made.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct NewKeyAnswer {
    /// The key itself. It is shown only now.
    key: String,
    /// What is kept of it.
    #[serde(flatten)]
    entry: KeyEntry,
}

/// A bound, and how much of it is used on this node.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Used {
    /// How much is used now.
    used: u64,
    /// How much may be.
    max: u64,
}

/// What a tenant may use.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct QuotaAnswer {
    /// Requests to a serving node per second.
    queries_per_second_max: u32,
    /// Live connections to a serving node.
    live_clients: Used,
    /// Rows that questions made the stores read in the last minute.
    rows_per_minute: Used,
    /// Events to a collector per second; no bound if absent.
    events_per_second_max: Option<u32>,
}

/// A page of the audit log.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct AuditPage {
    /// The newest first.
    entries: Vec<Entry>,
    /// Ask for the next page with `after=` this; null at the end of the list.
    next: Option<String>,
}

/// The tenant's keys, without what would open anything.
#[utoipa::path(get, path = "/v1/keys", tag = "access", security(("admin_key" = []), ("session" = [])), params(Paging),
    responses(
        (status = 200, description = "A page of them", body = KeyList),
        (status = 400, description = "A parameter cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Not signed in", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Needs the scope admin", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn list_keys(
    State(app): State<App>,
    Admin(caller): Admin,
    Params(paging): Params<Paging>,
) -> Result<Json<KeyList>, Problem> {
    let (limit, after) = paging.newest_first()?;
    let keys = app.access.accounts().list_keys(&caller.tenant.id, &after, limit).await?;
    let Page { items: keys, next } = page(keys, limit);
    let in_catalog = caller.tenant.keys.iter().cloned();
    let shown = |AccessKey { prefix, scopes, expires_at, .. }| CatalogKey { prefix, scopes, expires_at };
    Ok(Json(KeyList { keys, next, in_catalog: in_catalog.map(shown).collect() }))
}

/// Makes a key. The answer is the only place where it is shown.
#[utoipa::path(post, path = "/v1/keys", tag = "access", security(("admin_key" = []), ("session" = [])),
    request_body = NewKeyRequest,
    responses(
        (status = 201, description = "It works from now on", body = NewKeyAnswer),
        (status = 400, description = "The body is not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Not signed in", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Needs the scope admin", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "There are as many keys as there may be", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not `application/json`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A value cannot be taken", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn create_key(
    State(app): State<App>,
    Admin(caller): Admin,
    Body(wanted): Body<NewKeyRequest>,
) -> Result<(StatusCode, Json<NewKeyAnswer>), Problem> {
    let name = checked_name(&wanted.name)?;
    if wanted.scopes.is_empty() {
        return Err(Problem::invalid_body(
            "a key without scopes opens nothing: give some of write, read, finance, admin",
        ));
    }
    if wanted.expires_at.is_some_and(|expiry| expiry <= Timestamp::now()) {
        return Err(Problem::invalid_body("`expires_at` is over already"));
    }
    let wish = KeyWish { name, scopes: wanted.scopes, expires_at: wanted.expires_at };
    let (key, entry) = app.access.accounts().create_key(&caller.tenant.id, wish, &caller.actor).await?;
    Ok((StatusCode::CREATED, Json(NewKeyAnswer { key, entry })))
}

/// Ends a key: here at once, on other nodes and in collectors within seconds.
#[utoipa::path(delete, path = "/v1/keys/{prefix}", tag = "access", security(("admin_key" = []), ("session" = [])),
    params(("prefix" = String, Path, description = "The key's public part")),
    responses(
        (status = 204, description = "It opens nothing any more"),
        (status = 401, description = "Not signed in", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Needs the scope admin", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such key that works", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn revoke_key(
    State(app): State<App>,
    Admin(caller): Admin,
    PathOf(prefix): PathOf<String>,
) -> Result<StatusCode, Problem> {
    app.access.accounts().revoke_key(&caller.tenant.id, &prefix, &caller.actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the tenant may use, and what of it is used on this node.
#[utoipa::path(get, path = "/v1/quotas", tag = "access", security(("read_key" = []), ("session" = [])),
    responses(
        (status = 200, description = "These are the bounds", body = QuotaAnswer),
        (status = 401, description = "Not signed in", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn quotas(State(app): State<App>, Reader(tenant): Reader) -> Json<QuotaAnswer> {
    let allowance = app.access.allowance(&tenant.id);
    let limits = allowance.limits();
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    Json(QuotaAnswer {
        queries_per_second_max: limits.queries_per_second_max,
        live_clients: Used { used: count(allowance.live_clients()), max: count(limits.live_clients_max) },
        rows_per_minute: Used { used: allowance.rows_used(), max: limits.rows_per_minute_max },
        events_per_second_max: allowance.events_per_second_max().or(tenant.events_per_second_max),
    })
}

/// Who changed what, the newest first.
#[utoipa::path(get, path = "/v1/audit", tag = "access", security(("admin_key" = []), ("session" = [])),
    params(Paging),
    responses(
        (status = 200, description = "A page of it", body = AuditPage),
        (status = 400, description = "A parameter cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Not signed in", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Needs the scope admin", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn audit(
    State(app): State<App>,
    Admin(caller): Admin,
    Params(paging): Params<Paging>,
) -> Result<Json<AuditPage>, Problem> {
    let (limit, after) = paging.read()?;
    let is_id = |text: &str| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if after.as_deref().is_some_and(|after| !is_id(after)) {
        return Err(Problem::invalid_parameter("after", "give `next` of the page before"));
    }
    let entries = app.access.accounts().audit(caller.tenant.id.as_str(), after.as_deref(), limit.into()).await?;
    let is_full = u32::try_from(entries.len()) == Ok(limit);
    let next = entries.last().filter(|_| is_full).map(|entry| entry.id.clone());
    Ok(Json(AuditPage { entries, next }))
}

/// A name that people give to something.
pub(super) fn checked_name(name: &str) -> Result<String, Problem> {
    let name = name.trim();
    let is_good = (1..=NAME_CHARS_MAX).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    if is_good {
        Ok(name.to_owned())
    } else {
        Err(Problem::invalid_body("give a `name` of 1 to 100 characters in one line"))
    }
}
