//! What is read, and from where: ClickHouse for what is settled and for the whole of what is provisional, Redis for
//! the freshest of it. Nothing is written here.

pub(crate) mod beside;
pub(crate) mod breaker;
pub(crate) mod cells;
pub(crate) mod clickhouse;
pub(crate) mod plans;
pub(crate) mod progress;
pub(crate) mod raw;
pub(crate) mod raw_funnel;
pub(crate) mod raw_progress;
pub(crate) mod reconciliation;
mod records;
pub(crate) mod redis;
pub(crate) mod settlements;
pub(crate) mod tops;

use std::time::Duration;

use reckon_schemas::stores;
use tokio_util::sync::CancellationToken;

use self::clickhouse::ClickHouse;
use self::redis::Redis;

/// Why a store did not answer.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Away, busy or not prepared yet: trying again may help.
    #[error("{store} does not answer: {problem}")]
    Unavailable {
        /// Which store.
        store: &'static str,
        /// What it or the network said.
        problem: String,
    },
    /// The answer would be larger than its bound: asking for less helps.
    #[error("more than {rows_max} rows, or more bytes than a result may have")]
    TooMuch {
        /// The bound on rows.
        rows_max: u64,
    },
    /// A question that reads single events reached a limit: asking for less helps.
    #[error("{store}: over a limit: {problem}")]
    OverLimit {
        /// Which store.
        store: &'static str,
        /// Which limit, in its words.
        problem: String,
    },
    /// The store and this build do not agree; an operator has to look.
    #[error("{store}: {problem}")]
    Broken {
        /// Which store.
        store: &'static str,
        /// What does not fit.
        problem: String,
    },
}

/// Both stores. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Stores {
    pub(crate) clickhouse: ClickHouse,
    pub(crate) redis: Redis,
    /// The topic whose progress is looked up.
    pub(crate) topic: String,
}

/// The bounds of reading.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) rows_max: u64,
    pub(crate) result_bytes_max: u64,
    pub(crate) query_timeout: Duration,
    pub(crate) redis_timeout: Duration,
}

impl Stores {
    /// Clients for both stores; neither has to be up.
    pub(crate) fn new(
        clickhouse: &stores::ClickHouse,
        redis: &stores::Redis,
        topic: String,
        bounds: Bounds,
    ) -> Result<Self, ::redis::RedisError> {
        let clickhouse = ClickHouse::new(clickhouse, bounds);
        Ok(Self { clickhouse, redis: Redis::new(redis, bounds.redis_timeout)?, topic })
    }

    /// Looks after both until shutdown, so that nobody waits for one that is away.
    pub(crate) async fn watch(&self, shutdown: CancellationToken) {
        tokio::join!(self.clickhouse.watch(shutdown.clone()), self.redis.watch(shutdown));
    }
}
