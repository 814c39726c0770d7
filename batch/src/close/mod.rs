//! Closing a month: the checklist, the sign-off, the lock on its numbers; and opening it again.
//!
//! A close writes the days of the period once more, with the runs and contents that they have, in the state `closed` and
//! under a higher generation: one insert, so the period is closed as a whole or not at all. A job that counted before
//! and writes after it carries the lower generation and changes nothing. What the log brings for those days later is not
//! counted into them but posted, see [`adjust`].
//!
//! The entry in the log of periods and the manifest are written before the days. A crash in between leaves both without
//! effect, because a period is closed by its days alone.

pub mod adjust;
mod checklist;
mod error;
mod late;
mod reopen;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reckon_schemas::catalog::{Catalog, Tenant};
use reckon_schemas::ids::TenantId;
use reckon_schemas::period::Period;
use reckon_schemas::settlement::State;
use reckon_schemas::stores;
use reckon_schemas::time::EventTime;
use reckon_schemas::window::{Grain, Window};
use serde::Serialize;
use uuid::Uuid;

pub use self::checklist::{Checklist, Item};
pub use self::error::Error;
pub use self::reopen::{Reopening, reopen};
pub use self::view::{Adjusted, Change, adjustments, changes};

use crate::lake::{self, Lake};
use crate::lock::Lock;
use crate::manifest::{self, Action, Closed, DayContent};
use crate::objects::Objects;
use crate::recount::PinnedLake;
use crate::retention::Held;
use crate::settle::{PeriodDay, PeriodEntry, Store, after_all, empty_day_hash};

/// What closing works on.
#[derive(Clone, Debug)]
pub struct Config {
    /// The topic of events, whose offsets are written down.
    pub topic: String,
    /// The store of settlements and periods.
    pub clickhouse: stores::ClickHouse,
    /// The lake, and beside it locks and manifests.
    pub lake: stores::Lake,
    /// The tenants.
    pub catalog: Arc<Catalog>,
    /// How long after its end a day is settled.
    pub settle_after: Duration,
    /// Who works, for those who wait.
    pub owner: String,
    /// How long the lock outlives a process that died.
    pub lock_expiry: Duration,
}

/// A close that is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Whose period.
    pub tenant: TenantId,
    /// Which.
    pub period: Period,
    /// Who signs.
    pub signed_by: String,
    /// Why residuals, conflicts and open ledger breaks are accepted, if they are.
    pub accept: Option<String>,
    /// Now.
    pub now: Timestamp,
}

/// A close that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Closing {
    /// Whose period.
    pub tenant: TenantId,
    /// Which.
    pub period: Period,
    /// Who signed.
    pub signed_by: String,
    /// When.
    pub closed_at: Timestamp,
    /// How many days.
    pub days: u64,
    /// Deliveries for them.
    pub deliveries: u64,
    /// Events on them.
    pub events: u64,
    /// The fingerprint of all of its days.
    pub content_hash: String,
    /// The SHA-256 of the manifest.
    pub manifest: String,
    /// What was looked at.
    pub checklist: Checklist,
}

/// Closes a period, if everything on the checklist is done or accepted.
///
/// # Errors
/// [`Error::Open`] with the checklist if something is open, [`Error::AlreadyClosed`] if there is nothing to do,
/// [`Error::Failed`] if a server was away or the request names what is not there.
pub async fn close(config: &Config, request: &Request) -> Result<Closing, Error> {
    let tenant = config.catalog.require(&request.tenant)?;
    if request.signed_by.trim().is_empty() {
        return Err(crate::Error::Config("a close needs the name of who signs it".to_owned()).into());
    }
    let objects = Objects::open(&config.lake)?;
    let work = async {
        let store = Store::new(&config.clickhouse);
        let ready = look(config, request, tenant, &store).await?;
        sign(request, tenant, &store, &objects, ready).await
    };
    Lock::hold(&objects, &tenant.id, &config.owner, config.lock_expiry, work).await
}

/// A period that can be closed, and what it is closed on.
struct Ready {
    settled: Vec<PeriodDay>,
    checklist: Checklist,
    lake_version: u64,
    offsets: BTreeMap<i32, i64>,
    /// Later than all that is settled.
    closed_at: EventTime,
}

