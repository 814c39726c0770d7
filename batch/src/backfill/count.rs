//! Counting a rollup's days, proving that they fit, and writing them.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use jiff::civil::Date;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::cell::Rollup;

use super::proof::{self, Misfit};
use super::survey::Survey;
use crate::Error;
use crate::count::{Chunk, Counted, pieces, sorted, span, total};
use crate::lake::{Lake, check_files};
use crate::nightly::{Progress, Tuning};
use crate::recount::{Budget, Delivery, FirstDeliveries, Groups, PinnedLake};
use crate::settle::{BackfilledDay, ChunkRows, SpeedCut, Store};

/// What counting needs.
pub(super) struct Filling<'a> {
    pub(super) tenant: &'a Tenant,
    pub(super) rollup: &'a Rollup,
    pub(super) store: &'a Store,
    pub(super) tuning: &'a Tuning,
    pub(super) progress: &'a dyn Progress,
    pub(super) budget: Arc<Budget>,
    pub(super) run_id: &'a str,
    /// Whether cells are written, or only counted.
    pub(super) writes: bool,
}

/// The days that were counted from one version of the lake.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) lake_version: u64,
    pub(super) days: Vec<BackfilledDay>,
    pub(super) cells: u64,
    /// Why days do not fit; nothing was written of those that were counted together with them.
    pub(super) misfits: Vec<Misfit>,
    pub(super) left: Vec<Date>,
}

impl Filling<'_> {
    /// Counts, proves and writes every day of the survey.
    ///
    /// # Errors
    /// [`Error::Broken`] if a day does not add up to what was published of it, by the version it was settled from.
    pub(super) async fn fill(&self, survey: &Survey, lake: &Lake) -> Result<Vec<Part>, Error> {
        let mut sources = survey.sources.clone();
        let mut parts = Vec::new();
        if let Some(days) = sources.remove(&survey.newest) {
            let part = self.count(survey, lake, survey.newest, &days).await?;
            // An event whose first delivery is now known to be on another day: rare, and right as of then.
            for day in &part.left {
                let settled_from = survey.settlement(*day).lake_version;
                sources.entry(settled_from).or_default().push(*day);
            }
            parts.push(part);
        }
        for (version, mut days) in sources {
            days.sort_unstable();
            let part = self.count(survey, lake, version, &days).await?;
            if let Some(misfit) = part.misfits.first() {
                return Err(Error::Broken(format!(
                    "rollup {} does not add up to what was published, by version {version} of the lake: {}. Nothing \
                     was added. `reckon verify --run` says what is not as it was published",
                    self.rollup, misfit.text
                )));
            }
            parts.push(part);
        }
        parts.retain(|part| !part.days.is_empty());
        Ok(parts)
    }

    /// Counts days from one version of the lake.
    pub(super) async fn count(&self, survey: &Survey, lake: &Lake, version: u64, days: &[Date]) -> Result<Part, Error> {
        let table = lake.events_at(version).await?;
        let since = survey.held.since;
        check_files(&table, Some(&self.tenant.id), |date| since.is_none_or(|since| date >= since)).await?;
        let pinned = PinnedLake::new(&table).await?.since(since);
        let known = survey.settled_deliveries();
        let mut part = Part { lake_version: version, ..Part::default() };
        for days in pieces(days, &known, self.tuning.group_deliveries) {
            self.progress.stage("deduplicate", None);
            let here = total(&known, days);
            // The lake holds other days too, and those of them that are not known here.
            let span = span(days, &self.tenant.time_zone);
            let firsts = pinned.first_deliveries(self.tenant, span, here, true, &self.budget).await?;
            self.progress.stage("recount", Some(here));
            for days in pieces(days, &known, self.tuning.chunk_deliveries) {
                self.count_chunk(survey, &pinned, &firsts, days, &mut part).await?;
                self.progress.advance(total(&known, days));
            }
        }
        Ok(part)
    }

    async fn count_chunk(
        &self,
        survey: &Survey,
        pinned: &PinnedLake,
        firsts: &FirstDeliveries,
        days: &[Date],
        part: &mut Part,
    ) -> Result<(), Error> {
        let mut groups = Groups::new(vec![self.rollup.clone()]);
        let cut = SpeedCut::default();
        let mut chunk = Chunk::new(self.tenant, days, &cut, firsts, pinned.threads(), &self.budget);
        let take = |delivery: Delivery<'_>| chunk.take(&delivery, &mut groups);
        pinned.deliveries::<Error>(self.tenant, span(days, &self.tenant.time_zone), take).await?;
        let Counted { cells, settlements, .. } = chunk.finish(&groups, &BTreeMap::new()).await?;
        let bases: HashMap<Date, &str> =
            days.iter().map(|day| (*day, survey.settlement(*day).run_id.as_str())).collect();
        let published = self.store.published_totals(&self.tenant.id, &bases).await?;
        let mut misfits = proof::misfits(&proof::wholes(&groups, &cells)?, &published);
        for counted in &settlements {
            let base = survey.settlement(counted.day);
            if (counted.events, counted.deliveries) != (base.events, base.deliveries) {
                let text = format!(
                    "{}: {} events in {} deliveries, settled were {} in {}",
                    counted.day, counted.events, counted.deliveries, base.events, base.deliveries
                );
                misfits.push(Misfit { day: counted.day, text });
            }
        }
        if !misfits.is_empty() {
            part.left.extend(days);
            part.misfits.extend(misfits);
            return Ok(());
        }
        if self.writes {
            let sorted = sorted(&cells, &groups);
            let (tenant, run_id) = (&self.tenant.id, self.run_id);
            let rows = ChunkRows { tenant, run_id, groups: &groups, sorted: &sorted, cells: &cells, drift: &[] };
            self.store.write_chunk(&rows).await?;
        }
        part.cells += cells.all().len() as u64;
        part.days.extend(settlements.into_iter().map(|counted| BackfilledDay {
            day: counted.day,
            base_run_id: survey.settlement(counted.day).run_id.clone(),
            lake_version: part.lake_version,
            events: counted.events,
            content_hash: counted.content_hash,
        }));
        Ok(())
    }
}
