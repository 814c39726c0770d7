//! From a question to its answer: read the question ([`params`]), look its names up ([`selection`]), plan, read what
//! the plan needs ([`reading`]), merge, and say it ([`wording`]). Beside them [`active`] and [`top`], which the speed
//! layer alone can answer.

mod active;
pub(crate) mod params;
mod reading;
pub(crate) mod selection;
mod top;
mod wording;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use reckon_schemas::catalog::{Measure, Metric, Tenant};
use reckon_schemas::time::EventTime;
use tokio::sync::Semaphore;

use self::active::Active;
use self::params::{Bounds, Query};
use self::selection::Selection;
use crate::answer::Answer;
use crate::merge::plan::{Plan, Settlements};
use crate::merge::{MergeError, merge};
use crate::problem::Problem;
use crate::stores::progress::SpeedProgress;
use crate::stores::{StoreError, Stores};
use crate::tuning::Tuning;

/// Answers questions, so many at a time. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Evaluator {
    stores: Stores,
    tuning: Arc<Tuning>,
    slots: Arc<Semaphore>,
    /// Whether Redis was away when it was last asked, so that it is logged when that changes.
    redis_is_away: Arc<AtomicBool>,
}

/// What the words of an answer need beside its numbers.
struct Context<'a> {
    query: &'a Query,
    tenant: &'a Tenant,
    selection: &'a Selection,
    plan: &'a Plan,
    progress: SpeedProgress,
    now: Timestamp,
    notes: Vec<String>,
}

/// A question about a metric that there is.
#[derive(Clone, Copy)]
struct Asked<'a> {
    query: &'a Query,
    metric: &'a Metric,
    tenant: &'a Tenant,
    now: Timestamp,
    event_now: EventTime,
}

/// How far both layers are.
struct Standing {
    settlements: Settlements,
    progress: SpeedProgress,
    redis_error: Option<StoreError>,
}

impl Evaluator {
    pub(crate) fn new(stores: Stores, tuning: Arc<Tuning>) -> Self {
        let slots = Arc::new(Semaphore::new(tuning.evaluations_max.max(1)));
        Self { stores, tuning, slots, redis_is_away: Arc::default() }
    }

    pub(crate) fn stores(&self) -> &Stores {
        &self.stores
    }

    /// Answers a question of a tenant, within the time limit.
    ///
    /// # Errors
    /// What the question asks for does not exist or is too much, or ClickHouse is away.
    pub(crate) async fn answer(&self, query: &Query, tenant: &Tenant, now: Timestamp) -> Result<Answer, Problem> {
        let limit = self.tuning.query_timeout;
        // On the heap: the state of all reads of an answer is large, and live queries hold one each.
        let answered = tokio::time::timeout(limit, Box::pin(self.answer_unhurried(query, tenant, now))).await;
        answered.unwrap_or_else(|_| Err(too_slow(limit)))
    }

    async fn answer_unhurried(&self, query: &Query, tenant: &Tenant, now: Timestamp) -> Result<Answer, Problem> {
        let metric = tenant.metric(&query.metric);
        let metric = metric.ok_or_else(|| Problem::not_found("there is no metric of this name"))?;
        let event_now = EventTime::from_timestamp(now);
        let _slot = self.slots.acquire().await.map_err(|_| Problem::unavailable("shutting down"))?;
        let asked = Asked { query, metric, tenant, now, event_now };
        match metric.measure {
            Measure::ActiveUsers => self.answer_active(&asked).await,
            Measure::Top => self.answer_top(&asked).await,
            Measure::Count | Measure::Money | Measure::Sum | Measure::Users => self.answer_cells(&asked).await,
        }
    }

