//! `reckon explain`: from a number to the deliveries behind its drift.

use std::collections::BTreeMap;

use clap::Args;
use comfy_table::Table;
use jiff::civil::Date;
use reckon_batch::explain::{self, Delivery, Explanation, Listed, Part, Verdict};
use reckon_schemas::cell::Rollup;
use reckon_schemas::ids::TenantId;
use reckon_schemas::settlement::Reason;
use serde_json::json;

use crate::config::Settings;
use crate::exit::Exit;
use crate::report::{self, right, rows_table, say};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The tenant.
    #[arg(long)]
    tenant: TenantId,
    /// The calendar day, in the tenant's time zone.
    #[arg(long)]
    date: Date,
    /// The run that compared; the last one that settled the day if absent.
    #[arg(long)]
    run: Option<String>,
    /// The rollup.
    #[arg(long, default_value = Rollup::TOTAL)]
    rollup: Rollup,
    /// The event's name; all of them if absent.
    #[arg(long)]
    event: Option<String>,
    /// A dimension's value; any if absent. Can be repeated.
    #[arg(long = "value", value_name = "DIMENSION=VALUE", value_parser = assignment)]
    values: Vec<(String, String)>,
    /// Only deliveries for this reason.
    #[arg(long)]
    reason: Option<Reason>,
    /// The most deliveries that are listed.
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as dimension=value")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Prints the numbers, the deliveries, and what nothing explains; the same as the last line of JSON.
pub(crate) async fn run(settings: &Settings, arguments: Arguments) -> Result<(), Exit> {
    let catalog = settings.read_catalog()?;
    let config = explain::Config {
        clickhouse: settings.clickhouse.clone(),
        lake: settings.lake.clone(),
        topic: settings.kafka.topics.events.clone(),
        tenant: catalog.require(&arguments.tenant)?.clone(),
    };
    let request = explain::Request {
        day: arguments.date,
        run_id: arguments.run,
        rollup: arguments.rollup,
        event: arguments.event,
        values: arguments.values.into_iter().collect::<BTreeMap<_, _>>(),
        reason: arguments.reason,
        limit: arguments.limit,
        residual: true,
    };
    let explanation = explain::run(&config, &request).await?;
    print(&explanation);
    say(&serde_json::to_string(&json!(explanation)).map_err(anyhow::Error::from)?);
    let residual = explanation.rows.iter().any(|row| row.cells_with_residual > 0);
    match (residual, explanation.adds_up) {
        (false, true) => Ok(()),
        (true, _) => Err(Exit::UnexplainedDrift(format!("tenant {} {}", explanation.tenant, explanation.day))),
        (false, false) => Err(Exit::UnexplainedDrift(format!(
            "the deliveries of {} do not add up to what run {} had found: its evidence has changed since",
            explanation.day, explanation.run_id
        ))),
    }
}

fn print(explanation: &Explanation) {
    say(&format!(
        "\n{} · {} · run {} · lake version {}",
        explanation.tenant, explanation.day, explanation.run_id, explanation.lake_version
    ));
    say(&rows_table(&explanation.rows).to_string());
    if explanation.found > 0 {
        say(&deliveries_table(&explanation.deliveries).to_string());
    }
    say(&format!(
        "{} of {} deliveries listed; together they {} what the run had found",
        explanation.deliveries.len(),
        explanation.found,
        if explanation.adds_up { "add up to" } else { "DO NOT add up to" },
    ));
    explanation.unexplained.iter().for_each(print_part);
}

fn deliveries_table(deliveries: &[Listed]) -> Table {
    let mut table = report::table([
        "reason",
        "±",
        "event",
        "values",
        "event id",
        "partition",
        "offset",
        "log time",
        "occurred at",
        "money",
    ]);
    for listed in deliveries {
        let delivery = &listed.delivery;
        table.add_row(vec![
            listed.reason.name().into(),
            right(format!("{:+}", listed.contribution)),
            listed.event.clone().into(),
            listed.dimensions.join(" · ").into(),
            delivery.event_id.clone().into(),
            right(delivery.partition.to_string()),
            right(delivery.offset.to_string()),
            delivery.log_time.to_string().into(),
            delivery.occurred_at.to_string().into(),
            right(delivery.money.clone().unwrap_or_default()),
        ]);
    }
    table
}

fn print_part(part: &Part) {
    let sums: Vec<String> = part.sums.iter().map(|(unit, sum)| format!("{sum} {unit}")).collect();
    say(&format!(
        "unexplained: {} {:?}, partition {}, {} to {}: {:+} events, {}: {}",
        part.event,
        part.dimensions,
        part.partition,
        part.window_start,
        part.window_end,
        part.events,
        if sums.is_empty() { "no sums".to_owned() } else { sums.join(", ") },
        told(part.verdict, part.suspects_found),
    ));
    part.suspects.iter().for_each(print_suspect);
}

fn print_suspect(suspect: &Delivery) {
    say(&format!(
        "  {} at partition {} offset {}, occurred {}, {}",
        suspect.event_id,
        suspect.partition,
        suspect.offset,
        suspect.occurred_at,
        suspect.money.as_deref().unwrap_or("no money"),
    ));
}

fn told(verdict: Verdict, suspects: u64) -> String {
    let which = if suspects == 1 { "this delivery".to_owned() } else { format!("one of these {suspects} deliveries") };
    match verdict {
        Verdict::Lost => format!("the speed layer lost {which}"),
        Verdict::Doubled => format!("the speed layer counted twice {which}"),
        Verdict::Changed => format!("the speed layer has another amount for {which}"),
        Verdict::NotInTheLake => {
            "the speed layer counted what the lake does not have: see `reckon conservation`".to_owned()
        }
        Verdict::Several => format!("more than one thing happened among these {suspects} deliveries"),
    }
}
