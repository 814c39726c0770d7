//! Reading one version of the lake with DataFusion.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type};
use datafusion::catalog::TableProvider;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::{execute_stream, execute_stream_partitioned};
use datafusion::prelude::{DataFrame, Expr, SessionConfig, SessionContext, cast, ident, lit};
use datafusion::scalar::ScalarValue;
use deltalake::DeltaTable;
use futures::StreamExt;
use jiff::civil::Date;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::cell::Rollup;
use reckon_schemas::sums::Unit;
use reckon_schemas::time::{EventTime, day_number};
use reckon_schemas::window::{Grain, WindowCursor};
use tokio::task::JoinSet;

use super::deliveries::{Deliveries, SIGHTING_COLUMNS, SightingRows, counted_columns};
use super::firsts::{FirstDeliveries, KeyFilter, Sightings, find_firsts};
use super::partitions::Budget;
use super::reading::{Reading, scanned_bytes};
use super::{Delivery, RecountError};
use crate::lake;

/// The lake's table of events at one version, which stays the same whatever is archived meanwhile.
pub(crate) struct PinnedLake {
    context: SessionContext,
    table: DeltaTable,
    provider: Arc<dyn TableProvider>,
    threads: usize,
    /// What is filed under earlier dates is left out.
    since: Option<Date>,
    reading: Arc<Reading>,
}

/// Which of a tenant's rows are read, by the dates that they are filed under.
#[derive(Clone, Debug)]
pub(super) enum Dates {
    All,
    /// Those that a span of event time may be in.
    Of(Range<EventTime>),
    /// All others.
    NotOf(Range<EventTime>),
    /// Those in these files.
    In(Vec<String>),
}

impl PinnedLake {
    /// Pins the version that the table was loaded at.
    ///
    /// # Errors
    /// [`RecountError::Unreadable`] if the table cannot be read.
    pub(crate) async fn new(table: &DeltaTable) -> Result<Self, RecountError> {
        Self::measured(table, &Arc::default()).await
    }

