//! Reading one version of the lake with DataFusion.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type};
use datafusion::catalog::TableProvider;
use datafusion::prelude::{Expr, SessionConfig, SessionContext, cast, ident, lit};
use datafusion::scalar::ScalarValue;
use deltalake::DeltaTable;
use futures::StreamExt;
use jiff::civil::Date;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::time::EventTime;
use reckon_schemas::window::{Grain, WindowCursor};

use super::deliveries::{COUNTED_COLUMNS, Deliveries, KEY_COLUMNS, Keys};
use super::{Delivery, FirstDeliveries, RecountError};
use crate::lake;

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// The lake's table of events at one version, which stays the same whatever is archived meanwhile.
pub(crate) struct PinnedLake {
    context: SessionContext,
    provider: Arc<dyn TableProvider>,
    version: u64,
}

impl PinnedLake {
    /// Pins the version that the table was loaded at.
    ///
    /// # Errors
    /// [`RecountError::Unreadable`] if the table cannot be read.
    pub(crate) async fn new(table: &DeltaTable) -> Result<Self, RecountError> {
        let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
        table.update_datafusion_session(&context.state())?;
        Ok(Self { provider: table.table_provider().await?, version: lake::version(table), context })
    }

    /// The version.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// How many deliveries the lake holds for each calendar day of a tenant.
    ///
    /// # Errors
    /// [`RecountError`].
    pub(crate) async fn deliveries_by_day(&self, tenant: &Tenant) -> Result<BTreeMap<Date, u64>, RecountError> {
        let mut days: BTreeMap<EventTime, (Date, u64)> = BTreeMap::new();
        let mut cursor = WindowCursor::new(Grain::Day, tenant.time_zone.clone());
        self.scan::<RecountError>(tenant, None, &["occurred_at"], |batch| {
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

    /// The first delivery of every event of which one lies in `span`. If there are deliveries outside of it, as
    /// `elsewhere` says, all of the tenant's are read.
    ///
    /// # Errors
    /// [`RecountError`].
    pub(crate) async fn first_deliveries(
        &self,
        tenant: &Tenant,
        span: Range<EventTime>,
        deliveries: u64,
        elsewhere: bool,
    ) -> Result<FirstDeliveries, RecountError> {
        let mut firsts = FirstDeliveries::with_capacity(usize::try_from(deliveries).unwrap_or(0));
        let name = tenant.id.as_str();
        self.scan::<RecountError>(tenant, Some(span), &KEY_COLUMNS, |batch| {
            let keys = Keys::new(name, batch)?;
            (0..batch.num_rows()).map(|row| keys.get(row)).for_each(|(key, at)| firsts.enter(key, at));
            Ok(())
        })
        .await?;
        if elsewhere {
            self.scan::<RecountError>(tenant, None, &KEY_COLUMNS, |batch| {
                let keys = Keys::new(name, batch)?;
                (0..batch.num_rows()).map(|row| keys.get(row)).for_each(|(key, at)| firsts.enter_known(key, at));
                Ok(())
            })
            .await?;
        }
        Ok(firsts)
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
        let columns = [KEY_COLUMNS.as_slice(), COUNTED_COLUMNS.as_slice()].concat();
        self.scan(tenant, Some(span), &columns, |batch| {
            let deliveries = Deliveries::new(tenant.id.as_str(), batch)?;
            (0..batch.num_rows()).try_for_each(|row| receive(deliveries.get(row)?))
        })
        .await
    }

    /// Reads columns of a tenant's rows; with a span of event time only the files of its dates.
    async fn scan<E: From<RecountError>>(
        &self,
        tenant: &Tenant,
        span: Option<Range<EventTime>>,
        columns: &[&str],
        mut receive: impl FnMut(&RecordBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut stream = self.stream(tenant, span, columns).await?;
        while let Some(batch) = stream.next().await {
            receive(&batch.map_err(RecountError::from)?)?;
        }
        Ok(())
    }

    async fn stream(
        &self,
        tenant: &Tenant,
        span: Option<Range<EventTime>>,
        columns: &[&str],
    ) -> Result<datafusion::execution::SendableRecordBatchStream, RecountError> {
        let mut rows = self.context.read_table(Arc::clone(&self.provider))?;
        rows = rows.filter(ident("tenant").eq(lit(tenant.id.as_str())))?;
        if let Some(span) = span {
            let date = |at: i64| {
                let day =
                    i32::try_from(at.div_euclid(MICROS_PER_DAY)).unwrap_or(if at < 0 { i32::MIN } else { i32::MAX });
                lit(ScalarValue::Date32(Some(day)))
            };
            let first = ident("event_date").gt_eq(date(span.start.0));
            let last = ident("event_date").lt_eq(date(span.end.0.saturating_sub(1)));
            rows = rows.filter(first.and(last))?;
        }
        Ok(rows.select(columns.iter().map(|name| typed(name)))?.execute_stream().await?)
    }
}

/// A column in the type that its reader expects, whatever view or dictionary the scan makes of it.
fn typed(name: &str) -> Expr {
    let data_type = match name {
        "partition" => DataType::Int32,
        "offset" | "log_time" | "occurred_at" | "amount_minor" => DataType::Int64,
        "properties" => {
            let text = |name, nullable| Field::new(name, DataType::Utf8, nullable);
            let entries = DataType::Struct(vec![text("key", false), text("value", true)].into());
            DataType::Map(Arc::new(Field::new("key_value", entries, false)), false)
        }
        _ => DataType::Utf8,
    };
    cast(ident(name), data_type).alias(name)
}
