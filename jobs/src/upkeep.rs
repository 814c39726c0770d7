//! `reckon compact` and `reckon vacuum`: the lake's upkeep, by any scheduler, at any time.

use std::time::Duration;

use clap::Args;
use reckon_batch::lake::{Lake, LakeError};
use reckon_batch::{nightly, settle};
use serde_json::json;

use crate::config::Settings;
use crate::exit::Exit;
use crate::report::say;

#[derive(Debug, Args)]
pub(crate) struct VacuumArguments {
    /// How many days a file has to be out of the tables before it is removed.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(7..))]
    keep_days: u16,
    /// Only tell what would be removed.
    #[arg(long)]
    dry_run: bool,
}

/// Unites small files; prints a line of JSON.
pub(crate) async fn compact(settings: &Settings) -> Result<(), Exit> {
    let lake = Lake::open(&settings.lake).await.map_err(failed)?;
    let tables = lake.compact().await.map_err(failed)?;
    print(&json!({ "tables": tables }))?;
    if tables.iter().all(|table| table.files_removed == 0) { Err(Exit::NothingToDo) } else { Ok(()) }
}

/// Removes files that nobody can need any more; prints a line of JSON.
pub(crate) async fn vacuum(settings: &Settings, arguments: VacuumArguments) -> Result<(), Exit> {
    let pinned = settle::settled_versions(&settings.clickhouse).await.map_err(nightly::Error::from)?;
    let lake = Lake::open(&settings.lake).await.map_err(failed)?;
    let keep = Duration::from_secs(u64::from(arguments.keep_days) * 86_400);
    let tables = lake.vacuum(keep, &pinned, jiff::Timestamp::now(), arguments.dry_run).await.map_err(failed)?;
    print(&json!({ "dry_run": arguments.dry_run, "tables": tables }))?;
    if tables.iter().all(|table| table.files == 0) { Err(Exit::NothingToDo) } else { Ok(()) }
}

fn failed(error: LakeError) -> Exit {
    nightly::Error::from(error).into()
}

fn print(line: &serde_json::Value) -> anyhow::Result<()> {
    say(&serde_json::to_string(line)?);
    Ok(())
}
