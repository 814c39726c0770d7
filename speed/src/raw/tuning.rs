//! The section `raw` of the configuration file.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::member::Membership;

/// After how long without a look at the log the group takes a reader for stuck.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(300);

/// How raw events are brought into ClickHouse. Memory is bounded by two blocks: one that is being filled, one under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tuning {
    /// Whether raw events are kept at all; without it the part idles.
    pub enabled: bool,
    /// The consumer group is named `<group>.<topic>`. Readers of one group share the partitions.
    pub group: String,
    /// After how much silence the group takes a reader for dead and gives its partitions to others.
    #[serde(with = "humantime_serde")]
    pub session_timeout: Duration,
    /// A block leaves with so many rows, whatever its age. Large blocks are what ClickHouse is good at.
    pub rows_max: usize,
    /// A block leaves with so many bytes.
    pub bytes_max: usize,
    /// A block leaves when its first record has waited so long.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// How long after they came into the log raw events are kept. Whole days are dropped, so it can be a day longer.
    #[serde(with = "humantime_serde")]
    pub retention: Duration,
    /// Whether ClickHouse is told to recognise a block that it has taken already. Off only in tests of that.
    pub deduplicate: bool,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            enabled: true,
            group: "reckon-raw".to_owned(),
            session_timeout: Duration::from_secs(10),
            rows_max: 250_000,
            bytes_max: 128 * 1024 * 1024,
            interval: Duration::from_secs(10),
            retention: Duration::from_secs(7 * 86_400),
            deduplicate: true,
        }
    }
}

impl Tuning {
    pub(crate) fn membership(&self) -> Membership {
        Membership {
            client_id: "reckon-raw",
            group: self.group.clone(),
            session_timeout: self.session_timeout,
            max_poll_interval: MAX_POLL_INTERVAL,
            tells_ends: true,
        }
    }
}
