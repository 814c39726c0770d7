//! The shell around it: the evidence out of ClickHouse, the deliveries out of the lake.

use std::collections::BTreeMap;
use std::ops::Range;
use std::slice;

use deltalake::DeltaTable;
use reckon_schemas::catalog::{Measure, Tenant};
use reckon_schemas::cell::Rollup;
use reckon_schemas::settlement::Reason;
use reckon_schemas::time::EventTime;
use reckon_schemas::window::Grain;

use super::contributions::{Contribution, Selection, Shares, contributions, shares};
use super::unexplained::unexplained;
use super::{Config, Delivery, Explanation, Hour, Listed, Position, Request};
use crate::Error;
use crate::lake::Lake;
use crate::reconcile::{CellName, Drift, Report, RunFacts, Summary};
use crate::recount::{Named, PinnedLake, counted_properties};
use crate::retention::Held;
use crate::settle::{SpeedEvidence, Store};

/// What a run had stored about the cells that are asked about.
struct Stored {
    report: Report,
    shares: Shares,
    /// Cells with a residual in events or sums.
    residual: Vec<CellName>,
}

/// Explains the drift of some cells of a day.
///
/// # Errors
/// [`Error::NotYetFinal`] if the day is not settled or nothing was compared there, [`Error::Config`] if the request
/// names what does not exist or has expired, [`Error::Retryable`] if a store was away or no longer has that version of the lake.
pub async fn run(config: &Config, request: &Request) -> Result<Explanation, Error> {
    let (tenant, day) = (&config.tenant, request.day);
    check(tenant, request)?;
    let store = Store::new(&config.clickhouse);
    let run_id = match &request.run_id {
        Some(run_id) => run_id.clone(),
        None => {
            let newest = store.run_of_day(&tenant.id, day).await?;
            newest.ok_or_else(|| Error::NotYetFinal(format!("{day} of tenant {} is not settled", tenant.id)))?
        }
    };
    let selection =
        Selection { rollup: request.rollup.clone(), event: request.event.clone(), values: request.values.clone() };
    let stored = stored(&store, tenant, &run_id, request, &selection).await?;
    let span = tenant.time_zone.day_start(day)..tenant.time_zone.day_end(day);
    let mut cut = store.cut_of_run(&tenant.id, &run_id, &config.topic).await?;
    if cut.is_empty() {
        // A run of an older build: whatever speed has read since then, it may not have seen at the time.
        cut = store.speed_progress(&config.topic).await?;
    }
    let fates =
        SpeedEvidence::read(&store, &config.topic, tenant, slice::from_ref(&span), Grain::Day).await?.into_fates(cut);
    let lake = Lake::open(&config.lake).await?;
    Held::of(&lake.events().await?).await?.check(day, &tenant.time_zone)?;
    let table = lake.events_at(stored.report.lake_version).await?;
    let deliveries = deliveries(&table, tenant, &span).await?;
    let found = contributions(&deliveries, &fates, &selection, &tenant.summed_properties());
    let adds_up = shares(&found)? == stored.shares;
    let hours = hours(&found);
    let asked = |contribution: &&Contribution<'_>| request.reason.is_none_or(|reason| reason == contribution.reason);
    let asked: Vec<&Contribution<'_>> = found.iter().filter(asked).collect();
    let unexplained = if stored.residual.is_empty() || !request.residual {
        Vec::new()
    } else {
        unexplained(config, &store, &lake, &stored.residual, &span, request.limit).await?
    };
    Ok(Explanation {
        tenant: tenant.id.clone(),
        day,
        run_id,
        lake_version: stored.report.lake_version,
        rows: stored.report.rows,
        adds_up,
        found: asked.len() as u64,
        deliveries: asked.into_iter().take(request.limit).map(listed).collect(),
        hours,
        unexplained,
    })
}

fn check(tenant: &Tenant, request: &Request) -> Result<(), Error> {
    let known: Vec<Rollup> = tenant.counted_rollups();
    if !known.contains(&request.rollup) {
        let known: Vec<&str> = known.iter().map(Rollup::name).collect();
        let text = format!("tenant {} has no rollup {}: one of {}", tenant.id, request.rollup, known.join(" · "));
        return Err(Error::Config(text));
    }
    match request.values.keys().find(|name| !request.rollup.dimensions().contains(name)) {
        Some(name) => Err(Error::Config(format!("rollup {} has no dimension {name:?}", request.rollup))),
        None => Ok(()),
    }
}

