//! What a tenant may use in a time, so that a noisy one slows only itself. Each node counts for itself.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, RateLimiter};
use reckon_schemas::ids::TenantId;
use tokio::sync::watch;

use super::places::Places;
use crate::accounts::Quota;
use crate::problem::Problem;

const MINUTE_MS: u64 = 60_000;

/// The bounds of a tenant on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Requests per second, as a sustained rate and as a burst.
    pub(crate) queries_per_second_max: u32,
    /// Live connections at a time.
    pub(crate) live_clients_max: usize,
    /// Rows that its questions may make the stores read in a minute.
    pub(crate) rows_per_minute_max: u64,
    /// Questions that are answered at the same time from rollups.
    pub(crate) evaluations_max: usize,
    /// Questions that are answered at the same time from single events.
    pub(crate) event_evaluations_max: usize,
    /// Questions of either kind that wait for that.
    pub(crate) waiting_max: usize,
}

type Quotas = watch::Receiver<Arc<HashMap<TenantId, Quota>>>;

/// Every tenant's allowance. As many as the catalog has tenants: only good credentials lead here.
pub(super) struct Allowances {
    limits: Limits,
    quotas: Quotas,
    // A plain mutex: it is held for a look-up, never across an await.
    tenants: Mutex<HashMap<TenantId, Arc<Allowance>>>,
}

/// What one tenant may use, and has used. There is one for each tenant, whatever becomes of its quota: what was used
/// stays used, and who works on this account since before a change is bound by what holds now.
pub(crate) struct Allowance {
    tenant: TenantId,
    /// Without a quota.
    limits: Limits,
    quotas: Quotas,
    queries: Mutex<Rate>,
    clients: Arc<AtomicUsize>,
    rows: Mutex<Rows>,
    evaluations: Places,
    event_evaluations: Places,
}

/// A bucket of requests, and the rate that it is for.
struct Rate {
    per_second: NonZeroU32,
    limiter: Arc<DefaultDirectRateLimiter>,
}

/// Rows that were read, less those that the time since then has paid for.
#[derive(Clone, Copy, Debug)]
struct Rows {
    owed: u64,
    at: Instant,
}

/// A live connection's place. Given back when dropped.
pub(crate) struct Place(Arc<AtomicUsize>);

impl Allowances {
    pub(super) fn new(limits: Limits, quotas: Quotas) -> Self {
        Self { limits, quotas, tenants: Mutex::default() }
    }

    pub(super) fn of(&self, tenant: &TenantId) -> Arc<Allowance> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = tenants.get(tenant) {
            return known.clone();
        }
        let new = Arc::new(Allowance::new(tenant.clone(), self.limits, self.quotas.clone()));
        tenants.insert(tenant.clone(), new.clone());
        new
    }
}

impl Limits {
    fn with(self, quota: Option<&Quota>) -> Self {
        let Some(quota) = quota else { return self };
        let clients = quota.live_clients_max.map(|clients| usize::try_from(clients).unwrap_or(usize::MAX));
        Self {
            queries_per_second_max: quota.queries_per_second_max.unwrap_or(self.queries_per_second_max),
            live_clients_max: clients.unwrap_or(self.live_clients_max),
            rows_per_minute_max: quota.rows_per_minute_max.unwrap_or(self.rows_per_minute_max),
            ..self
        }
    }
}

impl Rate {
    fn new(per_second: u32) -> Self {
        let per_second = NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN);
        Self { per_second, limiter: Arc::new(RateLimiter::direct(governor::Quota::per_second(per_second))) }
    }
}

impl Allowance {
    fn new(tenant: TenantId, limits: Limits, quotas: Quotas) -> Self {
        Self {
            tenant,
            limits,
            quotas,
            queries: Mutex::new(Rate::new(limits.queries_per_second_max)),
            clients: Arc::default(),
            rows: Mutex::new(Rows { owed: 0, at: Instant::now() }),
            evaluations: Places::new(limits.evaluations_max, limits.waiting_max),
            event_evaluations: Places::new(limits.event_evaluations_max, limits.waiting_max),
        }
    }

