//! Narrowing a residual down, on what both layers say now.

use std::collections::BTreeMap;
use std::ops::Range;
use std::slice;
use std::time::Duration;

use reckon_schemas::cell::{Rollup, read_amounts};
use reckon_schemas::sums::Sums;
use reckon_schemas::time::EventTime;
use reckon_schemas::window::Grain;

use super::contributions::cells_of;
use super::residual::{Amounts, Part as Place, Unexplained, narrow};
use super::run::{deliveries, delivery};
use super::{Config, Part};
use crate::Error;
use crate::lake::{self, Lake};
use crate::reconcile::CellName;
use crate::recount::Named;
use crate::settle::{CellPart, SpeedEvidence, Store};

/// The most cells of a day that are looked into.
const CELLS_MAX: usize = 20;
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);

/// Everything about a day as it is now.
struct Now {
    progress: BTreeMap<i32, i64>,
    evidence: SpeedEvidence,
    deliveries: Vec<Named>,
}

/// The parts of these cells in which the speed layer says something else than the deliveries that it accepted.
pub(super) async fn unexplained(
    config: &Config,
    store: &Store,
    lake: &Lake,
    cells: &[CellName],
    span: &Range<EventTime>,
    limit: usize,
) -> Result<Vec<Part>, Error> {
    let progress = store.speed_progress(&config.topic).await?;
    let table = lake.events().await?;
    let archived = lake::progress(&table, &config.topic).await?;
    if progress.iter().any(|(partition, next)| archived.get(partition).copied().unwrap_or(0) < *next) {
        return Err(Error::NotYetFinal(
            "the archive is behind the speed layer: ask again when it has caught up".to_owned(),
        ));
    }
    let evidence =
        SpeedEvidence::read(store, &config.topic, &config.tenant, slice::from_ref(span), Grain::KEPT[0]).await?;
    let now = Now { progress, evidence, deliveries: deliveries(&table, &config.tenant, span).await? };
    let mut parts = Vec::new();
    for cell in cells.iter().take(CELLS_MAX) {
        let rollup: Rollup = cell.rollup.parse().map_err(|error| Error::Broken(format!("{error}")))?;
        // The finest grain that is still kept and shows it.
        for grain in Grain::KEPT {
            let said = consistent_parts(config, store, cell, grain, span, &now.progress).await?;
            if said.is_empty() {
                continue;
            }
            let windows: BTreeMap<EventTime, EventTime> =
                said.iter().map(|part| (part.window.start, part.window.end)).collect();
            let said = said.into_iter().map(|part| {
                let amounts = Amounts { count: i128::from(part.count), sums: part.sums };
                ((part.partition, part.window.start), amounts)
            });
            let accepted = now.accepted(config, cell, &rollup, grain);
            let found = narrow(&said.collect(), &accepted)?;
            if !found.is_empty() {
                parts.extend(found.into_iter().map(|part| shown(config, cell, grain, &windows, part, limit)));
                break;
            }
        }
    }
    Ok(parts)
}

/// The cell's parts as they were at that progress; tried again while the speed layer writes.
async fn consistent_parts(
    config: &Config,
    store: &Store,
    cell: &CellName,
    grain: Grain,
    span: &Range<EventTime>,
    progress: &BTreeMap<i32, i64>,
) -> Result<Vec<CellPart>, Error> {
    for _ in 0..ATTEMPTS {
        let parts = store.cell_parts(&config.tenant.id, cell, grain, span).await?;
        if parts.iter().all(|part| part.version <= progress.get(&part.partition).copied().unwrap_or(0)) {
            return Ok(parts);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(Error::Retryable(format!("the speed layer keeps changing {}: ask again later", cell.day)))
}

impl Now {
    /// The deliveries that the speed layer must have counted in a cell, at a grain, by partition and window.
    fn accepted(
        &self,
        config: &Config,
        cell: &CellName,
        rollup: &Rollup,
        grain: Grain,
    ) -> BTreeMap<Place, Vec<(&Named, Sums)>> {
        let summed = config.tenant.summed_properties();
        let mut accepted: BTreeMap<Place, Vec<(&Named, Sums)>> = BTreeMap::new();
        let mut amounts = Vec::new();
        for delivery in self.deliveries.iter().filter(|delivery| delivery.name == cell.event) {
            let at = (delivery.position.partition, delivery.position.offset);
            let was_read = self.progress.get(&at.0).is_some_and(|next| at.1 < *next);
            let missed = self.evidence.refused.get(&at).is_some_and(|(_, missed)| *missed >= grain);
            let overflowed = self.evidence.overflowed.get(&at).map_or(&[][..], |dimensions| dimensions);
            let counted = |name: &str| self.evidence.plans.was_counted(name, at.0, at.1);
            if !was_read
                || missed
                || !counted(&cell.rollup)
                || cells_of(rollup, delivery, overflowed).1 != cell.dimensions
            {
                continue;
            }
            read_amounts(delivery.money, |name| delivery.property(name), &summed, &mut amounts);
            let summed = amounts.iter().filter(|(unit, _)| unit.currency().is_some() || counted(&unit.to_string()));
            let sums = summed.map(|(unit, amount)| (unit, i128::from(*amount))).collect();
            let window = grain.window_at(delivery.occurred_at, &config.tenant.time_zone);
            accepted.entry((at.0, window.start)).or_default().push((delivery, sums));
        }
        accepted
    }
}

fn shown(
    config: &Config,
    cell: &CellName,
    grain: Grain,
    windows: &BTreeMap<EventTime, EventTime>,
    part: Unexplained<&Named>,
    limit: usize,
) -> Part {
    let end = windows.get(&part.start).copied();
    let end = end.unwrap_or_else(|| grain.window_at(part.start, &config.tenant.time_zone).end);
    let sums = part.difference.sums.iter().map(|(unit, sum)| (unit.to_string(), unit.format(sum)));
    Part {
        event: cell.event.clone(),
        dimensions: cell.dimensions.clone(),
        partition: part.partition,
        window_start: part.start.to_timestamp(),
        window_end: end.to_timestamp(),
        events: i64::try_from(part.difference.count).unwrap_or(i64::MAX),
        sums: sums.collect(),
        verdict: part.verdict,
        suspects_found: part.suspects.len() as u64,
        suspects: part.suspects.into_iter().take(limit).map(delivery).collect(),
    }
}
