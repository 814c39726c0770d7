//! `reckon forecast`: how complete a day is, by how late earlier days' events came.

use clap::Args;
use jiff::civil::Date;
use reckon_batch::forecast::{self, Forecast, Request};
use reckon_schemas::ids::TenantId;
use serde_json::json;

use crate::config::Settings;
use crate::exit::Exit;
use crate::report::say;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Whose day.
    #[arg(long)]
    tenant: TenantId,
    /// The calendar day, in the tenant's time zone.
    #[arg(long)]
    date: Date,
}

/// Prints the estimate in words, and as one line of JSON.
pub(crate) async fn run(settings: &Settings, arguments: Arguments) -> Result<(), Exit> {
    let catalog = settings.read_catalog()?;
    let tenant = catalog.require(&arguments.tenant)?;
    let (date, now, settle_after) = (arguments.date, jiff::Timestamp::now(), settings.nightly.settle_after);
    let request = Request { tenant, date, now, settle_after };
    let forecast = forecast::forecast(&settings.clickhouse, &settings.lake, &request).await?;
    words(&forecast).iter().for_each(|line| say(line));
    say(&json!(forecast).to_string());
    Ok(())
}

fn words(forecast: &Forecast) -> Vec<String> {
    let mut lines = vec![format!(
        "{} of {}: {}, {} deliveries in the lake",
        forecast.date,
        forecast.tenant,
        forecast.state.name(),
        forecast.deliveries
    )];
    let expected =
        (forecast.complete, forecast.complete_range, forecast.deliveries_expected, forecast.deliveries_range);
    match expected {
        (Some(complete), Some((lowest, highest)), Some(expected), Some((fewest, most))) => {
            lines.push(format!(
                "complete to {:.2} % ({:.2} to {:.2} % over {} earlier days): about {expected} deliveries in the end \
                 ({fewest} to {most})",
                complete * 100.0,
                lowest * 100.0,
                highest * 100.0,
                forecast.days_learned
            ));
        }
        _ => lines.push("no earlier day to learn from: nothing can be said about what is still to come".to_owned()),
    }
    if let Some(at) = forecast.complete_at {
        lines.push(format!("99.9 % by {at}, if it is no slower than the slowest of those days"));
    }
    lines.push(format!("it can be settled from {}", forecast.can_be_settled_from));
    lines.push(format!("assumed: {}", forecast.assumptions.join("; ")));
    lines
}
