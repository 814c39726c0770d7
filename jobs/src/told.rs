//! Which commands are jobs that are told of, and what each reads and writes.

use reckon_schemas::lake::{EVENTS_TABLE, REJECTED_TABLE};

use crate::cli::Command;
use crate::lineage::{Data, Job};

const EVENTS: Data = Data::Lake(EVENTS_TABLE);
const REJECTED: Data = Data::Lake(REJECTED_TABLE);
const CELLS: Data = Data::Table("settled_cells_raw");
const DRIFT: Data = Data::Table("drift");
const SETTLEMENTS: Data = Data::Table("settlements");
const PERIODS: Data = Data::Table("periods");
const BREAKS: Data = Data::Table("ledger_breaks");

/// A settlement, also as a part of the demo.
pub(crate) const NIGHTLY: Job = job("nightly", &[EVENTS], &[CELLS, DRIFT, SETTLEMENTS]);

const fn job(name: &'static str, reads: &'static [Data], writes: &'static [Data]) -> Job {
    Job { name, reads, writes }
}

/// The job that a command is; none if it serves, prepares or makes load.
pub(crate) fn job_of(command: &Command) -> Option<Job> {
    Some(match command {
        Command::Nightly(_) => NIGHTLY,
        Command::Backfill(_) => job("backfill", &[EVENTS, CELLS], &[CELLS, Data::Table("backfills")]),
        Command::Archive { again: Some(_) } => {
            job("archive-again", &[Data::Log, EVENTS, REJECTED], &[EVENTS, REJECTED])
        }
        Command::Reconcile(_) => job("reconcile", &[DRIFT, SETTLEMENTS], &[]),
        Command::Explain(_) => job("explain", &[EVENTS, DRIFT, SETTLEMENTS], &[]),
        Command::Conservation => job("conservation", &[Data::Log, EVENTS, REJECTED], &[]),
        Command::Compact => job("compact", &[EVENTS, REJECTED], &[EVENTS, REJECTED]),
        Command::Vacuum(_) => job("vacuum", &[EVENTS, REJECTED, SETTLEMENTS], &[EVENTS, REJECTED]),
        Command::Expire(_) => job("expire", &[EVENTS, REJECTED, SETTLEMENTS], &[EVENTS, REJECTED]),
        Command::TieOut(_) => job("tie-out", &[EVENTS], &[BREAKS]),
        Command::Close(_) => job("close", &[EVENTS, DRIFT, SETTLEMENTS, BREAKS], &[SETTLEMENTS, PERIODS]),
        Command::Reopen(_) => job("reopen", &[SETTLEMENTS, PERIODS], &[SETTLEMENTS, PERIODS]),
        Command::Changes(_) => job("changes", &[Data::Table("changes")], &[]),
        Command::Adjustments(_) => job("adjustments", &[Data::Table("adjustments")], &[]),
        Command::Verify(_) => job("verify", &[EVENTS, Data::Manifests, CELLS, SETTLEMENTS], &[]),
        Command::Final(_) => job("final", &[SETTLEMENTS], &[]),
        Command::Forecast(_) => job("forecast", &[EVENTS, SETTLEMENTS], &[]),
        Command::Prepare
        | Command::Collect
        | Command::Speed
        | Command::Raw { .. }
        | Command::Archive { again: None }
        | Command::Rejected(_)
        | Command::ReplayRejected(_)
        | Command::Serve
        | Command::All
        | Command::BallistaScheduler(_)
        | Command::BallistaExecutor(_)
        | Command::Tenant(_)
        | Command::Key { .. }
        | Command::User(_)
        | Command::Quota(_)
        | Command::Demo(_)
        | Command::Load(_)
        | Command::Bench(_) => return None,
    })
}
