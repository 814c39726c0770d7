//! Reading cells from ClickHouse. Every statement is a constant; what a client sent is bound as a parameter.

use clickhouse::Row;
use reckon_schemas::catalog::Measure;
use reckon_schemas::sketch::Sketch;
use reckon_schemas::time::EventTime;
use serde::Deserialize;
use serde_with::{Bytes, serde_as};

use super::StoreError;
use super::clickhouse::{ClickHouse, Statement, broken};
use crate::merge::fresh::{FreshShares, Share};
use crate::merge::plan::SettledDay;
use crate::merge::tally::{Tally, Users};
use crate::merge::{Cell, Key};
use crate::query::selection::Selection;

/// The conditions that every statement shares.
macro_rules! selected {
    () => {
        " tenant = {tenant:String} AND rollup = {rollup:String}
          AND (event = {event:String} OR {event:String} = '*')
          AND arrayAll((i, test, compared) ->
                  multiIf(test = 0, has(compared, dimensions[i]),
                          test = 1, NOT has(compared, dimensions[i]),
                          arrayExists(prefix -> startsWith(dimensions[i], prefix), compared)),
                  {filter_dimensions:Array(UInt8)}, {filter_tests:Array(UInt8)},
                  {filter_values:Array(Array(String))})
          AND (empty({except:Array(Array(String))})
               OR NOT has({except:Array(Array(String))}, arrayMap(i -> dimensions[i], {except_by:Array(UInt8)})))"
    };
}

/// The windows of one grain in a range.
macro_rules! windows {
    () => {
        " AND grain = {grain:String}
          AND window_start >= fromUnixTimestamp64Micro({from:Int64})
          AND window_start < fromUnixTimestamp64Micro({to:Int64})"
    };
}

macro_rules! key {
    () => {
        "arrayMap(i -> dimensions[i], {by:Array(UInt8)}) AS key"
    };
}

/// Sums of 128 bits are added in 256, so that what does not fit is seen instead of wrapped.
macro_rules! amount {
    () => {
        "toInt256(if({unit:String} = '', toInt128(count), money[{unit:String}]))"
    };
}

macro_rules! union {
    () => {
        "toString(uniqCombined64MergeState(14)(CAST(users, 'AggregateFunction(uniqCombined64(14), UInt64)')))"
    };
}

macro_rules! settled {
    () => {
        concat!(
            " FROM settled_cells_raw WHERE",
            selected!(),
            windows!(),
            " AND (day, run_id) IN {settled:Array(Tuple(Date32, String))} GROUP BY bucket, key"
        )
    };
}

macro_rules! by_window {
    () => {
        concat!("SELECT toUnixTimestamp64Micro(window_start) AS bucket, ", key!())
    };
}

const SETTLED_SUMS: &str = concat!(by_window!(), ", toString(sum(", amount!(), ")) AS value", settled!());

// The union is only needed where a point is made of more than one cell.
const SETTLED_USERS: &str = concat!(
    by_window!(),
    ", count() AS cells, sum(users_exact) AS exact, if(cells > 1, ",
    union!(),
    ", '') AS sketch",
    settled!()
);

const SETTLED_UNIONS: &str = concat!(
    "SELECT toInt64(arrayCount(s -> s <= toUnixTimestamp64Micro(window_start), {starts:Array(Int64)}) - 1) AS bucket, ",
    key!(),
    ", count() AS cells, toUInt64(0) AS exact, ",
    union!(),
    " AS sketch",
    settled!()
);

// The hours of a range in runs, within which the hour of the week goes on by one each hour: a clock change begins a run.
const SETTLED_HOURS: &str = concat!(
    "SELECT toInt64(({run_hours:Array(Int64)}[
         arrayCount(s -> s <= toUnixTimestamp64Micro(window_start), {run_starts:Array(Int64)}) AS run]
         + intDiv(toUnixTimestamp64Micro(window_start) - {run_starts:Array(Int64)}[run], 3600000000)) % 168) AS bucket, ",
    key!(),
    ", count() AS cells, toUInt64(0) AS exact, ",
    union!(),
    " AS sketch",
    settled!()
);

const SETTLED_DISTINCT: &str = concat!(
    "SELECT toInt64(transform(toInt32(day), {days:Array(Int32)}, {buckets:Array(Int32)}, -1)) AS bucket, ",
    key!(),
    ", toUInt64(uniqExact(user_key)) AS exact FROM settled_users WHERE",
    selected!(),
    " AND (day, run_id) IN {settled:Array(Tuple(Date32, String))} GROUP BY bucket, key"
);

// One statement for all windows of the speed layer: planning one costs ClickHouse more than reading a day of minutes. Of
// the windows that Redis may know better (the fresh ones) it tells each partition's share and its version, of the others
// what all partitions have together, by the dimensions that are asked for.
macro_rules! provisional {
    ($value:expr, $sketch:expr) => {
        concat!(
            "SELECT toUnixTimestamp64Micro(window_start) AS start,
                    if(start >= {fresh_from:Int64} AND start < {fresh_to:Int64}, partition, -1) AS share_of,
                    if(share_of < 0, '', toString(event)) AS share_event,
                    if(share_of < 0, arrayMap(i -> dimensions[i], {by:Array(UInt8)}), dimensions) AS key,
                    max(version) AS newest, ",
            $value,
            " AS value, ",
            $sketch,
            " AS sketch FROM speed_cells_raw FINAL WHERE",
            selected!(),
            windows!(),
            " GROUP BY start, share_of, share_event, key"
        )
    };
}

