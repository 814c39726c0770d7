//! Answers of a cluster, column by column, in the types that were asked for.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::prelude::DataFrame;
use futures::StreamExt;

use crate::recount::RecountError;

/// Runs a question and hands over its answer, batch by batch.
///
/// # Errors
/// [`RecountError::Unreadable`] if the cluster fails, or what the receiver returns.
pub(super) async fn each<E: From<RecountError>>(
    question: DataFrame,
    mut receive: impl FnMut(&RecordBatch) -> Result<(), E>,
) -> Result<(), E> {
    let mut answer = question.execute_stream().await.map_err(RecountError::from)?;
    while let Some(batch) = answer.next().await {
        receive(&batch.map_err(RecountError::from)?)?;
    }
    Ok(())
}

/// A column in a type.
fn column(batch: &RecordBatch, name: &str, data_type: &DataType) -> Result<ArrayRef, RecountError> {
    let wrong = |problem: String| RecountError::Damaged(format!("the cluster's answer, column {name}: {problem}"));
    let found = batch.column_by_name(name).ok_or_else(|| wrong("missing".to_owned()))?;
    cast(found, data_type).map_err(|error| wrong(error.to_string()))
}

/// Numbers, some of which may be null.
pub(super) fn numbers(batch: &RecordBatch, name: &str) -> Result<Int64Array, RecountError> {
    Ok(column(batch, name, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

/// Numbers of which none may be null.
pub(super) fn present(batch: &RecordBatch, name: &str) -> Result<Int64Array, RecountError> {
    let numbers = numbers(batch, name)?;
    if numbers.null_count() == 0 {
        return Ok(numbers);
    }
    Err(RecountError::Damaged(format!("the cluster's answer, column {name}: a number is missing")))
}

/// Texts, some of which may be null.
pub(super) fn texts(batch: &RecordBatch, name: &str) -> Result<StringArray, RecountError> {
    Ok(column(batch, name, &DataType::Utf8)?.as_string::<i32>().clone())
}

/// Lists of numbers, some of which may be null.
pub(super) fn lists(batch: &RecordBatch, name: &str) -> Result<ListArray, RecountError> {
    let list = DataType::List(Field::new_list_field(DataType::Int64, true).into());
    Ok(column(batch, name, &list)?.as_list::<i32>().clone())
}

/// The numbers of a list; none where it is null.
pub(super) fn list(lists: &ListArray, row: usize) -> Vec<i64> {
    if lists.is_null(row) {
        return Vec::new();
    }
    lists.value(row).as_primitive::<Int64Type>().iter().flatten().collect()
}

/// The number of a column, if it is there.
pub(super) fn known(numbers: &Int64Array, row: usize) -> Option<i64> {
    numbers.is_valid(row).then(|| numbers.value(row))
}

/// A batch of deliveries as the lake's own scan hands them over: texts as views.
pub(super) fn as_scanned(batch: &RecordBatch) -> Result<RecordBatch, RecountError> {
    let unexpected = |error: arrow::error::ArrowError| RecountError::Damaged(format!("the cluster's answer: {error}"));
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
        let array = match field.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 => cast(array, &DataType::Utf8View).map_err(unexpected)?,
            _ => array.clone(),
        };
        fields.push(Field::new(field.name(), array.data_type().clone(), true));
        columns.push(array);
    }
    RecordBatch::try_new(Schema::new(fields).into(), columns).map_err(unexpected)
}
