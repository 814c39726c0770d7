//! `reckon tie-out`: a ledger's export against the events.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use comfy_table::{Cell, Table};
use jiff::civil::Date;
use reckon_batch::tie_out::{self, Mapping, TieOut};
use reckon_schemas::ids::TenantId;
use tokio_util::sync::CancellationToken;

use crate::config::{ConfigError, Settings};
use crate::exit::Exit;
use crate::export::{self, Format};
use crate::prepare;
use crate::report::{self, right, say};

/// The most breaks that a table names; the formats for files have all of them.
const BREAKS_SHOWN: usize = 50;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The tenant.
    #[arg(long)]
    tenant: TenantId,
    /// The ledger's export (CSV).
    #[arg(long, value_name = "FILE")]
    ledger: PathBuf,
    /// How to read it (TOML); deploy/ledgers has two to start from.
    #[arg(long, value_name = "FILE")]
    mapping: PathBuf,
    /// The first day; that of the ledger's first payment if absent.
    #[arg(long)]
    from: Option<Date>,
    /// The last day; that of the ledger's last payment if absent.
    #[arg(long)]
    to: Option<Date>,
    /// The largest difference that still matches.
    #[arg(long, default_value = "0.00", value_name = "AMOUNT")]
    tolerance: String,
    /// The day that ages are counted to; today if absent.
    #[arg(long, value_name = "DATE")]
    as_of: Option<Date>,
    /// How the result is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Where to; standard output if absent.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Matches, records the breaks, and tells; with breaks it ends with a code of its own.
pub(crate) async fn run(settings: &Settings, arguments: Arguments, shutdown: CancellationToken) -> Result<(), Exit> {
    if arguments.format == Format::Parquet {
        return Err(ConfigError::Rejected("a tie-out is written as text, json, csv or html".to_owned()).into());
    }
    let mapping = read_mapping(&arguments.mapping)?;
    let catalog = settings.read_catalog()?;
    let tenant = catalog.require(&arguments.tenant)?.clone();
    let unreadable = |error| ConfigError::Unreadable { path: arguments.ledger.clone(), error };
    let ledger = std::fs::File::open(&arguments.ledger).map_err(unreadable)?;
    prepare::everything(settings, &shutdown).await?;
    let config = tie_out::Config { clickhouse: settings.clickhouse.clone(), lake: settings.lake.clone(), tenant };
    let request = tie_out::Request {
        mapping,
        from: arguments.from,
        to: arguments.to,
        tolerance: arguments.tolerance,
        as_of: arguments.as_of,
        now: jiff::Timestamp::now(),
    };
    let tie_out = tie_out::run(&config, &request, ledger).await?;
    match (arguments.format, &arguments.output) {
        (Format::Text, None) => print(&tie_out)?,
        (Format::Text, Some(_)) => export::deliver(text(&tie_out)?.as_bytes(), arguments.output.as_deref())?,
        (format, output) => export::deliver(&export::write_tie_out(format, &tie_out)?, output.as_deref())?,
    }
    let open = tie_out.breaks().len();
    if open == 0 {
        return Ok(());
    }
    let days = format!("{} to {}", tie_out.from, tie_out.to);
    Err(Exit::OpenBreaks(format!("{open} of tenant {} with {} from {days}", tie_out.tenant, tie_out.ledger)))
}

fn read_mapping(path: &Path) -> Result<Mapping, Exit> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
    let wrong = |error: String| ConfigError::Rejected(format!("mapping {}: {error}", path.display()));
    let mapping: Mapping = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    mapping.check().map_err(|error| wrong(error.to_string()))?;
    Ok(mapping)
}

fn print(tie_out: &TieOut) -> anyhow::Result<()> {
    say(text(tie_out)?.trim_end());
    say(&serde_json::to_string(&export::tie_out_summary(tie_out)?)?);
    Ok(())
}

fn text(tie_out: &TieOut) -> anyhow::Result<String> {
    let mut text = format!(
        "\nTie-out of {} to {} · {} to {} · days of {} · run {} · lake version {}\n{}\n",
        tie_out.tenant,
        tie_out.ledger,
        tie_out.from,
        tie_out.to,
        tie_out.basis,
        tie_out.run_id,
        tie_out.lake_version,
        totals_table(tie_out)?,
    );
    let open = tie_out.breaks().len();
    if open > 0 {
        text.push_str(&format!("{}\n", breaks_table(tie_out)?));
    }
    let ignored: u64 = tie_out.ignored.values().sum();
    text.push_str(&format!(
        "{} rows of the ledger, of which {ignored} are no payments and {} are there twice; {open} breaks open as of {}, \
         {} resolved\n",
        tie_out.ledger_rows,
        tie_out.repeated.len(),
        tie_out.as_of,
        tie_out.resolved,
    ));
    Ok(text)
}

fn totals_table(tie_out: &TieOut) -> anyhow::Result<Table> {
    let mut table = report::table([
        "currency",
        "kind",
        "references",
        "events",
        "amount here",
        "rows",
        "amount there",
        "difference",
    ]);
    for (currency, kinds) in tie_out.totals()? {
        for (kind, tally) in kinds {
            let difference = tally.ours.1.checked_sub(tally.theirs.1).context("a difference left 128 bits")?;
            let mut row = vec![Cell::new(currency), Cell::new(kind.name()), right(tally.groups.to_string())];
            for (items, minor) in [tally.ours, tally.theirs] {
                row.extend([right(items.to_string()), right(currency.format_minor(minor))]);
            }
            row.push(right(currency.format_minor(difference)));
            table.add_row(row);
        }
    }
    Ok(table)
}

fn breaks_table(tie_out: &TieOut) -> anyhow::Result<Table> {
    let mut table =
        report::table(["day", "open", "kind", "reference", "here", "there", "difference", "", "events:rows", "note"]);
    for group in tie_out.breaks().into_iter().take(BREAKS_SHOWN) {
        let row = tie_out.row(group)?;
        table.add_row(vec![
            Cell::new(row.day),
            right(row.days_open.map_or_else(String::new, |days| format!("{days} d"))),
            Cell::new(row.kind),
            Cell::new(row.reference),
            right(row.ours.unwrap_or_default()),
            right(row.theirs.unwrap_or_default()),
            right(row.difference),
            Cell::new(row.currency),
            Cell::new(row.shape),
            Cell::new(row.note),
        ]);
    }
    Ok(table)
}
