//! `reckon nightly`: runs a settlement, prints it, chooses the exit code.

use std::sync::Mutex;

use clap::Args;
use indicatif::ProgressBar;
use jiff::civil::Date;
use reckon_batch::cluster::Engine;
use reckon_batch::nightly::{self, Outcome, Report};
use reckon_schemas::ids::TenantId;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::exit::Exit;
use crate::{lineage, owner, prepare, progress, report};

#[derive(Debug, Default, Args)]
pub(crate) struct Arguments {
    /// Only this calendar day, in the tenant's time zone.
    #[arg(long)]
    pub(crate) date: Option<Date>,
    /// Only this tenant.
    #[arg(long)]
    pub(crate) tenant: Option<TenantId>,
    /// Every day that is over and not closed, whether it changed or not.
    #[arg(long)]
    pub(crate) full: bool,
    /// Where events are counted: `local`, or `ballista://host:port` for the cluster of that scheduler.
    #[arg(long, default_value_t)]
    pub(crate) engine: Engine,
}

/// Settles what is due and prints the reconciliation: a table, and as the last line the same as JSON.
pub(crate) async fn settle(
    settings: &Settings,
    arguments: Arguments,
    told: &lineage::Run<'_>,
    shutdown: CancellationToken,
) -> Result<(), Exit> {
    let mut outcome = Outcome::default();
    let result = settle_and_print(settings, arguments, shutdown, &mut outcome).await;
    told.settled(&outcome);
    result
}

async fn settle_and_print(
    settings: &Settings,
    arguments: Arguments,
    shutdown: CancellationToken,
    outcome: &mut Outcome,
) -> Result<(), Exit> {
    prepare::everything(settings, &shutdown).await?;
    let Arguments { date, tenant, full, engine } = arguments;
    let config = nightly::Config {
        kafka: settings.kafka.clone(),
        clickhouse: settings.clickhouse.clone(),
        lake: settings.lake.clone(),
        catalog: settings.read_catalog()?,
        tuning: settings.nightly.clone(),
        engine,
        owner: owner::of("nightly"),
    };
    let request = nightly::Request { tenant, date, full, now: jiff::Timestamp::now() };
    let bars = Bars::default();
    let ended = nightly::run(config, request, &bars, shutdown).await;
    bars.clear();
    *outcome = ended?;
    for posted in &outcome.posted {
        report::say(&format!(
            "{} events for {}, which is closed, are posted as adjustments on {} · {} · run {}",
            posted.events, posted.period, posted.posted_day, posted.tenant, posted.run_id
        ));
    }
    for expired in &outcome.expired {
        report::say(&format!(
            "{} days from {} to {} have expired: the lake does not hold them any more, and they keep their numbers · {}",
            expired.days, expired.first_day, expired.last_day, expired.tenant
        ));
    }
    report::print(outcome)?;
    if outcome.reports.is_empty() && outcome.posted.is_empty() {
        return Err(Exit::NothingToDo);
    }
    unexplained(&outcome.reports)
}

/// Drift that nothing explains calls a person.
pub(crate) fn unexplained(reports: &[Report]) -> Result<(), Exit> {
    let names: Vec<String> = reports
        .iter()
        .filter(|report| !report.explained)
        .map(|report| format!("tenant {} run {}", report.tenant, report.run_id))
        .collect();
    if names.is_empty() { Ok(()) } else { Err(Exit::UnexplainedDrift(names.join(", "))) }
}

/// One bar at a time: the job's stages follow each other.
#[derive(Default)]
pub(crate) struct Bars(Mutex<Option<ProgressBar>>);

impl Bars {
    fn with(&self, change: impl FnOnce(&mut Option<ProgressBar>)) {
        change(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    pub(crate) fn clear(&self) {
        self.with(|bar| {
            if let Some(bar) = bar.take() {
                bar.finish_and_clear();
            }
        });
    }
}

impl nightly::Progress for Bars {
    fn stage(&self, name: &str, total: Option<u64>) {
        tracing::debug!(stage = name, "settling");
        self.clear();
        let bar = match total {
            Some(total) => progress::bar(name, total),
            None => progress::spinner(name),
        };
        self.with(|current| *current = Some(bar));
    }

    fn advance(&self, by: u64) {
        self.with(|bar| {
            if let Some(bar) = bar {
                bar.inc(by);
            }
        });
    }
}
