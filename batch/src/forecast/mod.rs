//! How complete a day is, judged by how late the events of earlier days came.
//!
//! An estimate, and it says so: it takes for granted that the deliveries of a day arrive as those of earlier days did,
//! duplicates included. What such days have not got yet themselves it cannot know, so days younger than
//! [`MATURITY_DAYS`] are not learned from.

mod curve;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::prelude::{Expr, SessionContext, cast, ident, lit};
use datafusion::scalar::ScalarValue;
use futures::StreamExt;
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use reckon_schemas::catalog::Tenant;
use reckon_schemas::settlement::State;
use reckon_schemas::stores;
use reckon_schemas::time::EventTime;
use serde::Serialize;

use self::curve::{Arrivals, Curve};
use crate::Error;
use crate::lake::Lake;
use crate::recount::RecountError;
use crate::settle::Store;

/// How many days are learned from, at most.
pub const DAYS_LEARNED: i64 = 28;
/// How old a day must be for its arrivals to count as complete.
pub const MATURITY_DAYS: i64 = 3;
/// A day counts as complete when this share has arrived.
const COMPLETE: f64 = 0.999;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Whose day.
    pub tenant: &'a Tenant,
    /// The day.
    pub date: Date,
    /// Now.
    pub now: Timestamp,
    /// How long after its end a day is settled.
    pub settle_after: Duration,
}

/// How complete a day is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forecast {
    /// Whose day.
    pub tenant: reckon_schemas::ids::TenantId,
    /// The day.
    pub date: Date,
    /// When this was computed.
    pub computed_at: Timestamp,
    /// Its state now.
    pub state: State,
    /// Deliveries that are in the lake.
    pub deliveries: u64,
    /// Which share of all its deliveries that is: the mean over the days learned from. Null if none is.
    pub complete: Option<f64>,
    /// The lowest and the highest share that those days had at the same age.
    pub complete_range: Option<(f64, f64)>,
    /// How many deliveries there will be, by the mean.
    pub deliveries_expected: Option<u64>,
    /// By the highest and the lowest share.
    pub deliveries_range: Option<(u64, u64)>,
    /// When 99.9 % will have arrived, by the slowest of the days learned from.
    pub complete_at: Option<Timestamp>,
    /// From when on it can be settled.
    pub can_be_settled_from: Timestamp,
    /// How many days were learned from.
    pub days_learned: u64,
    /// What this rests on.
    pub assumptions: Vec<String>,
}

/// Estimates how complete a day is.
///
/// # Errors
/// [`Error::Retryable`] if a server is away, [`Error::Broken`] if what it holds cannot be read.
pub async fn forecast(
    clickhouse: &stores::ClickHouse,
    lake: &stores::Lake,
    request: &Request<'_>,
) -> Result<Forecast, Error> {
    let (tenant, date) = (request.tenant, request.date);
    let state = Store::new(clickhouse).settled_between(&tenant.id, date, date).await?.pop();
    let today = tenant.time_zone.day_of(EventTime::from_timestamp(request.now));
    let last = today.saturating_sub(MATURITY_DAYS.days()).min(date.saturating_sub(1.days()));
    let first = last.saturating_sub((DAYS_LEARNED - 1).days());
    let mut arrivals = Arrivals::new(&tenant.time_zone);
    read(lake, tenant, tenant.time_zone.day_start(first)..tenant.time_zone.day_end(last), &mut arrivals).await?;
    let curve = Curve::new(arrivals.of_days(first, last));
    let mut own = Arrivals::new(&tenant.time_zone);
    read(lake, tenant, tenant.time_zone.day_start(date)..tenant.time_zone.day_end(date), &mut own).await?;
    let state = state.map_or(State::Provisional, |day| day.state);
    Ok(estimate(request, state, own.count(date), &curve))
}

fn estimate(request: &Request<'_>, state: State, deliveries: u64, curve: &Curve) -> Forecast {
    let end = request.tenant.time_zone.day_end(request.date);
    let age_us = EventTime::from_timestamp(request.now).0.saturating_sub(end.0);
    let share = curve.share_at(age_us);
    let expected = |share: f64| curve::scaled(deliveries, share);
    let settle_after = i64::try_from(request.settle_after.as_micros()).unwrap_or(i64::MAX);
    Forecast {
        tenant: request.tenant.id.clone(),
        date: request.date,
        computed_at: request.now,
        state,
        deliveries,
        complete: share.map(|share| share.mean),
        complete_range: share.map(|share| (share.lowest, share.highest)),
        deliveries_expected: share.map(|share| expected(share.mean)),
        deliveries_range: share.map(|share| (expected(share.highest), expected(share.lowest))),
        complete_at: curve.age_of(COMPLETE).map(|age| end.plus_micros(age).to_timestamp()),
        can_be_settled_from: end.plus_micros(settle_after).to_timestamp(),
        days_learned: curve.days(),
        assumptions: vec![
            format!(
                "its deliveries arrive as those of the {} days with deliveries among the {DAYS_LEARNED} that ended at \
                 least {MATURITY_DAYS} days ago",
                curve.days()
            ),
            "what these days have not got yet is not known".to_owned(),
            "deliveries are counted, second deliveries of an event included".to_owned(),
            "arrival is the time of the log; the archive is seconds behind it".to_owned(),
        ],
    }
}

