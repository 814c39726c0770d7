//! Signing in and out, for people.

use std::net::{IpAddr, SocketAddr};

use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, FromRequestParts, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use axum_extra::extract::cookie::Cookie;
use reckon_schemas::access::Scope;
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};

use super::App;
use super::body::Body;
use crate::access::SignedIn;
use crate::access::cookie::own_site;
use crate::accounts::sessions::Session;
use crate::accounts::users::User;
use crate::accounts::{secret, throttle};
use crate::problem::Problem;

/// The cookie of somebody who is on the way to the provider and back.
const ON_THE_WAY: &str = "reckon-oidc";

#[derive(OpenApi)]
#[openapi(paths(ways, current, sign_in, accept, switch, sign_out, change_password, depart, arrive))]
pub(super) struct Description;

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/v1/session", get(current).post(sign_in).put(switch).delete(sign_out))
        .route("/v1/session/ways", get(ways))
        .route("/v1/session/accept", post(accept))
        .route("/v1/session/password", put(change_password))
        .route("/v1/session/oidc", get(depart))
        .route("/v1/session/oidc/callback", get(arrive))
}

/// How people can sign in here.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Ways {
    /// With an address and a password.
    password: bool,
    /// By an OpenID provider of this name, at `/v1/session/oidc`.
    oidc: Option<String>,
}

/// Somebody who is signed in.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct SessionAnswer {
    /// Their address.
    email: String,
    /// The tenant whose numbers they see.
    tenant: String,
    /// The tenants that they can switch to.
    tenants: Vec<String>,
    /// What they may do there.
    #[schema(value_type = Vec<String>)]
    scopes: Vec<Scope>,
    /// To be sent in the header `X-CSRF-Token` with everything but GET.
    csrf_token: String,
}

/// Somebody who wants to sign in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Credentials {
    /// The address.
    email: String,
    /// The password.
    #[schema(format = Password)]
    password: String,
    /// Which tenant to see first, for who is a member of several.
    tenant: Option<String>,
}

/// Somebody who accepts an invitation.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Acceptance {
    /// The invitation's token.
    invitation: String,
    /// The account's password; a new one for who has no account yet, of at least 12 characters.
    #[schema(format = Password)]
    password: String,
}

/// Where to go on.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Switch {
    /// The tenant.
    tenant: String,
}

/// Another password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasswordChange {
    /// The one that it is now.
    #[schema(format = Password)]
    old: String,
    /// The one that it is to be, of at least 12 characters.
    #[schema(format = Password)]
    new: String,
}

/// What a provider sends people back with.
#[derive(Deserialize)]
pub(crate) struct Arrival {
    state: Option<String>,
    code: Option<String>,
}

/// Where a request comes from, as far as attempts are counted by it.
pub(crate) struct ClientAddress(Option<IpAddr>);

impl FromRequestParts<App> for ClientAddress {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let header = app.access.accounts().tuning().client_address_header.as_deref();
        let told = header.and_then(|name| parts.headers.get(name)).and_then(|value| value.to_str().ok());
        let told = told.and_then(|list| list.rsplit(',').next()?.trim().parse().ok());
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip());
        Ok(Self(told.or(peer)))
    }
}

/// How people can sign in here.
#[utoipa::path(get, path = "/v1/session/ways", tag = "access",
    responses((status = 200, description = "In these ways", body = Ways)))]
pub(crate) async fn ways(State(app): State<App>) -> Response {
    Json(Ways { password: true, oidc: app.access.accounts().provider_name().map(str::to_owned) }).into_response()
}

