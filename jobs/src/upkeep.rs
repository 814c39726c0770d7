//! `reckon compact`, `vacuum`, `expire` and `archive --again`: the lake's upkeep, by any scheduler, at any time.

use std::time::Duration;

use clap::Args;
use reckon_batch::lake::{Lake, LakeError};
use reckon_batch::{archive, retention, settle};
use serde::{Deserialize, Serialize};
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

#[derive(Debug, Args)]
pub(crate) struct ExpireArguments {
    /// How many days of events stay in the lake; `expire.keep_days` of the configuration if absent, 0 for all of them.
    #[arg(long)]
    keep_days: Option<u32>,
    /// Only tell what would leave.
    #[arg(long)]
    dry_run: bool,
}

/// The section `expire` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Retention {
    /// How many days of events stay in the lake; 0 for all of them.
    pub(crate) keep_days: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { keep_days: 90 }
    }
}

/// Takes what is older out of the lake; prints a line of JSON.
pub(crate) async fn expire(settings: &Settings, arguments: ExpireArguments) -> Result<(), Exit> {
    let keep_days = arguments.keep_days.unwrap_or(settings.expire.keep_days);
    let dry_run = arguments.dry_run;
    if keep_days == 0 {
        print(&json!({ "dry_run": dry_run, "tables": [] }))?;
        return Err(Exit::NothingToDo);
    }
    let config = retention::Config {
        clickhouse: settings.clickhouse.clone(),
        lake: settings.lake.clone(),
        catalog: settings.read_catalog()?,
    };
    let request = retention::Request { keep_days, now: jiff::Timestamp::now(), dry_run };
    let tables = retention::expire(&config, request).await?;
    print(&json!({ "dry_run": dry_run, "tables": tables }))?;
    if tables.iter().all(|table| table.files == 0) { Err(Exit::NothingToDo) } else { Ok(()) }
}

/// Unites small files; prints a line of JSON.
pub(crate) async fn compact(settings: &Settings) -> Result<(), Exit> {
    let lake = Lake::open(&settings.lake).await.map_err(failed)?;
    let tables = lake.compact().await.map_err(failed)?;
    print(&json!({ "tables": tables }))?;
    if tables.iter().all(|table| table.files_removed == 0) { Err(Exit::NothingToDo) } else { Ok(()) }
}

/// Writes a damaged file's records anew; prints a line of JSON.
pub(crate) async fn archive_again(settings: &Settings, file: &str) -> Result<(), Exit> {
    let config = archive::Config {
        kafka: settings.kafka.clone(),
        lake: settings.lake.clone(),
        tuning: settings.archive.clone(),
    };
    let restored = archive::again(&config, file).await?;
    print(&json!({ "restored": restored }))?;
    Ok(())
}

/// Removes files that nobody can need any more; prints a line of JSON.
pub(crate) async fn vacuum(settings: &Settings, arguments: VacuumArguments) -> Result<(), Exit> {
    let pinned = settle::settled_versions(&settings.clickhouse).await.map_err(reckon_batch::Error::from)?;
    let lake = Lake::open(&settings.lake).await.map_err(failed)?;
    let keep = Duration::from_secs(u64::from(arguments.keep_days) * 86_400);
    let tables = lake.vacuum(keep, &pinned, jiff::Timestamp::now(), arguments.dry_run).await.map_err(failed)?;
    let expired = retention::remove_files(&settings.lake, keep, jiff::Timestamp::now(), arguments.dry_run).await?;
    print(&json!({ "dry_run": arguments.dry_run, "tables": tables, "expired_files": expired }))?;
    if tables.iter().all(|table| table.files == 0) && expired.iter().all(|files| *files == 0) {
        Err(Exit::NothingToDo)
    } else {
        Ok(())
    }
}

fn failed(error: LakeError) -> Exit {
    reckon_batch::Error::from(error).into()
}

fn print(line: &serde_json::Value) -> anyhow::Result<()> {
    say(&serde_json::to_string(line)?);
    Ok(())
}
