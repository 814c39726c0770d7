//! The shell around the matching: the events out of the lake, the breaks into ClickHouse.

use jiff::ToSpan;
use jiff::civil::Date;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::money::{Currency, MoneyError};
use reckon_schemas::stores;
use reckon_schemas::time::Zone;
use uuid::Uuid;

use super::{Item, Kind, Ledger, LedgerError, Mapping, Matches, TieOut, match_sides};
use crate::lake::{self, Lake};
use crate::recount::{Named, PinnedLake};
use crate::retention::Held;
use crate::settle::{BreakRow, Found, Store};

/// How many days around the ones in question are read: no provider books a payment later.
const MARGIN_DAYS: i64 = 45;

/// Where both sides are.
#[derive(Clone, Debug)]
pub struct Config {
    /// The store of breaks.
    pub clickhouse: stores::ClickHouse,
    /// The lake.
    pub lake: stores::Lake,
    /// Whose events.
    pub tenant: Tenant,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// How the ledger is to be read.
    pub mapping: Mapping,
    /// The first day; that of the ledger's first row if absent.
    pub from: Option<Date>,
    /// The last day; that of the ledger's last row if absent.
    pub to: Option<Date>,
    /// The largest difference that still matches, as a decimal number in every currency.
    pub tolerance: String,
    /// The day that ages are counted to; the day of `now` if absent.
    pub as_of: Option<Date>,
    /// The instant at which the breaks are recorded.
    pub now: jiff::Timestamp,
}

/// Why nothing was tied out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ledger or its mapping cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// There is nothing to compare.
    #[error("the ledger has no payments (of {rows} rows): nothing says which days to compare; give --from and --to")]
    Empty {
        /// Its rows.
        rows: u64,
    },
    /// The tolerance is no amount.
    #[error("tolerance: {0}")]
    Tolerance(#[from] MoneyError),
    /// A store was away, or holds what cannot be right.
    #[error(transparent)]
    Store(crate::Error),
}

impl<E> From<E> for Error
where
    crate::Error: From<E>,
{
    fn from(error: E) -> Self {
        Self::Store(error.into())
    }
}

/// Reads the ledger, matches it, records the breaks.
///
/// # Errors
/// [`Error`]. Nothing is recorded then.
pub async fn run(config: &Config, request: &Request, ledger: impl std::io::Read) -> Result<TieOut, Error> {
    let mapping = &request.mapping;
    let basis = mapping.basis(&config.tenant.time_zone);
    let ledger = Ledger::read(ledger, mapping, &basis)?;
    let days = ledger.items.iter().map(|item| item.day);
    let from = request.from.or_else(|| days.clone().min()).ok_or(Error::Empty { rows: ledger.rows })?;
    let to = request.to.or_else(|| days.max()).ok_or(Error::Empty { rows: ledger.rows })?;
    let lake = Lake::open(&config.lake).await?;
    let table = lake.events().await?;
    Held::of(&table).await?.check(from, &basis)?;
    lake::check_files(&table, Some(&config.tenant.id), |_| true).await?;
    let ours = events(&table, config, mapping, &basis, (from, to)).await?;
    let mut tolerances = std::collections::BTreeMap::new();
    for currency in ours.iter().chain(&ledger.items).map(|item| item.currency) {
        tolerances.insert(currency, currency.parse_minor(&request.tolerance)?.unsigned_abs());
    }
    let tolerance = |currency: Currency| tolerances.get(&currency).copied().unwrap_or(0);
    let mut groups = match_sides(&ours, &ledger.items, tolerance)?;
    let all = groups.len();
    groups.retain(|group| group.touches(from, to));
    let outside = (all - groups.len()) as u64;
    let now_day = basis.day_of(reckon_schemas::time::EventTime::from_timestamp(request.now));
    let mut tie_out = TieOut {
        tenant: config.tenant.id.clone(),
        ledger: mapping.name.clone(),
        run_id: Uuid::now_v7(),
        lake_version: lake::version(&table),
        basis: basis.name().to_owned(),
        from,
        to,
        as_of: request.as_of.unwrap_or(now_day),
        tolerance: request.tolerance.clone(),
        groups,
        outside,
        repeated: ledger.repeated,
        ignored: ledger.ignored,
        ledger_rows: ledger.rows,
        resolved: 0,
    };
    tie_out.resolved = record(config, &tie_out, request.now).await?;
    Ok(tie_out)
}

/// The events that the ledger should know, from further around than the days in question.
async fn events(
    table: &deltalake::DeltaTable,
    config: &Config,
    mapping: &Mapping,
    basis: &Zone,
    (from, to): (Date, Date),
) -> Result<Vec<Item>, Error> {
    let start = basis.day_start(from.saturating_sub(MARGIN_DAYS.days()));
    let end = basis.day_end(to.saturating_add(MARGIN_DAYS.days()));
    let wanted: Vec<&str> = match &mapping.reference.matches {
        Matches::EventId => Vec::new(),
        Matches::Property(name) => vec![name],
    };
    let pinned = PinnedLake::new(table).await?;
    let found = pinned.named(&config.tenant, start..end, &wanted).await?;
    let payments = found.into_iter().filter(|delivery| delivery.is_first() && mapping.events.contains(&delivery.name));
    Ok(payments.filter_map(|delivery| item(delivery, mapping, basis)).collect())
}

/// An event as a payment; `None` if it moved no money.
fn item(delivery: Named, mapping: &Mapping, basis: &Zone) -> Option<Item> {
    let money = delivery.money?;
    let reference = match &mapping.reference.matches {
        Matches::EventId => delivery.event_id.clone(),
        Matches::Property(name) => match delivery.property(name) {
            Some(value) if !value.is_empty() => value.to_owned(),
            // It must not meet others that have none either.
            _ => format!("({})", delivery.event_id),
        },
    };
    let day = basis.day_of(delivery.occurred_at);
    Some(Item { reference, currency: money.currency, minor: money.minor, day, name: delivery.event_id })
}

/// Writes every break of the days as open, and those that were open and are none any more as resolved; says how many.
async fn record(config: &Config, tie_out: &TieOut, now: jiff::Timestamp) -> Result<u64, Error> {
    let store = Store::new(&config.clickhouse);
    let row = |group: &super::Group| BreakRow {
        reference: group.reference.clone(),
        currency: group.currency.code().to_owned(),
        kind: group.kind.name().to_owned(),
        day: group.day(),
        ours: group.ours.as_ref().map(|side| side.minor),
        theirs: group.theirs.as_ref().map(|side| side.minor),
    };
    let open: Vec<BreakRow> = tie_out.groups.iter().filter(|group| group.kind != Kind::Matched).map(row).collect();
    let matched = tie_out.groups.iter().filter(|group| group.kind == Kind::Matched);
    let found = Found {
        tenant: &tie_out.tenant,
        ledger: &tie_out.ledger,
        run_id: &tie_out.run_id.to_string(),
        days: (tie_out.from, tie_out.to),
        open: &open,
        matched: matched.map(|group| (group.reference.as_str(), group.currency.code())).collect(),
    };
    Ok(store.record_breaks(&found, now).await?)
}
