//! `reckon backfill`: a rollup's history, counted or estimated; the checklist as a table, the result as one line of JSON.

use clap::Args;
use jiff::civil::Date;
use reckon_batch::backfill::{self, Config, Outcome, Request};
use reckon_schemas::cell::Rollup;
use reckon_schemas::ids::TenantId;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::exit::Exit;
use crate::nightly::Bars;
use crate::report::{self, say};
use crate::{owner, prepare};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Whose days.
    #[arg(long)]
    tenant: TenantId,
    /// The rollup, as in the catalog: its dimensions with commas between them.
    #[arg(long)]
    rollup: Rollup,
    /// The first day, in the tenant's time zone.
    #[arg(long)]
    from: Date,
    /// The last day.
    #[arg(long)]
    to: Date,
    /// Write nothing: say which days and how many cells, what has to be read, and which closed periods are touched.
    #[arg(long)]
    dry_run: bool,
}

/// Fills the days, or says what that would be.
pub(crate) async fn run(settings: &Settings, arguments: Arguments, shutdown: CancellationToken) -> Result<(), Exit> {
    prepare::everything(settings, &shutdown).await?;
    let config = Config {
        topic: settings.kafka.topics.events.clone(),
        clickhouse: settings.clickhouse.clone(),
        lake: settings.lake.clone(),
        catalog: settings.read_catalog()?,
        tuning: settings.nightly.clone(),
        owner: owner::of("backfill"),
    };
    let Arguments { tenant, rollup, from, to, dry_run } = arguments;
    let request = Request { tenant, rollup, from, to, dry_run, now: jiff::Timestamp::now() };
    let bars = Bars::default();
    let ended = backfill::run(&config, &request, &bars, shutdown).await;
    bars.clear();
    let outcome = ended?;
    print(&outcome);
    say(&serde_json::to_string(&outcome).map_err(anyhow::Error::from)?);
    if outcome.days == 0 { Err(Exit::NothingToDo) } else { Ok(()) }
}

fn print(outcome: &Outcome) {
    let mut table = report::table(["", "check", "found"]);
    for check in &outcome.checklist {
        table.add_row([if check.good { "ok" } else { "OPEN" }, check.name, &check.finding]);
    }
    let done = if outcome.dry_run { "would be filled" } else { "filled" };
    say(&format!(
        "Backfill of {} · {} · {} to {} · {} days {done} · {} cells ({})",
        outcome.tenant, outcome.rollup, outcome.from, outcome.to, outcome.days, outcome.cells, outcome.cells_method
    ));
    if let Some(cost) = &outcome.cost {
        say(&format!("to read: {} rows in files of {} bytes", cost.rows, cost.bytes_at_most));
    }
    say(&table.to_string());
}