/// Goes through the checklist.
async fn look(config: &Config, request: &Request, tenant: &Tenant, store: &Store) -> Result<Ready, Error> {
    let period = request.period;
    let settled = store.settled_between(&tenant.id, period.first_day(), period.last_day()).await?;
    if !settled.is_empty() && settled.iter().all(|day| day.state == State::Closed) {
        return Err(Error::AlreadyClosed(format!("{period} of tenant {} is closed", tenant.id)));
    }
    let known = store.settled_days(&tenant.id).await?;
    let table = Lake::open(&config.lake).await?.events().await?;
    let pinned = PinnedLake::new(&table).await?;
    let mut deliveries = pinned.deliveries_by_day(tenant).await?;
    let held = Held::of(&table).await?;
    for day in settled.iter().filter(|day| !held.holds(day.day, &tenant.time_zone)) {
        // What has expired cannot have changed: it is what was counted.
        deliveries.insert(day.day, day.deliveries);
    }
    let (conflicts, ledger_breaks) = store.open_issues(&tenant.id, period).await?;
    let checklist = Checklist::draw(&checklist::Facts {
        period,
        zone: &tenant.time_zone,
        now: EventTime::from_timestamp(request.now),
        settle_after: config.settle_after,
        first_known: known.keys().next().copied(),
        settled: &settled,
        deliveries: &deliveries,
        conflicts,
        ledger_breaks,
    });
    if !checklist.allows(request.accept.is_some()) {
        return Err(Error::Open(Box::new(checklist)));
    }
    Ok(Ready {
        settled,
        checklist,
        lake_version: pinned.version(),
        offsets: lake::progress(&table, &config.topic).await?,
        closed_at: after_all(request.now, known.values().map(|day| day.settled_at)),
    })
}

/// Writes down what is closed and who signed it, then the days that close it.
async fn sign(
    request: &Request,
    tenant: &Tenant,
    store: &Store,
    objects: &Objects,
    ready: Ready,
) -> Result<Closing, Error> {
    let Ready { settled, checklist, lake_version, offsets, closed_at } = ready;
    let (period, run_id) = (request.period, Uuid::now_v7());
    let days = closed_days(tenant, period, &settled, closed_at, run_id);
    let generation = days.first().map_or(1, |day| day.generation);
    let content_hash = period_hash(&tenant.id, period, &days);
    let accepted = if checklist.is_done() { "" } else { request.accept.as_deref().unwrap_or_default() };
    let action = Action::Closed(Closed {
        period,
        generation,
        signed_by: request.signed_by.clone(),
        accepted: accepted.to_owned(),
        lake_version,
        offsets: manifest::next_offsets(&offsets),
        content_hash: content_hash.clone(),
        days: days.iter().map(content_of).collect(),
    });
    let manifest = manifest::append(objects, &tenant.id, run_id, closed_at.to_timestamp(), action).await?;
    let deliveries = days.iter().map(|day| day.deliveries).sum();
    let entry = PeriodEntry {
        tenant: &tenant.id,
        period,
        generation,
        action: "closed",
        at: closed_at,
        signed_by: &request.signed_by,
        reason: accepted,
        lake_version,
        next_offsets: &offsets,
        deliveries,
        content_hash: &content_hash,
        manifest: &manifest,
    };
    store.write_period(&entry).await?;
    store.write_period_days(&tenant.id, &days, &manifest).await?;
    Ok(Closing {
        tenant: tenant.id.clone(),
        period,
        signed_by: request.signed_by.clone(),
        closed_at: closed_at.to_timestamp(),
        days: days.len() as u64,
        deliveries,
        events: days.iter().map(|day| day.events).sum(),
        content_hash,
        manifest,
        checklist,
    })
}

/// The rows that close the period: every day of it. What lies before the tenant's first event is empty, and closed as
/// such.
fn closed_days(
    tenant: &Tenant,
    period: Period,
    settled: &[PeriodDay],
    closed_at: EventTime,
    run_id: Uuid,
) -> Vec<PeriodDay> {
    let generation = settled.iter().map(|day| day.generation).max().unwrap_or(0) + 1;
    let by_day: BTreeMap<_, _> = settled.iter().map(|day| (day.day, day)).collect();
    let zone = &tenant.time_zone;
    let closed = |day| match by_day.get(&day) {
        Some(known) => PeriodDay { state: State::Closed, generation, settled_at: closed_at, ..(*known).clone() },
        None => PeriodDay {
            day,
            window: Window { grain: Grain::Day, start: zone.day_start(day), end: zone.day_end(day) },
            run_id: run_id.to_string(),
            state: State::Closed,
            deliveries: 0,
            events: 0,
            lake_version: 0,
            content_hash: empty_day_hash(&tenant.id),
            residual_cells: 0,
            generation,
            settled_at: closed_at,
        },
    };
    period.days().map(closed).collect()
}

fn content_of(day: &PeriodDay) -> DayContent {
    DayContent { day: day.day, run_id: day.run_id.clone(), content_hash: day.content_hash.clone() }
}

/// The fingerprint of a period: those of its days, whichever runs counted them.
fn period_hash(tenant: &TenantId, period: Period, days: &[PeriodDay]) -> String {
    let mut text = format!("reckon-period-1 {tenant} {period}\n");
    for day in days {
        text.push_str(&format!("{} {}\n", day.day, day.content_hash));
    }
    manifest::sha256(text.as_bytes())
}