/// Reads when deliveries happened and arrived. Its own small scan: a recount needs other columns.
async fn read(
    lake: &stores::Lake,
    tenant: &Tenant,
    span: Range<EventTime>,
    arrivals: &mut Arrivals,
) -> Result<(), Error> {
    let table = Lake::open(lake).await?.events().await?;
    let context = SessionContext::new();
    let provider: Arc<_> = table.table_provider().await.map_err(RecountError::from)?;
    let date = |at: EventTime| lit(ScalarValue::Date32(Some(at.utc_day_number())));
    let number = |name: &str| -> Expr { cast(ident(name), DataType::Int64).alias(name) };
    let rows = context.read_table(provider).map_err(RecountError::from)?;
    let of_tenant = ident("tenant").eq(lit(tenant.id.as_str()));
    let first = ident("event_date").gt_eq(date(span.start));
    let last = ident("event_date").lt_eq(date(span.end.plus_micros(-1)));
    let rows = rows.filter(of_tenant.and(first).and(last)).map_err(RecountError::from)?;
    let rows = rows.select([number("occurred_at"), number("log_time")]).map_err(RecountError::from)?;
    let mut stream = rows.execute_stream().await.map_err(RecountError::from)?;
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(RecountError::from)?;
        let [occurred, logged] = [0, 1].map(|column| batch.column(column).as_primitive::<Int64Type>());
        for row in 0..batch.num_rows() {
            if occurred.is_valid(row) {
                arrivals.take(EventTime(occurred.value(row)), EventTime(logged.value(row)));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use reckon_schemas::time::Zone;

    #[test]
    fn a_day_is_as_complete_as_earlier_days_were_at_its_age() {
        let zone = Zone::parse("America/New_York").expect("known");
        let mut arrivals = Arrivals::new(&zone);
        let first = jiff::civil::date(2026, 3, 1);
        // Ten days of a hundred deliveries: ninety by the day's end, the others one every hour after it.
        for day in 0..10 {
            let date = first.saturating_add(i64::from(day).days());
            let (start, end) = (zone.day_start(date), zone.day_end(date));
            for n in 0..100_i64 {
                let logged = if n < 90 { start.plus_micros(n) } else { end.plus_micros((n - 89) * 3_600_000_000 - 1) };
                arrivals.take(start.plus_micros(n), logged);
            }
        }
        let curve = Curve::new(arrivals.of_days(first, first.saturating_add(9.days())));
        let tenant = Tenant::new("acme".parse().expect("valid"), zone.clone());
        let date = jiff::civil::date(2026, 3, 20);
        let end = zone.day_end(date);
        let at = |hours: i64, deliveries| {
            let now = end.plus_micros(hours * 3_600_000_000).to_timestamp();
            let request = Request { tenant: &tenant, date, now, settle_after: Duration::from_secs(7200) };
            estimate(&request, State::Provisional, deliveries, &curve)
        };
        let forecast = at(5, 190);
        assert_eq!((forecast.days_learned, forecast.deliveries_expected), (10, Some(200)));
        assert!((forecast.complete.expect("known") - 0.95).abs() < 1e-9, "{forecast:?}");
        assert_eq!(forecast.deliveries_range, Some((200, 200)));
        assert_eq!(forecast.complete_at, Some(end.plus_micros(10 * 3_600_000_000 - 1).to_timestamp()));
        assert_eq!(forecast.can_be_settled_from, end.plus_micros(2 * 3_600_000_000).to_timestamp());
        assert!((at(11, 200).complete.expect("known") - 1.0).abs() < 1e-9);
    }

    #[test]
    fn without_a_history_nothing_is_claimed() {
        assert!(Curve::new(Vec::new()).share_at(0).is_none());
        assert!(Curve::new(Vec::new()).age_of(COMPLETE).is_none());
    }
}
