//! Cells on their way into Redis: collected to scripts of bounded size.

use reckon_schemas::cell::{DimensionValues, Measures};
use reckon_schemas::redis_keys::{self, CellTotals};
use reckon_schemas::time::{EventTime, MICROS_PER_SECOND};
use reckon_schemas::window::Window;
use redis::Script;
use redis::aio::MultiplexedConnection;

use super::SinkError;
use crate::worker::tuning::Retention;

/// A script blocks Redis while it runs, so it is kept short.
const CELLS_MAX: usize = 256;
const BYTES_MAX: usize = 512 * 1024;

/// One cell of one partition with its version.
pub(super) struct VersionedCell<'a> {
    pub(super) tenant: &'a str,
    pub(super) rollup: &'a str,
    pub(super) event: &'a str,
    pub(super) values: &'a DimensionValues,
    pub(super) window: Window,
    pub(super) partition: i32,
    pub(super) version: i64,
    pub(super) measures: &'a Measures,
}

/// Collects cells of one tenant at a time, because all keys of a script must be in one slot.
pub(super) struct CellWriter<'a> {
    script: &'a Script,
    connection: MultiplexedConnection,
    retention: &'a Retention,
    now: EventTime,
    tenant: String,
    keys: Vec<String>,
    arguments: Vec<Vec<u8>>,
    bytes: usize,
}

impl<'a> CellWriter<'a> {
    pub(super) fn new(
        script: &'a Script,
        connection: MultiplexedConnection,
        retention: &'a Retention,
        now: EventTime,
    ) -> Self {
        let (keys, arguments) = (vec![], vec![]);
        Self { script, connection, retention, now, tenant: String::new(), keys, arguments, bytes: 0 }
    }

    /// Adds a cell, and writes those before it when there are enough. False if it is older than Redis keeps.
    pub(super) async fn add(&mut self, cell: &VersionedCell<'_>) -> Result<bool, SinkError> {
        let expires_at = cell.window.end.plus_micros(self.retention.micros_of(cell.window.grain));
        if expires_at <= self.now {
            return Ok(false);
        }
        if cell.tenant != self.tenant || self.keys.len() >= 2 * CELLS_MAX || self.bytes >= BYTES_MAX {
            self.write().await?;
            cell.tenant.clone_into(&mut self.tenant);
        }
        let VersionedCell { tenant, rollup, event, values, window, partition, version, measures } = cell;
        let totals = CellTotals { version: *version, count: measures.count, money: measures.money.clone() };
        let users = if measures.users.is_empty() { vec![] } else { measures.users.to_redis() };
        self.bytes += users.len() + 256;
        self.keys.push(redis_keys::cells(tenant, window, rollup, event));
        self.keys.push(redis_keys::users(tenant, window, rollup, event, *partition, values));
        self.arguments.push(redis_keys::cell_field(*partition, values).into_bytes());
        self.arguments.push(totals.encode().into_bytes());
        self.arguments.push(users);
        self.arguments.push(expires_at.0.div_euclid(MICROS_PER_SECOND).to_string().into_bytes());
        Ok(true)
    }

    /// Writes what is left.
    pub(super) async fn write(&mut self) -> Result<(), SinkError> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let mut invocation = self.script.prepare_invoke();
        for key in std::mem::take(&mut self.keys) {
            invocation.key(key);
        }
        for argument in std::mem::take(&mut self.arguments) {
            invocation.arg(argument);
        }
        self.bytes = 0;
        invocation.invoke_async::<()>(&mut self.connection).await?;
        Ok(())
    }
}
