//! One tenant's settlement.

use std::collections::BTreeMap;

use hashbrown::HashSet;
use jiff::civil::Date;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::settlement::{State, last_settled_day};
use reckon_schemas::time::EventTime;
use tokio::time::Instant;
use uuid::Uuid;

use super::archive::Archive;
use super::due::{due_days, held_days};
use super::{Progress, Report, Request, Tuning, conflicts};
use crate::Error;
use crate::count::{Counted, Days, Firsts, Survey, Surveyor, dates, pieces, sorted, span, total};
use crate::manifest;
use crate::objects::Objects;
use crate::reconcile::{CellName, RunFacts, Summary};
use crate::recount::{Contradiction, Groups};
use crate::retention::Held;
use crate::settle::{ChunkRows, Conflict, Previous, RunStamp, Settlement, SpeedCut, Store, after_all};

/// Everything that one tenant's settlement needs.
pub(super) struct Settling<'a> {
    pub(super) tenant: &'a Tenant,
    pub(super) request: &'a Request,
    pub(super) tuning: &'a Tuning,
    pub(super) surveyor: &'a Surveyor<'a>,
    pub(super) topic: &'a str,
    pub(super) archive: &'a Archive<'a>,
    pub(super) log_end: &'a BTreeMap<i32, i64>,
    pub(super) speed_deadline: Instant,
    pub(super) store: &'a Store,
    pub(super) objects: &'a Objects,
    pub(super) progress: &'a dyn Progress,
}

/// What became of a tenant.
pub(super) struct Settled {
    /// If there was something to settle.
    pub(super) report: Option<Report>,
    /// Days that would have been due and are no longer in the lake.
    pub(super) expired: Vec<Date>,
}

/// What a run has so far.
struct Run {
    id: Uuid,
    groups: Groups,
    summary: Summary,
    settlements: Vec<Settlement>,
    users: HashSet<u128>,
    conflicts: BTreeMap<Contradiction, Conflict>,
}

/// What the lake holds of the tenant at the version that is counted, and what speed says of it.
struct Counting<'a> {
    survey: Survey<'a>,
    cut: SpeedCut,
    settled: &'a BTreeMap<Date, Previous>,
}

impl<'a> Settling<'a> {
    /// Settles what is due. The survey is of the lake as the archive left it.
    pub(super) async fn run(&self, mut survey: Survey<'a>) -> Result<Settled, Error> {
        let settled = self.store.settled_days(&self.tenant.id).await?;
        let zone = &self.tenant.time_zone;
        let (deliveries, events) = (survey.deliveries(), survey.events());
        let due = due_days(deliveries, events, &settled, zone, self.request, self.tuning.settle_after);
        let (mut due, mut expired) = held_days(due, Held::of(survey.table()).await?, zone);
        if due.is_empty() {
            return Ok(Settled { report: None, expired });
        }
        self.progress.stage("speed", None);
        SpeedCut::wait_for(self.store, self.topic, self.log_end, self.speed_deadline).await?;
        // The cut first, then the lake: so everything that speed has counted is in the version that is recounted.
        let mut groups = Groups::new(self.tenant.counted_rollups());
        let spans: Vec<_> =
            pieces(&due, survey.deliveries(), u64::MAX).into_iter().map(|days| span(days, zone)).collect();
        let cut = SpeedCut::read(self.store, self.topic, self.tenant, &spans, &mut groups).await?;
        let newer = self.archive.wait_for(&cut.fates.next_offsets).await?;
        if crate::lake::version(&newer) != survey.version() {
            survey = self.surveyor.survey(&newer).await?;
            let (still, gone) = held_days(due, Held::of(&newer).await?, zone);
            due = still;
            expired.extend(gone);
        }
        // Nothing is counted from bytes that nobody wrote.
        let spans: Vec<_> =
            pieces(&due, survey.deliveries(), u64::MAX).into_iter().map(|days| dates(days, zone)).collect();
        let is_read = |date| spans.iter().any(|dates| dates.contains(&date));
        crate::lake::check_files(&newer, Some(&self.tenant.id), is_read).await?;
        let mut run = Run {
            id: Uuid::now_v7(),
            groups,
            summary: Summary::default(),
            settlements: Vec::with_capacity(due.len()),
            users: HashSet::new(),
            conflicts: BTreeMap::new(),
        };
        let counting = Counting { survey, cut, settled: &settled };
        for days in pieces(&due, counting.survey.deliveries(), self.tuning.group_deliveries) {
            self.count_group(&counting, days, &mut run).await?;
        }
        if run.settlements.is_empty() {
            return Ok(Settled { report: None, expired });
        }
        let report = self.make_visible(&counting, run).await?;
        Ok(Settled { report, expired })
    }

