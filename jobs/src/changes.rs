//! `reckon changes` and `reckon adjustments`: what was restated, and what came for closed periods.

use clap::{Args, ValueEnum};
use comfy_table::{Table, presets};
use reckon_batch::close::{self, Adjusted, Change};
use reckon_schemas::csv;
use reckon_schemas::ids::TenantId;
use serde::Serialize;
use serde_json::json;

use crate::config::Settings;
use crate::exit::Exit;
use crate::export::deliver;
use crate::report::say;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Whose numbers.
    #[arg(long)]
    tenant: TenantId,
    /// Only what was written at this instant or later, e.g. 2026-11-01T00:00:00Z.
    #[arg(long)]
    since: Option<jiff::Timestamp>,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// A table for people, and one line of JSON that counts the rows.
    #[default]
    Table,
    /// One JSON object a row.
    Json,
    /// A header and one line a row.
    Csv,
}

const CHANGES: [&str; 12] = [
    "changed_at",
    "day",
    "rollup",
    "event",
    "dimensions",
    "measure",
    "unit",
    "before",
    "after",
    "reason",
    "run_id",
    "run_before",
];

const ADJUSTMENTS: [&str; 15] = [
    "posted_day",
    "posted_at",
    "period",
    "day",
    "rollup",
    "event",
    "dimensions",
    "occurred_at",
    "event_id",
    "partition",
    "offset",
    "count",
    "sums",
    "in_force",
    "run_id",
];

/// Prints the change log of a tenant.
pub(crate) async fn changes(settings: &Settings, arguments: Arguments) -> Result<(), Exit> {
    let since = arguments.since.unwrap_or(jiff::Timestamp::MIN);
    settings.read_catalog()?.require(&arguments.tenant)?;
    let changes = close::changes(&settings.clickhouse, &arguments.tenant, since).await?;
    print(arguments.format, &CHANGES, &changes, |change: &Change| {
        vec![
            change.changed_at.to_string(),
            change.day.to_string(),
            change.rollup.clone(),
            change.event.clone(),
            change.dimensions.join("/"),
            change.measure.clone(),
            change.unit.clone(),
            change.before.clone(),
            change.after.clone(),
            change.reason.clone(),
            change.run_id.clone(),
            change.run_before.clone(),
        ]
    })
}

/// Prints the adjustments of a tenant's closed periods.
pub(crate) async fn adjustments(settings: &Settings, arguments: Arguments) -> Result<(), Exit> {
    let since = arguments.since.unwrap_or(jiff::Timestamp::MIN);
    settings.read_catalog()?.require(&arguments.tenant)?;
    let adjustments = close::adjustments(&settings.clickhouse, &arguments.tenant, since).await?;
    print(arguments.format, &ADJUSTMENTS, &adjustments, |one: &Adjusted| {
        vec![
            one.posted_day.to_string(),
            one.posted_at.to_string(),
            one.period.clone(),
            one.day.to_string(),
            one.rollup.clone(),
            one.event.clone(),
            one.dimensions.join("/"),
            one.occurred_at.to_string(),
            one.event_id.clone(),
            one.partition.to_string(),
            one.offset.to_string(),
            one.count.to_string(),
            one.sums.iter().map(|(unit, sum)| format!("{sum} {unit}")).collect::<Vec<_>>().join(", "),
            one.in_force.to_string(),
            one.run_id.clone(),
        ]
    })
}

fn print<T: Serialize>(
    format: Format,
    header: &[&str],
    rows: &[T],
    cells: impl Fn(&T) -> Vec<String>,
) -> Result<(), Exit> {
    match format {
        Format::Json => {
            for row in rows {
                say(&serde_json::to_string(row).map_err(anyhow::Error::from)?);
            }
        }
        Format::Csv => {
            deliver(&csv::document(header, rows.iter().map(cells)).map_err(anyhow::Error::from)?, None)?;
        }
        Format::Table => {
            let mut table = Table::new();
            table.load_style(presets::UTF8_FULL_CONDENSED);
            table.set_header(header);
            for row in rows {
                table.add_row(cells(row));
            }
            say(&table.to_string());
            say(&json!({ "rows": rows.len() }).to_string());
        }
    }
    Ok(())
}
