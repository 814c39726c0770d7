//! One tenant's files of a version of the lake, as executors find them.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use deltalake::DeltaTable;
use futures::TryStreamExt;
use jiff::civil::Date;
use reckon_schemas::ids::TenantId;
use reckon_schemas::lake::{EVENTS_COLUMNS, PARTITION_COLUMNS};
use reckon_schemas::time::{EventTime, Zone};
use url::Url;

use crate::lake;
use crate::recount::RecountError;

/// The files, each with the date that its rows are filed under.
pub(super) struct Files(Vec<(Date, Url)>);

impl Files {
    /// # Errors
    /// [`RecountError::Unreadable`] if the table's log cannot be read, [`RecountError::Damaged`] if a file is filed under
    /// no date.
    pub(super) async fn of(table: &DeltaTable, tenant: &TenantId, since: Option<Date>) -> Result<Self, RecountError> {
        let mut views = table.get_active_add_actions_by_partitions(&[]);
        let mut files = Vec::new();
        while let Some(view) = views.try_next().await? {
            let mut values = view.partition_values_map();
            if values.remove("tenant").flatten().as_deref() != Some(tenant.as_str()) {
                continue;
            }
            let path = view.object_store_path();
            let date = values.remove("event_date").flatten().and_then(|date| date.parse().ok());
            let date = date.ok_or_else(|| RecountError::Damaged(format!("{path} is filed under no date")))?;
            let mut url = table.table_url().clone();
            if let Ok(mut segments) = url.path_segments_mut() {
                segments.pop_if_empty().extend(path.parts().map(|part| part.as_ref().to_owned()));
            }
            if since.is_none_or(|since| date >= since) {
                files.push((date, url));
            }
        }
        Ok(Self(files))
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Url> {
        self.0.iter().map(|(_, url)| url.clone()).collect()
    }

    /// Those that a span of event time may be in, and all others.
    pub(super) fn divided(&self, span: &Range<EventTime>) -> (Vec<Url>, Vec<Url>) {
        // Files are filed under dates of universal time.
        let dates = Zone::UTC.day_of(span.start)..=Zone::UTC.day_of(span.end.plus_micros(-1));
        let (here, elsewhere): (Vec<_>, Vec<_>) = self.0.iter().partition(|(date, _)| dates.contains(date));
        let urls = |files: Vec<&(Date, Url)>| files.into_iter().map(|(_, url)| url.clone()).collect();
        (urls(here), urls(elsewhere))
    }
}

/// A table of some files, at least one. What they are filed under is not in them.
pub(super) fn table(files: &[Url]) -> Result<Arc<ListingTable>, RecountError> {
    let urls = files.iter().map(|url| ListingTableUrl::try_new(url.clone(), None)).collect::<Result<Vec<_>, _>>()?;
    let options = ListingOptions::new(Arc::new(ParquetFormat::default())).with_file_extension(".parquet");
    let schema = lake::arrow_schema(EVENTS_COLUMNS);
    let fields = schema.fields().iter().filter(|field| !PARTITION_COLUMNS.contains(&field.name().as_str()));
    let schema = Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()));
    let config = ListingTableConfig::new_with_multi_paths(urls).with_listing_options(options).with_schema(schema);
    Ok(Arc::new(ListingTable::try_new(config)?))
}
