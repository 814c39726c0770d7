//! Cells on their way into Redis: collected to scripts of bounded size, and those to round trips.

use reckon_schemas::cell::DimensionValues;
use reckon_schemas::redis_keys::{self, CellTotals};
use reckon_schemas::sums::Sums;
use reckon_schemas::time::{EventTime, MICROS_PER_SECOND};
use reckon_schemas::window::{PerGrain, Window};
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, Script};

use super::SinkError;
use crate::worker::windows::{FlushedTop, FreshUsers};

/// A script blocks Redis while it runs, so it is kept short.
const CELLS_MAX: usize = 256;
const BYTES_MAX: usize = 512 * 1024;
/// So many scripts go in one round trip.
const SCRIPTS_MAX: usize = 4;

/// What the cells of a hash have in common.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Group<'a> {
    pub(super) tenant: &'a str,
    pub(super) rollup: &'a str,
    pub(super) event: &'a str,
    pub(super) window: Window,
}

/// What a partition has counted of a cell.
#[derive(Clone, Copy)]
pub(super) struct CellContent<'a> {
    pub(super) partition: i32,
    pub(super) version: i64,
    pub(super) values: &'a DimensionValues,
    pub(super) count: u64,
    pub(super) sums: &'a Sums,
    pub(super) users: &'a FreshUsers,
}

/// Redis does not have any more what it had when the writer looked at it.
pub(super) struct Lost;

/// Collects cells of one tenant at a time, because all keys of a script must be in one slot.
pub(super) struct CellWriter<'a> {
    script: &'a Script,
    connection: MultiplexedConnection,
    retention: &'a PerGrain,
    now: EventTime,
    /// The key of the epoch, and the epoch.
    epoch: (String, &'a str),
    tenant: String,
    keys: Vec<String>,
    arguments: Vec<Vec<u8>>,
    bytes: usize,
    scripts: Pipeline,
    is_lost: bool,
}

impl<'a> CellWriter<'a> {
    pub(super) fn new(
        script: &'a Script,
        connection: MultiplexedConnection,
        retention: &'a PerGrain,
        now: EventTime,
        epoch: (String, &'a str),
    ) -> Self {
        Self {
            script,
            connection,
            retention,
            now,
            epoch,
            tenant: String::new(),
            keys: vec![],
            arguments: vec![],
            bytes: 0,
            scripts: redis::pipe(),
            is_lost: false,
        }
    }

    /// Whether Redis still keeps cells of a window.
    pub(super) fn keeps(&self, window: &Window) -> bool {
        self.expiry(window) > self.now
    }

    /// Adds the cells of a group, and writes those before it when there are enough.
    pub(super) async fn add(&mut self, group: &Group<'_>, cells: &[CellContent<'_>]) -> Result<(), SinkError> {
        let Group { tenant, rollup, event, window } = group;
        for cells in cells.chunks(CELLS_MAX) {
            self.make_room(tenant, cells.len()).await?;
            self.open_group(window, cells.len(), redis_keys::cells(tenant, window, rollup, event));
            for CellContent { partition, version, values, count, sums, users } in cells {
                let mut totals = String::with_capacity(64);
                let (beside, key, users) = match users {
                    FreshUsers::Beside(sketch) => (Some(sketch), String::new(), vec![]),
                    FreshUsers::Key(bytes) => {
                        let key = redis_keys::users(tenant, window, rollup, event, *partition, values);
                        (None, key, bytes.clone())
                    }
                };
                CellTotals::write(*version, *count, sums, beside, &mut totals);
                self.bytes += users.len() + 256;
                self.keys.push(key);
                self.arguments.push(redis_keys::cell_field(*partition, values).into_bytes());
                self.arguments.push(totals.into_bytes());
                self.arguments.push(users);
            }
        }
        Ok(())
    }

    /// Adds the most frequent values of a window.
    pub(super) async fn add_top(&mut self, top: &FlushedTop, partition: i32, version: i64) -> Result<(), SinkError> {
        if !self.keeps(&top.window) {
            return Ok(());
        }
        self.make_room(top.tenant(), 1).await?;
        let key = redis_keys::top(top.tenant(), &top.window, top.property(), top.event());
        let value = redis_keys::top_value(version, &top.sketch);
        self.bytes += value.len();
        // A group of one, without users.
        self.open_group(&top.window, 1, key.clone());
        self.keys.push(key);
        self.arguments.extend([partition.to_string().into_bytes(), value, vec![]]);
        Ok(())
    }

    async fn make_room(&mut self, tenant: &str, cells: usize) -> Result<(), SinkError> {
        if tenant != self.tenant || self.keys.len() + cells > CELLS_MAX || self.bytes >= BYTES_MAX {
            self.close_script().await?;
            tenant.clone_into(&mut self.tenant);
        }
        Ok(())
    }

    fn open_group(&mut self, window: &Window, cells: usize, key: String) {
        let expiry_s = self.expiry(window).0.div_euclid(MICROS_PER_SECOND);
        self.keys.push(key);
        self.arguments.extend([expiry_s.to_string().into_bytes(), cells.to_string().into_bytes()]);
    }

    /// Writes what is left. `Lost` where not everything could be written.
    pub(super) async fn finish(mut self) -> Result<Result<(), Lost>, SinkError> {
        self.close_script().await?;
        self.send().await?;
        Ok(if self.is_lost { Err(Lost) } else { Ok(()) })
    }

    async fn close_script(&mut self) -> Result<(), SinkError> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let mut invocation = self.script.prepare_invoke();
        let (epoch_key, epoch) = &self.epoch;
        invocation.key(epoch_key).arg(*epoch);
        for key in self.keys.drain(..) {
            invocation.key(key);
        }
        for argument in self.arguments.drain(..) {
            invocation.arg(argument);
        }
        self.bytes = 0;
        self.scripts.invoke_script(&invocation);
        if self.scripts.len() >= SCRIPTS_MAX { self.send().await } else { Ok(()) }
    }

    async fn send(&mut self) -> Result<(), SinkError> {
        if !self.scripts.is_empty() {
            let lost: Vec<i64> = self.scripts.query_async(&mut self.connection).await?;
            self.is_lost |= lost.iter().any(|cells| *cells != 0);
            self.scripts.clear();
        }
        Ok(())
    }

    fn expiry(&self, window: &Window) -> EventTime {
        window.end.plus_micros(self.retention.micros_of(window.grain))
    }
}
