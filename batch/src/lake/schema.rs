//! The columns of [`reckon_schemas::lake`] in Delta's and Arrow's own types.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use deltalake::DeltaTable;
use deltalake::kernel::engine::arrow_conversion::TryIntoArrow;
use deltalake::kernel::{DataType, MapType, StructField, StructType};
use reckon_schemas::lake::{Column, ColumnType, PARTITION_COLUMNS};

use super::LakeError;

/// How many commits lie between two checkpoints: opening a table reads the last checkpoint and what came after it.
const CHECKPOINT_INTERVAL: &str = "20";

/// The Arrow schema of a table's columns, exactly as the table's files have it (instants in UTC microseconds).
#[must_use]
pub fn arrow_schema(columns: &[Column]) -> SchemaRef {
    let delta = StructType::try_new(delta_fields(columns)).expect("column names are unique");
    let schema: Schema = (&delta).try_into_arrow().expect("every column type has an Arrow type");
    Arc::new(schema)
}

pub(super) fn delta_fields(columns: &[Column]) -> Vec<StructField> {
    columns
        .iter()
        .map(|column| {
            let data_type: DataType = match column.column_type {
                ColumnType::Int => DataType::INTEGER,
                ColumnType::Long | ColumnType::Key => DataType::LONG,
                ColumnType::Text => DataType::STRING,
                ColumnType::Bytes => DataType::BINARY,
                ColumnType::Date => DataType::DATE,
                ColumnType::Timestamp => DataType::TIMESTAMP,
                ColumnType::TextMap => MapType::new(DataType::STRING, DataType::STRING, false).into(),
            };
            StructField::new(column.name, data_type, column.nullable)
        })
        .collect()
}

/// The table properties. Statistics are kept for what readers prune by; those of texts and raw bytes would make every
/// commit larger and help nobody.
pub(super) fn configuration(columns: &[Column]) -> Vec<(&'static str, Option<String>)> {
    let pruned_by: Vec<&str> = columns
        .iter()
        .filter(|column| matches!(column.column_type, ColumnType::Int | ColumnType::Long | ColumnType::Timestamp))
        .map(|column| column.name)
        .collect();
    vec![
        ("delta.checkpointInterval", Some(CHECKPOINT_INTERVAL.to_owned())),
        // Not `delta.appendOnly`: what is older than the retention leaves, by whole dates.
        ("delta.dataSkippingStatsColumns", Some(pruned_by.join(","))),
    ]
}

/// Whether a loaded table is the one that this build reads and writes.
pub(super) fn check(table: &DeltaTable, name: &'static str, columns: &[Column]) -> Result<(), LakeError> {
    let incompatible = |reason: String| LakeError::Incompatible { table: name, reason };
    let snapshot = table.snapshot().map_err(|error| incompatible(error.to_string()))?;
    let found = snapshot.metadata().partition_columns();
    if found != PARTITION_COLUMNS.as_slice() {
        return Err(incompatible(format!("it is partitioned by {found:?} instead of {PARTITION_COLUMNS:?}")));
    }
    let expected = delta_fields(columns);
    let schema = snapshot.schema();
    for field in &expected {
        match schema.field(field.name()) {
            None => return Err(incompatible(format!("it has no column {:?}", field.name()))),
            Some(found) if found.data_type() != field.data_type() => {
                return Err(incompatible(format!(
                    "column {:?} is {} instead of {}",
                    field.name(),
                    found.data_type(),
                    field.data_type()
                )));
            }
            Some(_) => {}
        }
    }
    match schema.fields().find(|found| expected.iter().all(|field| field.name() != found.name())) {
        Some(unknown) => Err(incompatible(format!("it has a column {:?} that is unknown here", unknown.name()))),
        None => Ok(()),
    }
}
