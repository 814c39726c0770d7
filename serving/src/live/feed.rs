//! One live query: evaluated once, however many clients watch it.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;
use reckon_schemas::catalog::Tenant;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::change::{Kind, LiveMessage, change};
use crate::answer::Answer;
use crate::problem::Problem;
use crate::query::Evaluator;
use crate::query::params::Query;
use crate::tuning::Tuning;

/// A message as it goes over the wire.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) seq: u64,
    pub(crate) kind: Kind,
    pub(crate) json: Arc<str>,
}

/// Where a live query stands: its newest answer, and the few changes that led there.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    seq: u64,
    answer: Arc<Answer>,
    history: VecDeque<Sent>,
}

impl Standing {
    /// The first answer. Numbers begin at the wall clock's milliseconds and grow more slowly than it does, so those of
    /// an earlier process are lower and are never mistaken for known ones.
    pub(crate) fn new(answer: Answer) -> Self {
        let seq = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
        Self { seq, answer: Arc::new(answer), history: VecDeque::new() }
    }

    /// Goes on to a new answer.
    pub(crate) fn advance(&self, answer: Answer, history_max: usize) -> Self {
        let seq = self.seq + 1;
        let mut history = self.history.clone();
        match change(&self.answer, &answer) {
            Some(change) => {
                history.extend(encode(seq, Kind::Change, &change));
                let excess = history.len().saturating_sub(history_max);
                history.drain(..excess);
            }
            None => history.clear(),
        }
        Self { seq, answer: Arc::new(answer), history }
    }

    /// What brings a client here that has seen `seen`: nothing, the changes since then if they are still known, or
    /// a snapshot.
    pub(crate) fn since(&self, seen: Option<u64>) -> Vec<Sent> {
        let Some(seen) = seen.filter(|seen| *seen <= self.seq) else { return self.snapshot() };
        let missing: Vec<Sent> = self.history.iter().filter(|sent| sent.seq > seen).cloned().collect();
        let is_complete = u64::try_from(missing.len()) == Ok(self.seq - seen);
        if is_complete { missing } else { self.snapshot() }
    }

    fn snapshot(&self) -> Vec<Sent> {
        encode(self.seq, Kind::Snapshot, &self.answer).into_iter().collect()
    }
}

fn encode(seq: u64, kind: Kind, answer: &Answer) -> Option<Sent> {
    let message = LiveMessage { seq, kind, answer: answer.clone() };
    let json = serde_json::to_string(&message).inspect_err(|error| tracing::error!(%error, "a live message"));
    Some(Sent { seq, kind, json: json.ok()?.into() })
}

/// What watchers see: nothing yet, where the query stands, or why it does not.
pub(crate) type Seen = Option<Result<Standing, Problem>>;

/// A live query and the way to wake it.
pub(crate) struct Feed {
    pub(crate) latest: watch::Sender<Seen>,
    pub(crate) wake: Notify,
}

impl Feed {
    pub(crate) fn new() -> Self {
        Self { latest: watch::Sender::new(None), wake: Notify::new() }
    }

    /// Evaluates the query again and again: soon after a wake-up, and from time to time without one. Ends at
    /// shutdown, and when `is_abandoned` says so.
    pub(crate) async fn run(
        &self,
        query: Query,
        tenant: Arc<Tenant>,
        evaluator: Evaluator,
        tuning: Arc<Tuning>,
        shutdown: CancellationToken,
        is_abandoned: impl Fn() -> bool,
    ) {
        // Survives failures, so that clients that come back find the changes since they left.
        let mut standing: Option<Standing> = None;
        loop {
            let began = Instant::now();
            let answered = tokio::select! {
                () = shutdown.cancelled() => return,
                answered = evaluator.answer(&query, &tenant, Timestamp::now()) => answered,
            };
            let seen = answered.map(|answer| match &standing {
                Some(before) => before.advance(answer, tuning.live_history),
                None => Standing::new(answer),
            });
            if let Ok(now) = &seen {
                standing = Some(now.clone());
            }
            self.latest.send_replace(Some(seen));
            let next = async {
                // Changes that are announced meanwhile are answered by the same evaluation.
                let woken = tokio::time::timeout(tuning.live_refresh, self.wake.notified()).await;
                if woken.is_ok() {
                    tokio::time::sleep_until(began + tuning.live_interval).await;
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = next => {}
            }
            if is_abandoned() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::change::tests::answer;
    use super::*;

    fn kinds(sent: &[Sent]) -> Vec<(u64, Kind)> {
        sent.iter().map(|sent| (sent.seq, sent.kind)).collect()
    }

    #[test]
    fn a_client_gets_what_it_misses_and_no_more() {
        let first = Standing::new(answer(&[("a", &[(0, 1)])], 1));
        let start = first.seq;
        let mut standing = first;
        for value in 2..6 {
            standing = standing.advance(answer(&[("a", &[(0, value)])], 2), 3);
        }
        let now = start + 4;
        assert_eq!(kinds(&standing.since(None)), [(now, Kind::Snapshot)]);
        assert!(standing.since(Some(now)).is_empty());
        assert_eq!(kinds(&standing.since(Some(now - 2))), [(now - 1, Kind::Change), (now, Kind::Change)]);
        // Further back than the history, and a number that this process never gave.
        assert_eq!(kinds(&standing.since(Some(start))), [(now, Kind::Snapshot)]);
        assert_eq!(kinds(&standing.since(Some(now + 1))), [(now, Kind::Snapshot)]);
        assert_eq!(kinds(&standing.since(Some(7))), [(now, Kind::Snapshot)]);
    }

    #[test]
    fn no_change_leads_over_a_snapshot() {
        let first = Standing::new(answer(&[("a", &[(0, 1)]), ("b", &[(0, 1)])], 1));
        let start = first.seq;
        let fewer = first.advance(answer(&[("a", &[(0, 1)])], 2), 3);
        let then = fewer.advance(answer(&[("a", &[(0, 2)])], 3), 3);
        assert_eq!(kinds(&then.since(Some(start))), [(start + 2, Kind::Snapshot)]);
        assert_eq!(kinds(&then.since(Some(start + 1))), [(start + 2, Kind::Change)]);
    }
}
