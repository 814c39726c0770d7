//! The worker's section of the configuration file.

use std::time::Duration;

use reckon_schemas::window::PerGrain;
use serde::{Deserialize, Serialize};

use super::windows::{Rules, micros};
use crate::member::Membership;

/// How the worker counts and how often it writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tuning {
    /// The consumer group is named `<group>.<topic>`. Workers of one group share the partitions.
    pub group: String,
    /// After how much silence the group takes a worker for dead and gives its partitions to others. The broker bounds
    /// it, by default from below at 6 s.
    #[serde(with = "humantime_serde")]
    pub session_timeout: Duration,
    /// After how long without a look at the log the group takes a worker for stuck, and gives its partitions to others.
    /// Not less than the session timeout.
    #[serde(with = "humantime_serde")]
    pub max_poll_interval: Duration,
    /// How many threads count, each some of the partitions. 0, the default, for as many as there are cores, at most 4: one
    /// reader does not feed more of them, and each writes to the stores by itself.
    pub counting_threads: usize,
    /// How long after its end, in event time, a window of each grain still takes events.
    pub allowed_lateness: PerGrain,
    /// How far an event may be dated after its record's time in the log.
    #[serde(with = "humantime_serde")]
    pub future_skew: Duration,
    /// A second delivery is recognised if at most so many records of its partition lie between. Costs 32 to 70 bytes
    /// of memory for each.
    pub dedup_horizon_records: usize,
    /// How often changed cells go to Redis.
    #[serde(with = "humantime_serde")]
    pub flush_interval: Duration,
    /// How often changed cells go to ClickHouse.
    #[serde(with = "humantime_serde")]
    pub clickhouse_interval: Duration,
    /// How often each partition's state goes to the object store; what is replayed after a crash.
    #[serde(with = "humantime_serde")]
    pub snapshot_interval: Duration,
    /// With so many cells not yet given to a store, reading pauses until it has taken some.
    pub dirty_cells_max: usize,
    /// With so many exceptions not yet given to ClickHouse, reading pauses.
    pub exceptions_max: usize,
    /// How long cells of each grain stay in Redis after the end of their window, by the wall clock. Redis is for what is
    /// fresh; ClickHouse has every cell but those of a second.
    pub redis_retention: PerGrain,
    /// How long cells of each grain stay in ClickHouse after the end of their window. Those of a second never go there,
    /// those of a day stay for good.
    pub clickhouse_retention: PerGrain,
}

/// The most threads that are counted with where it is left to the worker.
const THREADS_MAX: usize = 4;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

impl Default for Tuning {
    fn default() -> Self {
        Self {
            group: "reckon-speed".to_owned(),
            session_timeout: Duration::from_secs(10),
            max_poll_interval: Duration::from_secs(300),
            counting_threads: 0,
            allowed_lateness: ascending([MINUTE, HOUR, HOUR, HOUR, HOUR]),
            future_skew: Duration::from_secs(600),
            dedup_horizon_records: 200_000,
            flush_interval: Duration::from_millis(250),
            clickhouse_interval: Duration::from_secs(3),
            snapshot_interval: Duration::from_secs(10),
            dirty_cells_max: 1_000_000,
            exceptions_max: 100_000,
            clickhouse_retention: ascending([10 * MINUTE, 90 * DAY, YEAR, YEAR, YEAR]),
            redis_retention: ascending([10 * MINUTE, DAY, DAY, DAY, DAY]),
        }
    }
}

fn ascending(durations: [Duration; 5]) -> PerGrain {
    PerGrain::new(durations).expect("the defaults ascend")
}

impl Tuning {
    pub(crate) fn membership(&self) -> Membership {
        Membership {
            client_id: "reckon-speed",
            group: self.group.clone(),
            session_timeout: self.session_timeout,
            max_poll_interval: self.max_poll_interval,
            tells_ends: false,
        }
    }

    /// How many threads count.
    pub(crate) fn threads(&self) -> usize {
        match self.counting_threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX),
            threads => threads,
        }
    }

    /// The same for one of so many threads: its share of what may wait for the stores.
    pub(crate) fn share(&self, threads: usize) -> Self {
        let share = |bound: usize| (bound / threads).max(1);
        let (dirty_cells_max, exceptions_max) = (share(self.dirty_cells_max), share(self.exceptions_max));
        Self { dirty_cells_max, exceptions_max, ..self.clone() }
    }

    pub(crate) fn rules(&self) -> Rules {
        Rules {
            allowed_lateness: self.allowed_lateness,
            redis_retention: self.redis_retention,
            future_skew_us: micros(self.future_skew),
            dedup_horizon_records: self.dedup_horizon_records,
        }
    }
}
