//! `reckon verify`: published numbers against their recount, manifests against their chain.

use clap::Args;
use reckon_batch::cluster::Engine;
use reckon_batch::verify::{self, Verification};
use reckon_schemas::ids::TenantId;
use serde_json::json;

use crate::config::Settings;
use crate::exit::Exit;
use crate::report::say;

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct What {
    /// Count this run again from its lake version and configuration, and compare every number.
    #[arg(long, value_name = "ID")]
    run: Option<String>,
    /// Check that no manifest of the chain is missing, changed or moved.
    #[arg(long)]
    chain: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    what: What,
    /// Only this tenant.
    #[arg(long)]
    tenant: Option<TenantId>,
    /// Where a run is counted again: `local`, or `ballista://host:port` for the cluster of that scheduler.
    #[arg(long, default_value_t)]
    engine: Engine,
}

/// Verifies, and prints what is wrong.
pub(crate) async fn run(settings: &Settings, arguments: Arguments) -> Result<(), Exit> {
    let config = verify::Config {
        topic: settings.kafka.topics.events.clone(),
        clickhouse: settings.clickhouse.clone(),
        lake: settings.lake.clone(),
        catalog: settings.read_catalog()?,
        tuning: settings.nightly.clone(),
        engine: arguments.engine.clone(),
    };
    let mut verified = Vec::new();
    if let Some(run) = &arguments.what.run {
        verified.push(verify::verify_run(&config, arguments.tenant.as_ref(), run).await?);
    }
    if arguments.what.chain {
        for tenant in config.catalog.asked(arguments.tenant.as_ref())? {
            verified.push(verify::verify_chain(&config, &tenant.id).await?);
        }
    }
    verified.iter().for_each(print);
    let wrong: u64 = verified.iter().map(|one| one.wrong).sum();
    say(&json!({ "verified": wrong == 0, "wrong": wrong, "verifications": verified }).to_string());
    let seen = |one: &Verification| one.days > 0 || one.run_id.is_none() || one.expired_days == 0;
    if wrong == 0 && !verified.iter().any(seen) {
        return Err(Exit::NothingToDo);
    }
    if wrong == 0 { Ok(()) } else { Err(Exit::Mismatch(format!("{wrong} things are not as they were published"))) }
}

fn print(verification: &Verification) {
    let what = verification.run_id.as_ref().map_or("chain of manifests".to_owned(), |run| format!("run {run}"));
    say(&format!(
        "{} · {what} · {} manifests, {} files, {} days, {} cells: {}",
        verification.tenant,
        verification.manifests,
        verification.files,
        verification.days,
        verification.cells,
        if verification.is_good() { "as published".to_owned() } else { format!("{} WRONG", verification.wrong) }
    ));
    if verification.expired_days > 0 {
        say(&format!(
            "  {} days have expired: the lake does not hold them any more, and they are not counted again",
            verification.expired_days
        ));
    }
    for finding in &verification.findings {
        say(&format!("  {finding}"));
    }
}
