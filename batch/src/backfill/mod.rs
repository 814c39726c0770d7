//! A rollup that was added to the catalog later, counted for days that are settled.
//!
//! Nothing that was published is touched. A backfill writes the rollup's cells under a run of its own, and last of all one
//! row a day in `backfills`, in one insert, which names the run that settled the day: readers find the rollup's cells
//! there as long as that run is the one that counts. A settlement's rows, its content hash, its manifest and a month's
//! signature stay as they are, so a closed month can be filled, too. A day that is settled anew is counted by the
//! catalog of then, with the rollup in it.
//!
//! What is added must fit what is there: in every window of every grain the rollup's cells add up to the `total` that was
//! published, count, sums and the sketch of the users, and the day has as many events and deliveries as its settlement
//! says. What the lake has got for a day since, late events of a closed month say, is left out by counting the version
//! of the lake that the day was settled from. If anything does not fit, nothing becomes visible.
//!
//! There is no drift: the speed layer did not count the rollup then, so there is nothing to compare.

mod count;
mod outcome;
mod proof;
mod survey;

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use reckon_schemas::catalog::{Catalog, Tenant};
use reckon_schemas::cell::Rollup;
use reckon_schemas::ids::TenantId;
use reckon_schemas::stores;
use reckon_schemas::time::EventTime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use self::outcome::{Check, Cost, Outcome};

use self::count::Filling;
use self::survey::Survey;
use crate::Error;
use crate::lake::Lake;
use crate::lock::Lock;
use crate::manifest::{self, Action, Backfilled, Base, Counted, DayContent};
use crate::nightly::{Progress, Tuning};
use crate::objects::Objects;
use crate::recount::Budget;
use crate::settle::{BackfillStamp, BackfilledDay, Store};

/// What a backfill works on.
#[derive(Clone, Debug)]
pub struct Config {
    /// The topic of events, whose offsets are written down.
    pub topic: String,
    /// The store of settled cells.
    pub clickhouse: stores::ClickHouse,
    /// The lake.
    pub lake: stores::Lake,
    /// The tenants.
    pub catalog: Arc<Catalog>,
    /// How much is counted at once, as by a nightly.
    pub tuning: Tuning,
    /// Who works, for those who wait.
    pub owner: String,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Whose days.
    pub tenant: TenantId,
    /// Which rollup of the catalog.
    pub rollup: Rollup,
    /// The first day.
    pub from: Date,
    /// The last day.
    pub to: Date,
    /// Whether only to say what would be done.
    pub dry_run: bool,
    /// Now.
    pub now: Timestamp,
}

/// Fills the days that are settled and lack the rollup, or says what that would be.
///
/// # Errors
/// [`Error::Config`] if the rollup is not in the catalog or the days cannot be filled, [`Error::Retryable`] if a server was
/// away or the lock is held, [`Error::Broken`] if the rollup does not add up to what was published: then nothing
/// became visible.
pub async fn run(
    config: &Config,
    request: &Request,
    progress: &dyn Progress,
    shutdown: CancellationToken,
) -> Result<Outcome, Error> {
    let tenant = check(config, request)?;
    let objects = Objects::open(&config.lake)?;
    let store = Store::new(&config.clickhouse);
    let backfill = Backfill { config, request, tenant, objects: &objects, store: &store, progress };
    let work = async {
        tokio::select! {
            outcome = Box::pin(backfill.run()) => outcome,
            () = shutdown.cancelled() => Err(Error::Retryable("stopped before it was done: run it again".to_owned())),
        }
    };
    if request.dry_run {
        return work.await;
    }
    Lock::hold(&objects, &tenant.id, &config.owner, config.tuning.lock_expiry, work).await
}

