//! Why the archive stops.

use rdkafka::error::KafkaError;

use super::append::AppendError;
use crate::lake::LakeError;

/// Why the archive stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Records that the archive has not read yet are gone from the log. To go on would hide that they are missing.
    #[error(
        "{topic} partition {partition}: the next record to archive is {expected}, but the log begins at {low} and ends \
         at {high}: {lost}. Nothing was skipped. Restore the log, or, if the records are lost for good, write down \
         which ones and start a new lake"
    )]
    LogGone {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset that the archive needs next.
        expected: i64,
        /// The first offset that the log still has.
        low: i64,
        /// The first offset after the log's last record.
        high: i64,
        /// What happened to the log, as far as the offsets tell.
        lost: &'static str,
    },
    /// Another archiver writes to the same table: stop one of them.
    #[error(
        "another archiver writes the records of {topic} to the same lake: {reason}. It happened {conflicts} times in \
         ten minutes; nothing was written twice. Only one archiver may run on a lake: stop one of them"
    )]
    Conflict {
        /// The topic.
        topic: String,
        /// Where the two met.
        reason: String,
        /// How often it happened.
        conflicts: usize,
    },
    /// The lake needs a person.
    #[error(transparent)]
    Lake(LakeError),
    /// The client of the log does not work with this configuration.
    #[error("kafka.brokers: the log's client could not be made: {0}")]
    LogClient(#[source] KafkaError),
}

/// Why one run through the log ended before shutdown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Interruption {
    /// Begin again from the table's progress.
    #[error("{0}")]
    Conflict(String),
    /// The log cannot be read at the moment.
    #[error("{0}")]
    LogAway(String),
    /// The lake cannot be read at the moment.
    #[error(transparent)]
    LakeAway(LakeError),
    /// There is nothing to be done about it here.
    #[error(transparent)]
    Stop(#[from] Error),
}

impl From<LakeError> for Interruption {
    fn from(error: LakeError) -> Self {
        if error.is_transient() { Self::LakeAway(error) } else { Self::Stop(Error::Lake(error)) }
    }
}

impl From<AppendError> for Interruption {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Conflict { .. } => Self::Conflict(error.to_string()),
            AppendError::Lake(error) => error.into(),
        }
    }
}