/// A day's deliveries, with the properties that are grouped by or summed.
pub(super) async fn deliveries(
    table: &DeltaTable,
    tenant: &Tenant,
    span: &Range<EventTime>,
) -> Result<Vec<Named>, Error> {
    let (rollups, summed) = (tenant.counted_rollups(), tenant.summed_properties());
    let wanted = counted_properties(&rollups, &summed);
    Ok(PinnedLake::new(table).await?.named(tenant, span.clone(), &wanted).await?)
}

async fn stored(
    store: &Store,
    tenant: &Tenant,
    run_id: &str,
    request: &Request,
    selection: &Selection,
) -> Result<Stored, Error> {
    let days = store.days_of_run(&tenant.id, run_id).await?;
    let Some(day) = days.get(&request.day) else {
        return Err(Error::NotYetFinal(format!("run {run_id} did not settle {} of tenant {}", request.day, tenant.id)));
    };
    let (mut summary, mut shares, mut residual) = (Summary::default(), Shares::new(), Vec::new());
    let rollup = request.rollup.name();
    let receive = |cell: CellName, drift: Drift| {
        if !selection.has(&cell.event, &cell.dimensions) {
            return Ok(());
        }
        let overflow = |error: reckon_schemas::sums::SumOverflow| {
            crate::settle::StoreError::Incompatible(format!("drift of run {run_id}: {error}"))
        };
        summary.add(&cell, &drift).map_err(overflow)?;
        if drift.measure != Measure::Users {
            for (reason, amount) in &drift.reasons {
                let share = shares.entry((drift.unit.clone(), *reason)).or_insert(0_i128);
                *share = share.checked_add(*amount).ok_or(overflow(reckon_schemas::sums::SumOverflow))?;
            }
            if drift.residual != 0 && !residual.contains(&cell) {
                residual.push(cell);
            }
        }
        Ok(())
    };
    store.drift_of_day(&tenant.id, run_id, request.day, rollup, receive).await?;
    shares.retain(|_, share| *share != 0);
    residual.sort_unstable();
    let facts = RunFacts {
        conflicts: 0,
        tenant: tenant.id.clone(),
        run_id: run_id.parse().map_err(|_| Error::Config(format!("{run_id:?} is not the id of a run")))?,
        lake_version: day.lake_version,
        settled_at: day.settled_at,
        days: BTreeMap::from([(request.day, (day.deliveries, day.events))]),
        horizon: None,
        users_exact: 0,
    };
    let report = summary.finish(facts).ok_or_else(|| Error::Broken("a report of one day has a day".to_owned()))?;
    Ok(Stored { report, shares, residual })
}

fn hours(found: &[Contribution<'_>]) -> Vec<Hour> {
    let mut hours: BTreeMap<(EventTime, Reason), i64> = BTreeMap::new();
    for contribution in found.iter().filter(|contribution| contribution.counts) {
        let hour = Grain::Hour.window_at(contribution.delivery.occurred_at, &reckon_schemas::time::Zone::UTC);
        let sign = if contribution.sign < 0 { -1 } else { 1 };
        *hours.entry((hour.start, contribution.reason)).or_insert(0) += sign;
    }
    let hour =
        |((start, reason), events): ((EventTime, Reason), i64)| Hour { start: start.to_timestamp(), reason, events };
    hours.into_iter().map(hour).collect()
}

fn listed(contribution: &Contribution<'_>) -> Listed {
    Listed {
        reason: contribution.reason,
        contribution: match (contribution.counts, contribution.sign < 0) {
            (false, _) => 0,
            (true, true) => -1,
            (true, false) => 1,
        },
        event: contribution.delivery.name.clone(),
        dimensions: contribution.dimensions.clone(),
        delivery: delivery(contribution.delivery),
    }
}

/// A delivery as it is shown.
pub(super) fn delivery(named: &Named) -> Delivery {
    Delivery {
        event_id: named.event_id.clone(),
        partition: named.position.partition,
        offset: named.position.offset,
        log_time: named.position.log_time.to_timestamp(),
        occurred_at: named.occurred_at.to_timestamp(),
        user: named.user.clone(),
        money: named.money.map(|money| money.to_string()),
        first: (!named.is_first()).then_some(Position { partition: named.first.partition, offset: named.first.offset }),
    }
}
