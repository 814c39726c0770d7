//! Cells on their way into Redis: collected to scripts of bounded size, and those to round trips.

use reckon_schemas::cell::{DimensionValues, Measures};
use reckon_schemas::redis_keys::{self, CellTotals};
use reckon_schemas::time::{EventTime, MICROS_PER_SECOND};
use reckon_schemas::window::{PerGrain, Window};
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, Script};

use super::SinkError;
use crate::worker::windows::FlushedTop;

/// A script blocks Redis while it runs, so it is kept short.
const CELLS_MAX: usize = 256;
const BYTES_MAX: usize = 512 * 1024;
/// So many scripts go in one round trip.
const SCRIPTS_MAX: usize = 16;

/// The cells of one window, rollup and event name that were flushed together by one partition.
pub(super) struct Group<'a> {
    pub(super) tenant: &'a str,
    pub(super) rollup: &'a str,
    pub(super) event: &'a str,
    pub(super) window: Window,
    pub(super) partition: i32,
    pub(super) version: i64,
}

/// Collects cells of one tenant at a time, because all keys of a script must be in one slot.
pub(super) struct CellWriter<'a> {
    script: &'a Script,
    connection: MultiplexedConnection,
    retention: &'a PerGrain,
    now: EventTime,
    tenant: String,
    keys: Vec<String>,
    arguments: Vec<Vec<u8>>,
    bytes: usize,
    scripts: Pipeline,
}

impl<'a> CellWriter<'a> {
    pub(super) fn new(
        script: &'a Script,
        connection: MultiplexedConnection,
        retention: &'a PerGrain,
        now: EventTime,
    ) -> Self {
        Self {
            script,
            connection,
            retention,
            now,
            tenant: String::new(),
            keys: vec![],
            arguments: vec![],
            bytes: 0,
            scripts: redis::pipe(),
        }
    }

    /// Whether Redis still keeps cells of a window.
    pub(super) fn keeps(&self, window: &Window) -> bool {
        self.expiry(window) > self.now
    }

    /// Adds the cells of a group, and writes those before it when there are enough.
    pub(super) async fn add(
        &mut self,
        group: &Group<'_>,
        cells: &[(&DimensionValues, &Measures)],
    ) -> Result<(), SinkError> {
        let Group { tenant, rollup, event, window, partition, version } = group;
        for cells in cells.chunks(CELLS_MAX) {
            self.make_room(tenant, cells.len()).await?;
            self.open_group(window, *version, cells.len(), redis_keys::cells(tenant, window, rollup, event));
            for (values, measures) in cells {
                let mut totals = String::with_capacity(32);
                CellTotals::write(*version, measures.count, &measures.sums, &mut totals);
                let users = if measures.users.is_empty() { vec![] } else { measures.users.to_redis() };
                self.bytes += users.len() + 256;
                self.keys.push(redis_keys::users(tenant, window, rollup, event, *partition, values));
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
        self.open_group(&top.window, version, 1, key.clone());
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

    fn open_group(&mut self, window: &Window, version: i64, cells: usize, key: String) {
        let expiry_s = self.expiry(window).0.div_euclid(MICROS_PER_SECOND);
        let cells = i64::try_from(cells).expect("at most CELLS_MAX");
        self.keys.push(key);
        self.arguments.extend([version, expiry_s, cells].map(|number| number.to_string().into_bytes()));
    }

    /// Writes what is left.
    pub(super) async fn finish(mut self) -> Result<(), SinkError> {
        self.close_script().await?;
        self.send().await
    }

    async fn close_script(&mut self) -> Result<(), SinkError> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let mut invocation = self.script.prepare_invoke();
        for key in self.keys.drain(..) {
            invocation.key(key);
        }
        for argument in self.arguments.drain(..) {
            invocation.arg(argument);
        }
        self.bytes = 0;
        self.scripts.invoke_script(&invocation).ignore();
        if self.scripts.len() >= SCRIPTS_MAX { self.send().await } else { Ok(()) }
    }

    async fn send(&mut self) -> Result<(), SinkError> {
        if !self.scripts.is_empty() {
            self.scripts.query_async::<()>(&mut self.connection).await?;
            self.scripts.clear();
        }
        Ok(())
    }

    fn expiry(&self, window: &Window) -> EventTime {
        window.end.plus_micros(self.retention.micros_of(window.grain))
    }
}
