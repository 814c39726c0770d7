//! Numbers that were read and merged, before they get words.

use std::collections::BTreeMap;

use reckon_schemas::catalog::{Measure, Metric};
use reckon_schemas::window::Window;

use super::active::Active;
use super::beside::Beside;
use super::events::is_exact;
use super::params::Bounds;
use super::selection::Selection;
use super::wording::{self, Context};
use super::{Asked, Evaluator, Standing, merge_problem, store_problem};
use crate::answer::Answer;
use crate::merge::plan::Plan;
use crate::merge::{Group, Kept, Merged, add_up, merge};
use crate::problem::Problem;
use crate::stores::progress::SpeedProgress;

/// The numbers of one metric, and everything that is needed to say them.
pub(super) struct Solved {
    pub(super) selection: Selection,
    pub(super) plan: Plan,
    pub(super) merged: Merged,
    pub(super) progress: SpeedProgress,
    pub(super) notes: Vec<String>,
    pub(super) beside: Beside,
    /// How many groups there are.
    pub(super) groups_count: usize,
    /// Whether not all of them are here.
    pub(super) is_truncated: bool,
    /// The next page.
    pub(super) next: Option<String>,
}

impl Evaluator {
    /// Reads and merges every group of a metric.
    pub(super) async fn solve(&self, asked: Asked<'_>, metric: &Metric) -> Result<Solved, Problem> {
        match metric.measure {
            Measure::ActiveUsers => self.solve_active(asked, metric).await,
            Measure::Top => self.solve_top(asked, metric).await,
            Measure::Count | Measure::Money | Measure::Sum | Measure::Users => {
                // On the heap: the state of all its reads is large.
                Box::pin(self.solve_cells(asked, metric)).await
            }
        }
    }

    async fn solve_cells(&self, asked: Asked<'_>, metric: &Metric) -> Result<Solved, Problem> {
        let Asked { query, tenant, moment } = asked;
        let rollups = Selection::of_rollups(query, metric, tenant);
        let Some((smallest, others)) = rollups.split_first().filter(|_| !is_exact(query, metric)) else {
            return self.solve_events(asked, metric).await;
        };
        let windows = query.windows(moment.event_now(), &tenant.time_zone, self.bounds())?;
        let solved = self.solve_rollup(asked, smallest.clone(), &windows).await?;
        // A rollup that was added later may be smaller than one that has everything.
        match self.more_complete(asked, others, &windows, &solved.beside).await? {
            Some(other) => self.solve_rollup(asked, other.clone(), &windows).await,
            None => Ok(solved),
        }
    }

    async fn solve_rollup(
        &self,
        asked: Asked<'_>,
        selection: Selection,
        windows: &[Window],
    ) -> Result<Solved, Problem> {
        let Asked { query, tenant, moment } = asked;
        let Standing { books, progress, redis_error, .. } = self.standing_of(asked).await?;
        let plan = self.plan(asked, &selection, windows).await?;
        let mut notes = Vec::new();
        let counted = self.read(&selection, &plan, tenant, &progress, redis_error, &mut notes);
        let (counted, beside) = tokio::join!(counted, self.read_beside(&selection, &plan, books, tenant));
        let (counted, beside) = (counted?, beside?);
        let mut merged = merge(&plan, counted).map_err(|error| merge_problem(&error))?;
        let next = query.range.next(windows, query.grain, moment.event_now(), &tenant.time_zone);
        if query.range.page.is_some() {
            merged.groups.sort_by(|a, b| a.key.cmp(&b.key));
        }
        let groups_count = merged.groups.len();
        Ok(Solved { selection, plan, merged, progress, notes, beside, groups_count, is_truncated: false, next })
    }

    /// Which layer answers which window from a rollup.
    pub(super) async fn plan(
        &self,
        asked: Asked<'_>,
        selection: &Selection,
        windows: &[Window],
    ) -> Result<Plan, Problem> {
        let Standing { mut settlements, progress, .. } = self.standing_of(asked).await?;
        self.fill(selection, &mut settlements).await.map_err(|error| store_problem(&error))?;
        Ok(Plan::new(windows, settlements, progress.newest_write()))
    }

