//! The command line: what `reckon` can do.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use reckon_schemas::access::Scope;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::exit::{EXIT_CODES, Exit};
use crate::logs::LogFormat;
use crate::parts::Part;
use crate::{
    backfill, ballista, bench, changes, close, conservation, demo, explain, final_gate, forecast, keys, lineage, load,
    nightly, parts, people, prepare, raw, reconcile, rejected, shutdown, tenant, tie_out, told, upkeep, verify,
};

/// Counts every event twice, fast while it streams and exactly from the lake, and says which number is which.
#[derive(Debug, Parser)]
#[command(name = "reckon", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// The configuration file (TOML). Variables such as RECKON_KAFKA__BROKERS override its keys.
    #[arg(long, short, global = true, env = "RECKON_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// How log lines look on standard error.
    #[arg(long, global = true, value_enum, default_value_t)]
    pub(crate) log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the topics and tables that are missing. Every long-running part does this at its start, too.
    Prepare,
    /// Run the collector: events come in over HTTP and go into the log.
    Collect,
    /// Run a speed worker: counts the log as it grows. Start more of them to share the partitions.
    Speed,
    /// Keep raw events: brings every event of the last days into ClickHouse, once, for ad-hoc questions.
    Raw {
        /// End where the log ends now, and print what it took as one line of JSON.
        #[arg(long)]
        until_end: bool,
    },
    /// Run the archiver: writes every record of the log into the lake, once.
    Archive {
        /// Write the records of a damaged file of the lake anew, from the log, and end.
        #[arg(long, value_name = "FILE")]
        again: Option<String>,
    },
    /// Run the serving node: answers queries, pushes changes, shows the page.
    Serve,
    /// Run collector, speed worker, raw events, archiver and serving node in one process.
    All,
    /// Recount every day that is over and changed since it was last settled, compare, and settle it.
    Nightly(nightly::Arguments),
    /// Count a rollup that was added to the catalog for days that are settled already. No other number changes.
    Backfill(backfill::Arguments),
    /// Print the reconciliation of the last settlement again, from what is stored, or write it to a file.
    Reconcile(reconcile::Arguments),
    /// Trace the drift of a number to its reasons, event ids, partitions and offsets.
    Explain(explain::Arguments),
    /// Prove that the lake holds every record of the log, once.
    Conservation,
    /// Unite the lake's small files. Readers and the archiver are not disturbed.
    Compact,
    /// Remove files that the lake's tables have not used for a week; what settlements were counted from stays.
    Vacuum(upkeep::VacuumArguments),
    /// Take events older than the retention (90 days) out of the lake. Settled numbers stay.
    Expire(upkeep::ExpireArguments),
    /// Match a payment provider's or general ledger's export to events.
    TieOut(tie_out::Arguments),
    /// Close a month: show what is open, and if nothing is, lock its numbers under a signature.
    Close(close::CloseArguments),
    /// Open a closed month again, the latest first.
    Reopen(close::ReopenArguments),
    /// Print what restatements changed: old value, new value, run and reason, cell by cell.
    Changes(changes::Arguments),
    /// Print what came for closed months, and on which day it is posted.
    Adjustments(changes::Arguments),
    /// Count a published run again and compare, or check the chain of manifests.
    Verify(verify::Arguments),
    /// The gate for schedulers: exit code 0 if a day is final, 10 if with unexplained drift, 11 if it is not yet.
    Final(final_gate::Arguments),
    /// Estimate how complete a day is, and when.
    Forecast(forecast::Arguments),
    /// Run the scheduler of a cluster for `nightly --engine ballista://host:port`.
    BallistaScheduler(ballista::SchedulerArguments),
    /// Run an executor of a cluster: start as many as there are machines.
    BallistaExecutor(ballista::ExecutorArguments),
    /// List what the collector refused, with its reasons, or write it to a file to be corrected.
    Rejected(rejected::ListArguments),
    /// Send corrected items again: checked as at their door, counted once, however often they are sent.
    ReplayRejected(rejected::ReplayArguments),
    /// The tenants of the catalog: add one, list them, show one.
    Tenant(tenant::Arguments),
    /// Make an access key for a tenant.
    Key {
        /// What it may do.
        #[arg(long, value_enum, required = true)]
        scope: Vec<ScopeName>,
    },
    /// The people of a tenant: make the first admin.
    User(people::UserArguments),
    /// Give a tenant bounds of its own instead of those that are configured for all.
    Quota(people::QuotaArguments),
    /// Replay a year of real purchases through a running stack, settle it, and show the page.
    Demo(demo::Arguments),
    /// Send generated events to a collector at a steady rate, and report what it took.
    Load(load::Arguments),
    /// Measure the layers on this machine, line by line; `make bench-speed`, `bench-batch` and `bench-serving` run all of them.
    Bench(bench::Arguments),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ScopeName {
    /// Send events.
    Write,
    /// Ask for numbers.
    Read,
    /// See settlement runs, periods, restatements and refused items.
    Finance,
    /// Manage keys and people.
    Admin,
}

