//! Posting what came for a closed period: dated in the open one, with a reference to where it belongs.
//!
//! Exactly once, whatever is cut short or run twice: an adjustment's key is its period, the close and the event, and of
//! two postings the first one counts. That a period was looked at is written last.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::cell::{DimensionValues, read_amounts};
use reckon_schemas::ids::{TenantId, user_key};
use reckon_schemas::period::Period;
use reckon_schemas::sums::Sums;
use reckon_schemas::time::EventTime;
use serde::Serialize;
use uuid::Uuid;

use super::late::{Border, Late};
use crate::Error;
use crate::count::{Survey, dates};
use crate::lake;
use crate::manifest::{self, Action};
use crate::objects::Objects;
use crate::recount::{Named, PinnedLake, counted_properties};
use crate::retention::Held;
use crate::settle::{Adjustment, ClosedPeriod, PeriodEntry, Store};

/// What was posted for one closed period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Posted {
    /// Whose.
    pub tenant: TenantId,
    /// The period that the events belong to.
    pub period: Period,
    /// The run that posted them.
    pub run_id: Uuid,
    /// The day that they are posted on.
    pub posted_day: Date,
    /// How many events.
    pub events: u64,
}

/// Where adjustments are found and written.
pub(crate) struct Books<'a> {
    pub(crate) tenant: &'a Tenant,
    pub(crate) topic: &'a str,
    pub(crate) store: &'a Store,
    pub(crate) objects: &'a Objects,
    pub(crate) now: Timestamp,
}

