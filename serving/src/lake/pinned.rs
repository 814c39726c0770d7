//! One version of the lake.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::catalog::TableProvider;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext, cast, ident, lit};
use deltalake::kernel::LogicalFileView;
use deltalake::{DeltaTable, DeltaTableError, FilterOp, FilterValue};
use futures::TryStreamExt;
use jiff::Timestamp;
use jiff::civil::Date;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::lake::EXPIRED_ID;
use reckon_schemas::time::{EventTime, MICROS_PER_DAY};
use reckon_schemas::window::{Grain, WindowCursor};

use super::{STORE, broken, failed, unreadable};
use crate::access::meter;
use crate::stores::StoreError;

/// The table of events at one version, which stays the same whatever is archived meanwhile.
pub(crate) struct PinnedLake {
    table: DeltaTable,
    provider: Arc<dyn TableProvider>,
    context: SessionContext,
    committed_at: Option<Timestamp>,
    whole_from: Option<EventTime>,
}

impl PinnedLake {
    /// Pins the version that the table was loaded at.
    pub(super) async fn new(table: DeltaTable, runtime: Arc<RuntimeEnv>) -> Result<Self, StoreError> {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let config = SessionConfig::new().with_target_partitions(threads);
        let context = SessionContext::new_with_config_rt(config, runtime);
        table.update_datafusion_session(&context.state()).map_err(|error| unreadable(&error))?;
        let provider = table.table_provider().await.map_err(|error| failed(&error))?;
        let committed_at = committed_at(&table).await;
        let whole_from = whole_from(&table).await.map_err(|error| unreadable(&error))?;
        Ok(Self { table, provider, context, committed_at, whole_from })
    }

    /// The version.
    pub(crate) fn version(&self) -> u64 {
        self.table.version().unwrap_or_default()
    }

    /// When the version was committed, if the store still knows.
    pub(crate) fn committed_at(&self) -> Option<Timestamp> {
        self.committed_at
    }

    /// From when on it holds every event; always, if nothing has expired.
    pub(crate) fn whole_from(&self) -> Option<EventTime> {
        self.whole_from
    }

    /// A place in the memory that all questions share.
    pub(super) fn reserve(&self, what: &'static str) -> MemoryReservation {
        MemoryConsumer::new(what).register(&self.context.runtime_env().memory_pool)
    }

    /// Refuses to read a tenant that has more deliveries than may be read, before anything is read.
    ///
    /// # Errors
    /// [`StoreError::OverLimit`].
    pub(crate) async fn refuse_more_than(&self, rows_max: u64, tenant: &str) -> Result<(), StoreError> {
        let of_tenant = [("tenant", FilterOp::Eq, FilterValue::Scalar(tenant))];
        let files = self.table.get_active_add_actions_by_partitions(&of_tenant);
        let add = |rows: u64, file: LogicalFileView| async move {
            Ok::<u64, DeltaTableError>(rows.saturating_add(file.num_records().unwrap_or(0) as u64))
        };
        let rows = files.try_fold(0, add).await.map_err(|error| unreadable(&error))?;
        if rows <= rows_max {
            return Ok(());
        }
        Err(StoreError::OverLimit {
            store: STORE,
            problem: format!("{rows} deliveries, which are more than {rows_max}"),
        })
    }

    /// All of a tenant's deliveries.
    pub(super) fn rows(&self, tenant: &str) -> Result<DataFrame, StoreError> {
        let rows = self.context.read_table(Arc::clone(&self.provider));
        rows.and_then(|rows| rows.filter(ident("tenant").eq(lit(tenant)))).map_err(|error| failed(&error))
    }

    /// How many deliveries each calendar day of a tenant has.
    pub(super) async fn deliveries_by_day(&self, tenant: &Tenant) -> Result<BTreeMap<Date, u64>, StoreError> {
        let instants = self.rows(tenant.id.as_str())?.select([cast(ident("occurred_at"), DataType::Int64).alias("at")]);
        let mut days: BTreeMap<EventTime, u64> = BTreeMap::new();
        let mut cursor = WindowCursor::new(Grain::Day, tenant.time_zone.clone());
        for_each_batch(instants.map_err(|error| failed(&error))?, |batch| {
            for at in integers(batch, "at")?.iter().flatten() {
                *days.entry(cursor.window_at(EventTime(at)).start).or_default() += 1;
            }
            Ok(())
        })
        .await?;
        Ok(days.into_iter().map(|(start, count)| (tenant.time_zone.day_of(start), count)).collect())
    }
}

/// The first date that is still there, which a retention's commit has left.
async fn whole_from(table: &DeltaTable) -> Result<Option<EventTime>, DeltaTableError> {
    let snapshot = table.snapshot()?;
    let day = snapshot.transaction_version(table.log_store().as_ref(), EXPIRED_ID).await?;
    Ok(day.map(|day| EventTime(day.saturating_mul(MICROS_PER_DAY))))
}

/// By the commit's file, or by what it says of itself: the file of a checkpointed version is not listed any more.
async fn committed_at(table: &DeltaTable) -> Option<Timestamp> {
    let listed = table.snapshot().ok()?.version_timestamp(table.version()?);
    let at_ms = match listed {
        Some(at_ms) => at_ms,
        None => table.history(Some(1)).try_next().await.ok()??.timestamp?,
    };
    Timestamp::from_millisecond(at_ms).ok()
}

/// Reads a plan to its end, batch by batch, on the account of who asked.
pub(super) async fn for_each_batch(
    rows: DataFrame,
    mut receive: impl FnMut(&RecordBatch) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let context = Arc::new(rows.task_ctx());
    let plan = rows.create_physical_plan().await.map_err(|error| failed(&error))?;
    let mut stream = execute_stream(Arc::clone(&plan), context).map_err(|error| failed(&error))?;
    let read = async {
        while let Some(batch) = stream.try_next().await.map_err(|error| failed(&error))? {
            receive(&batch)?;
            // A batch is milliseconds of work; others get their turn.
            tokio::task::coop::consume_budget().await;
        }
        Ok(())
    };
    let read = read.await;
    meter::charge(rows_scanned(&plan));
    read
}

/// What the files gave, before anything was left out.
fn rows_scanned(plan: &Arc<dyn ExecutionPlan>) -> u64 {
    let children = plan.children();
    if children.is_empty() {
        return plan.metrics().and_then(|metrics| metrics.output_rows()).map_or(0, |rows| rows as u64);
    }
    children.into_iter().map(rows_scanned).sum()
}

/// A column of integers.
pub(super) fn integers<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a Int64Array, StoreError> {
    let column = batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
    column.ok_or_else(|| broken(format!("the column {name} is not one of integers")))
}

/// The integer of a row, which is there.
pub(super) fn integer(column: &Int64Array, row: usize) -> Option<i64> {
    column.is_valid(row).then(|| column.value(row))
}