impl From<ScopeName> for Scope {
    fn from(name: ScopeName) -> Self {
        match name {
            ScopeName::Write => Scope::Write,
            ScopeName::Read => Scope::Read,
            ScopeName::Finance => Scope::Finance,
            ScopeName::Admin => Scope::Admin,
        }
    }
}

impl Cli {
    /// Carries the command out.
    pub(crate) async fn run(self) -> Result<(), Exit> {
        if let Command::Key { scope } = &self.command {
            return Ok(keys::print_new(scope.iter().map(|name| Scope::from(*name)).collect())?);
        }
        let settings = Settings::load(self.config.as_deref())?;
        let shutdown = shutdown::on_signal()?;
        let told = lineage::Run::start(&settings, told::job_of(&self.command)).await;
        let result = Box::pin(self.command.run(settings.clone(), &told, shutdown)).await;
        told.end(&result).await;
        result
    }
}

impl Command {
    async fn run(self, settings: Settings, told: &lineage::Run<'_>, shutdown: CancellationToken) -> Result<(), Exit> {
        match self {
            Command::Prepare => Ok(prepare::everything(&settings, &shutdown).await?),
            Command::Collect => parts::run(&settings, &[Part::Collect], shutdown).await,
            Command::Speed => parts::run(&settings, &[Part::Speed], shutdown).await,
            Command::Raw { until_end: false } => parts::run(&settings, &[Part::Raw], shutdown).await,
            Command::Raw { until_end: true } => raw::until_end(&settings, shutdown).await,
            Command::Archive { again: None } => parts::run(&settings, &[Part::Archive], shutdown).await,
            Command::Archive { again: Some(file) } => upkeep::archive_again(&settings, &file).await,
            Command::Serve => parts::run(&settings, &[Part::Serve], shutdown).await,
            Command::All => parts::run(&settings, &Part::ALL, shutdown).await,
            Command::Nightly(arguments) => nightly::settle(&settings, arguments, told, shutdown).await,
            Command::Backfill(arguments) => backfill::run(&settings, arguments, shutdown).await,
            Command::Reconcile(arguments) => reconcile::run(&settings, arguments).await,
            Command::Explain(arguments) => explain::run(&settings, arguments).await,
            Command::Conservation => conservation::run(&settings).await,
            Command::Compact => upkeep::compact(&settings).await,
            Command::Vacuum(arguments) => upkeep::vacuum(&settings, arguments).await,
            Command::Expire(arguments) => upkeep::expire(&settings, arguments).await,
            Command::TieOut(arguments) => tie_out::run(&settings, arguments, shutdown).await,
            Command::Close(arguments) => close::close(&settings, arguments, shutdown).await,
            Command::Reopen(arguments) => close::reopen(&settings, arguments, shutdown).await,
            Command::Changes(arguments) => changes::changes(&settings, arguments).await,
            Command::Adjustments(arguments) => changes::adjustments(&settings, arguments).await,
            Command::Verify(arguments) => verify::run(&settings, arguments).await,
            Command::Final(arguments) => final_gate::run(&settings, arguments, shutdown).await,
            Command::Forecast(arguments) => forecast::run(&settings, arguments).await,
            Command::BallistaScheduler(arguments) => ballista::scheduler(&settings, arguments, shutdown).await,
            Command::BallistaExecutor(arguments) => ballista::executor(&settings, arguments).await,
            Command::Rejected(arguments) => rejected::list(&settings, arguments).await,
            Command::ReplayRejected(arguments) => rejected::replay_rejected(&settings, arguments).await,
            Command::Tenant(arguments) => Box::pin(tenant::run(&settings, arguments)).await,
            Command::User(arguments) => Box::pin(people::user(&settings, arguments)).await,
            Command::Quota(arguments) => Box::pin(people::quota(&settings, arguments)).await,
            Command::Demo(arguments) => Box::pin(demo::run(settings, arguments, shutdown)).await,
            Command::Load(arguments) => load::run(&settings, arguments, shutdown).await,
            Command::Bench(arguments) => Box::pin(bench::run(settings, arguments, shutdown)).await,
            Command::Key { .. } => unreachable!("handled above, before the configuration is read"),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