    /// Counts days whose first deliveries fit into memory together.
    async fn count_group(&self, counting: &Counting<'_>, days: &[Date], run: &mut Run) -> Result<(), Error> {
        let here = total(counting.survey.deliveries(), days);
        let firsts = if here == 0 {
            Firsts::default()
        } else {
            self.progress.stage("deduplicate", None);
            counting.survey.first_deliveries(days).await?
        };
        let contradictions = firsts.firsts.contradictions();
        run.conflicts
            .extend(conflicts::read(&counting.survey.counter.pinned, self.tenant, days, contradictions).await?);
        self.progress.stage("recount", Some(here));
        for days in pieces(days, counting.survey.deliveries(), self.tuning.chunk_deliveries) {
            self.count_chunk(counting, &firsts, days, run).await?;
        }
        Ok(())
    }

    /// Counts, compares and writes days whose cells fit into memory together.
    async fn count_chunk(
        &self,
        counting: &Counting<'_>,
        firsts: &Firsts,
        days: &[Date],
        run: &mut Run,
    ) -> Result<(), Error> {
        let (survey, cut, settled) = (&counting.survey, Some(&counting.cut), counting.settled);
        let asked = Days { days, deliveries: survey.deliveries(), firsts, cut, settled };
        let counted = survey.counter.count(&asked, &mut run.groups, survey.budget()).await?;
        let Counted { cells, tops, drift, settlements } = counted;
        run.users.extend(cells.users_of_days().map(|(_, user)| user));
        for cell in &drift {
            let name = CellName {
                day: cell.day,
                rollup: run.groups.rollup_of(cell.group).name().to_owned(),
                event: run.groups.get(cell.group).event.clone(),
                dimensions: run.groups.values_of(cell.group),
            };
            cell.drifts.iter().try_for_each(|drift| run.summary.add(&name, drift))?;
        }
        let (sorted, run_id) = (sorted(&cells, &run.groups), run.id.to_string());
        let rows = ChunkRows {
            tenant: &self.tenant.id,
            run_id: &run_id,
            groups: &run.groups,
            sorted: &sorted,
            cells: &cells,
            drift: &drift,
        };
        self.store.write_chunk(&rows).await?;
        self.store.write_tops(&self.tenant.id, &run_id, &tops).await?;
        run.settlements.extend(settlements);
        self.progress.advance(total(counting.survey.deliveries(), days));
        Ok(())
    }

    /// Writes the settlements, and reports.
    async fn make_visible(&self, counting: &Counting<'_>, run: Run) -> Result<Option<Report>, Error> {
        self.progress.stage("settle", None);
        let settled = counting.settled;
        let settled_at = after_all(self.request.now, settled.values().map(|previous| previous.settled_at));
        let (version, run_id) = (counting.survey.version(), run.id.to_string());
        self.store.write_conflicts(&self.tenant.id, &run_id, run.conflicts.values()).await?;
        self.store.write_cut(&self.tenant.id, &run_id, self.topic, &counting.cut.fates.next_offsets).await?;
        let restated = run.settlements.iter().filter(|day| day.state == State::Restated).map(|day| day.day);
        self.store.write_changes(&self.tenant.id, &run_id, &restated.collect::<Vec<_>>(), settled_at).await?;
        let manifest = self.write_manifest(counting, &run, settled_at).await?;
        let (tenant, lake_version, manifest) = (&self.tenant.id, version, manifest.as_str());
        let stamp = RunStamp { tenant, run_id: &run_id, lake_version, settled_at, manifest };
        self.store.write_settlements(stamp, &run.settlements).await?;
        let days = run.settlements.iter().map(|day| day.day).chain(settled.keys().copied());
        let facts = RunFacts {
            tenant: self.tenant.id.clone(),
            run_id: run.id,
            lake_version: version,
            settled_at,
            horizon: last_settled_day(days).map(|day| self.tenant.time_zone.day_end(day)),
            users_exact: run.users.len() as u64,
            conflicts: run.conflicts.len() as u64,
            days: run.settlements.iter().map(|day| (day.day, (day.deliveries, day.events))).collect(),
        };
        Ok(run.summary.finish(facts))
    }

    /// Writes down what the run was made from and what came out, before anybody can see it; returns the manifest's hash.
    async fn write_manifest(&self, counting: &Counting<'_>, run: &Run, at: EventTime) -> Result<String, Error> {
        let earlier = manifest::newest_files(self.objects, &self.tenant.id).await?;
        let (configuration, configuration_hash) = manifest::configuration_of(self.tenant);
        let table = counting.survey.table();
        let files = manifest::files_of(table, &self.tenant.id, &earlier).await?;
        let known: HashSet<&str> = earlier.iter().map(|file| file.path.as_str()).collect();
        let read = files.iter().filter(|file| !known.contains(file.path.as_str())).map(|file| file.bytes).sum();
        self.surveyor.reading.add_bytes(read);
        let day = |day: &Settlement| manifest::DayContent {
            day: day.day,
            run_id: run.id.to_string(),
            content_hash: day.content_hash.clone(),
        };
        let counted = manifest::Counted {
            lake_version: counting.survey.version(),
            offsets: manifest::next_offsets(&crate::lake::progress(table, self.topic).await?),
            files,
            configuration,
            configuration_hash,
            days: run.settlements.iter().map(day).collect(),
        };
        let action = manifest::Action::Settled(counted);
        Ok(manifest::append(self.objects, &self.tenant.id, run.id, at.to_timestamp(), action).await?)
    }
}