fn check<'a>(config: &'a Config, request: &Request) -> Result<&'a Tenant, Error> {
    let (id, rollup) = (&request.tenant, &request.rollup);
    let tenant = config.catalog.require(id)?;
    if rollup.name() == Rollup::TOTAL {
        return Err(Error::Config("`total` is counted for every day: there is nothing to fill".to_owned()));
    }
    if !tenant.rollups.contains(rollup) {
        return Err(Error::Config(format!(
            "tenant {id} has no rollup {rollup}: add it to the catalog first, so that the days to come have it too"
        )));
    }
    if request.from > request.to {
        return Err(Error::Config(format!("{} is after {}", request.from, request.to)));
    }
    Ok(tenant)
}

struct Backfill<'a> {
    config: &'a Config,
    request: &'a Request,
    tenant: &'a Tenant,
    objects: &'a Objects,
    store: &'a Store,
    progress: &'a dyn Progress,
}

impl Backfill<'_> {
    async fn run(&self) -> Result<Outcome, Error> {
        self.progress.stage("survey", None);
        let lake = Lake::open(&self.config.lake).await?;
        let survey = Survey::take(self.request, self.tenant, self.store, &lake).await?;
        if survey.days.is_empty() {
            return Ok(Outcome::of(self.request, &survey));
        }
        let run_id = Uuid::now_v7();
        let filling = Filling {
            tenant: self.tenant,
            rollup: &self.request.rollup,
            store: self.store,
            tuning: &self.config.tuning,
            progress: self.progress,
            budget: Budget::new(self.config.tuning.memory_bytes),
            run_id: &run_id.to_string(),
            writes: !self.request.dry_run,
        };
        if self.request.dry_run {
            let mut outcome = Outcome::of(self.request, &survey);
            outcome.estimate(&filling, &survey, &lake).await?;
            return Ok(outcome);
        }
        let parts = filling.fill(&survey, &lake).await?;
        self.make_visible(&survey, &lake, run_id, &parts).await
    }

    /// Writes what changed and what it was made from, then the rows that show it.
    async fn make_visible(
        &self,
        survey: &Survey,
        lake: &Lake,
        run_id: Uuid,
        parts: &[count::Part],
    ) -> Result<Outcome, Error> {
        self.progress.stage("settle", None);
        let (tenant, run) = (&self.tenant.id, run_id.to_string());
        let filled_at = EventTime::from_timestamp(self.request.now);
        let filled: Vec<BackfilledDay> = parts.iter().flat_map(|part| part.days.clone()).collect();
        let days: Vec<Date> = filled.iter().map(|day| day.day).collect();
        self.store.write_additions(tenant, &run, &days, filled_at).await?;
        let (configuration, configuration_hash) = manifest::configuration_of(self.tenant);
        let earlier = manifest::newest_files(self.objects, tenant).await?;
        let mut counted = Vec::with_capacity(parts.len());
        for part in parts {
            let table = lake.events_at(part.lake_version).await?;
            let content = |day: &BackfilledDay| DayContent {
                day: day.day,
                run_id: run.clone(),
                content_hash: day.content_hash.clone(),
            };
            counted.push(Counted {
                lake_version: part.lake_version,
                offsets: manifest::next_offsets(&crate::lake::progress(&table, &self.config.topic).await?),
                files: manifest::files_of(&table, tenant, &earlier).await?,
                configuration: configuration.clone(),
                configuration_hash: configuration_hash.clone(),
                days: part.days.iter().map(content).collect(),
            });
        }
        let bases = filled.iter().map(|day| Base { day: day.day, run_id: day.base_run_id.clone() }).collect();
        let action = Action::Backfilled(Backfilled { rollup: self.request.rollup.clone(), parts: counted, bases });
        let manifest = manifest::append(self.objects, tenant, run_id, self.request.now, action).await?;
        let rollup = self.request.rollup.name();
        let stamp = BackfillStamp { tenant, rollup, run_id: &run, filled_at, manifest: &manifest };
        self.store.write_backfills(stamp, &filled).await?;
        Ok(Outcome::of(self.request, survey).filled(run_id, parts))
    }
}
