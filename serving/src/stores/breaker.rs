//! A store that is away is left alone until it is back: whoever asks for it is refused at once instead of waiting, and
//! one probe in the background finds out when it answers again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use failsafe::backoff::{self, EqualJittered};
use failsafe::failure_policy::{self, ConsecutiveFailures};
use failsafe::{Config, Instrument, StateMachine};
use tokio_util::sync::CancellationToken;

use super::StoreError;
use crate::telemetry::AWAY;

/// Failures in a row after which a store is taken to be away.
const FAILURES_MAX: u32 = 3;
/// How long it is left alone: at first, and at the most.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often it is looked after, and how long it may take to answer that.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
const PROBE_TIME_MAX: Duration = Duration::from_secs(2);

/// Whether a store is to be asked. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Breaker(Arc<State>);

struct State {
    store: &'static str,
    machine: StateMachine<ConsecutiveFailures<EqualJittered>, Told>,
    is_open: Arc<AtomicBool>,
}

/// Logs and remembers what the machine decides.
struct Told {
    store: &'static str,
    is_open: Arc<AtomicBool>,
}

impl Instrument for Told {
    fn on_call_rejected(&self) {}

    fn on_open(&self) {
        if !self.is_open.swap(true, Ordering::Relaxed) {
            tracing::warn!(store = self.store, "does not answer: left alone until it does again");
        }
        metrics::gauge!(AWAY, "store" => self.store).set(1.0);
    }

    fn on_half_open(&self) {}

    fn on_closed(&self) {
        if self.is_open.swap(false, Ordering::Relaxed) {
            tracing::info!(store = self.store, "answers again");
        }
        metrics::gauge!(AWAY, "store" => self.store).set(0.0);
    }
}

impl Breaker {
    pub(super) fn new(store: &'static str) -> Self {
        let is_open = Arc::<AtomicBool>::default();
        let policy = failure_policy::consecutive_failures(FAILURES_MAX, backoff::equal_jittered(PAUSE_MIN, PAUSE_MAX));
        let machine = Config::new().failure_policy(policy).instrument(Told { store, is_open: is_open.clone() }).build();
        Self(Arc::new(State { store, machine, is_open }))
    }

    /// Whether the store may be asked.
    ///
    /// # Errors
    /// It is away.
    pub(super) fn admit(&self) -> Result<(), StoreError> {
        if self.0.is_open.load(Ordering::Relaxed) {
            let problem = "it did not, and is left alone until it does".to_owned();
            return Err(StoreError::Unavailable { store: self.0.store, problem });
        }
        Ok(())
    }

    /// The store answered, whatever it said.
    pub(super) fn answered(&self) {
        // While it is open only the probe decides: an answer that was on its way is no proof.
        if !self.0.is_open.load(Ordering::Relaxed) {
            self.0.machine.on_success();
        }
    }

    /// The store could not be reached.
    pub(super) fn failed(&self) {
        if !self.0.is_open.load(Ordering::Relaxed) {
            self.0.machine.on_error();
        }
    }

    /// Looks after the store until shutdown: notices that it hangs before many have waited for it, and that it is back.
    pub(super) async fn watch<E, F: Future<Output = Result<(), E>>>(
        &self,
        probe: impl Fn() -> F,
        shutdown: CancellationToken,
    ) {
        let look = async {
            loop {
                tokio::time::sleep(PROBE_INTERVAL).await;
                // When it is open, only as often as the machine lets it.
                if !self.0.machine.is_call_permitted() {
                    continue;
                }
                match tokio::time::timeout(PROBE_TIME_MAX, probe()).await {
                    Ok(Ok(())) => self.0.machine.on_success(),
                    Ok(Err(_)) | Err(_) => self.0.machine.on_error(),
                }
            }
        };
        shutdown.run_until_cancelled(look).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_store_that_is_away_is_refused_at_once_until_the_probe_finds_it() {
        let breaker = Breaker::new("test");
        for _ in 0..FAILURES_MAX {
            assert!(breaker.admit().is_ok());
            breaker.failed();
        }
        assert!(matches!(breaker.admit(), Err(StoreError::Unavailable { store: "test", .. })));
        // An answer to what was asked before is no proof.
        breaker.answered();
        assert!(breaker.admit().is_err());
        let stop = CancellationToken::new();
        let back = Arc::new(AtomicBool::new(false));
        let watch = tokio::spawn({
            let (breaker, stop, back) = (breaker.clone(), stop.clone(), back.clone());
            async move {
                let probe = || async { if back.load(Ordering::Relaxed) { Ok(()) } else { Err(()) } };
                breaker.watch(probe, stop).await;
            }
        });
        tokio::time::sleep(PROBE_INTERVAL * 2).await;
        assert!(breaker.admit().is_err());
        back.store(true, Ordering::Relaxed);
        tokio::time::sleep(PROBE_INTERVAL * 2 + PAUSE_MIN * 4).await;
        assert!(breaker.admit().is_ok());
        stop.cancel();
        watch.await.expect("no panic");
    }

    #[test]
    fn an_answer_in_between_starts_the_count_again() {
        let breaker = Breaker::new("test");
        for _ in 0..10 {
            breaker.failed();
            breaker.failed();
            breaker.answered();
        }
        assert!(breaker.admit().is_ok());
    }
}
