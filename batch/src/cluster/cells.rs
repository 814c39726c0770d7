//! The cells of a few days: what a cluster is asked, and what is made of its answers.

use datafusion::functions_aggregate::expr_fn::{array_agg, count, sum};
use datafusion::logical_expr::{Expr, ExprFunctionExt, grouping_set, ident, lit, when};
use datafusion::prelude::DataFrame;
use jiff::civil::Date;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::sketch::REGISTERS;
use reckon_schemas::sums::Unit;
use reckon_schemas::window::Grain;

use super::Cluster;
use super::assembly::{Assembly, Elsewhere};
use super::calendar::{Calendar, window_start};
use super::plan::{dimension, is_one_of, property, typed};
use super::read::each;
use super::shape::{Shape, text_column, window_column};
use crate::count::span;
use crate::recount::{Groups, Place, RecountError};

/// Of cells with so many users the hashes come back; twice as many as a sketch keeps before it turns into registers.
pub(super) const HASHES_MAX: i64 = 2 * reckon_schemas::sketch::HASHES_MAX as i64;
/// Halves of an amount: neither sum can leave 64 bits while there are fewer than 2^31 events.
pub(super) const HALF_BITS: i64 = 32;

impl Cluster {
    /// Counts the events of some days, which must lie close together: all deliveries but those that are `repeated`.
    ///
    /// # Errors
    /// [`RecountError`]; [`RecountError::Unreadable`] also if the cluster's answers contradict each other.
    pub(crate) async fn count(
        &self,
        tenant: &Tenant,
        days: &[Date],
        repeated: impl IntoIterator<Item = Place>,
        groups: &mut Groups,
    ) -> Result<Elsewhere, RecountError> {
        let calendar = Calendar::new(days.iter().copied(), &tenant.time_zone);
        let shape = Shape::new(groups.rollups());
        let summed = tenant.summed_properties();
        let mut assembly = Assembly::new(&shape, &calendar, groups);
        let (here, _) = self.files.divided(&span(days, &tenant.time_zone));
        if here.is_empty() {
            return assembly.finish();
        }
        let rows = self.rows(&here)?.filter(is_one_of(repeated).is_not_true())?;
        let events = events(rows, &shape, &summed, &calendar)?;
        each(amounts(events.clone(), &shape)?, |batch| assembly.take_amounts(batch)).await?;
        for (number, unit) in summed.iter().enumerate() {
            let question = texts(events.clone(), &shape, number)?;
            each(question, |batch| assembly.take_texts(batch, number, unit)).await?;
        }
        each(visits(events.clone(), &shape, &[Grain::Day])?, |batch| assembly.take_days(batch)).await?;
        let finer: Vec<Grain> = Grain::KEPT.into_iter().filter(|grain| *grain != Grain::Day).collect();
        each(users(visits(events, &shape, &finer)?, &shape)?, |batch| assembly.take_users(batch)).await?;
        assembly.finish()
    }
}

/// The events that count, each with the windows and the values that it is grouped by.
fn events(rows: DataFrame, shape: &Shape, summed: &[Unit], calendar: &Calendar) -> Result<DataFrame, RecountError> {
    let mut columns: Vec<Expr> =
        ["occurred_at", "name", "user_key_high", "user_key_low", "user_hash", "currency", "amount_minor"]
            .map(typed)
            .to_vec();
    columns.extend(shape.dimensions().map(|(column, name)| dimension(name).alias(column)));
    columns.extend(summed.iter().enumerate().filter_map(|(number, unit)| match unit {
        Unit::Property(name) => Some(property(name).alias(text_column(number))),
        Unit::Currency(_) => None,
    }));
    let mut kept: Vec<Expr> = columns.iter().map(|column| ident(column.schema_name().to_string())).collect();
    kept.push(calendar.day_of(&ident("occurred_at"))?.alias("day"));
    kept.extend(Grain::KEPT.into_iter().filter_map(|grain| {
        Some(window_start(&ident("occurred_at"), grain.fixed_length_us()?).alias(window_column(grain)))
    }));
    Ok(rows.select(columns)?.select(kept)?.filter(ident("day").is_not_null())?)
}

/// Events and sums of money, by cell and currency.
fn amounts(events: DataFrame, shape: &Shape) -> Result<DataFrame, RecountError> {
    let amount = || ident("amount_minor");
    let sets = grouping_set(shape.sets(&Grain::KEPT, &["currency"]));
    Ok(events.aggregate(
        vec![sets],
        vec![
            count(lit(1_i64)).alias("events"),
            sum(amount() & lit((1_i64 << HALF_BITS) - 1)).alias("low"),
            sum(amount() >> lit(HALF_BITS)).alias("high"),
        ],
    )?)
}

/// Events by cell and the text of a property: what of it is a number is decided where every other text is read, too.
fn texts(events: DataFrame, shape: &Shape, number: usize) -> Result<DataFrame, RecountError> {
    let text = text_column(number);
    let sets = grouping_set(shape.sets(&Grain::KEPT, &[&text]));
    let events = events.filter(ident(&text).is_not_null())?;
    Ok(events.aggregate(vec![sets], vec![count(lit(1_i64)).alias("events")])?)
}

/// Events by cell and user.
fn visits(events: DataFrame, shape: &Shape, grains: &[Grain]) -> Result<DataFrame, RecountError> {
    let sets = grouping_set(shape.sets(grains, &["user_key_high", "user_key_low", "user_hash"]));
    Ok(events.aggregate(vec![sets], vec![count(lit(1_i64)).alias("events")])?)
}

/// Events and users by cell: the hashes of the users or, where there are many, what registers keep of them.
fn users(visits: DataFrame, shape: &Shape) -> Result<DataFrame, RecountError> {
    let hash = || ident("user_hash");
    let registers = i64::try_from(REGISTERS - 1).unwrap_or(i64::MAX);
    let high = || hash() & lit(!registers);
    // The least number has no counterpart, and is its own lowest bit.
    let lowest = when(high().eq(lit(i64::MIN)), high()).otherwise(high() & (lit(0_i64) - high()))?;
    let kept = (hash() & lit(registers)) | lowest;
    let cell: Vec<Expr> = shape.cell_columns(&Grain::KEPT).map(ident).collect();
    let known = || ident("user_key_high").is_not_null();
    let mut answer = cell.clone();
    let counted = visits.aggregate(
        cell,
        vec![
            sum(ident("events")).alias("events"),
            count(ident("user_key_high")).alias("users"),
            array_agg(hash()).filter(known()).build()?.alias("hashes"),
            array_agg(kept).distinct().filter(known()).build()?.alias("registers"),
        ],
    )?;
    let many = || ident("users").gt(lit(HASHES_MAX));
    answer.extend([
        ident("events"),
        ident("users"),
        when(!many(), ident("hashes")).end()?.alias("hashes"),
        when(many(), ident("registers")).end()?.alias("registers"),
    ]);
    Ok(counted.select(answer)?)
}
