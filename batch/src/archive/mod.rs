//! From the log into the lake: every record of both topics, duplicates and unreadable ones included, exactly once.
//!
//! Each topic has a table and each table one writer. The commit that adds rows also carries, per partition, the next
//! offset to read ([`crate::lake::progress`]): data and progress are one atomic step, so a crash anywhere loses nothing
//! and repeats nothing. A start reads the table's progress and goes on from there; the log's own consumer offsets are
//! not used.

mod again;
mod append;
mod error;
mod event_rows;
mod intake;
mod load;
mod outage;
mod pending;
mod record;
mod rejected_rows;
mod rows;
mod session;
#[cfg(test)]
pub(crate) mod tests;
mod tuning;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use deltalake::DeltaTable;
use reckon_schemas::stores;
use tokio_util::sync::CancellationToken;

pub use self::again::{Restored, again};
pub use self::error::Error;
pub use self::load::Loader;
pub use self::tuning::Tuning;

use self::append::Appender;
use self::error::Interruption;
use self::event_rows::EventRows;
use self::outage::Outage;
use self::rejected_rows::RejectedRows;
use self::rows::Rows;
use self::session::{End, Session};
use crate::lake::{Lake, LakeError};

/// The time in which conflicts are counted.
const CONFLICT_WINDOW: Duration = Duration::from_secs(600);

/// What the archive needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The log.
    pub kafka: stores::Kafka,
    /// The lake.
    pub lake: stores::Lake,
    /// How it works.
    pub tuning: Tuning,
}

/// Archives both topics until shutdown, which commits what was read and takes at most ten seconds. A log or a lake
/// that is away is waited for.
///
/// # Errors
/// [`Error::LogGone`] if records are gone from the log before they were archived, [`Error::Conflict`] if another
/// archiver keeps writing to the same lake, [`Error::Lake`] and [`Error::LogClient`] if a person must look.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    // If one topic cannot go on, the other one still commits what it has.
    let stop = shutdown.child_token();
    let topics = &config.kafka.topics;
    let events = archive_topic::<EventRows>(&config, &topics.events, &stop);
    let rejected = archive_topic::<RejectedRows>(&config, &topics.rejected, &stop);
    let (events, rejected) = futures::join!(Box::pin(events), Box::pin(rejected));
    events.and(rejected)
}

async fn archive_topic<R: TopicRows>(config: &Config, topic: &str, stop: &CancellationToken) -> Result<(), Error> {
    let mut conflicts = Conflicts::default();
    let mut outage = Outage::new(topic, "the log or the lake");
    while !stop.is_cancelled() {
        let interruption = match session::<R>(config, topic, stop, &mut outage).await {
            Ok(End::Shutdown) => break,
            Ok(End::NewPartitions) => {
                tracing::info!(topic, "the topic has new partitions");
                continue;
            }
            Err(interruption) => interruption,
        };
        match interruption {
            Interruption::Stop(error) => {
                stop.cancel();
                return Err(error);
            }
            Interruption::Conflict(reason) => {
                let count = conflicts.count(Instant::now());
                if count > config.tuning.conflicts_max {
                    stop.cancel();
                    return Err(Error::Conflict { topic: topic.to_owned(), reason, conflicts: count });
                }
                tracing::warn!(topic, reason, "another archiver was here, going on from the table's progress");
            }
            Interruption::LogAway(_) | Interruption::LakeAway(_) => {
                tokio::select! {
                    () = outage.wait(&interruption) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
    }
    Ok(())
}

async fn session<R: TopicRows>(
    config: &Config,
    topic: &str,
    shutdown: &CancellationToken,
    outage: &mut Outage,
) -> Result<End, Interruption> {
    let lake = Lake::open(&config.lake).await?;
    let appender = Appender::open(R::table(&lake).await?, topic).await?;
    let session = Session { kafka: &config.kafka, topic, tuning: &config.tuning, shutdown };
    session.run::<R>(appender, outage).await
}

/// Rows that know their table.
trait TopicRows: Rows {
    async fn table(lake: &Lake) -> Result<DeltaTable, LakeError>;
}

impl TopicRows for EventRows {
    async fn table(lake: &Lake) -> Result<DeltaTable, LakeError> {
        lake.events().await
    }
}

impl TopicRows for RejectedRows {
    async fn table(lake: &Lake) -> Result<DeltaTable, LakeError> {
        lake.rejected().await
    }
}

/// When conflicts happened lately.
#[derive(Debug, Default)]
struct Conflicts(VecDeque<Instant>);

impl Conflicts {
    /// Notes one more and says how many there were within [`CONFLICT_WINDOW`].
    fn count(&mut self, now: Instant) -> usize {
        self.0.push_back(now);
        while self.0.front().is_some_and(|at| now.duration_since(*at) > CONFLICT_WINDOW) {
            self.0.pop_front();
        }
        self.0.len()
    }
}
