//! `reckon reconcile`: a stored reconciliation, printed or written to a file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use jiff::civil::Date;
use reckon_batch::explain::{self, Hour};
use reckon_batch::nightly::Outcome;
use reckon_batch::reconcile::Report;
use reckon_batch::reconciliation::{self, Which};
use reckon_schemas::catalog::Tenant;
use reckon_schemas::cell::Rollup;
use reckon_schemas::ids::TenantId;

use crate::config::Settings;
use crate::exit::Exit;
use crate::export::{self, CellRow, Format, Reconciliation};
use crate::nightly::unexplained;
use crate::report;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only this tenant.
    #[arg(long)]
    tenant: Option<TenantId>,
    /// The run to print; the last one if absent.
    #[arg(long)]
    run: Option<String>,
    /// Only this calendar day, by the last run that settled it.
    #[arg(long)]
    date: Option<Date>,
    /// How it is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Where to; standard output if absent.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Prints or writes what is stored.
pub(crate) async fn run(settings: &Settings, arguments: Arguments) -> Result<(), Exit> {
    let catalog = settings.read_catalog()?;
    let mut found = Vec::new();
    for tenant in catalog.asked(arguments.tenant.as_ref())? {
        found.extend(load(settings, tenant, &arguments).await?);
    }
    if found.is_empty() {
        report::print(&Outcome::default())?;
        return Err(Exit::NothingToDo);
    }
    let reports: Vec<Report> = found.iter().map(|one| one.report.clone()).collect();
    let document = match (arguments.format, &arguments.output) {
        (Format::Text, None) => None,
        (Format::Text, Some(_)) => Some(report::text(&reports)?.into_bytes()),
        (format, _) => Some(export::write_reconciliation(format, found)?),
    };
    match document {
        None => report::print(&Outcome { reports: reports.clone(), ..Outcome::default() })?,
        Some(document) => export::deliver(&document, arguments.output.as_deref())?,
    }
    unexplained(&reports)
}

async fn load(settings: &Settings, tenant: &Tenant, arguments: &Arguments) -> Result<Option<Reconciliation>, Exit> {
    let which = Which { run_id: arguments.run.clone(), day: arguments.date };
    let mut cells = Vec::new();
    let keep = arguments.format != Format::Text;
    let loaded = reconciliation::load(&settings.clickhouse, &tenant.id, &which, |cell, drift| {
        if keep {
            let (cell, drift) = (cell.clone(), drift.clone());
            cells.push(CellRow { tenant: tenant.id.to_string(), run_id: String::new(), cell, drift });
        }
    });
    let Some(report) = loaded.await? else { return Ok(None) };
    let run_id = report.run_id.to_string();
    cells.iter_mut().for_each(|row| row.run_id.clone_from(&run_id));
    let hours = match (arguments.format, arguments.date) {
        (Format::Html, Some(day)) => Some(hours(settings, tenant, day, run_id).await?),
        _ => None,
    };
    Ok(Some(Reconciliation { report, cells, zone: tenant.time_zone.clone(), hours }))
}

/// The hours of a day are not stored: they are counted from the deliveries behind its drift.
async fn hours(settings: &Settings, tenant: &Tenant, day: Date, run_id: String) -> Result<Vec<Hour>, Exit> {
    let config = explain::Config {
        clickhouse: settings.clickhouse.clone(),
        lake: settings.lake.clone(),
        topic: settings.kafka.topics.events.clone(),
        tenant: tenant.clone(),
    };
    let rollup = Rollup::TOTAL.parse().map_err(|error| anyhow::anyhow!("{error}"))?;
    let request = explain::Request {
        day,
        run_id: Some(run_id),
        rollup,
        event: None,
        values: BTreeMap::new(),
        reason: None,
        limit: 0,
        residual: false,
    };
    Ok(explain::run(&config, &request).await?.hours)
}
