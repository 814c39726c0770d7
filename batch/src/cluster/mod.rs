//! The recount on several machines: the same exact count as a plan that stock Ballista executors run over the files of
//! one version of the lake.
//!
//! Nothing of ours runs on an executor, so everything is said in DataFusion's own functions: repeats are found by a window
//! over all deliveries of an event (`repeats`); the others are grouped by every rollup in every grain at once, their
//! amounts summed in two halves that cannot wrap (`cells`); a cell's users come back as themselves, as hashes or, where
//! there are many, as what their registers are made of, and become a sketch here (`assembly`). What the speed layer did with
//! single deliveries is known here alone, so the few that are not ordinary are fetched (`odd`).
//!
//! Each question reads the lake for itself and counts all events, and the answers are held against each other: an answer
//! that lost a part on its way is an error, never a number.

mod assembly;
mod calendar;
mod cells;
mod files;
mod odd;
mod plan;
mod read;
mod repeats;
mod serve;
mod shape;
mod survey;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use ballista::prelude::{SessionConfigExt, SessionContextExt};
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use deltalake::DeltaTable;
use jiff::civil::Date;
use reckon_schemas::catalog::Tenant;

pub(crate) use self::assembly::{Elsewhere, Visits};
use self::files::Files;
use crate::recount::RecountError;

pub use self::serve::{Executor, ServeError, run_executor, run_scheduler};

/// The largest message that a part of a cluster takes: a plan names the deliveries that do not count.
const MESSAGE_BYTES_MAX: u32 = 512 * 1024 * 1024;
/// Into so many parts each step is divided; executors take them as they have room.
const PARTS: usize = 16;

/// Where deliveries are counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// In this process.
    #[default]
    Local,
    /// On the Ballista cluster of this scheduler, `host:port`.
    Ballista(String),
}

/// The text names no engine.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no engine: give \"local\" or \"ballista://host:port\"")]
pub struct UnknownEngine(String);

impl FromStr for Engine {
    type Err = UnknownEngine;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "local" {
            return Ok(Self::Local);
        }
        let address = text.strip_prefix("ballista://").map(|address| address.trim_end_matches('/'));
        let port = |address: &&str| {
            address
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok())
        };
        let address = address.filter(port).ok_or_else(|| UnknownEngine(text.to_owned()))?;
        Ok(Self::Ballista(address.to_owned()))
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Ballista(address) => write!(f, "ballista://{address}"),
        }
    }
}

/// A cluster, and one tenant's files of the version of the lake that it counts.
pub(crate) struct Cluster {
    context: SessionContext,
    files: Files,
}

impl Cluster {
    /// Pins the version that the table was loaded at, or what of it is filed under `since` and later dates. The scheduler
    /// is asked for nothing yet.
    ///
    /// # Errors
    /// [`RecountError::Unreadable`].
    pub(crate) async fn new(
        scheduler: &str,
        table: &DeltaTable,
        tenant: &Tenant,
        since: Option<Date>,
    ) -> Result<Self, RecountError> {
        let config = SessionConfig::new_with_ballista()
            .with_target_partitions(PARTS)
            .with_ballista_grpc_client_max_message_size(MESSAGE_BYTES_MAX as usize)
            .with_ballista_job_name("reckon");
        let state = SessionStateBuilder::new().with_default_features().with_config(config).build();
        let context = SessionContext::remote_with_state(&format!("df://{scheduler}"), state).await?;
        Ok(Self { context, files: Files::of(table, &tenant.id, since).await? })
    }

    /// The rows of some files.
    fn rows(&self, files: &[url::Url]) -> Result<DataFrame, RecountError> {
        Ok(self.context.read_table(files::table(files)?)?)
    }
}