    /// The same; what is read of it is added to `reading`.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) async fn measured(table: &DeltaTable, reading: &Arc<Reading>) -> Result<Self, RecountError> {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(threads));
        table.update_datafusion_session(&context.state())?;
        let (provider, table) = (table.table_provider().await?, table.clone());
        Ok(Self { table, provider, context, threads, since: None, reading: Arc::clone(reading) })
    }

    /// The same version, but only what is filed under a date and later ones.
    pub(crate) fn since(self, since: Option<Date>) -> Self {
        Self { since, ..self }
    }

    /// The version.
    pub(crate) fn version(&self) -> u64 {
        lake::version(&self.table)
    }

    /// The table at that version.
    pub(crate) fn table(&self) -> &DeltaTable {
        &self.table
    }

    /// What is read is added to this.
    pub(crate) fn reading(&self) -> &Arc<Reading> {
        &self.reading
    }

    /// How many threads read at once.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// How many deliveries the lake holds for each calendar day of a tenant.
    ///
    /// # Errors
    /// [`RecountError`].
    pub(crate) async fn deliveries_by_day(&self, tenant: &Tenant) -> Result<BTreeMap<Date, u64>, RecountError> {
        let mut days: BTreeMap<EventTime, (Date, u64)> = BTreeMap::new();
        let mut cursor = WindowCursor::new(Grain::Day, tenant.time_zone.clone());
        self.scan::<RecountError>(tenant, Dates::All, &["occurred_at"], |batch| {
            let instants = batch.column(0).as_primitive_opt::<Int64Type>();
            let instants = instants.ok_or_else(|| RecountError::Damaged("occurred_at is no instant".to_owned()))?;
            for at in instants {
                let at = at.ok_or_else(|| RecountError::Damaged("occurred_at is missing".to_owned()))?;
                let start = cursor.window_at(EventTime(at)).start;
                days.entry(start).or_insert_with(|| (tenant.time_zone.day_of(start), 0)).1 += 1;
            }
            Ok(())
        })
        .await?;
        Ok(days.into_values().collect())
    }

    /// The first delivery of every event of which one lies in `span`, which holds about so many. If there are deliveries
    /// outside of it, as `elsewhere` says, all of the tenant's are read.
    ///
    /// # Errors
    /// [`RecountError`].
    pub(crate) async fn first_deliveries(
        &self,
        tenant: &Tenant,
        span: Range<EventTime>,
        deliveries: u64,
        elsewhere: bool,
        budget: &Arc<Budget>,
    ) -> Result<FirstDeliveries, RecountError> {
        let wanted = elsewhere.then(|| KeyFilter::for_keys(deliveries));
        let begin = || (Sightings::new(budget), wanted.clone());
        let read = |(sightings, filter): &mut (Sightings, Option<KeyFilter>), batch: &RecordBatch| {
            let rows = SightingRows::new(batch)?;
            for row in 0..batch.num_rows() {
                let sighting = rows.get(row)?;
                sightings.push(&sighting)?;
                if let Some(filter) = filter {
                    filter.insert(sighting.key);
                }
            }
            Ok(())
        };
        let found = self.scan_on_threads(tenant, Dates::Of(span.clone()), &SIGHTING_COLUMNS, begin, read).await?;
        let (here, filters): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        let filter = filters.into_iter().flatten().reduce(|mut all, filter| {
            all.extend(&filter);
            all
        });
        let elsewhere = match filter {
            None => Vec::new(),
            Some(filter) => {
                let filter = Arc::new(filter);
                let read = move |sightings: &mut Sightings, batch: &RecordBatch| {
                    let rows = SightingRows::new(batch)?;
                    for row in 0..batch.num_rows() {
                        let sighting = rows.get(row)?;
                        if filter.may_contain(sighting.key) {
                            sightings.push(&sighting)?;
                        }
                    }
                    Ok(())
                };
                let begin = || Sightings::new(budget);
                self.scan_on_threads(tenant, Dates::NotOf(span), &SIGHTING_COLUMNS, begin, read).await?
            }
        };
        let threads = self.threads;
        in_background(move || find_firsts(here, elsewhere, threads)).await
    }

    /// Hands over every delivery of a span of event time, and some around it, in no order.
    ///
    /// # Errors
    /// [`RecountError`], or what the receiver returns.
    pub(crate) async fn deliveries<E: From<RecountError>>(
        &self,
        tenant: &Tenant,
        span: Range<EventTime>,
        mut receive: impl FnMut(Delivery<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (rollups, summed) = (tenant.counted_rollups(), tenant.summed_properties());
        let tops = tenant.tops().into_iter().map(|(_, property)| property);
        let columns = counted_columns(counted_properties(&rollups, &summed).into_iter().chain(tops));
        self.scan(tenant, Dates::Of(span), &columns, |batch| {
            let deliveries = Deliveries::new(batch)?;
            (0..batch.num_rows()).try_for_each(|row| receive(deliveries.get(row)?))
        })
        .await
    }

    /// Hands over every delivery, with what these rollups group by, on several threads, each with a state of its own,
    /// and returns the states.
    ///
    /// # Errors
    /// [`RecountError`], also what `receive` returns.
    pub(crate) async fn deliveries_on_threads<S: Send + 'static>(
        &self,
        tenant: &Tenant,
        rollups: &[Rollup],
        begin: impl Fn() -> S,
        receive: impl Fn(&mut S, &Delivery<'_>) -> Result<(), RecountError> + Send + Sync + 'static,
    ) -> Result<Vec<S>, RecountError> {
        let read = move |state: &mut S, batch: &RecordBatch| {
            let deliveries = Deliveries::new(batch)?;
            (0..batch.num_rows()).try_for_each(|row| receive(state, &deliveries.get(row)?))
        };
        let columns = counted_columns(counted_properties(rollups, &[]));
        self.scan_on_threads(tenant, Dates::All, &columns, begin, read).await
    }

    /// Reads columns of a tenant's rows.
    pub(super) async fn scan<E: From<RecountError>>(
        &self,
        tenant: &Tenant,
        dates: Dates,
        columns: &[&str],
        receive: impl FnMut(&RecordBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        let rows = self.rows(tenant, dates).await?;
        self.read_all(rows, columns, receive).await
    }

    /// Reads columns of those of a tenant's rows that fulfil a condition.
    pub(super) async fn scan_where(
        &self,
        tenant: &Tenant,
        condition: Expr,
        columns: &[&str],
        receive: impl FnMut(&RecordBatch) -> Result<(), RecountError>,
    ) -> Result<(), RecountError> {
        let rows = self.rows(tenant, Dates::All).await?.filter(condition)?;
        self.read_all(rows, columns, receive).await
    }

    /// Reads columns of a tenant's rows on several threads, each with a state of its own.
    pub(super) async fn scan_on_threads<S: Send + 'static>(
        &self,
        tenant: &Tenant,
        dates: Dates,
        columns: &[&str],
        begin: impl Fn() -> S,
        read: impl Fn(&mut S, &RecordBatch) -> Result<(), RecountError> + Send + Sync + 'static,
    ) -> Result<Vec<S>, RecountError> {
        let rows = selected(self.rows(tenant, dates).await?, columns)?;
        let (task, plan) = (Arc::new(rows.task_ctx()), rows.create_physical_plan().await?);
        let streams = execute_stream_partitioned(Arc::clone(&plan), task)?;
        let read = Arc::new(read);
        // Dropped with this future, the set stops every thread.
        let mut threads = JoinSet::new();
        for mut stream in streams {
            let (mut state, read, reading) = (begin(), Arc::clone(&read), Arc::clone(&self.reading));
            threads.spawn(async move {
                while let Some(batch) = SendableRecordBatchStream::next(&mut stream).await {
                    let batch = batch?;
                    reading.add_rows(batch.num_rows());
                    read(&mut state, &batch)?;
                }
                Ok::<S, RecountError>(state)
            });
        }
        let mut states = Vec::with_capacity(threads.len());
        while let Some(ended) = threads.join_next().await {
            states.push(ended.map_err(|error| RecountError::Unreadable(Box::new(error)))??);
        }
        self.reading.add_bytes(scanned_bytes(plan.as_ref()));
        Ok(states)
    }

    async fn read_all<E: From<RecountError>>(
        &self,
        rows: DataFrame,
        columns: &[&str],
        mut receive: impl FnMut(&RecordBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        let rows = selected(rows, columns)?;
        let task = Arc::new(rows.task_ctx());
        let plan = rows.create_physical_plan().await.map_err(RecountError::from)?;
        let mut stream = execute_stream(Arc::clone(&plan), task).map_err(RecountError::from)?;
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(RecountError::from)?;
            self.reading.add_rows(batch.num_rows());
            receive(&batch)?;
        }
        self.reading.add_bytes(scanned_bytes(plan.as_ref()));
        Ok(())
    }

    async fn rows(&self, tenant: &Tenant, dates: Dates) -> Result<DataFrame, RecountError> {
        let provider: Arc<dyn TableProvider> = match &dates {
            Dates::In(files) => Arc::new(self.table.table_provider().with_file_paths(files).build().await?),
            _ => Arc::clone(&self.provider),
        };
        let mut rows = self.context.read_table(provider)?;
        rows = rows.filter(ident("tenant").eq(lit(tenant.id.as_str())))?;
        if let Some(since) = self.since {
            rows = rows.filter(ident("event_date").gt_eq(lit(ScalarValue::Date32(Some(day_number(since))))))?;
        }
        let date = |at: EventTime| lit(ScalarValue::Date32(Some(at.utc_day_number())));
        let (first, last) = match &dates {
            Dates::All | Dates::In(_) => (lit(true), lit(true)),
            Dates::Of(span) | Dates::NotOf(span) => (date(span.start), date(span.end.plus_micros(-1))),
        };
        Ok(match dates {
            Dates::All | Dates::In(_) => rows,
            Dates::Of(_) => rows.filter(ident("event_date").gt_eq(first).and(ident("event_date").lt_eq(last)))?,
            Dates::NotOf(_) => rows.filter(ident("event_date").lt(first).or(ident("event_date").gt(last)))?,
        })
    }
}

