//! Answers that are pushed: one evaluation per question, however many watch it; a client that is slow gets the
//! newest state when it is ready, never a backlog.

pub(crate) mod change;
mod feed;
mod listener;
mod stream;
#[cfg(test)]
mod tests;
pub(crate) mod websocket;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reckon_schemas::catalog::Tenant;
use reckon_schemas::ids::TenantId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::feed::{Feed, Seen};
use crate::access::{Access, Place, meter};
use crate::cache::Answers;
use crate::problem::Problem;
use crate::query::events::Reads;
use crate::query::params::Query;
use crate::telemetry::LIVE_CLIENTS;
use crate::tuning::Tuning;

/// All live queries. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Hub {
    answers: Answers,
    access: Arc<Access>,
    tuning: Arc<Tuning>,
    shutdown: CancellationToken,
    // A plain mutex: it is held for a look-up, never across an await.
    tenants: Arc<Mutex<HashMap<TenantId, Watched>>>,
}

/// What is watched of one tenant.
#[derive(Default)]
struct Watched {
    feeds: HashMap<Query, Arc<Feed>>,
}

/// Somebody who watches a question.
pub(crate) struct Subscription {
    pub(crate) seen: watch::Receiver<Seen>,
}

/// A feed that is evaluated. However that ends, it is struck off the list, and who still watches it is told: nobody waits
/// for what nobody works on.
struct Listed {
    hub: Hub,
    tenant: Arc<Tenant>,
    query: Query,
    feed: Arc<Feed>,
}

impl Hub {
    pub(crate) fn new(answers: Answers, access: Arc<Access>, tuning: Arc<Tuning>, shutdown: CancellationToken) -> Self {
        Self { answers, access, tuning, shutdown, tenants: Arc::default() }
    }

    /// A place for one more connection, whatever it watches.
    ///
    /// # Errors
    /// 429 if the tenant has as many as it may have.
    pub(crate) fn take_place(&self, tenant: &Tenant) -> Result<Place, Problem> {
        self.access.allowance(&tenant.id).take_place(self.tuning.live_refresh)
    }

    /// One more who watches a question, which begins to be evaluated if it is not yet.
    ///
    /// # Errors
    /// 422 if it reads the lake, 429 if the tenant has as many questions as it may have.
    pub(crate) fn subscribe(&self, query: Query, tenant: &Arc<Tenant>) -> Result<Subscription, Problem> {
        let reads = self.answers.pushed_from(&query, tenant)?;
        let mut tenants = self.lock();
        let watched = tenants.entry(tenant.id.clone()).or_default();
        let (feed, is_new) = match watched.feeds.get(&query) {
            Some(feed) => (feed.clone(), false),
            None if watched.feeds.len() >= self.tuning.live_queries_max => {
                return Err(self.full("as many different live queries as there may be"));
            }
            None if reads == Reads::RawEvents
                && self.about_events(watched, tenant) >= self.tuning.live_events_queries_max =>
            {
                return Err(self.full("as many different live queries about single events as there may be"));
            }
            None => {
                let feed = Arc::new(Feed::new());
                watched.feeds.insert(query.clone(), feed.clone());
                (feed, true)
            }
        };
        // Under the lock, so that the feed is not abandoned in between.
        let subscription = Subscription { seen: feed.seen.subscribe() };
        metrics::gauge!(LIVE_CLIENTS).increment(1.0);
        drop(tenants);
        if is_new {
            // Not under the lock, which it takes to end: a runtime that shuts down ends it at once, on this thread.
            self.start(query, tenant.clone(), feed);
        }
        Ok(subscription)
    }

    /// Something of this tenant changed (`None`: perhaps of every tenant).
    pub(crate) fn wake(&self, tenant: Option<&str>) {
        let tenants = self.lock();
        let is_meant = |id: &TenantId| tenant.is_none_or(|tenant| tenant == id.as_str());
        for (_, watched) in tenants.iter().filter(|(id, _)| is_meant(id)) {
            watched.feeds.values().for_each(|feed| feed.wake.notify_one());
        }
    }

    fn start(&self, query: Query, tenant: Arc<Tenant>, feed: Arc<Feed>) {
        let listed = Listed { hub: self.clone(), tenant, query, feed };
        tokio::spawn(async move {
            let Listed { hub, tenant, query, feed } = &listed;
            let is_abandoned = || hub.remove_if_abandoned(&tenant.id, query, feed);
            let (answers, tuning, shutdown) = (hub.answers.clone(), hub.tuning.clone(), hub.shutdown.clone());
            let tenant_now = || hub.access.tenant(tenant.id.as_str()).unwrap_or_else(|| tenant.clone());
            let work = feed.run(query.clone(), tenant_now, answers, tuning, shutdown, is_abandoned);
            meter::on_account_of(hub.access.allowance(&tenant.id), work).await;
        });
    }

    /// Under the lock, so that nobody subscribes to a feed that is about to end.
    fn remove_if_abandoned(&self, tenant: &TenantId, query: &Query, feed: &Feed) -> bool {
        let mut tenants = self.lock();
        let is_abandoned = feed.seen.receiver_count() == 0;
        if is_abandoned && let Some(watched) = tenants.get_mut(tenant) {
            watched.strike(query, feed);
        }
        is_abandoned
    }

    /// How many of the questions read single events.
    fn about_events(&self, watched: &Watched, tenant: &Tenant) -> usize {
        watched.feeds.keys().filter(|query| self.answers.pushed_from(query, tenant) == Ok(Reads::RawEvents)).count()
    }

    fn full(&self, detail: &str) -> Problem {
        Problem::too_many_requests(format!("this tenant has {detail}"), self.tuning.live_refresh)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, Watched>> {
        // Nothing in here can be left half done by a panic.
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    /// Takes a feed off the list; not one that was begun for the same question since.
    fn strike(&mut self, query: &Query, feed: &Feed) {
        if self.feeds.get(query).is_some_and(|listed| std::ptr::eq(&raw const **listed, feed)) {
            self.feeds.remove(query);
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        if let Some(watched) = self.hub.lock().get_mut(&self.tenant.id) {
            watched.strike(&self.query, &self.feed);
        }
        let problem = match self.hub.shutdown.is_cancelled() {
            true => Problem::unavailable("shutting down"),
            false => Problem::internal(),
        };
        if std::thread::panicking() {
            tracing::error!(tenant = %self.tenant.id, metric = self.query.metric, "the evaluation of a live query panicked");
        }
        // Nobody is left to be told where it was abandoned.
        self.feed.show(Err(problem));
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        metrics::gauge!(LIVE_CLIENTS).decrement(1.0);
    }
}
