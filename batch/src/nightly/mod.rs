//! One nightly settlement: which days are due, the wait for the archive, the recount, the reconciliation, and the rows
//! that make it all visible.
//!
//! Idempotent: a day whose deliveries did not change since it was settled is left alone, so that a second run has
//! nothing to do. A day that did change is counted anew and written under the new run; it is `restated` if its content
//! differs, and keeps its state if it does not (a duplicate came, say). A run that is cut short leaves rows that nobody
//! sees. Days with a residual are settled all the same, because the exact numbers do not depend on the speed layer's:
//! the report says so, and [`Outcome::explained`] is for the exit code.

mod archive;
mod conflicts;
mod due;
mod tenant;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use deltalake::DeltaTable;
use jiff::civil::Date;
use reckon_schemas::catalog::{Catalog, Tenant};
use reckon_schemas::ids::TenantId;
use reckon_schemas::stores;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use crate::close::adjust::Posted;
pub use crate::reconcile::{Report, ReportRow, WorstCell};
pub use crate::recount::Read;

use self::archive::Archive;
use self::tenant::Settling;
use crate::Error;
use crate::close::adjust::Books;
use crate::cluster::Engine;
use crate::count::Surveyor;
use crate::lake::{Lake, blame};
use crate::lock::{Lock, lost};
use crate::objects::Objects;
use crate::settle::Store;

/// The section `nightly` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tuning {
    /// How long after its end a day is settled. Events that come later restate it at the next run.
    #[serde(with = "humantime_serde")]
    pub settle_after: Duration,
    /// How long to wait for the archive to pass the end of the log.
    #[serde(with = "humantime_serde")]
    pub archive_wait: Duration,
    /// How long to wait, once there is something to settle, for the speed layer to have read the log as far as the
    /// archive. Then it is settled all the same, and what speed has not read is in the drift as `not_yet_seen`.
    #[serde(with = "humantime_serde")]
    pub speed_wait: Duration,
    /// How many deliveries are counted at once, in whole days: about 1 KB of memory each, and the size of the inserts.
    pub chunk_deliveries: u64,
    /// For how many deliveries the first one of each event is found at once: some 70 bytes each, in memory as far as
    /// `memory_bytes` go.
    pub group_deliveries: u64,
    /// How many bytes of keys are kept in memory while events are told apart; what is more waits on disk.
    pub memory_bytes: usize,
    /// How long the lock on a tenant's settlements outlives a process that died. It is renewed while one is alive.
    #[serde(with = "humantime_serde")]
    pub lock_expiry: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            settle_after: Duration::ZERO,
            archive_wait: Duration::from_secs(600),
            speed_wait: Duration::from_secs(30),
            chunk_deliveries: 250_000,
            group_deliveries: 4_000_000,
            memory_bytes: 384 * 1024 * 1024,
            lock_expiry: Duration::from_secs(60),
        }
    }
}

/// What a nightly works on.
#[derive(Clone, Debug)]
pub struct Config {
    /// The log, whose end the archive has to pass.
    pub kafka: stores::Kafka,
    /// The store of cells, drift and settlements.
    pub clickhouse: stores::ClickHouse,
    /// The lake.
    pub lake: stores::Lake,
    /// The tenants.
    pub catalog: Arc<Catalog>,
    /// The section of the configuration.
    pub tuning: Tuning,
    /// Where deliveries are counted.
    pub engine: Engine,
    /// Who works, for those who wait: a command, a host, a process.
    pub owner: String,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Only this tenant; all without.
    pub tenant: Option<TenantId>,
    /// Only this calendar day, in the tenant's zone; every day that is due without.
    pub date: Option<Date>,
    /// Every day that is over and not closed, whether it changed or not. Days that did not change keep their content.
    pub full: bool,
    /// The instant that decides which days are over.
    pub now: jiff::Timestamp,
}

/// What was settled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// One for each tenant that had something to settle; empty if there was nothing to do.
    pub reports: Vec<Report>,
    /// What was posted for closed periods.
    pub posted: Vec<Posted>,
    /// What was asked for and has expired: it keeps the numbers that it has.
    pub expired: Vec<ExpiredDays>,
    /// How much was read for all of it.
    pub read: Read,
}

/// Days of a tenant that the lake does not hold any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExpiredDays {
    /// Whose.
    pub tenant: TenantId,
    /// The first of them.
    pub first_day: Date,
    /// The last of them.
    pub last_day: Date,
    /// How many.
    pub days: u64,
}

impl ExpiredDays {
    fn of(tenant: &TenantId, days: &[Date]) -> Option<Self> {
        let (first_day, last_day) = (*days.first()?, *days.last()?);
        Some(Self { tenant: tenant.clone(), first_day, last_day, days: days.len() as u64 })
    }
}

impl Outcome {
    /// Whether every difference between the two layers has a reason.
    #[must_use]
    pub fn explained(&self) -> bool {
        self.reports.iter().all(|report| report.explained)
    }
}

