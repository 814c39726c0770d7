//! Reading single events of the last days from ClickHouse. The statements are constants; names of properties are bound
//! like every other value. The view that is read has every event once, by its first delivery.

use std::collections::HashMap;

use clickhouse::Row;
use jiff::Timestamp;
use reckon_schemas::catalog::Measure;
use reckon_schemas::sums::Unit;
use reckon_schemas::time::EventTime;
use serde::Deserialize;

use super::StoreError;
use super::clickhouse::{ClickHouse, Limits, Statement, broken};
use crate::merge::plan::{Layer, Plan};
use crate::merge::tally::Tally;
use crate::merge::{Cell, Counted, Key, Unions};
use crate::query::selection::Selection;

/// An event may be dated so much later than the log took it: what the collector accepts.
pub(crate) const DATED_AHEAD_US: i64 = 24 * 3_600_000_000;

/// The value that an event has for the dimension `p`.
macro_rules! value {
    () => {
        "if(p = 'user_id', user_id, properties[p])"
    };
}

/// The events of a range. Partitions are days of log time, and none that lies wholly before the range is read.
macro_rules! happened {
    () => {
        " FROM raw_events WHERE tenant = {tenant:String}
          AND log_time >= fromUnixTimestamp64Micro({logged:Int64})
          AND occurred_at >= fromUnixTimestamp64Micro({from:Int64})
          AND occurred_at < fromUnixTimestamp64Micro({to:Int64})"
    };
}
pub(super) use {happened, value};

