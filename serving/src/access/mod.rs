//! Who asks, and what they may. The tenant comes from the credential alone: nothing else in a request can name one.
//!
//! A route says what it needs by what it extracts: [`Reader`], [`watcher::Watcher`] for streams, [`Finance`], [`Admin`], or
//! [`Editor`] for what people save. Everything without one of them is public, and there is little of that.

mod allowance;
pub(crate) mod cookie;
pub(crate) mod meter;
mod places;
pub(crate) mod watcher;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::{FromRef, FromRequestParts};
use axum::http::header;
use axum::http::request::Parts;
use jiff::Timestamp;
use reckon_schemas::access::{KeyBook, Scope};
use reckon_schemas::catalog::{Catalog, Tenant};
use reckon_schemas::ids::TenantId;
use tokio::sync::watch;

use self::allowance::Allowances;
pub(crate) use self::allowance::{Allowance, Limits, Place};
use self::cookie::Cookies;
use crate::accounts::sessions::Session;
use crate::accounts::throttle::Throttle;
use crate::accounts::{Accounts, Actor};
use crate::problem::Problem;

/// Who may do what, and how often.
pub(crate) struct Access {
    catalog: watch::Receiver<Arc<Catalog>>,
    // A plain lock: it is held for a look, never across an await.
    known: RwLock<Arc<Known>>,
    accounts: Accounts,
    cookies: Cookies,
    throttle: Throttle,
    book: watch::Receiver<Arc<KeyBook>>,
    allowances: Allowances,
}

/// A catalog, and its tenants ready to be handed out.
struct Known {
    catalog: Arc<Catalog>,
    tenants: HashMap<TenantId, Arc<Tenant>>,
}

/// Who asks, once their credential was found good.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) actor: Actor,
}

impl Access {
    /// Follows the catalog from now on.
    pub(crate) fn new(catalog: watch::Receiver<Arc<Catalog>>, accounts: Accounts, limits: Limits) -> Self {
        let known = RwLock::new(Arc::new(Known::of(catalog.borrow().clone())));
        let (book, allowances) = (accounts.keys(), Allowances::new(limits, accounts.quotas()));
        let cookies = Cookies { secure: accounts.tuning().secure_cookies };
        Self { catalog, known, accounts, cookies, throttle: Throttle::new(), book, allowances }
    }

    /// The catalog as it is now.
    fn known(&self) -> Arc<Known> {
        let newest = self.catalog.borrow().clone();
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).clone();
        if Arc::ptr_eq(&known.catalog, &newest) {
            return known;
        }
        let known = Arc::new(Known::of(newest));
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known.clone();
        known
    }

    /// The configuration store.
    pub(crate) fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// How sessions' cookies are made and read.
    pub(crate) fn cookies(&self) -> Cookies {
        self.cookies
    }

    /// How often somebody may try to sign in.
    pub(crate) fn throttle(&self) -> &Throttle {
        &self.throttle
    }

    /// A tenant of the catalog.
    pub(crate) fn tenant(&self, id: &str) -> Option<Arc<Tenant>> {
        self.known().tenants.get(id).cloned()
    }

    /// Whether there is such a tenant.
    pub(crate) fn has_tenant(&self, id: &str) -> bool {
        self.known().tenants.contains_key(id)
    }

    /// What a tenant may use, and has used.
    pub(crate) fn allowance(&self, tenant: &TenantId) -> Arc<Allowance> {
        self.allowances.of(tenant)
    }

    /// Takes more queries from a tenant's quota than the one that every request takes.
    ///
    /// # Errors
    /// 429 if there are not so many left, 422 if there never are.
    pub(crate) fn charge(&self, tenant: &Tenant, queries: usize) -> Result<(), Problem> {
        self.allowance(&tenant.id).take_queries(queries)
    }

    /// Whose key this is.
    ///
    /// # Errors
    /// 401 in the same words for keys that are wrong, expired, revoked or unknown.
    pub(crate) fn by_key(&self, key: &str) -> Result<Caller, Problem> {
        let book = self.book.borrow().clone();
        let known = self.known();
        let identified = known.catalog.identify(&book, key, Timestamp::now());
        let (tenant, entry) = identified.ok_or_else(Problem::unauthorized)?;
        let tenant = known.tenants.get(&tenant.id).cloned().ok_or_else(Problem::unauthorized)?;
        Ok(Caller { tenant, scopes: entry.scopes.clone(), actor: Actor::Key(entry.prefix.clone()) })
    }

    /// The tenant whose read key this is, for who says it after the request.
    ///
    /// # Errors
    /// 401 if it is no key, 403 if it may not read, 429 if its tenant has asked too often.
    pub(crate) fn reader_by_key(&self, key: &str) -> Result<Arc<Tenant>, Problem> {
        let caller = self.by_key(key)?;
        if !caller.scopes.contains(&Scope::Read) {
            return Err(Problem::forbidden(Scope::Read));
        }
        self.allowance(&caller.tenant.id).take_queries(1)?;
        Ok(caller.tenant)
    }

    /// Who sends this request.
    async fn caller(&self, parts: &Parts) -> Result<Caller, Problem> {
        if let Some(authorization) = parts.headers.get(header::AUTHORIZATION) {
            let key = authorization.to_str().ok().and_then(bearer).ok_or_else(Problem::unauthorized)?;
            return self.by_key(key);
        }
        let (_, session) = self.session(parts).await?;
        let tenant = self.tenant(session.tenant.as_str()).ok_or_else(Problem::unauthorized)?;
        Ok(Caller { tenant, scopes: session.scopes, actor: Actor::Person(session.email) })
    }

    /// The session that the request's cookie is of, and its token.
    async fn session(&self, parts: &Parts) -> Result<(String, Session), Problem> {
        let token = self.cookies.token(&parts.headers).ok_or_else(Problem::unauthorized)?;
        cookie::check(parts, &token)?;
        let session = self.accounts.session(&token).await?.ok_or_else(Problem::unauthorized)?;
        Ok((token, session))
    }

    /// Who sends this request, if they have the scope and their tenant has not asked too often.
    async fn admit(&self, parts: &Parts, needed: Scope) -> Result<Caller, Problem> {
        let caller = self.caller(parts).await?;
        if !caller.scopes.contains(&needed) {
            return Err(Problem::forbidden(needed));
        }
        let allowance = self.allowance(&caller.tenant.id);
        allowance.take_queries(1)?;
        meter::pays(&allowance);
        Ok(caller)
    }
}

