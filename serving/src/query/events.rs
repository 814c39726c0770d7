//! Questions that no rollup answers: they read single events, those of the last days in ClickHouse and older ones in the
//! lake, within limits of their own.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reckon_schemas::catalog::{Measure, Metric, Tenant};
use reckon_schemas::time::EventTime;
use reckon_schemas::window::{Grain, Window};

use super::beside::Beside;
use super::params::Query;
use super::selection::Selection;
use super::solve::Solved;
use super::{Asked, Evaluator, Standing, merge_problem, store_problem};
use crate::lake::{self, PinnedLake};
use crate::merge::plan::{Events, LakeState, Plan, Settlements};
use crate::merge::{Counted, Merged, merge};
use crate::problem::Problem;
use crate::records::{Cursor, Rejected};
use crate::stores::StoreError;
use crate::stores::clickhouse::Limits;
use crate::stores::progress::SpeedProgress;
use crate::stores::raw::DATED_AHEAD_US;

/// What a question reads whose answers are pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    Rollups,
    RawEvents,
}

/// Which events are read, before anybody has looked whether they are there.
struct Source {
    /// Windows that begin here or later are answered from raw events.
    raw_from: Option<EventTime>,
    notes: Vec<String>,
}

impl Evaluator {
    /// Whether a question reads single events: no rollup has its dimensions, or its users are to be exact. Of a resolved
    /// question.
    pub(super) fn reads_events(&self, query: &Query, tenant: &Tenant) -> bool {
        let reads = |query: &Query, metric: &Metric| match metric.measure {
            Measure::Count | Measure::Money | Measure::Sum | Measure::Users => {
                is_exact(query, metric) || Selection::of_rollups(query, metric, tenant).is_empty()
            }
            Measure::ActiveUsers | Measure::Top => false,
        };
        match &query.formula {
            None => tenant.metric(&query.metric).is_some_and(|metric| reads(query, metric)),
            Some(formula) => formula.aggregates.iter().any(|aggregate| {
                let filters = query.filters.iter().chain(&aggregate.filters).cloned().collect();
                reads(&Query { filters, formula: None, ..query.clone() }, &aggregate.metric())
            }),
        }
    }

