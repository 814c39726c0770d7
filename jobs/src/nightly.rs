//! `reckon nightly`: runs a settlement, prints it, chooses the exit code.

use std::sync::Mutex;

use indicatif::ProgressBar;
use jiff::civil::Date;
use reckon_batch::nightly::{self, Report};
use reckon_schemas::ids::TenantId;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::exit::Exit;
use crate::{prepare, progress, report};

/// Settles what is due and prints the reconciliation: a table, and as the last line the same as JSON.
pub(crate) async fn settle(
    settings: &Settings,
    tenant: Option<TenantId>,
    date: Option<Date>,
    full: bool,
    shutdown: CancellationToken,
) -> Result<Vec<Report>, Exit> {
    prepare::everything(settings, &shutdown).await?;
    let config = nightly::Config {
        kafka: settings.kafka.clone(),
        clickhouse: settings.clickhouse.clone(),
        lake: settings.lake.clone(),
        catalog: settings.read_catalog()?,
        tuning: settings.nightly.clone(),
    };
    let request = nightly::Request { tenant, date, full, now: jiff::Timestamp::now() };
    let bars = Bars::default();
    let outcome = nightly::run(config, request, &bars, shutdown).await;
    bars.clear();
    let reports = outcome?.reports;
    report::print(&reports)?;
    if reports.is_empty() {
        return Err(Exit::NothingToDo);
    }
    unexplained(&reports)?;
    Ok(reports)
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
struct Bars(Mutex<Option<ProgressBar>>);

impl Bars {
    fn with(&self, change: impl FnOnce(&mut Option<ProgressBar>)) {
        change(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    fn clear(&self) {
        self.with(|bar| {
            if let Some(bar) = bar.take() {
                bar.finish_and_clear();
            }
        });
    }
}

impl nightly::Progress for Bars {
    fn stage(&self, name: &str, total: Option<u64>) {
        tracing::debug!(stage = name, "nightly");
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