impl Books<'_> {
    /// Posts every event that the lake holds for a closed period of the tenant and that was not there when it was
    /// closed.
    ///
    /// # Errors
    /// [`Error`]; what was posted before it stays.
    pub(crate) async fn post(&self, survey: &Survey<'_>) -> Result<Vec<Posted>, Error> {
        let closed = self.store.closed_periods(&self.tenant.id).await?;
        let mut posted = Vec::new();
        if closed.is_empty() {
            return Ok(posted);
        }
        let (pinned, deliveries) = (&survey.counter.pinned, survey.deliveries());
        let held = Held::of(survey.table()).await?;
        let offsets = lake::progress(survey.table(), self.topic).await?;
        let posted_day = self.posting_day(&closed);
        for period in &closed {
            let now_there = deliveries.iter().filter(|(day, _)| period.period.contains(**day));
            let now_there: u64 = now_there.map(|(_, deliveries)| deliveries).sum();
            if now_there == period.known_deliveries {
                continue;
            }
            let dates = dates(&period.period.days().collect::<Vec<_>>(), &self.tenant.time_zone);
            lake::check_files(survey.table(), Some(&self.tenant.id), |date| dates.contains(&date)).await?;
            let adjustments = self.adjustments(survey, held, &closed, period).await?;
            let events = self.write(period, pinned, &offsets, posted_day, now_there, &adjustments).await?;
            posted.extend(events);
        }
        Ok(posted)
    }

    /// Today in the tenant's zone; where a clock is behind, the first day that no close has locked.
    fn posting_day(&self, closed: &[ClosedPeriod]) -> Date {
        let today = self.tenant.time_zone.day_of(EventTime::from_timestamp(self.now));
        let last = closed.iter().map(|closed| closed.period.last_day()).max();
        last.and_then(|last| last.tomorrow().ok()).map_or(today, |open| open.max(today))
    }

    async fn adjustments(
        &self,
        survey: &Survey<'_>,
        held: Held,
        closed: &[ClosedPeriod],
        period: &ClosedPeriod,
    ) -> Result<Vec<Adjustment>, Error> {
        let border =
            |closed: &ClosedPeriod| Border { period: closed.period, next_offsets: closed.next_offsets.clone() };
        let known = self.store.posted_events(&self.tenant.id, period.period, period.generation).await?;
        let mut late = Late::new(border(period), known);
        let zone = &self.tenant.time_zone;
        let span = zone.day_start(period.period.first_day())..zone.day_end(period.period.last_day());
        let (rollups, summed) = (self.tenant.counted_rollups(), self.tenant.summed_properties());
        let wanted = counted_properties(&rollups, &summed);
        let mut unknown = 0_u64;
        let take = |delivery: Named| {
            let day = zone.day_of(delivery.occurred_at);
            if !held.holds(day, zone) {
                // The first delivery of its event may have expired: whether it was counted cannot be known any more.
                unknown += 1;
                return Ok(());
            }
            late.take(delivery.key, delivery.position, day, || self.of_event(&delivery, day))
        };
        let pinned = &survey.counter.pinned;
        pinned.each_named::<Error>(self.tenant, span.clone(), &wanted, take).await?;
        if unknown > 0 {
            tracing::warn!(
                tenant = %self.tenant.id, period = %period.period, deliveries = unknown,
                "came for days that have expired, and are not posted"
            );
        }
        if late.is_empty() {
            return Ok(Vec::new());
        }
        let borders: Vec<Border> = closed.iter().map(border).collect();
        let mut judge = late.judge(&borders);
        // An event that was delivered once has nothing more to be judged by.
        if let Some(repeats) = survey.repeats(span).await {
            for one in repeats {
                judge.take(one.key(), one.position(), zone.day_of(one.occurred_at()));
            }
        } else {
            let everywhere = EventTime(i64::MIN)..EventTime(i64::MAX);
            let take = |delivery: Named| {
                judge.take(delivery.key, delivery.position, zone.day_of(delivery.occurred_at));
                Ok(())
            };
            pinned.each_named::<Error>(self.tenant, everywhere, &[], take).await?;
        }
        Ok(late.decide(&judge).into_iter().flat_map(|(_, _, rows)| rows).collect())
    }

    /// What an event adds: one row for each rollup.
    fn of_event(&self, delivery: &Named, day: Date) -> Result<Vec<Adjustment>, Error> {
        let property = |name: &str| delivery.property(name);
        let mut amounts = Vec::new();
        read_amounts(delivery.money, property, &self.tenant.summed_properties(), &mut amounts);
        let mut sums = Sums::new();
        amounts.iter().try_for_each(|(unit, amount)| sums.add(unit, i128::from(*amount)))?;
        let user = delivery.user.as_str();
        let user_key = if user.is_empty() { 0 } else { user_key(self.tenant.id.as_str(), user) };
        let rows = self.tenant.counted_rollups().into_iter().map(|rollup| {
            let mut encoded = String::new();
            rollup.encode_properties(property, &mut encoded);
            Adjustment {
                event_key: delivery.key,
                event_id: delivery.event_id.clone(),
                dimensions: DimensionValues::from_encoded(encoded.as_str()).values(rollup.dimensions().len()),
                rollup: rollup.name().to_owned(),
                event: delivery.name.clone(),
                day,
                occurred_at: delivery.occurred_at,
                partition: delivery.position.partition,
                offset: delivery.position.offset,
                sums: sums.clone(),
                user_key,
            }
        });
        Ok(rows.collect())
    }

    /// Writes the adjustments of a period, and that it was looked at.
    async fn write(
        &self,
        period: &ClosedPeriod,
        pinned: &PinnedLake,
        offsets: &BTreeMap<i32, i64>,
        posted_day: Date,
        deliveries: u64,
        adjustments: &[Adjustment],
    ) -> Result<Option<Posted>, Error> {
        let run_id = Uuid::now_v7();
        let at = EventTime::from_timestamp(self.now).max(period.closed_at.plus_micros(1));
        let mut keys: Vec<u128> = adjustments.iter().map(|adjustment| adjustment.event_key).collect();
        keys.dedup();
        let content_hash = fingerprint(adjustments);
        let mut manifest = String::new();
        if !adjustments.is_empty() {
            let action = Action::Adjusted(manifest::Adjusted {
                period: period.period,
                generation: period.generation,
                lake_version: pinned.version(),
                posted_day,
                events: keys.len() as u64,
                content_hash: content_hash.clone(),
            });
            manifest = manifest::append(self.objects, &self.tenant.id, run_id, at.to_timestamp(), action).await?;
            let (place, posted) = ((period.period, period.generation), (posted_day, at));
            self.store.post_adjustments(&self.tenant.id, place, posted, &run_id.to_string(), adjustments).await?;
        }
        let entry = PeriodEntry {
            tenant: &self.tenant.id,
            period: period.period,
            generation: period.generation,
            action: "adjusted",
            at,
            signed_by: "",
            reason: "",
            lake_version: pinned.version(),
            next_offsets: offsets,
            deliveries,
            content_hash: &content_hash,
            manifest: &manifest,
        };
        self.store.write_period(&entry).await?;
        Ok((!adjustments.is_empty()).then(|| Posted {
            tenant: self.tenant.id.clone(),
            period: period.period,
            run_id,
            posted_day,
            events: keys.len() as u64,
        }))
    }
}

/// SHA-256 over everything that adjustments say.
fn fingerprint(adjustments: &[Adjustment]) -> String {
    let mut text = String::from("reckon-adjustments-1\n");
    for one in adjustments {
        let sums: Vec<String> = one.sums.iter().map(|(unit, sum)| format!("{unit} {sum}")).collect();
        text.push_str(&format!(
            "{:032x} {} {:?} {:?} {:?} {} {} {} {:032x}\n",
            one.event_key,
            one.day,
            one.rollup,
            one.event,
            one.dimensions,
            one.partition,
            one.offset,
            sums.join(" "),
            one.user_key
        ));
    }
    manifest::sha256(text.as_bytes())
}
