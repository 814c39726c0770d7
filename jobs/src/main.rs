//! `reckon`: the one binary. Its command enum (`cli::Command`) is the table of contents.
//!
//! This crate is the only one that reads the environment, installs signal handlers and sets up logs; every command
//! translates the outside world into one call of a layer's library.

mod accounts;
mod backfill;
mod ballista;
mod bench;
mod catalog_watch;
mod changes;
mod child;
mod cli;
mod close;
mod config;
mod conservation;
mod demo;
mod exit;
mod explain;
mod export;
mod final_gate;
mod forecast;
mod keys;
mod lineage;
mod load;
mod logs;
mod metrics;
mod nightly;
mod owner;
mod parts;
mod people;
mod prepare;
mod progress;
mod raw;
mod reconcile;
mod rejected;
mod report;
mod shutdown;
mod tenant;
mod tie_out;
mod told;
mod upkeep;
mod usage;
mod verify;

use std::process::ExitCode;

use clap::Parser;

/// Cells come and go by the hundred thousand a second, in small blocks: a quarter of the worker's time with the system's
/// allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    logs::install(cli.log_format);
    // Every client is an open file, and many systems begin with few.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "the limit on open files stays as it is");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::Exit::from(anyhow::Error::from(error)).report(),
    };
    let result = runtime.block_on(cli.run());
    // A blocking client call that hangs must not keep the process: everything was flushed by now.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => exit.report(),
    }
}
