//! How many events a tenant may send.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::http::StatusCode;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use reckon_schemas::access::EventRates;
use reckon_schemas::catalog::Catalog;
use reckon_schemas::ids::TenantId;
use tokio::sync::watch;

use super::problem::Problem;

/// A tenant's rate is averaged over this many seconds.
const AVERAGED_OVER_S: u32 = 5;

/// One bucket for every tenant that has a bound, as the configuration store or else the catalog has it now.
pub(crate) struct Quotas {
    catalog: watch::Receiver<Arc<Catalog>>,
    rates: watch::Receiver<Arc<EventRates>>,
    events_per_request_max: u32,
    // A plain lock: it is held for a look, never across an await.
    buckets: RwLock<Buckets>,
    clock: DefaultClock,
}

#[derive(Default)]
struct Buckets {
    catalog: Arc<Catalog>,
    rates: Arc<EventRates>,
    by_tenant: HashMap<TenantId, Bucket>,
}

#[derive(Clone)]
struct Bucket {
    rate: NonZeroU32,
    limiter: Arc<DefaultDirectRateLimiter>,
}

impl Quotas {
    /// The bounds that these two set. Every bucket holds at least one request of the largest size, so that there is
    /// none that could never pass.
    pub(crate) fn new(
        catalog: watch::Receiver<Arc<Catalog>>,
        rates: watch::Receiver<Arc<EventRates>>,
        events_per_request_max: u32,
    ) -> Self {
        Self { catalog, rates, events_per_request_max, buckets: RwLock::default(), clock: DefaultClock::default() }
    }

    /// Takes the events out of the tenant's bucket, or tells the client when to come back with the same request.
    pub(crate) fn take(&self, tenant: &TenantId, events: usize) -> Result<(), Problem> {
        let (Some(bucket), Some(events)) = (self.bucket(tenant), u32::try_from(events).ok().and_then(NonZeroU32::new))
        else {
            return Ok(());
        };
        let later = |wait: Duration| {
            Problem::later(StatusCode::TOO_MANY_REQUESTS, "the tenant sends more events than it may", wait)
        };
        match bucket.limiter.check_n(events) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_until)) => Err(later(not_until.wait_time_from(self.clock.now()))),
            // Requests are bounded to what every bucket holds, so this is not reached.
            Err(capacity) => Err(Problem::too_large(format!("send at most {} events at a time", capacity.0))),
        }
    }

    fn bucket(&self, tenant: &TenantId) -> Option<Bucket> {
        let (newest, rates) = (self.catalog.borrow().clone(), self.rates.borrow().clone());
        {
            let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
            if Arc::ptr_eq(&buckets.catalog, &newest) && Arc::ptr_eq(&buckets.rates, &rates) {
                return buckets.by_tenant.get(tenant).cloned();
            }
        }
        let mut buckets = self.buckets.write().unwrap_or_else(PoisonError::into_inner);
        // A tenant whose rate stays the same keeps what is left in its bucket.
        let by_tenant = newest.tenants.iter().filter_map(|tenant| {
            let rate = rates.get(&tenant.id).copied().or(tenant.events_per_second_max)?;
            let rate = NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN);
            let kept = buckets.by_tenant.get(&tenant.id).filter(|bucket| bucket.rate == rate).cloned();
            Some((tenant.id.clone(), kept.unwrap_or_else(|| self.full(rate))))
        });
        let by_tenant = by_tenant.collect();
        *buckets = Buckets { catalog: newest, rates, by_tenant };
        buckets.by_tenant.get(tenant).cloned()
    }

    fn full(&self, rate: NonZeroU32) -> Bucket {
        let burst = rate.get().saturating_mul(AVERAGED_OVER_S).max(self.events_per_request_max);
        let burst = NonZeroU32::new(burst).unwrap_or(rate);
        Bucket { rate, limiter: Arc::new(RateLimiter::direct(Quota::per_second(rate).allow_burst(burst))) }
    }
}

#[cfg(test)]
mod tests {
    use reckon_schemas::catalog::Tenant;
    use reckon_schemas::time::Zone;

    use super::*;

    #[test]
    fn a_full_request_passes_and_the_next_one_waits_also_when_the_catalog_changes() {
        let tenant = |id: &str, events_per_second_max| Tenant {
            id: id.parse().expect("valid"),
            time_zone: Zone::UTC,
            rollups: vec![],
            metrics: vec![],
            keys: vec![],
            dimension_values_max: Tenant::DIMENSION_VALUES_MAX,
            events_per_second_max,
        };
        let catalog = Catalog { tenants: vec![tenant("slow", Some(2)), tenant("free", None)] };
        let (slow, free) = (&catalog.tenants[0].id.clone(), &catalog.tenants[1].id.clone());
        let (changed, catalog) = watch::channel(Arc::new(catalog));
        let (changed_rates, rates) = watch::channel(Arc::default());
        let quotas = Quotas::new(catalog, rates, 100);
        assert_eq!(quotas.take(slow, 0), Ok(()));
        assert_eq!(quotas.take(slow, 100), Ok(()), "the largest request must be able to pass");
        let problem = quotas.take(slow, 100).expect_err("the bucket is empty");
        assert_eq!(problem.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(quotas.take(free, 1_000_000), Ok(()));

        // The catalog changes: what is left in a bucket stays, a new bound holds at once.
        changed.send_replace(Arc::new(Catalog { tenants: vec![tenant("slow", Some(2)), tenant("free", Some(1))] }));
        assert!(quotas.take(slow, 100).is_err());
        assert_eq!(quotas.take(free, 100), Ok(()));
        assert!(quotas.take(free, 100).is_err());
        changed.send_replace(Arc::new(Catalog { tenants: vec![tenant("slow", None), tenant("free", None)] }));
        assert_eq!((quotas.take(slow, 1_000), quotas.take(free, 1_000)), (Ok(()), Ok(())));

        // The configuration store knows better than the catalog.
        changed_rates.send_replace(Arc::new(EventRates::from([(free.clone(), 1)])));
        assert_eq!((quotas.take(slow, 1_000), quotas.take(free, 100)), (Ok(()), Ok(())));
        assert!(quotas.take(free, 100).is_err());
    }
}
