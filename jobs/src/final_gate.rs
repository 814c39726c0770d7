//! `reckon final`: the gate for schedulers. Its exit code is the answer.

use std::time::{Duration, Instant};

use clap::Args;
use jiff::SignedDuration;
use jiff::civil::Date;
use reckon_batch::gate;
use reckon_schemas::ids::TenantId;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::exit::Exit;
use crate::report::say;

const POLL: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Whose day.
    #[arg(long)]
    tenant: TenantId,
    /// The calendar day, in the tenant's time zone.
    #[arg(long)]
    date: Date,
    /// How long to wait for it, e.g. 2h; without, the answer is given at once.
    #[arg(long, value_name = "DURATION")]
    wait: Option<SignedDuration>,
}

/// Answers with exit code 0 (final), 10 (settled, with unexplained drift) or 11 (not final yet).
pub(crate) async fn run(settings: &Settings, arguments: Arguments, shutdown: CancellationToken) -> Result<(), Exit> {
    let catalog = settings.read_catalog()?;
    let Arguments { tenant, date, wait } = arguments;
    let known = catalog.require(&tenant)?;
    let wait = wait.map_or(Duration::ZERO, SignedDuration::unsigned_abs);
    let started = Instant::now();
    loop {
        let finality = match gate::finality(&settings.clickhouse, known, date).await {
            Ok(finality) => finality,
            // Whoever waits is not interested in a server that is away for a moment.
            Err(reckon_batch::Error::Retryable(error)) if started.elapsed() < wait && !shutdown.is_cancelled() => {
                tracing::warn!("{error}");
                pause(wait.saturating_sub(started.elapsed()), &shutdown).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if finality.is_final || started.elapsed() >= wait || shutdown.is_cancelled() {
            say(&json!(finality).to_string());
            return match (finality.is_final, finality.residual_cells) {
                (true, 0) => Ok(()),
                (true, cells) => Err(Exit::UnexplainedDrift(format!("{cells} cells of {date} of tenant {tenant}"))),
                (false, _) => Err(Exit::NotYetFinal(finality.reason)),
            };
        }
        pause(wait.saturating_sub(started.elapsed()), &shutdown).await;
    }
}

async fn pause(left: Duration, shutdown: &CancellationToken) {
    let _ = tokio::time::timeout(POLL.min(left), shutdown.cancelled()).await;
}
