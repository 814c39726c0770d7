//! From a question to its answer: read the question ([`params`], or as a body [`question`]), look its names up
//! ([`selection`]), plan, read what the plan needs ([`reading`]), merge ([`solve`]), and say it ([`wording`]). Beside
//! them [`active`] and [`top`], which the speed layer alone can answer, [`events`] and [`funnels`], which no rollup can,
//! and what is made of several answers: [`formula`] and [`compare`].

mod active;
mod beside;
mod compare;
pub(crate) mod events;
pub(crate) mod filter;
pub(crate) mod formula;
mod funnels;
mod heat;
pub(crate) mod params;
pub(crate) mod question;
pub(crate) mod range;
mod reading;
pub(crate) mod saved;
pub(crate) mod selection;
mod shift;
mod solve;
mod top;
pub(crate) mod wording;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::ids::TenantId;
use reckon_schemas::time::EventTime;
use tokio::sync::{OnceCell, Semaphore};

use self::params::{Bounds, Query};
use self::question::Question;
use self::saved::Saved;
use crate::access::meter;
use crate::answer::Answer;
use crate::cache::remembered::Remembered;
use crate::lake::Lake;
use crate::merge::plan::Settlements;
use crate::merge::{Kept, MergeError};
use crate::problem::Problem;
use crate::stores::beside::Books;
use crate::stores::plans::CountedBy;
use crate::stores::progress::SpeedProgress;
use crate::stores::{StoreError, Stores};
use crate::tuning::Tuning;

/// The most tenants whose standing is remembered for a tick.
const STANDINGS_MAX: u64 = 10_000;
/// What the speed layer counts by changes with the catalog only. Who does not know of a change yet says too little.
const COUNTED_BY_INTERVAL: Duration = Duration::from_secs(2);

/// Answers questions, so many at a time. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Evaluator {
    stores: Stores,
    lake: Lake,
    retention: Retention,
    saved: Saved,
    tuning: Arc<Tuning>,
    slots: Arc<Semaphore>,
    /// The places of questions that read single events, which take long: they have places of their own.
    event_slots: Arc<Semaphore>,
    standings: Remembered<TenantId, Arc<Standing>>,
    /// That of all tenants.
    progress: Remembered<(), Arc<Counted>>,
    counted_by: Remembered<TenantId, Arc<CountedBy>>,
    /// Whether Redis was away when it was last asked, so that it is logged when that changes.
    redis_is_away: Arc<AtomicBool>,
}

/// For how long the write path keeps what is not kept for good.
#[derive(Clone, Copy)]
pub(crate) struct Retention {
    /// Raw events, by the log's time.
    pub(crate) raw: Duration,
    /// Windows of one second, after their end.
    pub(crate) seconds: Duration,
}

/// A question of a tenant.
#[derive(Clone, Copy)]
struct Asked<'a> {
    query: &'a Query,
    tenant: &'a Tenant,
    moment: &'a Moment,
}

/// When it is, and how far both layers are then: numbers that are compared, or computed with, are of one moment.
struct Moment {
    now: Timestamp,
    /// Read once it is needed: a question that cannot be answered costs nothing.
    standing: OnceCell<Arc<Standing>>,
}

/// How far the speed layer is, and what was wrong with Redis.
type Counted = (SpeedProgress, Option<StoreError>);

/// How far both layers are.
#[derive(Clone)]
pub(crate) struct Standing {
    pub(crate) settlements: Settlements,
    /// What was closed, adjusted and reopened.
    pub(crate) books: Books,
    pub(crate) progress: SpeedProgress,
    redis_error: Option<StoreError>,
}

impl Moment {
    fn new(now: Timestamp) -> Self {
        Self { now, standing: OnceCell::new() }
    }

    fn event_now(&self) -> EventTime {
        EventTime::from_timestamp(self.now)
    }
}

impl Evaluator {
    pub(crate) fn new(stores: Stores, lake: Lake, retention: Retention, saved: Saved, tuning: Arc<Tuning>) -> Self {
        let slots = Arc::new(Semaphore::new(tuning.evaluations_max.max(1)));
        let event_slots = Arc::new(Semaphore::new(tuning.events_evaluations_max.max(1)));
        let standings = Remembered::new(STANDINGS_MAX, tuning.standing_interval);
        // It becomes part of what is remembered for the whole interval.
        let progress = Remembered::new(1, tuning.standing_interval / 2);
        let counted_by = Remembered::new(STANDINGS_MAX, COUNTED_BY_INTERVAL);
        let redis_is_away = Arc::default();
        Self {
            stores,
            lake,
            retention,
            saved,
            tuning,
            slots,
            event_slots,
            standings,
            progress,
            counted_by,
            redis_is_away,
        }
    }

    pub(crate) fn stores(&self) -> &Stores {
        &self.stores
    }

