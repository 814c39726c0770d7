//! The freshest cells, from Redis. Everything here is bounded in time, and everything works without it.

use std::collections::BTreeMap;
use std::time::Duration;

use reckon_schemas::cell::DimensionValues;
use reckon_schemas::redis_keys::{self, CellTotals, Progress};
use reckon_schemas::sketch::Sketch;
use reckon_schemas::stores;
use reckon_schemas::window::Window;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, FromRedisValue, Pipeline, RedisError, RedisResult, ScriptInvocation};
use tokio_util::sync::CancellationToken;

use super::StoreError;
use super::breaker::Breaker;
use super::tops::FreshTop;
use crate::query::selection::Selection;

const STORE: &str = "Redis";
/// How many commands go into one round trip.
const PIPELINE_MAX: usize = 200;
/// The same for sketches of frequent values, which are tens of kilobytes each.
const TOPS_PIPELINE_MAX: usize = 10;

/// Reads from one database. Connects when it is asked, and again after every loss.
#[derive(Clone)]
pub(crate) struct Redis {
    connection: ConnectionManager,
    client: Client,
    timeout: Duration,
    breaker: Breaker,
}

/// One field of a window's hash.
pub(crate) struct FreshCell {
    pub(crate) window: Window,
    pub(crate) partition: i32,
    pub(crate) values: DimensionValues,
    pub(crate) totals: CellTotals,
}

impl Redis {
    pub(crate) fn new(config: &stores::Redis, timeout: Duration) -> Result<Self, RedisError> {
        let client = Client::open(config.url.as_str())?;
        // No retries: an answer without Redis now is better than one with it later.
        let settings = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(Some(timeout));
        let connection = ConnectionManager::new_lazy_with_config(client.clone(), settings)?;
        Ok(Self { connection, client, timeout, breaker: Breaker::new(STORE) })
    }

    /// A client to subscribe with.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Whether the server answers; asks it even if it is left alone at the moment.
    pub(crate) async fn ping(&self) -> Result<(), StoreError> {
        let mut connection = self.connection.clone();
        let ping = redis::cmd("PING");
        self.in_time(ping.query_async::<String>(&mut connection)).await.map(|_| ())
    }

    /// Looks after the server until shutdown.
    pub(super) async fn watch(&self, shutdown: CancellationToken) {
        self.breaker.watch(|| self.ping(), shutdown).await;
    }

    /// Runs a script.
    pub(crate) async fn run<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, StoreError> {
        self.breaker.admit()?;
        let mut connection = self.connection.clone();
        self.told(self.in_time(script.invoke_async(&mut connection)).await)
    }

    /// How far each partition has been counted.
    pub(crate) async fn progress(&self, topic: &str) -> Result<BTreeMap<i32, Progress>, StoreError> {
        let mut get = redis::pipe();
        get.hgetall(redis_keys::progress(topic));
        let answers: Vec<BTreeMap<i32, String>> = self.ask(&get).await?;
        let fields = answers.into_iter().flatten();
        let progress = fields.map(|(partition, json)| Ok((partition, serde_json::from_str(&json)?)));
        progress.collect::<Result<_, serde_json::Error>>().map_err(|error| broken(error.to_string()))
    }

    /// The totals of every cell of these windows; stops with an error once there are more than `cells_max`.
    pub(crate) async fn cells(
        &self,
        tenant: &str,
        rollup: &str,
        event: &str,
        windows: &[Window],
        cells_max: usize,
    ) -> Result<Vec<FreshCell>, StoreError> {
        let mut cells = Vec::new();
        for windows in windows.chunks(PIPELINE_MAX) {
            let mut get = redis::pipe();
            for window in windows {
                get.hgetall(redis_keys::cells(tenant, window, rollup, event));
            }
            let answers: Vec<Vec<(String, String)>> = self.ask(&get).await?;
            for (window, fields) in windows.iter().zip(answers) {
                for (field, totals) in fields {
                    let (partition, values) =
                        redis_keys::parse_cell_field(&field).ok_or_else(|| broken(format!("the field {field:?}")))?;
                    let totals = CellTotals::decode(&totals).map_err(|error| broken(error.to_string()))?;
                    cells.push(FreshCell { window: *window, partition, values, totals });
                }
            }
            if cells.len() > cells_max {
                return Err(StoreError::TooMuch { rows_max: u64::try_from(cells_max).unwrap_or(u64::MAX) });
            }
        }
        Ok(cells)
    }

