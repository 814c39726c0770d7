//! From a question to its answer: read the question ([`params`]), look its names up ([`selection`]), plan, read what
//! the plan needs ([`reading`]), merge, and say it ([`wording`]).

pub(crate) mod params;
mod reading;
pub(crate) mod selection;
mod wording;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::time::EventTime;
use tokio::sync::Semaphore;

use self::params::{Bounds, Query};
use self::selection::Selection;
use crate::answer::Answer;
use crate::merge::plan::Plan;
use crate::merge::{MergeError, merge};
use crate::problem::Problem;
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
    progress: crate::stores::progress::SpeedProgress,
    now: Timestamp,
    notes: Vec<String>,
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
        let selection = Selection::new(query, tenant)?;
        let event_now = EventTime::from_timestamp(now);
        let windows = query.windows(event_now, &tenant.time_zone, self.bounds())?;
        let _slot = self.slots.acquire().await.map_err(|_| Problem::unavailable("shutting down"))?;
        let settlements = self.stores.clickhouse.settlements(tenant);
        let (settlements, progress) = tokio::join!(settlements, self.stores.speed_progress());
        let (progress, redis_error) = progress.map_err(|error| store_problem(&error))?;
        let settlements = settlements.map_err(|error| store_problem(&error))?;
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