    /// Answers a question of a tenant, within the time limit.
    ///
    /// # Errors
    /// What the question asks for does not exist or is too much, or ClickHouse is away.
    pub(crate) async fn answer(&self, query: &Query, tenant: &Tenant, now: Timestamp) -> Result<Answer, Problem> {
        let (moment, query) = (Moment::new(now), &*self.resolved(query, tenant));
        // On the heap: the state of all reads of an answer is large, and live queries hold one each.
        let answered = Box::pin(self.answer_one(Asked { query, tenant, moment: &moment }, None));
        let answer = self.within_limits(self.reads_events(query, tenant), answered).await?;
        Ok(self.marked(answer))
    }

    /// The same, compared with what the question says.
    ///
    /// # Errors
    /// As for [`Self::answer`].
    pub(crate) async fn ask(&self, question: &Question, tenant: &Tenant, now: Timestamp) -> Result<Answer, Problem> {
        let Some(compared) = &question.compared else { return self.answer(&question.query, tenant, now).await };
        let (moment, query) = (Moment::new(now), &*self.resolved(&question.query, tenant));
        let asked = Asked { query, tenant, moment: &moment };
        let reads_events = compared.queries(query).iter().any(|query| self.reads_events(query, tenant));
        let answer = self.within_limits(reads_events, Box::pin(self.answer_compared(asked, compared))).await?;
        Ok(self.marked(answer))
    }

    /// Says so if the speed layer is behind.
    fn marked(&self, mut answer: Answer) -> Answer {
        answer.mark_if_behind(self.tuning.speed_lag_max);
        answer
    }

    /// Within the time limit, and in a place for it: one of the tenant's, then one of the node's. Questions that read single
    /// events have places of their own.
    async fn within_limits<T>(
        &self,
        reads_events: bool,
        answered: impl Future<Output = Result<T, Problem>>,
    ) -> Result<T, Problem> {
        let limit = if reads_events { self.tuning.events_timeout } else { self.tuning.query_timeout };
        let answered = async {
            // Who has waited for half of the time would hardly be answered in the rest of it.
            let _share = meter::share(reads_events, limit / 2).await?;
            let slots = if reads_events { &self.event_slots } else { &self.slots };
            let _slot = slots.acquire().await.map_err(|_| Problem::unavailable("shutting down"))?;
            answered.await
        };
        let answered = tokio::time::timeout(limit, answered).await;
        answered.unwrap_or_else(|_| Err(too_slow(limit)))
    }

    /// Answers for the groups that are to be kept; the question's own limit if that is left to it.
    async fn answer_one(&self, asked: Asked<'_>, kept: Option<&Kept>) -> Result<Answer, Problem> {
        let Asked { query, tenant, .. } = asked;
        let own = match query.range.page {
            Some(_) => Kept::All,
            None => Kept::Largest(query.limit.unwrap_or(self.tuning.groups_max).min(self.tuning.groups_max)),
        };
        let kept = kept.unwrap_or(&own);
        if let Some(formula) = &query.formula {
            return self.answer_formula(asked, formula, kept).await;
        }
        let metric = tenant.metric(&query.metric);
        let metric = metric.ok_or_else(|| Problem::not_found("there is no metric of this name"))?;
        let mut solved = self.solve(asked, metric).await?;
        let other = self.cut(asked, &mut solved, kept).await?;
        solved.say(asked, other.as_ref(), self.tuning.points_max)
    }

    /// What is settled and what is counted at the moment of a question.
    async fn standing_of(&self, asked: Asked<'_>) -> Result<Standing, Problem> {
        let standing = asked.moment.standing.get_or_try_init(|| self.standing(asked.tenant)).await?;
        Ok(Standing::clone(standing))
    }

    /// What is settled and what is counted, as it was at most a tick ago.
    ///
    /// # Errors
    /// ClickHouse is away.
    pub(crate) async fn standing(&self, tenant: &Tenant) -> Result<Arc<Standing>, Problem> {
        let look_up = || {
            let (evaluator, tenant) = (self.clone(), tenant.clone());
            async move { Box::pin(evaluator.look_up_standing(&tenant)).await }
        };
        self.standings.get(&tenant.id, look_up).await
    }

    async fn look_up_standing(&self, tenant: &Tenant) -> Result<Arc<Standing>, Problem> {
        let clickhouse = &self.stores.clickhouse;
        let progress = || {
            let stores = self.stores.clone();
            async move { stores.speed_progress().await.map(Arc::new).map_err(|error| store_problem(&error)) }
        };
        let (settlements, books, counted) = tokio::join!(
            clickhouse.settlements(tenant),
            clickhouse.books(&tenant.id),
            self.progress.get(&(), progress)
        );
        let (progress, redis_error) = Counted::clone(&*counted?);
        let settlements = settlements.map_err(|error| store_problem(&error))?;
        let books = books.map_err(|error| store_problem(&error))?;
        Ok(Arc::new(Standing { settlements, books, progress, redis_error }))
    }
}

impl Evaluator {
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds { windows_max: self.tuning.windows_max, seconds_kept: self.retention.seconds }
    }

    /// An answer without Redis is right as of some seconds ago, and says so.
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

pub(crate) fn store_problem(error: &StoreError) -> Problem {
    error.into()
}

fn merge_problem(error: &MergeError) -> Problem {
    tracing::error!(%error, "an answer cannot be merged");
    Problem::internal()
}