    /// The users of these cells; `None` where their key is gone.
    pub(crate) async fn users(
        &self,
        tenant: &str,
        rollup: &str,
        event: &str,
        cells: &[FreshCell],
    ) -> Result<Vec<Option<Sketch>>, StoreError> {
        let mut sketches: Vec<Option<Sketch>> = cells.iter().map(|cell| cell.totals.users.clone()).collect();
        let elsewhere: Vec<usize> = (0..cells.len()).filter(|place| sketches[*place].is_none()).collect();
        for places in elsewhere.chunks(PIPELINE_MAX) {
            let mut get = redis::pipe();
            for cell in places.iter().map(|place| &cells[*place]) {
                get.get(redis_keys::users(tenant, &cell.window, rollup, event, cell.partition, &cell.values));
            }
            let answers: Vec<Option<Vec<u8>>> = self.ask(&get).await?;
            for (place, bytes) in places.iter().zip(answers) {
                let sketch = bytes.map(|bytes| Sketch::from_redis(&bytes)).transpose();
                sketches[*place] = sketch.map_err(|error| broken(error.to_string()))?;
            }
        }
        Ok(sketches)
    }

    /// The names of a tenant's events that have a window that begins at this second or later.
    pub(crate) async fn event_names(&self, tenant: &str, since_s: i64) -> Result<Vec<String>, StoreError> {
        let mut get = redis::pipe();
        get.zrangebyscore(redis_keys::event_names(tenant), since_s, "+inf");
        let answers: Vec<Vec<String>> = self.ask(&get).await?;
        Ok(answers.into_iter().flatten().collect())
    }

    /// Every partition's most frequent values of a property in these windows.
    pub(crate) async fn tops(
        &self,
        selection: &Selection,
        property: &str,
        windows: &[Window],
    ) -> Result<Vec<FreshTop>, StoreError> {
        let mut tops = Vec::new();
        for windows in windows.chunks(TOPS_PIPELINE_MAX) {
            let mut get = redis::pipe();
            for window in windows {
                get.hgetall(redis_keys::top(selection.tenant.as_str(), window, property, &selection.event));
            }
            let answers: Vec<Vec<(i32, Vec<u8>)>> = self.ask(&get).await?;
            for (window, fields) in windows.iter().zip(answers) {
                for (partition, value) in fields {
                    let (version, sketch) = redis_keys::parse_top_value(&value)
                        .ok_or_else(|| broken(format!("the most frequent values of partition {partition}")))?;
                    tops.push(FreshTop { window_start: window.start, partition, version, sketch });
                }
            }
        }
        Ok(tops)
    }

    async fn ask<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, StoreError> {
        self.breaker.admit()?;
        let mut connection = self.connection.clone();
        self.told(self.in_time(pipeline.query_async::<T>(&mut connection)).await)
    }

    /// Tells the breaker: what this store is asked for takes no time, so silence means that it is away.
    fn told<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        match &answer {
            Err(StoreError::Unavailable { .. }) => self.breaker.failed(),
            _ => self.breaker.answered(),
        }
        answer
    }

    /// The client's own limits are per step; this one is for the whole request.
    async fn in_time<T>(&self, asked: impl Future<Output = RedisResult<T>>) -> Result<T, StoreError> {
        match tokio::time::timeout(self.timeout, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(unavailable(error.to_string())),
            Err(_) => Err(unavailable(format!("nothing within {:?}", self.timeout))),
        }
    }
}

fn unavailable(problem: String) -> StoreError {
    StoreError::Unavailable { store: STORE, problem }
}

fn broken(problem: String) -> StoreError {
    StoreError::Broken { store: STORE, problem }
}
