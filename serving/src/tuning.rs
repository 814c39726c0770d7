//! What an operator may change, and what is bounded by default.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The section of the configuration file for serving. Every bound is here.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tuning {
    /// The most windows that one query may span.
    pub windows_max: usize,
    /// The most windows that one query for the most frequent values may span: a sketch for each and partition is read.
    pub top_windows_max: usize,
    /// The most groups in one answer; smaller ones are cut off, which the answer tells.
    pub groups_max: usize,
    /// The most points (groups times windows that have events) in one answer.
    pub points_max: usize,
    /// The most rows that one read from ClickHouse may return.
    pub rows_max: u64,
    /// The most bytes that one read from ClickHouse may return: rows about users carry sketches of up to 12 KB.
    pub result_bytes_max: u64,
    /// How many of the newest provisional windows are also looked up in Redis, which is fresher than ClickHouse.
    pub fresh_windows_max: usize,
    /// The most cells that are looked up in Redis for one answer.
    pub fresh_cells_max: usize,
    /// The most queries that are answered at the same time; others wait within their time limit. A tenant has at most half
    /// of them.
    pub evaluations_max: usize,
    /// The most questions of a tenant that wait for one of its places, for each of the two kinds; the next ones are told
    /// to come back, and so are those that have waited for half of their time limit.
    pub waiting_max: usize,
    /// The time limit of one query, waiting included.
    #[serde(with = "humantime_serde")]
    pub query_timeout: Duration,
    /// The time limit of one request to Redis, after which the answer is made without it.
    #[serde(with = "humantime_serde")]
    pub redis_timeout: Duration,
    /// The most questions that read single events at the same time, on this node; others wait within their time limit. A
    /// tenant has at most half of them, and one at least.
    pub events_evaluations_max: usize,
    /// The most raw events that ClickHouse reads for one question.
    pub raw_rows_max: u64,
    /// The most memory that ClickHouse uses for one question about raw events, in bytes.
    pub raw_memory_bytes: u64,
    /// The longest range that is answered from the lake's single events, unless exact users are asked for.
    #[serde(with = "humantime_serde")]
    pub lake_range_max: Duration,
    /// The longest range that exact users are counted for from the lake.
    #[serde(with = "humantime_serde")]
    pub exact_range_max: Duration,
    /// The most deliveries that a tenant's lake may have for its single events to be read for a question.
    pub lake_rows_max: u64,
    /// The most memory that all questions to the lake use together, in bytes; what can be sorted on disk is.
    pub lake_memory_bytes: usize,
    /// The most numbers of answers from the lake that are kept for when they are asked for again.
    pub lake_cache_numbers: u64,
    /// The time limit of one question that reads single events, waiting included.
    #[serde(with = "humantime_serde")]
    pub events_timeout: Duration,
    /// How long what is settled and how far the speed layer is may be remembered, instead of looked up for every query.
    #[serde(with = "humantime_serde")]
    pub standing_interval: Duration,
    /// How old an answer may get whose range reaches into windows that are open: it is kept for this long.
    #[serde(with = "humantime_serde")]
    pub cache_moving: Duration,
    /// The same if every window of it is over, so that only late events can change it.
    #[serde(with = "humantime_serde")]
    pub cache_recent: Duration,
    /// The same if they were over an hour ago.
    #[serde(with = "humantime_serde")]
    pub cache_history: Duration,
    /// The same for answers that are settled from end to end: they are valid until a settlement changes them, so this
    /// only frees the memory.
    #[serde(with = "humantime_serde")]
    pub cache_settled: Duration,
    /// The most answers that are kept in Redis for one tenant; the one that ends first makes room.
    pub cache_entries_max: usize,
    /// The largest answer that is kept in Redis, compressed, in bytes.
    pub cache_entry_bytes_max: usize,
    /// How much memory the answers may take that this node keeps, in bytes.
    pub cache_bytes_max: u64,
    /// How long a node may take for an answer that others wait for; then one of them computes it.
    #[serde(with = "humantime_serde")]
    pub cache_lock: Duration,
    /// How old the last good answer may be that is given while ClickHouse is away.
    #[serde(with = "humantime_serde")]
    pub last_good_max: Duration,
    /// How long a new answer is waited for where there is a last good one.
    #[serde(with = "humantime_serde")]
    pub patience: Duration,
    /// How far the speed layer may be behind the log, or silent, before answers say that they are stale.
    #[serde(with = "humantime_serde")]
    pub speed_lag_max: Duration,
    /// How far raw events may be behind the log, or silent, before answers name a gap. They come in blocks, each
    /// `raw.interval` after its first one.
    #[serde(with = "humantime_serde")]
    pub raw_lag_max: Duration,
    /// The most connections at a time; the next ones are closed at once.
    pub connections_max: usize,
    /// How long a connection may take to send a request's head, and so also how long it may be idle.
    #[serde(with = "humantime_serde")]
    pub header_read_timeout: Duration,
    /// How long a client may take to read something before it is disconnected.
    #[serde(with = "humantime_serde")]
    pub write_stall_max: Duration,
    /// The most requests per second and tenant, as a sustained rate and as a burst.
    pub queries_per_second_max: u32,
    /// The sites whose pages may read with a key, such as `https://app.example.com`; none by default.
    pub cors_origins: Vec<String>,
    /// The most live clients per tenant.
    pub live_clients_max: usize,
    /// The most rows that a tenant's questions may make the stores read in a minute; beyond it the next ones wait.
    pub rows_per_minute_max: u64,
    /// The most different live queries per tenant; clients that ask the same share one.
    pub live_queries_max: usize,
    /// The most live queries of one WebSocket connection.
    pub live_subscriptions_max: usize,
    /// How many past messages of a live query are kept for clients that come back.
    pub live_history: usize,
    /// The least time between two evaluations of a live query, however fast changes are announced.
    #[serde(with = "humantime_serde")]
    pub live_interval: Duration,
    /// The most time between two evaluations of a live query, and between two of its messages: finds settlements, and is
    /// the proof of life.
    #[serde(with = "humantime_serde")]
    pub live_refresh: Duration,
    /// The time between two evaluations of a live query that reads single events, which come in blocks anyhow.
    #[serde(with = "humantime_serde")]
    pub live_events_interval: Duration,
    /// The most different live queries per tenant that read single events.
    pub live_events_queries_max: usize,
    /// Networks of this installation that alerts may be sent to, e.g. `10.1.0.0/16`; others that are not public are
    /// refused.
    pub webhook_networks: Vec<ipnet::IpNet>,
    /// The time between two heartbeat comments on a live connection.
    #[serde(with = "humantime_serde")]
    pub heartbeat: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            windows_max: 10_000,
            top_windows_max: 100,
            groups_max: 100,
            points_max: 100_000,
            rows_max: 1_000_000,
            result_bytes_max: 256 << 20,
            fresh_windows_max: 240,
            fresh_cells_max: 20_000,
            evaluations_max: 8,
            waiting_max: 128,
            query_timeout: Duration::from_secs(10),
            redis_timeout: Duration::from_secs(1),
            events_evaluations_max: 2,
            raw_rows_max: 200_000_000,
            raw_memory_bytes: 2 << 30,
            lake_range_max: Duration::from_hours(90 * 24),
            exact_range_max: Duration::from_hours(366 * 24),
            lake_rows_max: 500_000_000,
            lake_memory_bytes: 1 << 30,
            lake_cache_numbers: 1_000_000,
            events_timeout: Duration::from_secs(30),
            standing_interval: Duration::from_secs(1),
            cache_moving: Duration::from_secs(1),
            cache_recent: Duration::from_secs(60),
            cache_history: Duration::from_secs(300),
            cache_settled: Duration::from_secs(3600),
            cache_entries_max: 1_000,
            cache_entry_bytes_max: 512 << 10,
            cache_bytes_max: 128 << 20,
            cache_lock: Duration::from_secs(3),
            last_good_max: Duration::from_secs(3600),
            patience: Duration::from_secs(2),
            speed_lag_max: Duration::from_secs(5),
            raw_lag_max: Duration::from_secs(30),
            connections_max: 20_000,
            header_read_timeout: Duration::from_secs(30),
            write_stall_max: Duration::from_secs(20),
            queries_per_second_max: 50,
            cors_origins: Vec::new(),
            live_clients_max: 100,
            rows_per_minute_max: 1_000_000_000,
            live_queries_max: 32,
            live_subscriptions_max: 16,
            live_history: 64,
            live_interval: Duration::from_millis(500),
            live_refresh: Duration::from_secs(5),
            live_events_interval: Duration::from_secs(10),
            live_events_queries_max: 4,
            webhook_networks: Vec::new(),
            heartbeat: Duration::from_secs(15),
        }
    }
}