fn selected(rows: DataFrame, columns: &[&str]) -> Result<DataFrame, RecountError> {
    Ok(rows.select(columns.iter().map(|name| typed(name)))?)
}

/// The properties that rollups group by and that are summed, each once.
pub(crate) fn counted_properties<'a>(rollups: &'a [Rollup], summed: &'a [Unit]) -> Vec<&'a str> {
    let dimensions = rollups.iter().flat_map(|rollup| rollup.dimensions()).map(String::as_str);
    let summed = summed.iter().filter_map(|unit| match unit {
        Unit::Property(name) => Some(name.as_ref()),
        Unit::Currency(_) => None,
    });
    let mut properties: Vec<&str> = dimensions.chain(summed).collect();
    properties.sort_unstable();
    properties.dedup();
    properties
}

/// Runs what computes and does not wait, where it holds nobody up.
pub(crate) async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RecountError> + Send + 'static,
) -> Result<T, RecountError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| RecountError::Unreadable(Box::new(error)))?
}

/// A column in the type that its reader expects, whatever the scan makes of it.
fn typed(name: &str) -> Expr {
    let data_type = match name {
        "event_id" | "name" | "user_id" | "currency" | "country" | "device" => DataType::Utf8View,
        "partition" => DataType::Int32,
        "properties" => {
            let text = |name, nullable| Field::new(name, DataType::Utf8, nullable);
            let entries = DataType::Struct(vec![text("key", false), text("value", true)].into());
            DataType::Map(Arc::new(Field::new("key_value", entries, false)), false)
        }
        _ => DataType::Int64,
    };
    cast(ident(name), data_type).alias(name)
}
