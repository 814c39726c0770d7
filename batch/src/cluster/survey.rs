//! How many deliveries there are of each day.

use std::collections::BTreeMap;

use datafusion::functions_aggregate::expr_fn::{count, max, min, sum};
use datafusion::logical_expr::{Expr, ident, lit, when};
use jiff::civil::Date;
use reckon_schemas::time::{EventTime, Zone};

use super::Cluster;
use super::calendar::Calendar;
use super::plan::typed;
use super::read::{each, known, numbers, present};
use crate::recount::RecountError;

/// What every delivery has.
const NEVER_NULL: [&str; 9] = [
    "log_time",
    "partition",
    "offset",
    "event_key_high",
    "event_key_low",
    "content_key_high",
    "content_key_low",
    "occurred_at",
    "name",
];
/// What a delivery has all of, or none.
const TOGETHER: [&[&str]; 2] = [&["user_key_high", "user_key_low", "user_hash"], &["currency", "amount_minor"]];

impl Cluster {
    /// How many deliveries the lake holds for each calendar day of the tenant.
    ///
    /// # Errors
    /// [`RecountError`]; [`RecountError::Damaged`] also if a row is not what the archive writes.
    pub(crate) async fn deliveries_by_day(&self, zone: &Zone) -> Result<BTreeMap<Date, u64>, RecountError> {
        let files = self.files.all();
        let Some((first, last)) = self.bounds(&files).await? else { return Ok(BTreeMap::new()) };
        let (first, last) = (zone.day_of(first), zone.day_of(last));
        let days = std::iter::successors(Some(first), |day| day.tomorrow().ok()).take_while(|day| *day <= last);
        let calendar = Calendar::new(days, zone);
        let rows = self.rows(&files)?.select(vec![typed("occurred_at")])?;
        let rows = rows.select(vec![calendar.day_of(&ident("occurred_at"))?.alias("day")])?;
        let question = rows.aggregate(vec![ident("day")], vec![count(lit(1_i64)).alias("deliveries")])?;
        let mut by_day = BTreeMap::new();
        each(question, |batch| {
            let (days, deliveries) = (present(batch, "day")?, present(batch, "deliveries")?);
            for row in 0..batch.num_rows() {
                by_day.insert(calendar.day_at(days.value(row))?.0, deliveries.value(row).unsigned_abs());
            }
            Ok::<(), RecountError>(())
        })
        .await?;
        Ok(by_day)
    }

    /// The first and the last instant of an event, if there is any.
    async fn bounds(&self, files: &[url::Url]) -> Result<Option<(EventTime, EventTime)>, RecountError> {
        if files.is_empty() {
            return Ok(None);
        }
        let damaged = when(is_damaged(), lit(1_i64)).otherwise(lit(0_i64))?;
        let columns = vec![typed("occurred_at"), damaged.alias("damaged")];
        let question = self.rows(files)?.select(columns)?.aggregate(
            Vec::new(),
            vec![
                min(ident("occurred_at")).alias("first"),
                max(ident("occurred_at")).alias("last"),
                sum(ident("damaged")).alias("damaged"),
            ],
        )?;
        let mut found = None;
        each(question, |batch| {
            let (first, last, damaged) =
                (numbers(batch, "first")?, numbers(batch, "last")?, numbers(batch, "damaged")?);
            for row in 0..batch.num_rows() {
                if let Some(damaged @ 1..) = known(&damaged, row) {
                    return Err(RecountError::Damaged(format!(
                        "{damaged} rows of a tenant lack what every delivery has"
                    )));
                }
                found =
                    known(&first, row).zip(known(&last, row)).map(|(first, last)| (EventTime(first), EventTime(last)));
            }
            Ok(())
        })
        .await?;
        Ok(found)
    }
}

fn is_damaged() -> Expr {
    let missing = NEVER_NULL.iter().map(|name| ident(*name).is_null());
    let halved = TOGETHER
        .iter()
        .flat_map(|names| names[1..].iter().map(move |name| ident(names[0]).is_null().not_eq(ident(*name).is_null())));
    missing.chain(halved).reduce(Expr::or).expect("there are some")
}