/// Told how far a nightly is, so that somebody can draw it.
pub trait Progress: Send + Sync {
    /// The stage before is over and this one begins: `archive`, `survey`, `speed`, `deduplicate`, `recount`, `settle`.
    /// With a total where it is known.
    fn stage(&self, name: &str, total: Option<u64>);
    /// So much more of the total is done.
    fn advance(&self, by: u64);
}

/// For whom nobody looks.
impl Progress for () {
    fn stage(&self, _name: &str, _total: Option<u64>) {}
    fn advance(&self, _by: u64) {}
}

/// Settles what is due, tenant after tenant.
///
/// # Errors
/// [`Error::NotYetFinal`] if the asked day is not over or the archive did not catch up, [`Error::Retryable`] if a server
/// was away, [`Error::Config`] if the request names what is not configured, [`Error::Broken`] if a person has to look.
/// Tenants that were settled before the error stay settled.
pub async fn run(
    config: Config,
    request: Request,
    progress: &dyn Progress,
    shutdown: CancellationToken,
) -> Result<Outcome, Error> {
    let mut held = None;
    // Wherever it is cut short, nothing of the run under way is visible, and nothing has to be put away but the lock.
    let outcome = tokio::select! {
        outcome = Box::pin(settle(config, request, progress, &mut held)) => outcome,
        () = shutdown.cancelled() => Err(Error::Retryable("stopped before it was done: run it again".to_owned())),
    };
    release(&mut held).await;
    outcome
}

async fn release(held: &mut Option<Lock>) {
    if let Some(lock) = held.take() {
        lock.release().await;
    }
}

async fn settle(
    config: Config,
    request: Request,
    progress: &dyn Progress,
    held: &mut Option<Lock>,
) -> Result<Outcome, Error> {
    let tenants = config.catalog.asked(request.tenant.as_ref())?;
    for tenant in &tenants {
        due::check_date_is_over(tenant, &request, config.tuning.settle_after)?;
    }
    let lake = Lake::open(&config.lake).await?;
    let archive = Archive::new(&lake, &config.kafka, &config.tuning);
    progress.stage("archive", None);
    let log_end = archive.log_end().await?;
    let events = archive.wait_for(&log_end).await?;
    let speed_deadline = Instant::now() + config.tuning.speed_wait;
    let store = Store::new(&config.clickhouse);
    let objects = Objects::open(&config.lake)?;
    let (config, request) = (&config, &request);
    let night = Night { config, request, archive, log_end, events, speed_deadline, store, objects, progress };
    let mut outcome = Outcome::default();
    for tenant in tenants {
        release(held).await;
        let lock = Lock::acquire(&night.objects, &tenant.id, &config.owner, config.tuning.lock_expiry).await?;
        let lock = held.insert(lock);
        tokio::select! {
            settled = Box::pin(night.settle(tenant, &mut outcome)) => settled?,
            () = lock.lost() => return Err(lost(&tenant.id)),
        }
    }
    Ok(outcome)
}

/// What all tenants have in common: the log's end, the lake as the archive left it there, the stores.
struct Night<'a> {
    config: &'a Config,
    request: &'a Request,
    archive: Archive<'a>,
    log_end: BTreeMap<i32, i64>,
    events: DeltaTable,
    speed_deadline: Instant,
    store: Store,
    objects: Objects,
    progress: &'a dyn Progress,
}

impl Night<'_> {
    /// Posts what came for a tenant's closed periods and settles what is due.
    async fn settle(&self, tenant: &Tenant, outcome: &mut Outcome) -> Result<(), Error> {
        let Self { config, request, store, objects, progress, .. } = self;
        let topic = config.kafka.topics.events.as_str();
        let surveyor = Surveyor {
            tenant,
            engine: &config.engine,
            objects,
            memory_bytes: config.tuning.memory_bytes,
            group_deliveries: config.tuning.group_deliveries,
            full: request.full,
            reading: Arc::default(),
        };
        let settling = Settling {
            tenant,
            request,
            tuning: &config.tuning,
            surveyor: &surveyor,
            topic,
            archive: &self.archive,
            log_end: &self.log_end,
            speed_deadline: self.speed_deadline,
            store,
            objects,
            progress: *progress,
        };
        let books = Books { tenant, topic, store, objects, now: request.now };
        let work = async {
            progress.stage("survey", None);
            let survey = surveyor.survey(&self.events).await?;
            outcome.posted.extend(books.post(&survey).await?);
            settling.run(survey).await
        };
        let settled = blame(work, &self.events, &tenant.id).await?;
        outcome.read += surveyor.reading.so_far();
        if request.full || request.date.is_some() {
            outcome.expired.extend(ExpiredDays::of(&tenant.id, &settled.expired));
        }
        if let Some(report) = settled.report {
            tracing::info!(
                tenant = %report.tenant, run_id = %report.run_id, days = report.days, events = report.events,
                explained = report.explained, "settled"
            );
            outcome.reports.push(report);
        }
        Ok(())
    }
}
