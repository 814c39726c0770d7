//! One run through the log: from the table's progress until something changes the ground it stands on.

use std::time::Duration;

use futures::StreamExt;
use reckon_schemas::stores;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::append::Appender;
use super::error::Interruption;
use super::intake::Intake;
use super::outage::Outage;
use super::pending::Pending;
use super::record::Record;
use super::rows::Rows;
use super::tuning::Tuning;

/// How long the last commit may take once the archive is asked to stop.
const LAST_COMMIT_LIMIT: Duration = Duration::from_secs(6);

/// After so many records in a row, other tasks get their turn.
const RECORDS_PER_TURN: usize = 512;

/// Why a session ended in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Shutdown,
    NewPartitions,
}

/// The topic and the table of a session.
pub(crate) struct Session<'a> {
    pub(crate) kafka: &'a stores::Kafka,
    pub(crate) topic: &'a str,
    pub(crate) tuning: &'a Tuning,
    pub(crate) shutdown: &'a CancellationToken,
}

impl Session<'_> {
    /// Archives until shutdown, or until the topic has more partitions than are read. What is pending is committed
    /// then; after an interruption it is forgotten, and the next session reads it again.
    pub(crate) async fn run<R: Rows>(&self, mut appender: Appender, outage: &mut Outage) -> Result<End, Interruption> {
        let intake = Intake::open(self.kafka, self.topic, appender.progress()).await?;
        outage.over();
        tracing::info!(
            topic = self.topic,
            partitions = intake.partitions(),
            version = appender.version(),
            "archiving from {:?}",
            appender.progress()
        );
        let mut pending = Pending::<R>::new(appender.progress(), self.tuning);
        let end = self.read(&intake, &mut appender, &mut pending).await?;
        self.commit(&mut appender, &mut pending).await?;
        Ok(end)
    }

    async fn read<R: Rows>(
        &self,
        intake: &Intake,
        appender: &mut Appender,
        pending: &mut Pending<R>,
    ) -> Result<End, Interruption> {
        let mut messages = intake.consumer().stream();
        let mut discovery = tokio::time::interval(self.tuning.discovery_interval.max(Duration::from_millis(100)));
        discovery.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut log = Outage::new(self.topic, "the log");
        let mut in_a_row = 0_usize;
        loop {
            let due_at = pending.due_at();
            let is_due = due_at.is_some();
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return Ok(End::Shutdown),
                () = tokio::time::sleep_until(due_at.unwrap_or_else(Instant::now)), if is_due => {
                    self.commit(appender, pending).await?;
                }
                _ = discovery.tick() => {
                    if intake.has_new_partitions().await {
                        return Ok(End::NewPartitions);
                    }
                }
                message = messages.next() => match message {
                    Some(Ok(message)) => {
                        log.over();
                        pending.push(&Record::of(&message));
                    }
                    Some(Err(error)) => {
                        intake.judge(&error, pending.positions()).await?;
                        log.note(&error);
                    }
                    None => return Err(Interruption::LogAway("the log's client ended its stream".to_owned())),
                }
            }
            if pending.is_full() {
                // Nothing is read meanwhile: the client reads ahead as far as it is allowed to, and then stops too.
                self.commit(appender, pending).await?;
            }
            in_a_row = in_a_row.wrapping_add(1);
            if in_a_row.is_multiple_of(RECORDS_PER_TURN) {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Commits what is pending. Where the store is away this waits for it, but only briefly once shutdown is asked for.
    async fn commit<R: Rows>(&self, appender: &mut Appender, pending: &mut Pending<R>) -> Result<(), Interruption> {
        let Some(block) = pending.take() else { return Ok(()) };
        let began = Instant::now();
        let appended = tokio::select! {
            appended = appender.append(&block) => appended,
            () = self.last_commit_limit() => {
                tracing::warn!(
                    topic = self.topic,
                    rows = block.rows.num_rows(),
                    "stopping without a last commit, since the lake does not answer: these records are read again at the next start"
                );
                return Ok(());
            }
        };
        appended?;
        tracing::debug!(
            topic = self.topic,
            rows = block.rows.num_rows(),
            version = appender.version(),
            commit_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "archived"
        );
        Ok(())
    }

    async fn last_commit_limit(&self) {
        self.shutdown.cancelled().await;
        tokio::time::sleep(LAST_COMMIT_LIMIT).await;
    }
}
