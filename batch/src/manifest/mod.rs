//! What was done to a tenant's settlements, one manifest for each run, close and reopening, as JSON in the object store
//! (`runs/<tenant>/<number>.json`). Each names the SHA-256 of the one before: a chain that cannot be changed in the
//! middle without being noticed. Its newest link is anchored by the hash that ClickHouse keeps with the rows.

mod chain;
mod files;

use jiff::Timestamp;
use jiff::civil::Date;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::cell::Rollup;
use reckon_schemas::ids::TenantId;
use reckon_schemas::period::Period;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

pub(crate) use self::chain::{Link, append, check, load, newest_files};
pub(crate) use self::files::{checksum, files_of};

/// The format that this build writes.
pub(crate) const FORMAT: u32 = 1;

/// One link of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this format.
    pub format: u32,
    /// Whose settlements.
    pub tenant: TenantId,
    /// Its place in the chain, 1 for the first.
    pub number: u64,
    /// The SHA-256 of the manifest before, in hexadecimal; none for the first.
    pub previous: Option<String>,
    /// The run.
    pub run_id: Uuid,
    /// When.
    pub at: Timestamp,
    /// The version of the code that ran.
    pub code_version: String,
    /// What was done.
    pub action: Action,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Days were counted.
    Settled(Counted),
    /// A period was closed.
    Closed(Closed),
    /// Events of a closed period were posted as adjustments.
    Adjusted(Adjusted),
    /// A closed period was opened again.
    Reopened(Reopened),
    /// A rollup was counted for days that are settled.
    Backfilled(Backfilled),
}

/// Days that were counted, and everything that the count depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// The version of the lake's table of events.
    pub lake_version: u64,
    /// How much of the log that version holds.
    pub offsets: Vec<NextOffset>,
    /// The tenant's files in it.
    pub files: Vec<LakeFile>,
    /// What was counted: the tenant's entry in the catalog, without its access keys.
    pub configuration: Tenant,
    /// The SHA-256 of that entry as JSON.
    pub configuration_hash: String,
    /// The days.
    pub days: Vec<DayContent>,
}

/// A period that was closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// The period.
    pub period: Period,
    /// The generation of its rows.
    pub generation: u32,
    /// Who signed.
    pub signed_by: String,
    /// Why what was open was accepted; empty if nothing was.
    pub accepted: String,
    /// The version of the lake that the period was compared with.
    pub lake_version: u64,
    /// What comes from here on is an adjustment.
    pub offsets: Vec<NextOffset>,
    /// The fingerprint of all of its days.
    pub content_hash: String,
    /// The days.
    pub days: Vec<DayContent>,
}

/// Adjustments that were posted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adjusted {
    /// Where the events belong.
    pub period: Period,
    /// The generation of that period.
    pub generation: u32,
    /// The version of the lake that they were found in.
    pub lake_version: u64,
    /// The day they are posted on.
    pub posted_day: Date,
    /// How many events.
    pub events: u64,
    /// The SHA-256 over their keys and amounts.
    pub content_hash: String,
}

/// A period that was opened again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reopened {
    /// The period.
    pub period: Period,
    /// The generation of its rows from now on.
    pub generation: u32,
    /// Who did it.
    pub signed_by: String,
    /// Why.
    pub reason: String,
}

/// A rollup that was counted for days that were settled before it was in the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backfilled {
    /// The rollup: of all that the parts' configuration lists, the only one that was counted.
    pub rollup: Rollup,
    /// The days, by the version of the lake that they were counted from.
    pub parts: Vec<Counted>,
    /// The run that settled each day, and that the rollup's cells add up to.
    pub bases: Vec<Base>,
}

/// A day and the run that settled it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// The day.
    pub day: Date,
    /// The run.
    pub run_id: String,
}

/// A partition of the log, and the first offset that is not in the lake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextOffset {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub next_offset: i64,
}

/// A file of the lake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LakeFile {
    /// Its path below the table.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
}

/// A day and the fingerprint of its cells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayContent {
    /// The day.
    pub day: Date,
    /// The run that counted it.
    pub run_id: String,
    /// The fingerprint.
    pub content_hash: String,
}

/// A tenant as far as its numbers depend on it: without access keys and limits, so that neither is in the manifest and
/// a new key changes no hash.
pub(crate) fn configuration_of(tenant: &Tenant) -> (Tenant, String) {
    let counted = Tenant { keys: Vec::new(), events_per_second_max: None, ..tenant.clone() };
    let json = serde_json::to_vec(&counted).expect("plain data");
    (counted, sha256(&json))
}

/// The offsets as they are written down.
pub(crate) fn next_offsets<'a>(offsets: impl IntoIterator<Item = (&'a i32, &'a i64)>) -> Vec<NextOffset> {
    let next = |(partition, next_offset): (&i32, &i64)| NextOffset { partition: *partition, next_offset: *next_offset };
    offsets.into_iter().map(next).collect()
}

/// SHA-256 in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
