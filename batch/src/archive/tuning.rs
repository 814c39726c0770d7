//! The section `archive` of the configuration file.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How the archive works. Memory is bounded by about three times `commit_bytes` for each of the two tables.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tuning {
    /// How long a record may wait before it is committed. Shorter means fresher and more, smaller files.
    #[serde(with = "humantime_serde")]
    pub commit_interval: Duration,
    /// A commit happens before its time when so many records wait.
    pub commit_rows: usize,
    /// A commit happens before its time when the waiting records take so many bytes.
    pub commit_bytes: usize,
    /// How often the log is asked for new partitions.
    #[serde(with = "humantime_serde")]
    pub discovery_interval: Duration,
    /// How often in ten minutes the archive gives way to another archiver on the same table before it stops.
    pub conflicts_max: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            commit_interval: Duration::from_secs(5),
            commit_rows: 100_000,
            commit_bytes: 64 * 1024 * 1024,
            discovery_interval: Duration::from_secs(30),
            conflicts_max: 5,
        }
    }
}
