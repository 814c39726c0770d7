//! Filling a lake without a log, by the archive's own rows, files and commits: for benchmarks.

use reckon_schemas::time::EventTime;

use super::append::{AppendError, Appender};
use super::error::Error;
use super::event_rows::EventRows;
use super::pending::Pending;
use super::record::Record;
use super::tuning::Tuning;
use crate::lake::{Lake, LakeError};

/// Brings messages into the table of events as if they had been read from a topic.
#[derive(Debug)]
pub struct Loader {
    pending: Pending<EventRows>,
    appender: Appender,
    topic: String,
}

impl Loader {
    /// A loader that goes on where the table is with the topic; `tuning` says how large commits are.
    ///
    /// # Errors
    /// [`LakeError`] if the table cannot be read.
    pub async fn open(lake: &Lake, topic: &str, tuning: &Tuning) -> Result<Self, LakeError> {
        let appender = Appender::open(lake.events().await?, topic).await?;
        Ok(Self { pending: Pending::new(appender.progress(), tuning), appender, topic: topic.to_owned() })
    }

    /// Takes a message, and commits when there are as many as a commit takes.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub async fn push(
        &mut self,
        partition: i32,
        offset: i64,
        log_time: EventTime,
        payload: &[u8],
    ) -> Result<(), Error> {
        self.pending.push(&Record { partition, offset, log_time, traceparent: None, payload: Some(payload) });
        if self.pending.is_full() { self.commit().await } else { Ok(()) }
    }

    /// Commits what was taken.
    ///
    /// # Errors
    /// [`Error::Conflict`] if somebody else fills the same table, [`Error::Lake`] if a person must look at it.
    pub async fn commit(&mut self) -> Result<(), Error> {
        let Some(block) = self.pending.take() else { return Ok(()) };
        self.appender.append(&block).await.map_err(|error| match error {
            AppendError::Lake(error) => Error::Lake(error),
            conflict @ AppendError::Conflict { .. } => {
                Error::Conflict { topic: self.topic.clone(), reason: conflict.to_string(), conflicts: 1 }
            }
        })
    }
}