impl Known {
    fn of(catalog: Arc<Catalog>) -> Self {
        let tenants = catalog.tenants.iter().map(|tenant| (tenant.id.clone(), Arc::new(tenant.clone()))).collect();
        Self { catalog, tenants }
    }
}

/// The tenant that may be read.
pub(crate) struct Reader(pub(crate) Arc<Tenant>);

/// The tenant whose books and single items may be seen. Read keys may be in the pages of a web site: they do not open these.
pub(crate) struct Finance(pub(crate) Arc<Tenant>);

/// Somebody who may read the tenant, where what they see depends on whether they could change it.
pub(crate) struct Viewer {
    pub(crate) tenant: Arc<Tenant>,
    /// Whether they are an [`Editor`], too.
    pub(crate) is_editor: bool,
}

/// Who manages the tenant.
pub(crate) struct Admin(pub(crate) Caller);

/// Who may change what people save, such as dashboards: a person who may read, or a key of an admin.
pub(crate) struct Editor(pub(crate) Caller);

/// Somebody who is signed in, whatever they may do.
pub(crate) struct SignedIn {
    pub(crate) token: String,
    pub(crate) session: Session,
}

impl<S> FromRequestParts<S> for SignedIn
where
    Arc<Access>: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let (token, session) = Arc::<Access>::from_ref(state).session(parts).await?;
        Ok(Self { token, session })
    }
}

macro_rules! needs {
    ($($name:ident: $scope:ident => $caller:ident $build:expr;)+) => {$(
        impl<S> FromRequestParts<S> for $name
        where
            Arc<Access>: FromRef<S>,
            S: Send + Sync,
        {
            type Rejection = Problem;

            async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
                let $caller = Arc::<Access>::from_ref(state).admit(parts, Scope::$scope).await?;
                $build
            }
        }
    )+};
}

needs! {
    Reader: Read => caller Ok(Self(caller.tenant));
    Finance: Finance => caller Ok(Self(caller.tenant));
    Viewer: Read => caller Ok(Self { is_editor: caller.is_editor(), tenant: caller.tenant });
    Admin: Admin => caller Ok(Self(caller));
    Editor: Read => caller caller.editor().map(Self);
}

impl Caller {
    /// A key that only reads may be in the pages of a web site: it changes nothing.
    fn is_editor(&self) -> bool {
        !matches!(self.actor, Actor::Key(_)) || self.scopes.contains(&Scope::Admin)
    }

    fn editor(self) -> Result<Self, Problem> {
        if self.is_editor() { Ok(self) } else { Err(Problem::forbidden(Scope::Admin)) }
    }
}

/// The key of a bearer authorization; the scheme's case does not matter (RFC 9110).
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, key) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;
    use reckon_schemas::access::NewKey;
    use reckon_schemas::time::Zone;

    use crate::accounts::Tuning;

    #[tokio::test]
    async fn only_a_read_key_opens() {
        let read = NewKey::from_random([1; 20], vec![Scope::Read]);
        let write = NewKey::from_random([2; 20], vec![Scope::Write]);
        let tenant =
            Tenant { keys: vec![read.entry, write.entry], ..Tenant::new("acme".parse().expect("valid"), Zone::UTC) };
        let nowhere = Tuning { url: Some("sqlite:///nowhere/accounts.db".to_owned()), ..Tuning::default() };
        let accounts = Accounts::open(nowhere).expect("not used");
        let limits = Limits {
            queries_per_second_max: 2,
            live_clients_max: 1,
            rows_per_minute_max: 1,
            evaluations_max: 1,
            event_evaluations_max: 1,
            waiting_max: 1,
        };
        let access = Access::new(watch::channel(Arc::new(Catalog { tenants: vec![tenant] })).1, accounts, limits);
        let ask = async |authorization: Option<&str>| {
            let mut request = Request::get("/");
            if let Some(authorization) = authorization {
                request = request.header(header::AUTHORIZATION, authorization);
            }
            let (parts, ()) = request.body(()).expect("valid").into_parts();
            access.admit(&parts, Scope::Read).await
        };
        let status = async |authorization: Option<&str>| ask(authorization).await.map_err(|problem| problem.status);
        assert_eq!(status(None).await.map(|_| ()), Err(401));
        assert_eq!(status(Some(&read.key)).await.map(|_| ()), Err(401));
        assert_eq!(status(Some("Bearer rk_01010101_x")).await.map(|_| ()), Err(401));
        assert_eq!(status(Some(&format!("Bearer {}", write.key))).await.map(|_| ()), Err(403));
        let good = format!("bearer {}", read.key);
        assert_eq!(status(Some(&good)).await.map(|caller| caller.tenant.id.to_string()), Ok("acme".to_owned()));
        let caller = ask(Some(&good)).await.expect("within the quota");
        assert_eq!(caller.editor().map_err(|problem| problem.status).map(|_| ()), Err(403));
        let refused = ask(Some(&good)).await.expect_err("over the quota");
        assert_eq!((refused.status, refused.retry_after_s), (429, Some(1)));
    }
}
