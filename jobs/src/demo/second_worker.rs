//! A second speed worker, as a process of its own, that joins the first one and does not live long.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::child::Process;
use crate::config::Settings;
use crate::report::say;

/// What a worker logs when it begins to read.
const READING: &str = "partitions assigned";
const START_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// It runs, and reads some of the partitions.
pub(super) struct SecondWorker(Process);

impl SecondWorker {
    /// Starts it, and waits until the group has given it partitions.
    pub(super) async fn start(settings: &Settings, dir: &Path) -> Result<Self> {
        let mut settings = settings.clone();
        // One process tells its numbers there already.
        settings.listen.metrics = None;
        let config = dir.join("second-worker.toml");
        std::fs::write(&config, toml::to_string(&settings)?)
            .with_context(|| format!("cannot write {}", config.display()))?;
        let mut process = Process::reckon(&config, "speed", dir.join("second-worker.log"))?;
        let deadline = Instant::now() + START_MAX;
        while !process.has_logged(READING) {
            process.check()?;
            if Instant::now() > deadline {
                bail!("the second worker was given no partitions within {START_MAX:?}");
            }
            tokio::time::sleep(POLL).await;
        }
        say("a second speed worker has joined, and shares the partitions");
        Ok(Self(process))
    }

    /// Ends it without a warning; its partitions go back to the first one when the group notices.
    pub(super) fn kill(self) {
        drop(self.0);
        say("the second worker was killed in the middle of it");
    }
}
