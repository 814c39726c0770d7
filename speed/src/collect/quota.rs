//! How many events a tenant may send.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use axum::http::StatusCode;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use reckon_schemas::catalog::Catalog;
use reckon_schemas::ids::TenantId;

use super::problem::Problem;

/// A tenant's rate is averaged over this many seconds.
const AVERAGED_OVER_S: u32 = 5;

/// One bucket for every tenant that has a bound.
pub(crate) struct Quotas {
    buckets: HashMap<TenantId, DefaultDirectRateLimiter>,
    clock: DefaultClock,
}

impl Quotas {
    /// The bounds that the catalog sets. Every bucket holds at least one request of the largest size, so that there is
    /// none that could never pass.
    pub(crate) fn new(catalog: &Catalog, events_per_request_max: u32) -> Self {
        let buckets = catalog.tenants.iter().filter_map(|tenant| {
            let rate = NonZeroU32::new(tenant.events_per_second_max?).unwrap_or(NonZeroU32::MIN);
            let burst = rate.get().saturating_mul(AVERAGED_OVER_S).max(events_per_request_max);
            let burst = NonZeroU32::new(burst).unwrap_or(rate);
            Some((tenant.id.clone(), RateLimiter::direct(Quota::per_second(rate).allow_burst(burst))))
        });
        Self { buckets: buckets.collect(), clock: DefaultClock::default() }
    }

    /// Takes the events out of the tenant's bucket, or tells the client when to come back with the same request.
    pub(crate) fn take(&self, tenant: &TenantId, events: usize) -> Result<(), Problem> {
        let (Some(bucket), Some(events)) =
            (self.buckets.get(tenant), u32::try_from(events).ok().and_then(NonZeroU32::new))
        else {
            return Ok(());
        };
        let later = |wait: Duration| {
            Problem::later(StatusCode::TOO_MANY_REQUESTS, "the tenant sends more events than it may", wait)
        };
        match bucket.check_n(events) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_until)) => Err(later(not_until.wait_time_from(self.clock.now()))),
            // Requests are bounded to what every bucket holds, so this is not reached.
            Err(capacity) => Err(Problem::too_large(format!("send at most {} events at a time", capacity.0))),
        }
    }
}

#[cfg(test)]
mod tests {
    use reckon_schemas::catalog::Tenant;
    use reckon_schemas::time::Zone;

    use super::*;

    #[test]
    fn a_full_request_passes_and_the_next_one_waits() {
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
        let quotas = Quotas::new(&catalog, 100);
        let (slow, free) = (&catalog.tenants[0].id, &catalog.tenants[1].id);
        assert_eq!(quotas.take(slow, 0), Ok(()));
        assert_eq!(quotas.take(slow, 100), Ok(()), "the largest request must be able to pass");
        let problem = quotas.take(slow, 100).expect_err("the bucket is empty");
        assert_eq!(problem.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(quotas.take(free, 1_000_000), Ok(()));
    }
}