    /// The bounds as they are now.
    pub(crate) fn limits(&self) -> Limits {
        self.limits.with(self.quotas.borrow().get(&self.tenant))
    }

    /// How many events it may send to a collector in a second, if that is not what the catalog says.
    pub(crate) fn events_per_second_max(&self) -> Option<u32> {
        self.quotas.borrow().get(&self.tenant)?.events_per_second_max
    }

    /// How many live connections there are.
    pub(crate) fn live_clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// How many rows of the minute's allowance are used.
    pub(crate) fn rows_used(&self) -> u64 {
        let max = self.limits().rows_per_minute_max;
        self.lock().at(Instant::now(), max).owed
    }

    /// The tenant's places among the questions that are being answered, from single events or from rollups.
    pub(crate) fn places(&self, reads_events: bool) -> &Places {
        if reads_events { &self.event_evaluations } else { &self.evaluations }
    }

    /// Counts requests.
    ///
    /// # Errors
    /// 429 with the time to come back; 422 if there are more than in any second there may be.
    pub(crate) fn take_queries(&self, queries: usize) -> Result<(), Problem> {
        let Some(queries) = u32::try_from(queries).ok().and_then(NonZeroU32::new) else { return Ok(()) };
        let max = self.limits().queries_per_second_max;
        match self.limiter(max).check_n(queries) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(exceeded)) => {
                let detail = format!("more than {max} requests per second of this tenant");
                Err(Problem::too_many_requests(detail, exceeded.wait_time_from(DefaultClock::default().now())))
            }
            Err(_) => {
                Err(Problem::not_answerable("questions", "more questions at once than the quota has in a second"))
            }
        }
    }

    /// The bucket for this rate. A full one if the rate is another than before.
    fn limiter(&self, per_second: u32) -> Arc<DefaultDirectRateLimiter> {
        let mut known = self.queries.lock().unwrap_or_else(PoisonError::into_inner);
        if known.per_second.get() != per_second.max(1) {
            *known = Rate::new(per_second);
        }
        known.limiter.clone()
    }

    /// A place for a live connection.
    ///
    /// # Errors
    /// 429 if all are taken.
    pub(crate) fn take_place(&self, come_back: Duration) -> Result<Place, Problem> {
        let max = self.limits().live_clients_max;
        let taken =
            self.clients.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| (taken < max).then_some(taken + 1));
        match taken {
            Ok(_) => Ok(Place(self.clients.clone())),
            Err(_) => {
                let detail = format!("this tenant has as many live clients as there may be ({max})");
                Err(Problem::too_many_requests(detail, come_back))
            }
        }
    }

    /// Whether the stores may be asked for this tenant now. What a question makes them read is known only afterwards, so
    /// the one that goes beyond the bound is answered, and the next ones wait until the time has paid for it.
    ///
    /// # Errors
    /// 429 with the time to come back.
    pub(crate) fn may_read(&self) -> Result<(), Problem> {
        let max = self.limits().rows_per_minute_max;
        let rows = self.lock().at(Instant::now(), max);
        if rows.owed < max.max(1) {
            return Ok(());
        }
        let wait_ms = u128::from(rows.owed - max) * u128::from(MINUTE_MS) / u128::from(max.max(1));
        let detail = format!("the questions of this tenant made the stores read more than {max} rows in a minute");
        Err(Problem::too_many_requests(detail, Duration::from_millis(u64::try_from(wait_ms).unwrap_or(MINUTE_MS))))
    }

    /// Counts rows that were read.
    pub(crate) fn charge(&self, rows: u64) {
        let max = self.limits().rows_per_minute_max;
        let mut owed = self.lock();
        *owed = owed.at(Instant::now(), max);
        // More than a minute's worth beyond the bound is forgiven: nobody waits longer than that.
        owed.owed = owed.owed.saturating_add(rows).min(max.max(1).saturating_mul(2));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rows {
    /// What is left to pay at that time.
    fn at(self, now: Instant, per_minute: u64) -> Self {
        let elapsed_ms = now.saturating_duration_since(self.at).as_millis();
        let paid = u64::try_from(elapsed_ms * u128::from(per_minute) / u128::from(MINUTE_MS)).unwrap_or(u64::MAX);
        // Time that has paid for no whole row is not lost.
        if paid == 0 { self } else { Self { owed: self.owed.saturating_sub(paid), at: now } }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        queries_per_second_max: 1,
        live_clients_max: 2,
        rows_per_minute_max: 600,
        evaluations_max: 1,
        event_evaluations_max: 1,
        waiting_max: 1,
    };

    fn tenant() -> TenantId {
        "acme".parse().expect("valid")
    }

    /// With narrow bounds.
    pub(in crate::access) fn allowance() -> Arc<Allowance> {
        Arc::new(Allowance::new(tenant(), LIMITS, watch::channel(Arc::default()).1))
    }

    #[test]
    fn time_pays_for_rows() {
        let start = Instant::now();
        let rows = Rows { owed: 900, at: start };
        assert_eq!(rows.at(start + Duration::from_secs(1), 600).owed, 890);
        assert_eq!(rows.at(start + Duration::from_secs(90), 600).owed, 0);
        let unpaid = rows.at(start + Duration::from_millis(99), 600);
        assert_eq!((unpaid.owed, unpaid.at), (900, start));
    }

    #[test]
    fn who_has_read_too_much_waits() {
        let allowance = allowance();
        assert!(allowance.may_read().is_ok());
        allowance.charge(599);
        assert!(allowance.may_read().is_ok());
        allowance.charge(10_000);
        let problem = allowance.may_read().expect_err("too much");
        assert_eq!((problem.status, problem.retry_after_s), (429, Some(60)));
    }

    #[test]
    fn another_quota_is_no_other_account() {
        let (sender, quotas) = watch::channel(Arc::default());
        let allowances = Allowances::new(LIMITS, quotas);
        let since_before = allowances.of(&tenant());
        since_before.charge(599);
        let quota = Quota { rows_per_minute_max: Some(700), queries_per_second_max: Some(2), ..Quota::default() };
        sender.send_replace(Arc::new([(tenant(), quota)].into()));
        assert_eq!((since_before.limits().rows_per_minute_max, since_before.rows_used()), (700, 599));
        assert!(since_before.may_read().is_ok());
        since_before.charge(200);
        // Neither wiped the slate, nor is there another one.
        assert!(allowances.of(&tenant()).may_read().is_err());
        assert!(allowances.of(&tenant()).take_queries(2).is_ok(), "as many as there may be now");
    }

    #[test]
    fn places_are_given_back_also_under_new_bounds() {
        let (sender, quotas) = watch::channel(Arc::default());
        let allowances = Allowances::new(LIMITS, quotas);
        let (tenant, wait) = (tenant(), Duration::from_secs(5));
        let first = allowances.of(&tenant).take_place(wait).expect("free");
        let _second = allowances.of(&tenant).take_place(wait).expect("free");
        assert_eq!(allowances.of(&tenant).take_place(wait).map(|_| ()).map_err(|problem| problem.status), Err(429));
        let quota = Quota { live_clients_max: Some(3), ..Quota::default() };
        sender.send_replace(Arc::new([(tenant.clone(), quota)].into()));
        let _third = allowances.of(&tenant).take_place(wait).expect("there is one more");
        assert!(allowances.of(&tenant).take_place(wait).is_err());
        drop(first);
        assert_eq!(allowances.of(&tenant).live_clients(), 2);
        assert!(allowances.of(&tenant).take_place(wait).is_ok());
        let other: TenantId = "other".parse().expect("valid");
        assert!(allowances.of(&other).take_place(wait).is_ok());
    }
}
