//! The configuration store: who may do what, and what people saved.
//!
//! Keys and quotas are few and asked for all the time, so every part holds a copy of all of them and looks once a second
//! whether it changed ([`Accounts::keys`]); everything else is read when it is needed. A key that is made or revoked is
//! known at once on the node that did it and after [`Tuning::refresh`] everywhere. While the store is away, the copy
//! serves for [`Tuning::keys_kept`]; sessions, and whatever else is not in it, open nothing.

pub(crate) mod audit;
pub(crate) mod documents;
mod error;
mod follow;
pub(crate) mod invitations;
pub(crate) mod keys;
pub(crate) mod oidc;
mod password;
pub(crate) mod quotas;
pub(crate) mod secret;
pub(crate) mod sessions;
mod store;
mod tenants;
pub(crate) mod throttle;
mod tuning;
pub(crate) mod users;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use reckon_schemas::access::{EventRates, KeyBook, Scope};
use reckon_schemas::ids::TenantId;
use tokio::sync::{Mutex, watch};

pub use self::error::Error;
pub use self::quotas::Quota;
pub(crate) use self::store::Store;
pub use self::tenants::TENANT_ADD;
pub use self::tuning::{Oidc, Tuning};

/// The configuration store and the copies that are held of it. Cheap to clone.
#[derive(Clone)]
pub struct Accounts {
    store: Store,
    tuning: Arc<Tuning>,
    book: watch::Sender<Arc<KeyBook>>,
    quotas: watch::Sender<Arc<HashMap<TenantId, Quota>>>,
    event_rates: watch::Sender<Arc<EventRates>>,
    metrics: watch::Sender<Arc<documents::Copies>>,
    /// What the OpenID provider says about itself.
    provider: oidc::Provider,
    /// The revision that the copies are of; held while they are replaced, so that an older one never replaces a newer.
    copied: Arc<Mutex<Option<i64>>>,
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accounts").field("tuning", &self.tuning).finish_non_exhaustive()
    }
}

/// Who changes something, as the audit log names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A program with a key, by the key's prefix.
    Key(String),
    /// A person, by their address.
    Person(String),
    /// Who runs this installation, on the command line.
    Operator,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Key(prefix) => write!(f, "key:{prefix}"),
            Actor::Person(email) => write!(f, "user:{email}"),
            Actor::Operator => f.write_str("operator"),
        }
    }
}

impl Accounts {
    /// Opens the store that the configuration names; it need not be up.
    ///
    /// # Errors
    /// [`Error::Url`].
    pub fn open(tuning: Tuning) -> Result<Self, Error> {
        let store = Store::open(&tuning)?;
        let (book, quotas, event_rates, metrics) = Default::default();
        let provider = oidc::Provider::default();
        let (tuning, copied) = (Arc::new(tuning), Arc::default());
        Ok(Self { store, tuning, book, quotas, event_rates, metrics, provider, copied })
    }

    /// Makes the tables that are missing.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn prepare(&self) -> Result<(), Error> {
        self.store.migrate().await
    }

    /// The keys of the store, as they are now and whenever they change. Empty until [`Accounts::follow`] runs.
    #[must_use]
    pub fn keys(&self) -> watch::Receiver<Arc<KeyBook>> {
        self.book.subscribe()
    }

    /// How many events single tenants may send, likewise.
    #[must_use]
    pub fn event_rates(&self) -> watch::Receiver<Arc<EventRates>> {
        self.event_rates.subscribe()
    }

    pub(crate) fn quotas(&self) -> watch::Receiver<Arc<HashMap<TenantId, Quota>>> {
        self.quotas.subscribe()
    }

    /// The metrics that people saved, as they are now and whenever they change.
    pub(crate) fn metrics(&self) -> watch::Receiver<Arc<documents::Copies>> {
        self.metrics.subscribe()
    }

    pub(crate) fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// The store itself, for the rooms that keep something in it.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }
}

/// This instant, as fine as the store keeps it: what was written is what is read again.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

/// An instant as the store keeps it.
pub(crate) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

pub(crate) fn instant(micros: i64) -> Result<Timestamp, Error> {
    Timestamp::from_microsecond(micros).map_err(|error| Error::Broken(error.to_string()))
}

pub(crate) fn scopes_text(scopes: &[Scope]) -> String {
    let mut scopes = scopes.to_vec();
    scopes.sort_unstable();
    scopes.dedup();
    scopes.iter().map(|scope| scope.name()).collect::<Vec<_>>().join(",")
}

pub(crate) fn parse_scopes(text: &str) -> Result<Vec<Scope>, Error> {
    let scopes = text.split(',').filter(|name| !name.is_empty());
    scopes.map(|name| Scope::named(name).ok_or_else(|| Error::Broken(format!("the scope {name:?}")))).collect()
}