const PROVISIONAL_SUMS: &str = provisional!(concat!("toString(sum(", amount!(), "))"), "''");
const PROVISIONAL_USERS: &str = provisional!("''", union!());

/// Each adjusted event once, by the period that it belongs to and whether it is posted on the days or only happened in the
/// range.
pub(super) const ADJUSTED: &str = concat!(
    "SELECT period, toUInt8(posted_day >= {first:Date32} AND posted_day <= {last:Date32}) AS posted,
            toUInt64(count()) AS events, toString(sum(",
    amount!(),
    ")) AS value FROM adjustments WHERE",
    selected!(),
    " AND in_force AND ((posted_day >= {first:Date32} AND posted_day <= {last:Date32})
                        OR (occurred_at >= fromUnixTimestamp64Micro({from:Int64})
                            AND occurred_at < fromUnixTimestamp64Micro({to:Int64})))
     GROUP BY period, posted ORDER BY period, posted"
);

#[derive(Row, Deserialize)]
struct SumRow {
    bucket: i64,
    key: Vec<String>,
    value: String,
}

#[serde_as]
#[derive(Row, Deserialize)]
struct UsersRow {
    bucket: i64,
    key: Vec<String>,
    cells: u64,
    exact: u64,
    #[serde_as(as = "Bytes")]
    sketch: Vec<u8>,
}

#[derive(Row, Deserialize)]
struct DistinctRow {
    bucket: i64,
    key: Vec<String>,
    exact: u64,
}

#[serde_as]
#[derive(Row, Deserialize)]
struct ProvisionalRow {
    start: i64,
    /// The partition whose share of a fresh window this is; -1 for all of them together.
    share_of: i32,
    share_event: String,
    key: Vec<String>,
    newest: u64,
    value: String,
    #[serde_as(as = "Bytes")]
    sketch: Vec<u8>,
}

/// What ClickHouse has of provisional windows.
#[derive(Default)]
pub(crate) struct Provisional {
    /// Of the windows that are not fresh.
    pub(crate) cells: Vec<Cell>,
    /// Of the fresh ones.
    pub(crate) shares: FreshShares,
}

/// A half-open range of event time.
pub(crate) type Span = (EventTime, EventTime);

impl ClickHouse {
    /// The settled cells of a range, by window and group, of exactly these days' runs.
    pub(crate) async fn settled_cells(
        &self,
        selection: &Selection,
        span: Span,
        days: &[SettledDay],
    ) -> Result<Vec<Cell>, StoreError> {
        if days.is_empty() {
            return Ok(Vec::new());
        }
        let is_users = selection.measure == Measure::Users;
        let statement = self.statement(if is_users { SETTLED_USERS } else { SETTLED_SUMS });
        windows(selected(statement, selection), selection, span).bind("settled", pinned(days)).cells(is_users).await
    }

    /// The users of every piece of a range as one sketch each, by group; without groups if `by` is empty.
    pub(crate) async fn settled_unions(
        &self,
        selection: &Selection,
        span: Span,
        days: &[SettledDay],
        starts: &[EventTime],
    ) -> Result<Vec<(i64, Key, Tally)>, StoreError> {
        if days.is_empty() {
            return Ok(Vec::new());
        }
        let starts: Vec<i64> = starts.iter().map(|start| start.0).collect();
        let statement = windows(selected(self.statement(SETTLED_UNIONS), selection), selection, span);
        let rows = statement.bind("settled", pinned(days)).bind("starts", starts).rows::<UsersRow>().await?;
        rows.into_iter().map(|row| Ok((row.bucket, row.key, Tally::sketched_users(sketch(&row.sketch)?)))).collect()
    }

    /// The users of every hour of the week as one sketch each. `runs` are the instants at which an hour of the week
    /// begins from which on they follow each other.
    pub(crate) async fn settled_hours(
        &self,
        selection: &Selection,
        span: Span,
        days: &[SettledDay],
        runs: &[(EventTime, i64)],
    ) -> Result<Vec<(i64, Tally)>, StoreError> {
        if days.is_empty() {
            return Ok(Vec::new());
        }
        let (starts, hours): (Vec<i64>, Vec<i64>) = runs.iter().map(|(start, hour)| (start.0, *hour)).unzip();
        let statement = windows(selected(self.statement(SETTLED_HOURS), selection), selection, span);
        let statement = statement.bind("settled", pinned(days)).bind("run_starts", starts).bind("run_hours", hours);
        let rows = statement.rows::<UsersRow>().await?;
        rows.into_iter().map(|row| Ok((row.bucket, Tally::sketched_users(sketch(&row.sketch)?)))).collect()
    }

    /// The exact number of users of sets of whole days, by group: day by day the number of its set.
    pub(crate) async fn settled_distinct(
        &self,
        selection: &Selection,
        days: &[SettledDay],
        buckets: &[i32],
    ) -> Result<Vec<(i64, Key, u64)>, StoreError> {
        if days.is_empty() {
            return Ok(Vec::new());
        }
        let numbers: Vec<i32> = days.iter().map(|day| reckon_schemas::time::day_number(day.day)).collect();
        let statement = selected(self.statement(SETTLED_DISTINCT), selection);
        let rows = statement
            .bind("settled", pinned(days))
            .bind("days", numbers)
            .bind("buckets", buckets)
            .rows::<DistinctRow>()
            .await?;
        Ok(rows.into_iter().map(|row| (row.bucket, row.key, row.exact)).collect())
    }

    /// The provisional cells of a range by window and group; of fresh windows each partition's share by itself and with
    /// its version, to be compared with Redis.
    pub(crate) async fn provisional_cells(
        &self,
        selection: &Selection,
        span: Span,
        fresh: Option<Span>,
    ) -> Result<Provisional, StoreError> {
        let is_users = selection.measure == Measure::Users;
        let statement = self.statement(if is_users { PROVISIONAL_USERS } else { PROVISIONAL_SUMS });
        let (fresh_from, fresh_to) = fresh.map_or((0, 0), |(from, to)| (from.0, to.0));
        let statement = windows(selected(statement, selection), selection, span);
        let statement = statement.bind("fresh_from", fresh_from).bind("fresh_to", fresh_to);
        let mut provisional = Provisional::default();
        for row in statement.rows::<ProvisionalRow>().await? {
            let tally = match is_users {
                true => Tally::sketched_users(sketch(&row.sketch)?),
                false => Tally::Sum(amount(&row.value)?),
            };
            let ProvisionalRow { start, share_of, share_event, key, newest, .. } = row;
            let window_start = EventTime(start);
            if share_of < 0 {
                provisional.cells.push(Cell { window_start, key, tally });
                continue;
            }
            let version = i64::try_from(newest).map_err(|_| broken("a version beyond 63 bits"))?;
            let share = Share { window_start, event: share_event, dimensions: key, partition: share_of };
            provisional.shares.offer(share, version, tally);
        }
        Ok(provisional)
    }
}

impl Statement {
    async fn cells(self, is_users: bool) -> Result<Vec<Cell>, StoreError> {
        let cell = |bucket, key, tally| Cell { window_start: EventTime(bucket), key, tally };
        if is_users {
            let rows = self.rows::<UsersRow>().await?;
            rows.into_iter()
                .map(|row| Ok(cell(row.bucket, row.key, users(row.cells, row.exact, &row.sketch)?)))
                .collect()
        } else {
            let rows = self.rows::<SumRow>().await?;
            rows.into_iter().map(|row| Ok(cell(row.bucket, row.key, Tally::Sum(amount(&row.value)?)))).collect()
        }
    }
}

/// One settled cell knows its users exactly; of several, or of provisional ones, there is only the union.
fn users(cells: u64, exact: u64, bytes: &[u8]) -> Result<Tally, StoreError> {
    let sketch = if bytes.is_empty() { None } else { Some(sketch(bytes)?) };
    let exact = (cells == 1 && sketch.is_none()).then_some(exact);
    Ok(Tally::Users(Users { exact, sketch }))
}

fn sketch(bytes: &[u8]) -> Result<Sketch, StoreError> {
    Sketch::from_clickhouse(bytes).map_err(|error| broken(error.to_string()))
}

pub(super) fn amount(text: &str) -> Result<i128, StoreError> {
    text.parse().map_err(|_| broken(format!("the sum {text} does not fit into 128 bits")))
}

pub(super) fn selected(statement: Statement, selection: &Selection) -> Statement {
    // Positions in the rollup count from 0, those in an array of ClickHouse from 1.
    let positions = |indexes: &[usize]| indexes.iter().map(|index| index + 1).collect::<Vec<usize>>();
    let filtered: Vec<usize> = selection.filters.iter().map(|(index, _)| *index).collect();
    let tests: Vec<u8> = selection.filters.iter().map(|(_, test)| test.code()).collect();
    let values: Vec<_> = selection.filters.iter().map(|(_, test)| test.values()).collect();
    statement
        .bind("tenant", selection.tenant.as_str())
        .bind("rollup", selection.rollup.name())
        .bind("event", &selection.event)
        .bind("filter_dimensions", positions(&filtered))
        .bind("filter_tests", tests)
        .bind("filter_values", values)
        .bind("except", &selection.except)
        .bind("except_by", positions(&selection.except_by))
        .bind("by", positions(&selection.by))
        .bind("measure", selection.measure.name())
        .bind("unit", selection.unit.as_ref().map(ToString::to_string).unwrap_or_default())
}

fn windows(statement: Statement, selection: &Selection, (from, to): Span) -> Statement {
    statement.bind("grain", selection.grain.name()).bind("from", from.0).bind("to", to.0)
}

pub(super) fn pinned(days: &[SettledDay]) -> Vec<(String, &str)> {
    days.iter().map(|day| (day.day.to_string(), &*day.run_id)).collect()
}
