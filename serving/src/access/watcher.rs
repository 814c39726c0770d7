//! Who watches for long: a stream ends when the credential that it was opened with does.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::header;
use axum::http::request::Parts;
use jiff::Timestamp;
use reckon_schemas::access::Scope;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::ids::TenantId;

use super::{Access, bearer};
use crate::problem::Problem;

/// Revoked keys are noticed when the catalog or the book of keys changes; what ends by the clock or by signing out, after this time.
const CHECK_INTERVAL: Duration = Duration::from_secs(15);

/// Somebody who may read a tenant, and goes on to.
pub(crate) struct Watcher {
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) admission: Admission,
}

/// What a stream was opened with, and whose numbers it shows.
#[derive(Clone)]
pub(crate) struct Admission {
    access: Arc<Access>,
    tenant: TenantId,
    credential: Credential,
}

#[derive(Clone)]
enum Credential {
    Key(Box<str>),
    Session(Box<str>),
}

impl Admission {
    /// Of a key of this tenant that was found good.
    pub(crate) fn by_key(access: Arc<Access>, tenant: &Tenant, key: &str) -> Self {
        Self { access, tenant: tenant.id.clone(), credential: Credential::Key(key.into()) }
    }

    /// Waits until the credential is not good any more. As long as nobody can say, it still is.
    pub(crate) async fn ended(self) -> Problem {
        let (mut book, mut catalog) = (self.access.book.clone(), self.access.catalog.clone());
        loop {
            tokio::select! {
                Ok(()) = book.changed() => {}
                Ok(()) = catalog.changed() => {}
                () = tokio::time::sleep(CHECK_INTERVAL) => {}
            }
            if !self.is_good().await {
                return Problem::unauthorized();
            }
        }
    }

    /// A credential that is good for another tenant by now shows nothing of this one, and nothing does of a tenant that is
    /// not in the catalog any more.
    async fn is_good(&self) -> bool {
        if !self.access.has_tenant(self.tenant.as_str()) {
            return false;
        }
        match &self.credential {
            Credential::Key(key) => {
                let book = self.access.book.borrow().clone();
                let known = self.access.known();
                let identified = known.catalog.identify(&book, key, Timestamp::now());
                identified
                    .is_some_and(|(tenant, entry)| tenant.id == self.tenant && entry.scopes.contains(&Scope::Read))
            }
            // On the heap while it is looked up: a stream has room for all that it may ever wait for.
            Credential::Session(token) => match Box::pin(self.access.accounts.session_as_it_is(token)).await {
                Ok(session) => session.is_some_and(|session| {
                    session.tenant == self.tenant.as_str() && session.scopes.contains(&Scope::Read)
                }),
                Err(_) => true,
            },
        }
    }
}

impl<S> FromRequestParts<S> for Watcher
where
    Arc<Access>: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let access = Arc::<Access>::from_ref(state);
        let tenant = access.admit(parts, Scope::Read).await?.tenant;
        let key = parts.headers.get(header::AUTHORIZATION).and_then(|given| bearer(given.to_str().ok()?));
        let credential = match key {
            Some(key) => Credential::Key(key.into()),
            None => Credential::Session(access.cookies.token(&parts.headers).ok_or_else(Problem::unauthorized)?.into()),
        };
        Ok(Self { admission: Admission { access, tenant: tenant.id.clone(), credential }, tenant })
    }
}
