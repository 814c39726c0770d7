//! Who asks. The tenant comes from the key alone: nothing else in a request can name one.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::header;
use axum::http::request::Parts;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use jiff::Timestamp;
use reckon_schemas::access::{Denied, Scope};
use reckon_schemas::catalog::{Catalog, Tenant};
use reckon_schemas::ids::TenantId;

use crate::problem::Problem;

/// Who may read, and how often.
pub(crate) struct Access {
    catalog: Arc<Catalog>,
    tenants: HashMap<TenantId, Arc<Tenant>>,
    quota: DefaultKeyedRateLimiter<TenantId>,
}

impl Access {
    pub(crate) fn new(catalog: Arc<Catalog>, queries_per_second_max: u32) -> Self {
        let tenants = catalog.tenants.iter().map(|tenant| (tenant.id.clone(), Arc::new(tenant.clone()))).collect();
        let per_second = NonZeroU32::new(queries_per_second_max).unwrap_or(NonZeroU32::MIN);
        // Only tenants of the catalog get an entry, so the limiter is as bounded as the catalog.
        Self { catalog, tenants, quota: RateLimiter::keyed(Quota::per_second(per_second)) }
    }

    /// Every tenant's id.
    pub(crate) fn tenant_ids(&self) -> impl Iterator<Item = &TenantId> {
        self.tenants.keys()
    }

    /// Takes more queries from a tenant's quota than the one that every request takes.
    ///
    /// # Errors
    /// 429 if there are not so many left.
    pub(crate) fn charge(&self, tenant: &Tenant, queries: usize) -> Result<(), Problem> {
        let Some(queries) = u32::try_from(queries).ok().and_then(NonZeroU32::new) else { return Ok(()) };
        let refused = |after| Problem::too_many_requests("too many requests per second for this tenant", after);
        match self.quota.check_key_n(&tenant.id, queries) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(exceeded)) => Err(refused(exceeded.wait_time_from(DefaultClock::default().now()))),
            // More than may be asked in any second: never at once.
            Err(_) => {
                Err(Problem::not_answerable("questions", "more questions at once than the quota has in a second"))
            }
        }
    }

    fn reader(&self, authorization: Option<&str>) -> Result<Arc<Tenant>, Problem> {
        let key = authorization.and_then(bearer).ok_or_else(Problem::unauthorized)?;
        let tenant = self.catalog.authenticate(key, Scope::Read, Timestamp::now()).map_err(|denied| match denied {
            Denied::InvalidKey => Problem::unauthorized(),
            Denied::MissingScope => Problem::forbidden(),
        })?;
        self.quota.check_key(&tenant.id).map_err(|exceeded| {
            let after = exceeded.wait_time_from(DefaultClock::default().now());
            Problem::too_many_requests("too many requests per second for this tenant", after)
        })?;
        self.tenants.get(&tenant.id).cloned().ok_or_else(Problem::unauthorized)
    }
}

/// The tenant whose read key the request carries.
pub(crate) struct Reader(pub(crate) Arc<Tenant>);

impl<S> FromRequestParts<S> for Reader
where
    Arc<Access>: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let authorization = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        Arc::<Access>::from_ref(state).reader(authorization).map(Reader)
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
    use reckon_schemas::access::NewKey;
    use reckon_schemas::time::Zone;

    #[test]
    fn only_a_read_key_opens() {
        let read = NewKey::from_random([1; 20], vec![Scope::Read]);
        let write = NewKey::from_random([2; 20], vec![Scope::Write]);
        let tenant = Tenant {
            id: "acme".parse().expect("valid"),
            time_zone: Zone::UTC,
            rollups: vec![],
            metrics: vec![],
            keys: vec![read.entry, write.entry],
            dimension_values_max: Tenant::DIMENSION_VALUES_MAX,
            events_per_second_max: None,
        };
        let access = Access::new(Arc::new(Catalog { tenants: vec![tenant] }), 2);
        let status = |authorization: Option<&str>| access.reader(authorization).map_err(|problem| problem.status);
        assert_eq!(status(None).map(|_| ()), Err(401));
        assert_eq!(status(Some(&read.key)).map(|_| ()), Err(401));
        assert_eq!(status(Some("Bearer rk_01010101_x")).map(|_| ()), Err(401));
        assert_eq!(status(Some(&format!("Bearer {}", write.key))).map(|_| ()), Err(403));
        let good = format!("bearer {}", read.key);
        assert_eq!(status(Some(&good)).map(|tenant| tenant.id.to_string()), Ok("acme".to_owned()));
        assert!(status(Some(&good)).is_ok());
        let refused = access.reader(Some(&good)).expect_err("over the quota");
        assert_eq!((refused.status, refused.retry_after_s), (429, Some(1)));
    }
}
