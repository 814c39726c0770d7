//! The real data: a year of grocery purchases (Complete Journey, CC0), read from its Parquet files.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type, TimestampNanosecondType};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use reckon_schemas::time::{EventTime, Zone};

/// The zone of the stores, in which the data's days begin and end.
pub(crate) const TIME_ZONE: &str = "America/New_York";

/// One line of a till receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Purchase {
    pub(crate) basket: i64,
    pub(crate) product: i64,
    pub(crate) household: i64,
    pub(crate) store: i64,
    pub(crate) quantity: i64,
    /// Cents of US dollars.
    pub(crate) cents: i64,
    pub(crate) at: EventTime,
    /// `None` where the products file has no department for the product.
    pub(crate) department: Option<String>,
}

/// Reads `transactions.parquet` and `products.parquet` of a folder, in time order.
///
/// # Errors
/// When a file is missing or does not have the columns of the published data.
pub(crate) fn read(folder: &Path) -> Result<Vec<Purchase>> {
    let departments = read_departments(&folder.join("products.parquet"))?;
    let mut purchases = Vec::new();
    let columns =
        ["household_id", "store_id", "basket_id", "product_id", "quantity", "sales_value", "transaction_timestamp"];
    for_each_batch(&folder.join("transactions.parquet"), &columns, |batch| {
        let int = |name: &str| column(batch, name).map(|array| array.as_primitive::<Int64Type>().clone());
        let (household, store, basket) = (int("household_id")?, int("store_id")?, int("basket_id")?);
        let (product, quantity) = (int("product_id")?, int("quantity")?);
        let sales = column(batch, "sales_value")?.as_primitive::<Float64Type>().clone();
        let at = column(batch, "transaction_timestamp")?.as_primitive::<TimestampNanosecondType>().clone();
        for row in 0..batch.num_rows() {
            purchases.push(Purchase {
                basket: basket.value(row),
                product: product.value(row),
                household: household.value(row),
                store: store.value(row),
                quantity: quantity.value(row),
                cents: exact_cents(sales.value(row))?,
                at: EventTime(at.value(row).div_euclid(1000)),
                department: departments.get(&product.value(row)).cloned(),
            });
        }
        Ok(())
    })?;
    purchases.sort_by_key(|purchase| purchase.at);
    ensure!(!purchases.is_empty(), "{} has no purchases", folder.display());
    Ok(purchases)
}

/// The published data keeps dollars as floats; every one of them is a whole number of cents, and this refuses others.
fn exact_cents(dollars: f64) -> Result<i64> {
    let cents = format!("{dollars:.2}");
    ensure!(cents.parse::<f64>().is_ok_and(|again| (again - dollars).abs() < 1e-9), "{dollars} is not whole cents");
    let usd: reckon_schemas::money::Currency = "USD".parse()?;
    Ok(usd.parse_minor(&cents)?)
}

/// Moves every purchase by whole calendar days, local times kept, so that the last one lies in the last day that is
/// over at `now`: then every day of the data can be settled.
pub(crate) fn move_to_now(purchases: &mut [Purchase], now: jiff::Timestamp) -> Result<()> {
    let zone = Zone::parse(TIME_ZONE)?;
    let last = purchases.iter().map(|purchase| purchase.at).max().context("no purchases")?;
    let yesterday = zone.day_of(EventTime::from_timestamp(now)).yesterday()?;
    let days = zone.day_of(last).until(yesterday)?;
    let rules = jiff::tz::TimeZone::get(TIME_ZONE)?;
    for purchase in purchases.iter_mut() {
        let local = rules.to_datetime(purchase.at.to_timestamp()).checked_add(days)?;
        purchase.at = EventTime::from_timestamp(local.to_zoned(rules.clone())?.timestamp());
    }
    // A clock change of the new year may reorder purchases within an hour.
    purchases.sort_by_key(|purchase| purchase.at);
    Ok(())
}

fn read_departments(path: &Path) -> Result<HashMap<i64, String>> {
    let mut departments = HashMap::new();
    for_each_batch(path, &["product_id", "department"], |batch| {
        let product = column(batch, "product_id")?.as_primitive::<Int64Type>().clone();
        let department = column(batch, "department")?.as_string_opt::<i32>().context("department is no text")?.clone();
        for row in 0..batch.num_rows() {
            if department.is_valid(row) {
                departments.insert(product.value(row), department.value(row).to_owned());
            }
        }
        Ok(())
    })?;
    Ok(departments)
}

fn for_each_batch(path: &Path, columns: &[&str], mut take: impl FnMut(&RecordBatch) -> Result<()>) -> Result<()> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
    for batch in builder.with_projection(mask).with_batch_size(65_536).build()? {
        take(&batch?).with_context(|| format!("reading {}", path.display()))?;
    }
    Ok(())
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a dyn Array> {
    match batch.column_by_name(name) {
        Some(array) if name == "department" || array.null_count() == 0 => Ok(array),
        Some(_) => bail!("column {name} has nulls"),
        None => bail!("column {name} is missing"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_that_are_no_cents_are_refused() {
        assert_eq!(exact_cents(19.99).expect("cents"), 1999);
        assert_eq!(exact_cents(0.0).expect("cents"), 0);
        assert!(exact_cents(0.005).is_err());
        assert!(exact_cents(f64::NAN).is_err());
    }

    #[test]
    fn moving_keeps_local_times_and_ends_yesterday() {
        let purchase = |at: &str| Purchase {
            basket: 1,
            product: 1,
            household: 1,
            store: 1,
            quantity: 1,
            cents: 1,
            at: EventTime::from_timestamp(at.parse().expect("a timestamp")),
            department: None,
        };
        // 23:01 in New York in winter; the new date is in summer, with another offset.
        let mut purchases = vec![purchase("2017-01-01T12:00:00Z"), purchase("2018-01-01T04:01:20Z")];
        move_to_now(&mut purchases, "2026-07-15T12:00:00Z".parse().expect("a timestamp")).expect("movable");
        assert_eq!(purchases[1].at.to_string(), "2026-07-15T03:01:20Z");
        assert_eq!(purchases[0].at.to_string(), "2025-07-15T11:00:00Z");
    }
}
