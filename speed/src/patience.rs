//! Waiting for a store that is away: bounded, and said once.

use std::fmt::Display;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// How long what a claim asks may be away before the claim is given up.
const CLAIM_MAX: Duration = Duration::from_secs(60);
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
const DELAY_MIN: Duration = Duration::from_millis(50);
const DELAY_MAX: Duration = Duration::from_secs(2);
/// How often a store that stays away is mentioned again.
const REMINDER: Duration = Duration::from_secs(60);

/// The waiting for one store, longer and longer.
#[derive(Debug)]
pub(crate) struct Patience {
    store: &'static str,
    delay: Duration,
    away_since: Option<Instant>,
    mentioned: Instant,
}

impl Patience {
    pub(crate) fn with(store: &'static str) -> Self {
        Self { store, delay: DELAY_MIN, away_since: None, mentioned: Instant::now() }
    }

    /// The store did its work.
    pub(crate) fn answered(&mut self) {
        self.delay = DELAY_MIN;
        if let Some(since) = self.away_since.take() {
            tracing::info!(store = self.store, away_ms = since.elapsed().as_millis(), "store is back");
        }
    }

    /// The store did not: logs that if it is news, and waits.
    pub(crate) async fn wait_after(&mut self, error: &impl Display) {
        let now = Instant::now();
        if self.away_since.is_none() || now.duration_since(self.mentioned) >= REMINDER {
            tracing::warn!(store = self.store, %error, "store does not take writes; repeating until it does");
            self.mentioned = now;
            self.away_since.get_or_insert(now);
        }
        tokio::time::sleep(self.delay).await;
        self.delay = (self.delay * 2).min(DELAY_MAX);
    }
}

/// Repeats what has to be known before partitions are taken over until it is answered, for a while; `None` if the end
/// came first.
///
/// # Errors
/// The last one, if it was not answered in time.
pub(crate) fn ask_patiently<T, E: Display>(
    runtime: &Handle,
    shutdown: &CancellationToken,
    ask: impl Fn() -> Result<T, E>,
) -> Result<Option<T>, E> {
    let started = Instant::now();
    let mut warned = false;
    while !shutdown.is_cancelled() {
        match ask() {
            Ok(answer) => return Ok(Some(answer)),
            Err(error) if started.elapsed() >= CLAIM_MAX => return Err(error),
            Err(error) if !warned => {
                tracing::warn!(%error, "cannot take a partition over yet; trying again");
                warned = true;
            }
            Err(_) => {}
        }
        let pause = async { tokio::time::timeout(RETRY_INTERVAL, shutdown.cancelled()).await };
        // Either the time is over or the end has come; the loop looks which.
        let _ = runtime.block_on(pause);
    }
    Ok(None)
}