    /// The question with what its metric computes, if alerts can look at it again and again: the one place that decides it,
    /// each time that they look. The catalog may have changed since they began.
    ///
    /// # Errors
    /// 422 if it reads single events.
    pub(crate) fn watchable<'a>(&self, query: &'a Query, tenant: &Tenant) -> Result<Cow<'a, Query>, Problem> {
        let query = self.resolved(query, tenant);
        if self.reads_events(&query, tenant) {
            let detail = "no rollup answers this question, and alerts do not read single events again and again";
            return Err(Problem::not_answerable("by", detail));
        }
        Ok(query)
    }

    /// The question with what its metric computes, if its answers can be pushed: the one place that decides it, whenever
    /// one is. Single events are read for that if they are among the raw ones, and less often.
    ///
    /// # Errors
    /// 422 if it reads the lake.
    pub(crate) fn pushable<'a>(
        &self,
        query: &'a Query,
        tenant: &Tenant,
        now: Timestamp,
    ) -> Result<(Cow<'a, Query>, Reads), Problem> {
        let query = self.resolved(query, tenant);
        if !self.reads_events(&query, tenant) {
            return Ok((query, Reads::Rollups));
        }
        if query.exact {
            let detail = "the lake is not read again and again: ask /v1/query for exact counts";
            return Err(Problem::not_answerable("exact", detail));
        }
        let now = EventTime::from_timestamp(now);
        let windows = query.windows(now, &tenant.time_zone, self.bounds())?;
        if windows.first().is_none_or(|first| first.start < self.raw_from(now)) {
            let detail = "no rollup answers this question, and the lake is not read again and again: ask /v1/query, or for \
                          a shorter range";
            return Err(Problem::not_answerable("from", detail));
        }
        Ok((query, Reads::RawEvents))
    }

    /// A page of what the collector refused: one more item than `limit`, if there are so many.
    ///
    /// # Errors
    /// The lake is away, or the page is too large; 429 if the tenant reads too much.
    pub(crate) async fn rejected(
        &self,
        tenant: &Tenant,
        after: &Cursor,
        limit: u32,
    ) -> Result<Vec<(Cursor, Rejected)>, Problem> {
        let read = Box::pin(self.lake.rejected(tenant.id.as_str(), after, limit));
        self.within_limits(true, async { read.await.map_err(|error| store_problem(&error)) }).await
    }

    pub(super) async fn solve_events(&self, asked: Asked<'_>, metric: &Metric) -> Result<Solved, Problem> {
        let Asked { query, tenant, moment } = asked;
        let selection = Selection::of_events(query, metric, tenant)?;
        let now = moment.event_now();
        let windows = query.windows(now, &tenant.time_zone, self.bounds())?;
        let Source { raw_from, mut notes } = self.source(query, metric, &windows, now)?;
        let Standing { settlements, progress, .. } = self.standing_of(asked).await?;
        let events = self.look(asked, &windows, raw_from, &settlements, &progress).await?;
        if events.lake.as_ref().is_some_and(|lake| !lake.differing.is_empty()) {
            notes.push(
                "the lake holds other deliveries for some of these days than they were settled from: `reckon nightly` \
                 settles them again, if they are not closed"
                    .to_owned(),
            );
        }
        let plan = Plan::of_events(&windows, settlements, events);
        let counted = self.count_events(&selection, &plan).await?;
        let mut merged = merge(&plan, counted).map_err(|error| merge_problem(&error))?;
        notes.extend(unknown_properties(&selection, &merged));
        let next = query.range.next(&windows, query.grain, now, &tenant.time_zone);
        if query.range.page.is_some() {
            merged.groups.sort_by(|a, b| a.key.cmp(&b.key));
        }
        let groups_count = merged.groups.len();
        let beside = Beside::default();
        Ok(Solved { selection, plan, merged, progress, notes, beside, groups_count, is_truncated: false, next })
    }

    /// What a question about raw events may take.
    pub(crate) fn raw_limits(&self) -> Limits {
        Limits {
            rows_read_max: self.tuning.raw_rows_max,
            memory_max: self.tuning.raw_memory_bytes,
            time_max: self.tuning.events_timeout,
        }
    }

    /// From when on every event is among the raw ones. They are kept by the log's time, and an event may be dated ahead
    /// of it.
    pub(crate) fn raw_from(&self, now: EventTime) -> EventTime {
        now.plus_micros(DATED_AHEAD_US.saturating_sub(micros(self.retention.raw)))
    }

    fn source(&self, query: &Query, metric: &Metric, windows: &[Window], now: EventTime) -> Result<Source, Problem> {
        let raw_from = self.raw_from(now);
        let (Some(first), Some(last)) = (windows.first(), windows.last()) else { return Err(Problem::too_much()) };
        let (is_users, is_exact) = (metric.measure == Measure::Users, is_exact(query, metric));
        if first.start >= raw_from && !is_exact {
            return Ok(Source { raw_from: Some(raw_from), notes: vec![said("of the last days")] });
        }
        // Sets of users cannot be united across two stores: the lake, which has all of them, counts alone.
        let raw_from = Some(raw_from).filter(|_| !is_users);
        let lake_to = raw_from.map_or(last.end, |from| from.min(last.end));
        let range_max = if is_exact { self.tuning.exact_range_max } else { self.tuning.lake_range_max };
        if lake_to.0 - first.start.0 > micros(range_max) {
            let days = range_max.as_secs() / 86_400;
            let detail = format!("single events of the lake are read for at most {days} days: ask for a shorter range");
            return Err(Problem::not_answerable("from", detail));
        }
        let mut notes = vec![said("of the lake")];
        if is_users && last.end > self.raw_from(now) {
            notes.push("what has not been archived yet is not counted: see `as_of`".to_owned());
        }
        Ok(Source { raw_from, notes })
    }

    /// Looks how far the events are that are read, and pins the lake.
    async fn look(
        &self,
        Asked { tenant, moment, .. }: Asked<'_>,
        windows: &[Window],
        raw_from: Option<EventTime>,
        settlements: &Settlements,
        progress: &SpeedProgress,
    ) -> Result<Events, Problem> {
        let raw = raw_from.and_then(|from| windows.iter().find(|window| window.start >= from));
        let (raw_at, raw_to) = match raw {
            None => (None, None),
            Some(first) => self.look_at_raw(tenant, first.start, progress, moment.now).await?,
        };
        let of_lake = |window: &&Window| raw_from.is_none_or(|from| window.start < from);
        let lake = match (windows.iter().find(of_lake), windows.iter().rfind(of_lake)) {
            (Some(first), Some(last)) => Some(self.pin_lake(tenant, first.start, last.end, settlements).await?.0),
            _ => None,
        };
        Ok(Events { raw_from, raw_at, raw_to, lake })
    }

    /// When the newest raw event of a tenant arrived, of those that can be about a range that begins here; and up to when
    /// there is everything that the log has received, whoever's it is, if raw events are behind.
    pub(super) async fn look_at_raw(
        &self,
        tenant: &Tenant,
        from: EventTime,
        counted: &SpeedProgress,
        now: Timestamp,
    ) -> Result<(Option<Timestamp>, Option<EventTime>), Problem> {
        let limits = self.raw_limits();
        let newest = self.stores.clickhouse.newest_raw_event(tenant.id.as_str(), from, limits);
        let looked = tokio::try_join!(newest, self.stores.raw_progress(limits));
        let (newest, reached) = looked.map_err(|error| store_problem(&error))?;
        Ok((newest, reached.missing_from(counted, now, self.tuning.raw_lag_max)))
    }

    /// The lake for a range: what is settled is read at the version that it was settled from, so that the same question
    /// has the same answer; anything else at the newest.
    pub(super) async fn pin_lake(
        &self,
        tenant: &Tenant,
        from: EventTime,
        to: EventTime,
        settlements: &Settlements,
    ) -> Result<(LakeState, Arc<PinnedLake>), Problem> {
        let newest = self.lake.at(None).await.map_err(|error| store_problem(&error))?;
        if let Some(whole_from) = newest.whole_from().filter(|whole_from| from < *whole_from) {
            let detail = format!("single events before {whole_from} have expired; rollups still answer for them");
            return Err(Problem::not_answerable("from", detail));
        }
        let is_settled = settlements.horizon().is_some_and(|horizon| to <= horizon);
        let settled = settlements.days_in(from, to).iter().map(|day| day.lake_version).max().filter(|_| is_settled);
        let lake = match settled {
            Some(version) => self.lake.at(Some(version)).await.map_err(|error| store_problem(&error))?,
            None => newest,
        };
        let refused = lake.refuse_more_than(self.lake.rows_max(), tenant.id.as_str()).await;
        refused.map_err(|error| store_problem(&error))?;
        let days = self.lake.days(&lake, tenant).await.map_err(|error| store_problem(&error))?;
        let settled_to = settlements.horizon().map_or(from, |horizon| horizon.min(to));
        let differing = Grain::Day.windows_over(from, settled_to, &tenant.time_zone).filter(|window| {
            let day = tenant.time_zone.day_of(window.start);
            let known = settlements.days_in(window.start, window.end).iter().find(|settled| settled.day == day);
            days.get(&day).copied().unwrap_or(0) != known.map_or(0, |settled| settled.deliveries)
        });
        let differing = differing.map(|window| (window.start, window.end)).collect();
        Ok((LakeState { version: lake.version(), committed_at: lake.committed_at(), differing }, lake))
    }

    /// Counts what a plan asks of the events.
    pub(super) async fn count_events(&self, selection: &Selection, plan: &Plan) -> Result<Counted, Problem> {
        let of_lake = async {
            let Some(version) = plan.lake_version() else { return Ok(None) };
            let lake = self.lake.at(Some(version)).await.map_err(Arc::new)?;
            self.lake.count(&lake, lake::Asked::new(selection, plan, version)).await.map(Some)
        };
        let of_raw = self.stores.clickhouse.raw_counted(selection, plan, self.raw_limits());
        let (of_lake, of_raw) = tokio::join!(of_lake, of_raw);
        let mut counted = of_raw.map_err(|error| store_problem(&error))?;
        if let Some(of_lake) = of_lake.map_err(|error: Arc<StoreError>| store_problem(&error))? {
            counted.layers.extend(of_lake.layers.iter().cloned());
            counted.unions.extend(of_lake.unions.iter().map(|(set, tally)| (set.clone(), tally.clone())));
        }
        Ok(counted)
    }
}

/// Whether distinct users are to be counted exactly.
pub(super) fn is_exact(query: &Query, metric: &Metric) -> bool {
    query.exact && metric.measure == Measure::Users
}

fn said(events: &str) -> String {
    format!("counted for this question from the single events {events}")
}

/// A property that no event has may be a typing error: the answer says so.
fn unknown_properties(selection: &Selection, merged: &Merged) -> Vec<String> {
    let has_groups = !merged.groups.is_empty();
    let is_empty = |position: &usize| merged.groups.iter().all(|group| group.key[*position].is_empty());
    let unknown = (0..selection.by.len()).filter(|position| has_groups && is_empty(position));
    let name = |position: usize| &selection.rollup.dimensions()[selection.by[position]];
    unknown.map(|position| format!("no event of this answer has a property {:?}", name(position))).collect()
}

pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