/// Who is signed in.
#[utoipa::path(get, path = "/v1/session", tag = "access", security(("session" = [])),
    responses(
        (status = 200, description = "You are", body = SessionAnswer),
        (status = 401, description = "Nobody is", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn current(State(app): State<App>, who: SignedIn) -> Result<Response, Problem> {
    Ok(Json(answer(&app, &who.token, who.session).await?).into_response())
}

/// Signs in with an address and a password.
#[utoipa::path(post, path = "/v1/session", tag = "access", request_body = Credentials,
    responses(
        (status = 200, description = "You are signed in; the session is in a cookie", body = SessionAnswer),
        (status = 400, description = "The body is not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Something is not right", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Another site has sent this", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not `application/json`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A value cannot be taken", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Too many attempts; see Retry-After", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn sign_in(
    State(app): State<App>,
    address: ClientAddress,
    headers: HeaderMap,
    Body(given): Body<Credentials>,
) -> Result<Response, Problem> {
    own_site(&headers)?;
    let account = given.email.trim().to_lowercase();
    may_try(&app, &account, &address).await?;
    let accounts = app.access.accounts();
    let Some(user) = accounts.user_by_password(&account, given.password).await? else {
        accounts.note_refused(account).await?;
        return Err(Problem::sign_in_refused());
    };
    app.access.throttle().forgive(&account).await;
    open(&app, &user, given.tenant.as_deref(), "password").await
}

/// Accepts an invitation, and signs in.
#[utoipa::path(post, path = "/v1/session/accept", tag = "access", request_body = Acceptance,
    responses(
        (status = 200, description = "You are a member, and signed in", body = SessionAnswer),
        (status = 400, description = "The body is not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The invitation or the password is not right", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Another site has sent this", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not `application/json`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The password is too short", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Too many attempts; see Retry-After", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn accept(
    State(app): State<App>,
    address: ClientAddress,
    headers: HeaderMap,
    Body(given): Body<Acceptance>,
) -> Result<Response, Problem> {
    own_site(&headers)?;
    // The password of an existing account can be tried here, too: by who holds the invitation, and not for long.
    may_try(&app, &given.invitation, &address).await?;
    let accepted = app.access.accounts().accept(&given.invitation, given.password).await?;
    let (user, tenant) = accepted.ok_or_else(Problem::sign_in_refused)?;
    open(&app, &user, Some(&tenant), "invitation").await
}

/// Goes on in another tenant.
#[utoipa::path(put, path = "/v1/session", tag = "access", security(("session" = [])), request_body = Switch,
    responses(
        (status = 200, description = "You see this tenant now", body = SessionAnswer),
        (status = 400, description = "The body is not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Not signed in", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Not sent by the page", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "You are not a member of such a tenant", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not `application/json`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A value cannot be taken", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn switch(State(app): State<App>, who: SignedIn, Body(to): Body<Switch>) -> Result<Response, Problem> {
    let accounts = app.access.accounts();
    accounts.switch_session(&who.token, &who.session, &to.tenant).await?;
    let session = accounts.session(&who.token).await?.ok_or_else(Problem::unauthorized)?;
    Ok(Json(answer(&app, &who.token, session).await?).into_response())
}

/// Signs out.
#[utoipa::path(delete, path = "/v1/session", tag = "access", security(("session" = [])),
    responses(
        (status = 204, description = "The session is over"),
        (status = 401, description = "Not signed in", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Not sent by the page", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn sign_out(State(app): State<App>, who: SignedIn) -> Result<Response, Problem> {
    app.access.accounts().close_session(&who.token, &who.session).await?;
    Ok(with_cookie(app.access.cookies().no_session(), StatusCode::NO_CONTENT))
}

/// Gives yourself another password. Your other sessions end.
#[utoipa::path(put, path = "/v1/session/password", tag = "access", security(("session" = [])),
    request_body = PasswordChange,
    responses(
        (status = 204, description = "It is the new one"),
        (status = 400, description = "The body is not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Not signed in, or the old one is not right", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Not sent by the page", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not `application/json`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The new one is too short", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Too many attempts; see Retry-After", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn change_password(
    State(app): State<App>,
    who: SignedIn,
    address: ClientAddress,
    Body(given): Body<PasswordChange>,
) -> Result<StatusCode, Problem> {
    may_try(&app, &who.session.email, &address).await?;
    let changed = app.access.accounts().change_password(&who.token, &who.session, given.old, given.new).await?;
    if !changed {
        return Err(Problem::sign_in_refused());
    }
    app.access.throttle().forgive(&who.session.email).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Sends the browser to the OpenID provider.
#[utoipa::path(get, path = "/v1/session/oidc", tag = "access",
    responses(
        (status = 303, description = "To the provider"),
        (status = 404, description = "There is no provider here", body = Problem, content_type = "application/problem+json"),
        (status = 502, description = "It does not answer", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn depart(State(app): State<App>) -> Result<Response, Problem> {
    let departure = app.access.accounts().depart().await?;
    let cookie = app.access.cookies().returning(ON_THE_WAY, departure.kept);
    Ok(with_cookie(cookie, Redirect::to(&departure.url)))
}

/// Where the provider sends the browser back to. Leads to the page, signed in or with a reason.
#[utoipa::path(get, path = "/v1/session/oidc/callback", tag = "access",
    params(
        ("state" = Option<String>, Query, description = "What the provider was sent along"),
        ("code" = Option<String>, Query, description = "What it can be asked with who it was"),
    ),
    responses(
        (status = 303, description = "To the page"),
        (status = 502, description = "The provider does not answer", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The configuration store is away", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn arrive(
    State(app): State<App>,
    headers: HeaderMap,
    arrival: Result<Query<Arrival>, QueryRejection>,
) -> Result<Response, Problem> {
    let cookies = app.access.cookies();
    let refused = || with_cookie(cookies.gone(ON_THE_WAY), Redirect::to("/?signin=refused"));
    let kept = cookies.value(&headers, ON_THE_WAY);
    let (Some(kept), Ok(Query(Arrival { state: Some(state), code: Some(code) }))) = (kept, arrival) else {
        return Ok(refused());
    };
    let Some(user) = app.access.accounts().arrive(&kept, &state, code).await? else { return Ok(refused()) };
    let Some(token) = open_session(&app, &user, None, "oidc").await? else { return Ok(refused()) };
    let mut response = with_cookie(cookies.session(token), Redirect::to("/"));
    append(&mut response, &cookies.gone(ON_THE_WAY));
    Ok(response)
}

async fn may_try(app: &App, account: &str, address: &ClientAddress) -> Result<(), Problem> {
    if app.access.throttle().may_try(account, address.0).await {
        return Ok(());
    }
    Err(Problem::too_many_requests("there were too many attempts to sign in", throttle::WINDOW))
}

/// Opens a session in the tenant that is asked for, or in the first one.
async fn open_session(
    app: &App,
    user: &User,
    wanted: Option<&str>,
    by: &'static str,
) -> Result<Option<String>, Problem> {
    let accounts = app.access.accounts();
    let mut tenants = accounts.tenants_of(&user.id).await?.into_iter().filter(|tenant| app.access.has_tenant(tenant));
    let tenant = tenants.find(|tenant| wanted.is_none_or(|wanted| wanted == tenant));
    let Some(tenant) = tenant else { return Ok(None) };
    Ok(Some(accounts.open_session(user, &tenant, by).await?))
}

async fn open(app: &App, user: &User, wanted: Option<&str>, by: &'static str) -> Result<Response, Problem> {
    let token = open_session(app, user, wanted, by).await?.ok_or_else(Problem::sign_in_refused)?;
    let session = app.access.accounts().session(&token).await?.ok_or_else(Problem::sign_in_refused)?;
    let answer = Json(answer(app, &token, session).await?).into_response();
    Ok(with_cookie(app.access.cookies().session(token), answer))
}

async fn answer(app: &App, token: &str, session: Session) -> Result<SessionAnswer, Problem> {
    let tenants = app.access.accounts().tenants_of(&session.user_id).await?;
    let tenants = tenants.into_iter().filter(|tenant| app.access.has_tenant(tenant)).collect();
    let Session { email, tenant, scopes, .. } = session;
    Ok(SessionAnswer { email, tenant, tenants, scopes, csrf_token: secret::csrf_token(token) })
}

fn with_cookie(cookie: Cookie<'static>, response: impl IntoResponse) -> Response {
    let mut response = response.into_response();
    append(&mut response, &cookie);
    response
}

fn append(response: &mut Response, cookie: &Cookie<'static>) {
    if let Ok(value) = cookie.to_string().parse() {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}