    async fn solve_top(&self, asked: Asked<'_>, metric: &Metric) -> Result<Solved, Problem> {
        let Asked { query, tenant, moment } = asked;
        let selection = Selection::of_top(query, metric, tenant)?;
        let bounds = Bounds { windows_max: self.tuning.top_windows_max, ..self.bounds() };
        let windows = query.windows(moment.event_now(), &tenant.time_zone, bounds)?;
        let Standing { settlements, progress, redis_error, .. } = self.standing_of(asked).await?;
        let settlements = self.settled_with_tops(&selection, settlements, &windows).await?;
        let plan = Plan::new(&windows, settlements, progress.newest_write());
        let mut notes = Vec::new();
        let limit = query.limit.unwrap_or(usize::MAX).min(metric.top_limit());
        let read = self.read_top(&selection, limit, &plan, &progress, redis_error, &mut notes);
        let (merged, is_truncated) = read.await?;
        if is_truncated {
            notes.push("what the values that are not listed add up to is not known value by value".to_owned());
        }
        let next = query.range.next(&windows, query.grain, moment.event_now(), &tenant.time_zone);
        let groups_count = merged.groups.len();
        let beside = Beside { gaps: self.uncounted(&selection, &plan).await?, ..Beside::default() };
        Ok(Solved { selection, plan, merged, progress, notes, beside, groups_count, is_truncated, next })
    }

    async fn solve_active(&self, asked: Asked<'_>, metric: &Metric) -> Result<Solved, Problem> {
        let active = Active::new(asked.query, metric, asked.tenant, asked.moment.event_now())?;
        let Standing { settlements, progress, redis_error, .. } = self.standing_of(asked).await?;
        let plan = active.plan(settlements, &progress);
        let merged = self.read_active(&active, redis_error).await?;
        let (selection, notes, beside) = (active.selection, Vec::new(), Beside::default());
        let (groups_count, is_truncated) = (0, false);
        Ok(Solved { selection, plan, merged, progress, notes, beside, groups_count, is_truncated, next: None })
    }

    /// Leaves out the groups that are not to be kept, and says what they are together: sums are added up; users, who
    /// may be in several groups, are counted anew, as exactly as everywhere.
    pub(super) async fn cut(
        &self,
        asked: Asked<'_>,
        solved: &mut Solved,
        kept: &Kept,
    ) -> Result<Option<Group>, Problem> {
        let rest = solved.merged.keep(kept);
        if rest.is_empty() {
            return Ok(None);
        }
        solved.is_truncated = true;
        match solved.selection.measure {
            Measure::Users => {}
            // The values that are not listed have none of these numbers.
            Measure::Top => return Ok(None),
            _ => return Ok(add_up(rest)),
        }
        let named = solved.merged.groups.iter().map(|group| group.key.clone()).collect();
        let selection = solved.selection.other_than(named);
        let counted = if solved.plan.reads_events() {
            self.count_events(&selection, &solved.plan).await?
        } else {
            let Standing { redis_error, progress, .. } = self.standing_of(asked).await?;
            self.read(&selection, &solved.plan, asked.tenant, &progress, redis_error, &mut Vec::new()).await?
        };
        let Merged { total, parts, mut groups, .. } =
            merge(&solved.plan, counted).map_err(|error| merge_problem(&error))?;
        let points = groups.pop().map_or_else(BTreeMap::new, |group| group.points);
        Ok(Some(Group { key: Vec::new(), total, parts, points }))
    }
}

impl Solved {
    /// Says the numbers.
    ///
    /// # Errors
    /// 422 if they are too many.
    pub(super) fn say(&self, asked: Asked<'_>, other: Option<&Group>, points_max: usize) -> Result<Answer, Problem> {
        let points: usize = self.merged.groups.iter().map(|group| group.points.len()).sum();
        if points > points_max {
            return Err(Problem::too_much());
        }
        let context = Context { query: asked.query, tenant: asked.tenant, solved: self, now: asked.moment.now };
        Ok(wording::answer(&context, other))
    }

    /// Says one group.
    pub(super) fn say_group(&self, group: &Group) -> crate::answer::Group {
        wording::group(self, group)
    }
}
