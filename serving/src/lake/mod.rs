//! The lake, read event by event with DataFusion: for what no rollup answers, for exact users of any range, and for
//! funnels over history. Only read; who writes it is the archive. A version of it never changes, so whatever was counted
//! from one is kept, as long as there is room, for whoever asks the same again.

mod count;
mod events;
mod funnel;
mod pinned;
mod rejected;
mod s3;
mod users;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use deltalake::{DeltaTable, DeltaTableBuilder, DeltaTableError};
use jiff::civil::Date;
use moka::future::Cache;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::ids::TenantId;
use reckon_schemas::lake::EVENTS_TABLE;
use reckon_schemas::stores;
use tokio::sync::Mutex;

pub(crate) use self::count::Asked;
pub(crate) use self::pinned::PinnedLake;
use crate::merge::Counted;
use crate::stores::StoreError;

const STORE: &str = "the lake";
/// How many versions are held open: the newest, and those of a few settlements.
const VERSIONS_MAX: u64 = 8;
/// For how many tenants and versions it is remembered how many deliveries their days have.
const DAYS_MAX: u64 = 256;
/// How many of the largest users of memory an error names.
const NAMED_MAX: NonZeroUsize = NonZeroUsize::MIN;

/// What reading the lake may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The most deliveries of a tenant.
    pub(crate) rows_max: u64,
    /// The most memory of all questions together, in bytes.
    pub(crate) memory_bytes: usize,
    /// The most numbers of one answer.
    pub(crate) numbers_max: u64,
    /// The most numbers that are kept.
    pub(crate) cache_numbers: u64,
}

/// The lake's table of events. Cheap to clone; the store does not have to be there at the start.
#[derive(Clone)]
pub(crate) struct Lake(Arc<Inner>);

struct Inner {
    store: stores::Lake,
    limits: Limits,
    runtime: Arc<RuntimeEnv>,
    /// The table at the newest version that was seen.
    newest: Mutex<Option<DeltaTable>>,
    /// The same of the table of rejected items.
    rejected: Mutex<Option<DeltaTable>>,
    versions: Cache<u64, Arc<PinnedLake>>,
    /// In which zone the days are is part of what is remembered: a tenant's can change.
    days: Cache<(TenantId, String, u64), Arc<BTreeMap<Date, u64>>>,
    counted: Cache<Asked, Arc<Counted>>,
}

impl Lake {
    pub(crate) fn new(store: stores::Lake, limits: Limits) -> Result<Self, DataFusionError> {
        let pool = TrackConsumersPool::new(FairSpillPool::new(limits.memory_bytes), NAMED_MAX);
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(pool)).build_arc()?;
        let weigh = |_: &Asked, counted: &Arc<Counted>| u32::try_from(counted.len()).unwrap_or(u32::MAX);
        Ok(Self(Arc::new(Inner {
            store,
            limits,
            runtime,
            newest: Mutex::default(),
            rejected: Mutex::default(),
            versions: Cache::new(VERSIONS_MAX),
            days: Cache::new(DAYS_MAX),
            counted: Cache::builder().max_capacity(limits.cache_numbers).weigher(weigh).build(),
        })))
    }

    /// The lake at a version, or at its newest one.
    pub(crate) async fn at(&self, version: Option<u64>) -> Result<Arc<PinnedLake>, StoreError> {
        if let Some(version) = version
            && let Some(pinned) = self.0.versions.get(&version).await
        {
            return Ok(pinned);
        }
        let mut table = self.newest().await?;
        if let Some(version) = version {
            table.load_version(version).await.map_err(|error| unreadable(&error))?;
        }
        let version = table.version().unwrap_or_default();
        let pin = PinnedLake::new(table, self.0.runtime.clone());
        let pinned = self.0.versions.try_get_with(version, async { pin.await.map(Arc::new) }).await;
        pinned.map_err(|error| StoreError::Unavailable { store: STORE, problem: error.to_string() })
    }

    /// How many deliveries the days of a tenant have.
    pub(crate) async fn days(
        &self,
        lake: &PinnedLake,
        tenant: &Tenant,
    ) -> Result<Arc<BTreeMap<Date, u64>>, Arc<StoreError>> {
        let key = (tenant.id.clone(), tenant.time_zone.name().to_owned(), lake.version());
        self.0.days.try_get_with(key, async { lake.deliveries_by_day(tenant).await.map(Arc::new) }).await
    }

    /// What is counted for a question: once, if several ask at the same time.
    pub(crate) async fn count(&self, lake: &PinnedLake, asked: Asked) -> Result<Arc<Counted>, Arc<StoreError>> {
        let limits = self.0.limits;
        let count = async {
            lake.refuse_more_than(limits.rows_max, asked.tenant()).await?;
            lake.count(&asked, limits.numbers_max).await.map(Arc::new)
        };
        self.0.counted.try_get_with(asked.clone(), count).await
    }

    /// The bound on a tenant's deliveries.
    pub(crate) fn rows_max(&self) -> u64 {
        self.0.limits.rows_max
    }

    async fn newest(&self) -> Result<DeltaTable, StoreError> {
        let mut newest = self.0.newest.lock().await;
        // Opened anew after an error.
        let table = match newest.take() {
            Some(mut table) => table.update_state().await.map(|()| table),
            None => open(&self.0.store, EVENTS_TABLE).await,
        };
        let table = table.map_err(|error| unreadable(&error))?;
        *newest = Some(table.clone());
        Ok(table)
    }
}

async fn open(store: &stores::Lake, table: &str) -> Result<DeltaTable, DeltaTableError> {
    s3::register();
    let url = deltalake::ensure_table_uri(format!("{}/{table}", store.url.trim_end_matches('/')))?;
    let options = store.options().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    DeltaTableBuilder::from_url(url)?.with_storage_options(options).load().await
}

fn unreadable(error: &DeltaTableError) -> StoreError {
    StoreError::Unavailable { store: STORE, problem: format!("{error} (it is written by `reckon archive`)") }
}

fn broken(problem: impl Into<String>) -> StoreError {
    StoreError::Broken { store: STORE, problem: problem.into() }
}

/// By what whoever asked can do about it.
fn failed(error: &DataFusionError) -> StoreError {
    let problem = error.to_string();
    match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => StoreError::OverLimit { store: STORE, problem },
        DataFusionError::ObjectStore(_)
        | DataFusionError::IoError(_)
        | DataFusionError::External(_)
        | DataFusionError::ParquetError(_) => StoreError::Unavailable { store: STORE, problem },
        _ => broken(problem),
    }
}
