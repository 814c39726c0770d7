//! Waiting for a store that is away: longer each time, and said once when it begins and once when it ends.

use std::fmt::Display;
use std::time::{Duration, Instant};

const WAIT_FIRST: Duration = Duration::from_millis(200);
const WAIT_MAX: Duration = Duration::from_secs(10);

/// One store's being away, or not.
#[derive(Debug)]
pub(crate) struct Outage {
    topic: String,
    store: &'static str,
    since: Option<Instant>,
    wait: Duration,
}

impl Outage {
    /// A store that answers.
    pub(crate) fn new(topic: &str, store: &'static str) -> Self {
        Self { topic: topic.to_owned(), store, since: None, wait: WAIT_FIRST }
    }

    /// Notes a failure.
    pub(crate) fn note(&mut self, error: &impl Display) {
        if self.since.is_none() {
            self.since = Some(Instant::now());
            tracing::warn!(topic = self.topic, "{} is away, archiving waits for it: {error}", self.store);
        }
    }

    /// Notes a failure and waits before the next try.
    pub(crate) async fn wait(&mut self, error: &impl Display) {
        self.note(error);
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).min(WAIT_MAX);
    }

    /// Notes that the store answers.
    pub(crate) fn over(&mut self) {
        if let Some(since) = self.since.take() {
            tracing::info!(topic = self.topic, away_s = since.elapsed().as_secs(), "{} answers again", self.store);
        }
        self.wait = WAIT_FIRST;
    }
}
