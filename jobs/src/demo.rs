//! `reckon demo`: the main job from end to end, on real servers and real data.
//!
//! Starts every part, replays a year of purchases through the collector with trouble on purpose, settles it, prints
//! the reconciliation, compares the settled totals with the source, and then stays up with today's purchases coming in.

mod catalog;
mod dataset;
mod items;
mod live;
mod plan;
mod second_worker;
mod send;

use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::Args;
use reckon_batch::nightly::Report;
use reckon_schemas::catalog::Measure;
use reckon_schemas::cell::Rollup;
use reckon_schemas::money::Currency;
use tokio_util::sync::CancellationToken;

use self::dataset::Purchase;
use self::plan::Trouble;
use self::second_worker::SecondWorker;
use self::send::{Acknowledged, Sender};
use crate::config::Settings;
use crate::exit::Exit;
use crate::parts::{self, Part};
use crate::report::say;
use crate::{lineage, nightly, prepare, progress, told};

pub(crate) use self::send::Sender as EventSender;

const BATCH_ITEMS: usize = 1000;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The folder with transactions.parquet and products.parquet.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The folder for the demo's catalog.
    #[arg(long, value_name = "DIR", default_value = ".local/demo")]
    dir: PathBuf,
    /// End after the report instead of staying up.
    #[arg(long)]
    exit: bool,
    /// Leave the purchases in 2017 instead of moving the last one to yesterday.
    #[arg(long)]
    keep_time: bool,
    /// The seed of the trouble.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Start a second speed worker before the replay, and kill it in the middle of it: no number changes.
    #[arg(long)]
    second_worker: bool,
}

/// Runs the demo.
pub(crate) async fn run(mut settings: Settings, arguments: Arguments, shutdown: CancellationToken) -> Result<(), Exit> {
    let purchases = load_purchases(&arguments).await?;
    let keys = catalog::write(&arguments.dir)?;
    settings.catalog = keys.catalog.clone();
    // A demo may run beside another one, or beside a real installation.
    settings.listen.collect.set_port(0);
    prepare::everything(&settings, &shutdown).await?;
    let running = parts::start(&settings, &Part::ALL, &shutdown).await?;
    let collector = format!("http://{}", running.collect.context("the collector is not listening")?);
    let page = format!("http://{}/", running.serve.context("the serving node is not listening")?);
    let sender = Sender::new(&collector, keys.write_key.clone())?;
    say(&format!("the page:      {page}   (read key: {})", keys.read_key));
    say(&format!("the collector: {collector}   (write key: {})", keys.write_key));

    let job = show(&settings, &arguments, &purchases, &sender, &shutdown);
    let result = match job.await {
        Ok(()) if !arguments.exit && !shutdown.is_cancelled() => {
            say(&format!("today's purchases keep coming in; watch {page}   Ctrl-C ends everything"));
            live::keep_sending(&purchases, &sender, &shutdown).await.map_err(Exit::from)
        }
        result => result,
    };
    shutdown.cancel();
    running.wait(shutdown).await?;
    result
}

async fn show(
    settings: &Settings,
    arguments: &Arguments,
    purchases: &[Purchase],
    sender: &Sender,
    shutdown: &CancellationToken,
) -> Result<(), Exit> {
    let trouble = Trouble { seed: arguments.seed, ..Trouble::default() };
    let second = match arguments.second_worker {
        true => Some(SecondWorker::start(settings, &arguments.dir).await?),
        false => None,
    };
    replay(purchases, trouble, sender, second, shutdown).await?;
    if shutdown.is_cancelled() {
        return Ok(());
    }
    let tenant = catalog::TENANT.parse().context("the demo's tenant")?;
    let started = std::time::Instant::now();
    let asked = nightly::Arguments { tenant: Some(tenant), ..nightly::Arguments::default() };
    let told = lineage::Run::start(settings, Some(told::NIGHTLY)).await;
    let settled = nightly::settle(settings, asked, &told, shutdown.clone()).await;
    told.end(&settled).await;
    if shutdown.is_cancelled() {
        return Ok(());
    }
    settled?;
    say(&format!("settled in {:.1} s", started.elapsed().as_secs_f64()));
    compare(purchases, &told.reports())?;
    Ok(())
}