    async fn answer_cells(&self, asked: &Asked<'_>) -> Result<Answer, Problem> {
        let Asked { query, metric, tenant, now, event_now } = *asked;
        let selection = Selection::new(query, metric, tenant)?;
        let windows = query.windows(event_now, &tenant.time_zone, self.bounds())?;
        let Standing { settlements, progress, redis_error } = self.standing(tenant).await?;
        let plan = Plan::new(&windows, settlements, progress.newest_write());
        let mut notes = Vec::new();
        let counted = self.read(&selection, &plan, tenant, &progress, redis_error, &mut notes).await?;
        let mut merged = merge(&plan, counted).map_err(|error| merge_problem(&error))?;
        let points: usize = merged.groups.iter().take(self.tuning.groups_max).map(|group| group.points.len()).sum();
        if points > self.tuning.points_max {
            return Err(Problem::too_much());
        }
        let is_truncated = merged.groups.len() > self.tuning.groups_max;
        let other = merged.truncate(self.tuning.groups_max);
        let context = Context { query, tenant, selection: &selection, plan: &plan, progress, now, notes };
        Ok(wording::answer(context, &merged, other.as_ref(), is_truncated))
    }

    async fn answer_top(&self, asked: &Asked<'_>) -> Result<Answer, Problem> {
        let Asked { query, metric, tenant, now, event_now } = *asked;
        let selection = Selection::of_top(query, metric, tenant)?;
        let bounds = Bounds { windows_max: self.tuning.top_windows_max, ..self.bounds() };
        let windows = query.windows(event_now, &tenant.time_zone, bounds)?;
        let Standing { settlements, progress, redis_error } = self.standing(tenant).await?;
        let plan = Plan::of_speed(&windows, settlements, progress.newest_write());
        let mut notes = Vec::new();
        let limit = metric.top_limit();
        let read = self.read_top(&selection, limit, &plan, &progress, redis_error, &mut notes);
        let (merged, is_truncated) = read.await?;
        let context = Context { query, tenant, selection: &selection, plan: &plan, progress, now, notes };
        Ok(wording::answer(context, &merged, None, is_truncated))
    }

    async fn answer_active(&self, asked: &Asked<'_>) -> Result<Answer, Problem> {
        let Asked { query, metric, tenant, now, event_now } = *asked;
        let active = Active::new(query, metric, tenant, event_now)?;
        let Standing { settlements, progress, redis_error } = self.standing(tenant).await?;
        let plan = active.plan(settlements, &progress);
        let merged = self.read_active(&active, redis_error).await?;
        let context =
            Context { query, tenant, selection: &active.selection, plan: &plan, progress, now, notes: Vec::new() };
        Ok(wording::answer(context, &merged, None, false))
    }

    /// What is settled and what is counted, at one moment.
    async fn standing(&self, tenant: &Tenant) -> Result<Standing, Problem> {
        let settlements = self.stores.clickhouse.settlements(tenant);
        let (settlements, progress) = tokio::join!(settlements, self.stores.speed_progress());
        let (progress, redis_error) = progress.map_err(|error| store_problem(&error))?;
        let settlements = settlements.map_err(|error| store_problem(&error))?;
        Ok(Standing { settlements, progress, redis_error })
    }
}

impl Evaluator {
    fn bounds(&self) -> Bounds {
        Bounds { windows_max: self.tuning.windows_max, seconds_kept: self.tuning.seconds_kept }
    }

    /// An answer without Redis is right as of a second or so ago, and says so.
    fn tell_about_redis(&self, error: Option<StoreError>, notes: &mut Vec<String>) {
        let was_away = self.redis_is_away.swap(error.is_some(), Ordering::Relaxed);
        match error {
            Some(error) => {
                if !was_away {
                    tracing::warn!(%error, "answering without Redis");
                }
                notes.push(
                    "the store of the freshest numbers could not be read: provisional numbers may be older than usual"
                        .to_owned(),
                );
            }
            None if was_away => tracing::info!("Redis is read again"),
            None => {}
        }
    }
}

fn too_slow(limit: Duration) -> Problem {
    Problem::unavailable(format!("no answer within {} s: ask for less, or later", limit.as_secs()))
}

/// Logged here, once; the client learns what it can do, and no internals.
pub(crate) fn store_problem(error: &StoreError) -> Problem {
    match error {
        StoreError::TooMuch { .. } => Problem::too_much(),
        StoreError::Unavailable { store, .. } => {
            tracing::warn!(%error, "a store is away");
            Problem::unavailable(format!("{store} does not answer"))
        }
        StoreError::Broken { .. } => {
            tracing::error!(%error, "a store and this build do not agree");
            Problem::internal()
        }
    }
}

fn merge_problem(error: &MergeError) -> Problem {
    tracing::error!(%error, "an answer cannot be merged");
    Problem::internal()
}
