//! Funnels: raw events where they have the whole range, otherwise the lake. A user's steps may lie on both sides of that
//! border, so one of the two answers alone.

use jiff::Timestamp;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::time::EventTime;
use reckon_schemas::window::{Grain, Window};

use super::events::micros;
use super::{Evaluator, store_problem};
use crate::funnel::answer::{self, Context, FunnelAnswer};
use crate::funnel::question::{Funnel, FunnelQuestion};
use crate::merge::plan::{Events, Plan};
use crate::problem::Problem;

impl Evaluator {
    /// Answers a funnel of a tenant, within the limits of questions that read single events.
    ///
    /// # Errors
    /// The question is none, or is too much; the store that has the range is away; 429 if the tenant reads too much.
    pub(crate) async fn funnel(
        &self,
        question: FunnelQuestion,
        tenant: &Tenant,
        now: Timestamp,
    ) -> Result<FunnelAnswer, Problem> {
        let funnel = question.check(EventTime::from_timestamp(now), &tenant.time_zone)?;
        if funnel.to.0 - funnel.from.0 > micros(self.tuning.lake_range_max) {
            let days = self.tuning.lake_range_max.as_secs() / 86_400;
            return Err(Problem::not_answerable("from", format!("a funnel is counted over at most {days} days")));
        }
        self.within_limits(true, Box::pin(self.walk(&funnel, tenant, now))).await
    }

    async fn walk(&self, funnel: &Funnel, tenant: &Tenant, now: Timestamp) -> Result<FunnelAnswer, Problem> {
        let standing = self.standing(tenant).await?;
        let settlements = standing.settlements.clone();
        let raw_from = self.raw_from(EventTime::from_timestamp(now));
        let window = [Window { grain: Grain::Day, start: funnel.from, end: funnel.to }];
        let (id, mut notes) = (tenant.id.as_str(), Vec::new());
        let (plan, reached) = if funnel.from >= raw_from {
            let looked = self.look_at_raw(tenant, funnel.from, &standing.progress, now);
            let reached = self.stores.clickhouse.raw_funnel(id, funnel, self.raw_limits());
            let (looked, reached) = tokio::join!(looked, reached);
            let (raw_at, raw_to) = looked?;
            let events = Events { raw_from: Some(raw_from), raw_at, raw_to, lake: None };
            (Plan::of_events(&window, settlements, events), reached)
        } else {
            if funnel.to > raw_from {
                notes
                    .push("counted from the lake: what has not been archived yet is not in it, see `as_of`".to_owned());
            }
            let (state, lake) = self.pin_lake(tenant, funnel.from, funnel.to, &settlements).await?;
            let events = Events { lake: Some(state), ..Events::default() };
            let reached = lake.funnel(id, funnel, self.tuning.rows_max).await;
            (Plan::of_events(&window, settlements, events), reached)
        };
        let reached = reached.map_err(|error| store_problem(&error))?;
        let context = Context { tenant, plan: &plan, now, notes, segments_max: self.tuning.groups_max };
        Ok(answer::answer(context, funnel, reached))
    }
}