async fn load_purchases(arguments: &Arguments) -> anyhow::Result<Vec<Purchase>> {
    let spinner = progress::spinner("data");
    spinner.set_message(format!("reading {}", arguments.data.display()));
    let (folder, keep_time) = (arguments.data.clone(), arguments.keep_time);
    let purchases = tokio::task::spawn_blocking(move || {
        let mut purchases = dataset::read(&folder)?;
        if !keep_time {
            dataset::move_to_now(&mut purchases, jiff::Timestamp::now())?;
        }
        anyhow::Ok(purchases)
    })
    .await??;
    spinner.finish_and_clear();
    Ok(purchases)
}

async fn replay(
    purchases: &[Purchase],
    trouble: Trouble,
    sender: &Sender,
    mut second: Option<SecondWorker>,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let usd: Currency = "USD".parse()?;
    let (deliveries, planned) = plan::plan(purchases, trouble);
    say(&format!(
        "replaying {} purchases as {} deliveries (seed {}): {} delivered late, {} delivered twice, {} damaged",
        purchases.len(),
        deliveries.len(),
        trouble.seed,
        planned.late,
        planned.redelivered,
        planned.rejects,
    ));
    let bar = progress::bar("replay", deliveries.len() as u64);
    bar.set_message("rows");
    let batches = deliveries.chunks(BATCH_ITEMS).map(|chunk| {
        let items: Vec<String> =
            chunk.iter().map(|delivery| items::item(purchases, *delivery, usd).to_string()).collect();
        format!("[{}]", items.join(","))
    });
    let started = std::time::Instant::now();
    let half = deliveries.len() as u64 / 2;
    let progress = |Acknowledged { accepted, rejected }| {
        bar.inc(accepted + rejected);
        if bar.position() >= half
            && let Some(second) = second.take()
        {
            second.kill();
        }
    };
    let sum = sender.send_all(batches, shutdown, progress).await?;
    bar.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();
    say(&format!("replayed in {seconds:.1} s: {} accepted, {} rejected with a reason", sum.accepted, sum.rejected));
    let complete = sum.rejected == planned.rejects as u64 && sum.accepted + sum.rejected == deliveries.len() as u64;
    ensure!(
        complete || shutdown.is_cancelled(),
        "the collector rejected {} of {} damaged items",
        sum.rejected,
        planned.rejects
    );
    Ok(())
}

/// The settled totals must be those of the source, to the cent, whatever the delivery was like.
fn compare(purchases: &[Purchase], settled: &[Report]) -> anyhow::Result<()> {
    let usd: Currency = "USD".parse()?;
    let source_cents: i128 = purchases.iter().map(|purchase| i128::from(purchase.cents)).sum();
    let households: std::collections::HashSet<i64> = purchases.iter().map(|purchase| purchase.household).collect();
    let totals = Totals::of(settled.first().context("nothing was settled")?);
    say(&format!(
        "source : {} purchases, {} USD, {} households",
        purchases.len(),
        usd.format_minor(source_cents),
        households.len()
    ));
    say(&format!(
        "settled: {} purchases, {} USD, {} households",
        totals.count,
        usd.format_minor(totals.usd_minor),
        totals.users_exact
    ));
    ensure!(
        totals.count == purchases.len() as i128
            && totals.usd_minor == source_cents
            && totals.users_exact == households.len() as u64,
        "the settled totals are not those of the source"
    );
    Ok(())
}

/// The exact totals of purchases, from the rows without dimensions.
struct Totals {
    count: i128,
    usd_minor: i128,
    users_exact: u64,
}

impl Totals {
    fn of(report: &Report) -> Self {
        let total = |measure: Measure| {
            let rows = report.rows.iter();
            let rows =
                rows.filter(|row| row.rollup == Rollup::TOTAL && row.event == "purchase" && row.measure == measure);
            rows.map(|row| row.batch).sum()
        };
        Self { count: total(Measure::Count), usd_minor: total(Measure::Money), users_exact: report.users_exact }
    }
}
