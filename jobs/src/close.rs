//! `reckon close` and `reckon reopen`: the checklist as a table, the result as one line of JSON.

use clap::Args;
use reckon_batch::close::{self, Checklist, Error};
use reckon_schemas::ids::TenantId;
use reckon_schemas::period::Period;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::exit::Exit;
use crate::report::{self, say};
use crate::{owner, prepare};

#[derive(Debug, Args)]
pub(crate) struct CloseArguments {
    /// Whose period.
    #[arg(long)]
    tenant: TenantId,
    /// The month, as 2026-10.
    #[arg(long)]
    period: Period,
    /// The name of who signs.
    #[arg(long, value_name = "NAME")]
    sign_off: String,
    /// Close although there are residuals, conflicts or open ledger breaks, for this reason. It goes on record.
    #[arg(long, value_name = "REASON")]
    accept: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ReopenArguments {
    /// Whose period.
    #[arg(long)]
    tenant: TenantId,
    /// The month, as 2026-10: the latest one that is closed.
    #[arg(long)]
    period: Period,
    /// The name of who does it.
    #[arg(long, value_name = "NAME")]
    sign_off: String,
    /// Why. It goes on record.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Shows the checklist of a period and closes it.
pub(crate) async fn close(
    settings: &Settings,
    arguments: CloseArguments,
    shutdown: CancellationToken,
) -> Result<(), Exit> {
    prepare::everything(settings, &shutdown).await?;
    let config = config(settings, "close")?;
    let request = close::Request {
        tenant: arguments.tenant,
        period: arguments.period,
        signed_by: arguments.sign_off,
        accept: arguments.accept,
        now: jiff::Timestamp::now(),
    };
    match close::close(&config, &request).await {
        Ok(closing) => {
            print(&closing.checklist);
            say(&json!({ "closed": true, "closing": closing }).to_string());
            Ok(())
        }
        Err(error) => {
            let checklist = if let Error::Open(checklist) = &error { Some(checklist) } else { None };
            if let Some(checklist) = checklist {
                print(checklist);
            }
            say(&json!({ "closed": false, "reason": error.to_string(), "checklist": checklist }).to_string());
            Err(error.into())
        }
    }
}

/// Opens a closed period again.
pub(crate) async fn reopen(
    settings: &Settings,
    arguments: ReopenArguments,
    shutdown: CancellationToken,
) -> Result<(), Exit> {
    prepare::everything(settings, &shutdown).await?;
    let config = config(settings, "reopen")?;
    let ReopenArguments { tenant, period, sign_off, reason } = arguments;
    let reopening = close::reopen(&config, &tenant, period, &sign_off, &reason, jiff::Timestamp::now()).await?;
    say(&json!({ "reopened": true, "reopening": reopening }).to_string());
    Ok(())
}

fn config(settings: &Settings, command: &str) -> Result<close::Config, Exit> {
    Ok(close::Config {
        topic: settings.kafka.topics.events.clone(),
        clickhouse: settings.clickhouse.clone(),
        lake: settings.lake.clone(),
        catalog: settings.read_catalog()?,
        settle_after: settings.nightly.settle_after,
        owner: owner::of(command),
        lock_expiry: settings.nightly.lock_expiry,
    })
}

fn print(checklist: &Checklist) {
    let mut table = report::table(["", "check", "found", "to do"]);
    for item in &checklist.items {
        let (mark, remedy) = if item.open == 0 { ("ok", "") } else { ("OPEN", item.remedy) };
        table.add_row([mark, item.name, &item.finding, remedy]);
    }
    say(&format!("Checklist of {}", checklist.period));
    say(&table.to_string());
}