macro_rules! selected {
    () => {
        concat!(
            happened!(),
            " AND (name = {event:String} OR {event:String} = '*')
              AND arrayAll((p, test, compared) -> multiIf(test = 0, has(compared, ",
            value!(),
            "), test = 1, NOT has(compared, ",
            value!(),
            "), arrayExists(prefix -> startsWith(",
            value!(),
            ", prefix), compared)),
              {filter_dimensions:Array(String)}, {filter_tests:Array(UInt8)}, {filter_values:Array(Array(String))})
              AND (empty({except:Array(Array(String))})
                   OR NOT has({except:Array(Array(String))}, arrayMap(p -> ",
            value!(),
            ", {except_by:Array(String)})))"
        )
    };
}

/// The window's start: by arithmetic where windows are of one length, otherwise by the list of starts.
macro_rules! by_window {
    () => {
        concat!(
            "SELECT toInt64(if({length:Int64} = 0,
                roundDown(toUnixTimestamp64Micro(occurred_at), {starts:Array(Int64)}),
                toUnixTimestamp64Micro(occurred_at)
                    - positiveModulo(toUnixTimestamp64Micro(occurred_at), greatest({length:Int64}, 1)))) AS bucket,
              arrayMap(p -> ",
            value!(),
            ", {by:Array(String)}) AS key"
        )
    };
}

const SUMS: &str = concat!(
    by_window!(),
    ", count() AS events,
      toString(sum(if(currency = {currency:String}, toInt256(ifNull(amount_minor, 0)), toInt256(0)))) AS amount",
    selected!(),
    " GROUP BY bucket, key"
);

const USERS: &str = concat!(
    by_window!(),
    ", toUInt8(grouping(bucket)) AS all_windows, toUInt8(grouping(key)) AS all_groups,
      uniqExactIf(user_id, user_id != '') AS users",
    selected!(),
    " GROUP BY GROUPING SETS ((bucket, key), (key), ())"
);

const NEWEST: &str = "
    SELECT maxOrNull(toUnixTimestamp64Milli(log_time)) AS newest FROM raw_events_stored
    WHERE tenant = {tenant:String} AND log_time >= fromUnixTimestamp64Micro({logged:Int64})";

#[derive(Row, Deserialize)]
struct SumRow {
    bucket: i64,
    key: Vec<String>,
    events: u64,
    amount: String,
}

#[derive(Row, Deserialize)]
struct UsersRow {
    bucket: i64,
    key: Vec<String>,
    all_windows: u8,
    all_groups: u8,
    users: u64,
}

#[derive(Row, Deserialize)]
struct NewestRow {
    newest: Option<i64>,
}

impl ClickHouse {
    /// When the newest raw event of a tenant arrived, of those that can be about a range that begins here.
    pub(crate) async fn newest_raw_event(
        &self,
        tenant: &str,
        from: EventTime,
        limits: Limits,
    ) -> Result<Option<Timestamp>, StoreError> {
        let statement = self.statement(NEWEST).within(limits).bind("tenant", tenant);
        let rows = statement.bind("logged", from.plus_micros(-DATED_AHEAD_US).0).rows::<NewestRow>().await?;
        Ok(rows.into_iter().next().and_then(|row| row.newest).and_then(|at_ms| Timestamp::from_millisecond(at_ms).ok()))
    }

    /// What is counted of the raw events of those windows that a plan gives to them.
    pub(crate) async fn raw_counted(
        &self,
        selection: &Selection,
        plan: &Plan,
        limits: Limits,
    ) -> Result<Counted, StoreError> {
        let windows = plan.windows_of(Layer::Raw);
        let is_users = selection.measure == Measure::Users;
        let zero = if is_users { Tally::exact_users(0) } else { Tally::Sum(0) };
        let Some((from, to)) = plan.span(windows.clone()) else {
            return Ok(Counted { layers: Vec::new(), unions: HashMap::new(), zero });
        };
        let length = selection.grain.fixed_length_us();
        let starts: Vec<i64> = match length {
            Some(_) => vec![from.0],
            None => windows.map(|index| plan.window(index).start.0).collect(),
        };
        let statement = self.statement(if is_users { USERS } else { SUMS }).within(limits);
        let statement = selected(statement, selection, from, to);
        let statement = statement.bind("length", length.unwrap_or(0)).bind("starts", starts);
        if is_users {
            let (cells, unions) = users(statement.rows().await?);
            return Ok(Counted { layers: vec![(Layer::Raw, cells)], unions, zero });
        }
        let cells = sums(statement.rows().await?, selection.unit.as_ref())?;
        Ok(Counted { layers: vec![(Layer::Raw, cells)], unions: HashMap::new(), zero })
    }
}

/// Binds what all statements about a range of events share.
pub(super) fn in_range(statement: Statement, tenant: &str, from: EventTime, to: EventTime) -> Statement {
    let logged = from.plus_micros(-DATED_AHEAD_US).0;
    statement.bind("tenant", tenant).bind("logged", logged).bind("from", from.0).bind("to", to.0)
}

fn selected(statement: Statement, selection: &Selection, from: EventTime, to: EventTime) -> Statement {
    let names = selection.rollup.dimensions();
    let names_of = |indexes: &[usize]| indexes.iter().map(|index| names[*index].as_str()).collect::<Vec<_>>();
    let filtered: Vec<usize> = selection.filters.iter().map(|(index, _)| *index).collect();
    let tests: Vec<u8> = selection.filters.iter().map(|(_, test)| test.code()).collect();
    let values: Vec<_> = selection.filters.iter().map(|(_, test)| test.values()).collect();
    let mut by = names_of(&selection.by);
    let currency = match &selection.unit {
        Some(Unit::Currency(currency)) => currency.code(),
        // Its values are read here, by the one reader of such numbers that there is.
        Some(Unit::Property(name)) => {
            by.push(name);
            ""
        }
        None => "",
    };
    in_range(statement, selection.tenant.as_str(), from, to)
        .bind("event", &selection.event)
        .bind("filter_dimensions", names_of(&filtered))
        .bind("filter_tests", tests)
        .bind("filter_values", values)
        .bind("except", &selection.except)
        .bind("except_by", names_of(&selection.except_by))
        .bind("by", by)
        .bind("currency", currency)
}

fn sums(rows: Vec<SumRow>, unit: Option<&Unit>) -> Result<Vec<Cell>, StoreError> {
    let overflow = || broken("a sum left 128 bits");
    let mut sums: HashMap<(i64, Key), i128> = HashMap::new();
    for row in rows {
        let SumRow { bucket, mut key, events, amount } = row;
        let amount = match unit {
            None => i128::from(events),
            Some(Unit::Currency(_)) => amount.parse().map_err(|_| overflow())?,
            Some(Unit::Property(_)) => {
                let text = key.pop().unwrap_or_default();
                let amount = i128::from(Unit::parse_property(&text).unwrap_or(0));
                amount.checked_mul(events.into()).ok_or_else(overflow)?
            }
        };
        let sum = sums.entry((bucket, key)).or_default();
        *sum = sum.checked_add(amount).ok_or_else(overflow)?;
    }
    let cell = |((bucket, key), sum)| Cell { window_start: EventTime(bucket), key, tally: Tally::Sum(sum) };
    Ok(sums.into_iter().map(cell).collect())
}

/// The numbers of windows, and those of the whole range by group and over all groups, which is one piece.
fn users(rows: Vec<UsersRow>) -> (Vec<Cell>, Unions) {
    let mut cells = Vec::new();
    let mut unions = Unions::new();
    for UsersRow { bucket, key, all_windows, all_groups, users } in rows {
        let tally = Tally::exact_users(users);
        if all_windows == 0 {
            cells.push(Cell { window_start: EventTime(bucket), key, tally });
            continue;
        }
        let group = (all_groups == 0).then_some(key);
        unions.insert((Some(0), group.clone()), tally.clone());
        unions.insert((None, group), tally);
    }
    (cells, unions)
}
