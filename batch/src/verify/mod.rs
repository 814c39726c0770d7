//! Published numbers, checked: a run is counted again from its lake version and configuration and compared with what is
//! stored, to the last digit; a chain of manifests is checked for what was changed.

mod chain;
mod compare;
mod recount;
mod run;
mod tops;

use std::fmt;
use std::sync::Arc;

use reckon_schemas::catalog::Catalog;
use reckon_schemas::ids::TenantId;
use reckon_schemas::stores;
use serde::Serialize;

use crate::cluster::Engine;
use crate::nightly;

pub use self::chain::verify_chain;
pub use self::run::verify_run;

/// The most findings that a report names one by one.
const FINDINGS_MAX: usize = 100;

/// What verifying works on.
#[derive(Clone, Debug)]
pub struct Config {
    /// The topic of events, whose offsets manifests name.
    pub topic: String,
    /// The store of what was published.
    pub clickhouse: stores::ClickHouse,
    /// The lake, and the manifests beside it.
    pub lake: stores::Lake,
    /// The tenants.
    pub catalog: Arc<Catalog>,
    /// How much is counted at once, as when it was settled.
    pub tuning: nightly::Tuning,
    /// Where a run is counted again.
    pub engine: Engine,
}

/// What verifying found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Whose numbers.
    pub tenant: TenantId,
    /// The run; none for a whole chain.
    pub run_id: Option<String>,
    /// How many manifests were checked.
    pub manifests: u64,
    /// How many of the lake's files.
    pub files: u64,
    /// How many days were counted again.
    pub days: u64,
    /// How many cells were compared.
    pub cells: u64,
    /// How many days were not counted again, because the lake does not hold them any more.
    pub expired_days: u64,
    /// How much is wrong.
    pub wrong: u64,
    /// What is wrong; the first hundred.
    pub findings: Vec<Finding>,
}

/// Something that is not as it was published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What: `cell`, `users`, `day`, `file`, `offsets`, `configuration`, `manifest`, `settlement`, `period`.
    pub what: &'static str,
    /// Where, by names that people know.
    pub place: String,
    /// What is there.
    pub stored: String,
    /// What should be.
    pub expected: String,
}

impl Verification {
    fn new(tenant: &TenantId, run_id: Option<String>) -> Self {
        let tenant = tenant.clone();
        Self {
            tenant,
            run_id,
            manifests: 0,
            files: 0,
            days: 0,
            cells: 0,
            expired_days: 0,
            wrong: 0,
            findings: Vec::new(),
        }
    }

    /// Whether everything is as it was published.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.wrong == 0
    }

    fn find(&mut self, finding: Finding) {
        self.wrong += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }

    /// Something that must be equal.
    fn expect(&mut self, what: &'static str, place: impl Into<String>, stored: &str, expected: &str) {
        if stored != expected {
            let (place, stored, expected) = (place.into(), stored.to_owned(), expected.to_owned());
            self.find(Finding { what, place, stored, expected });
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: stored {}, expected {}", self.what, self.place, self.stored, self.expected)
    }
}
