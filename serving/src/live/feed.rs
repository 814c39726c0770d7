//! One live query: evaluated once, however many clients watch it.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use jiff::Timestamp;
use reckon_schemas::catalog::Tenant;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::change::{Kind, LiveMessage, change};
use crate::answer::{Answer, StaleReason};
use crate::cache::Answers;
use crate::problem::Problem;
use crate::query::params::Query;
use crate::tuning::Tuning;

/// A message as it goes over the wire: encoded once, whoever gets it.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) seq: u64,
    /// As JSON.
    pub(crate) json: Bytes,
    /// The same as a server-sent event.
    pub(crate) event: Bytes,
}

/// Where a live query stands: its newest answer, and the few changes that led there.
#[derive(Debug)]
pub(crate) struct Standing {
    seq: u64,
    answer: Answer,
    history: VecDeque<Sent>,
    /// Encoded when the first client needs it.
    snapshot: OnceLock<Option<Sent>>,
}

impl Standing {
    /// The first answer. Numbers begin at the wall clock's milliseconds and grow more slowly than it does, so those of
    /// an earlier process are lower and are never mistaken for known ones.
    pub(crate) fn new(answer: Answer) -> Self {
        let seq = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
        Self::at(seq, answer, VecDeque::new())
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
        Self::at(seq, answer, history)
    }

    fn at(seq: u64, answer: Answer, history: VecDeque<Sent>) -> Self {
        Self { seq, answer, history, snapshot: OnceLock::new() }
    }

    /// What brings a client here that has seen `seen`: nothing, the changes since then if they are still known, or
    /// a snapshot; whichever is less. So a slow client gets the newest state, and no backlog.
    pub(crate) fn since(&self, seen: Option<u64>) -> Vec<Sent> {
        let Some(seen) = seen.filter(|seen| *seen <= self.seq) else { return self.snapshot() };
        let missing: Vec<Sent> = self.history.iter().filter(|sent| sent.seq > seen).cloned().collect();
        let is_complete = u64::try_from(missing.len()) == Ok(self.seq - seen);
        let bytes: usize = missing.iter().map(|sent| sent.json.len()).sum();
        match (is_complete, missing.len()) {
            (true, 0 | 1) => missing,
            (true, _) if self.snapshot_once().is_none_or(|snapshot| bytes <= snapshot.json.len()) => missing,
            _ => self.snapshot(),
        }
    }

    fn snapshot(&self) -> Vec<Sent> {
        self.snapshot_once().cloned().into_iter().collect()
    }

    fn snapshot_once(&self) -> Option<&Sent> {
        self.snapshot.get_or_init(|| encode(self.seq, Kind::Snapshot, &self.answer)).as_ref()
    }
}

fn encode(seq: u64, kind: Kind, answer: &Answer) -> Option<Sent> {
    let message = LiveMessage { seq, kind, answer: answer.clone() };
    let json = serde_json::to_string(&message).inspect_err(|error| tracing::error!(%error, "a live message")).ok()?;
    let head = format!("id: {seq}\nevent: {}\ndata: ", kind.name());
    // JSON has no line breaks.
    let event = Bytes::from(format!("{head}{json}\n\n"));
    let json = event.slice(head.len()..head.len() + json.len());
    Some(Sent { seq, json, event })
}

/// What watchers see.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    /// Nothing yet, where the query stands, or why it does not.
    pub(crate) latest: Option<Result<Arc<Standing>, Problem>>,
    /// Moves on at every heartbeat, so that one clock beats for all clients.
    beats: u64,
}

/// A live query and the way to wake it.
pub(crate) struct Feed {
    pub(crate) seen: watch::Sender<Seen>,
    pub(crate) wake: Notify,
}

impl Feed {
    pub(crate) fn new() -> Self {
        Self { seen: watch::Sender::default(), wake: Notify::new() }
    }

    /// Evaluates the query again and again: soon after a wake-up, and from time to time without one. Ends at
    /// shutdown, and when `is_abandoned` says so.
    pub(crate) async fn run(
        &self,
        query: Query,
        tenant: impl Fn() -> Arc<Tenant>,
        answers: Answers,
        tuning: Arc<Tuning>,
        shutdown: CancellationToken,
        is_abandoned: impl Fn() -> bool,
    ) {
        // Survives failures, so that clients that come back find the changes since they left.
        let mut standing: Option<Arc<Standing>> = None;
        let mut beat = tokio::time::interval(tuning.heartbeat);
        loop {
            let began = Instant::now();
            // The catalog may have changed since the last time.
            let tenant = tenant();
            let mut evaluation = Box::pin(answers.live(&query, &tenant));
            let answered = loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    _ = beat.tick() => self.seen.send_modify(|seen| seen.beats += 1),
                    answered = &mut evaluation => break answered,
                }
            };
            drop(evaluation);
            let is_stale = answered.as_ref().map_or(true, is_last_good);
            let latest = match (answered, &standing) {
                (Ok(answer), Some(before)) => Ok(Arc::new(before.advance(answer, tuning.live_history))),
                (Ok(answer), None) => Ok(Arc::new(Standing::new(answer))),
                (Err(problem), _) => Err(problem),
            };
            if let Ok(now) = &latest {
                standing = Some(now.clone());
            }
            self.seen.send_modify(|seen| seen.latest = Some(latest));
            let next = async {
                if is_stale {
                    // What is announced cannot be read.
                    return tokio::time::sleep(tuning.live_refresh).await;
                }
                // Changes that are announced meanwhile are answered by the same evaluation.
                let woken = tokio::time::timeout(tuning.live_refresh, self.wake.notified()).await;
                if woken.is_ok() {
                    tokio::time::sleep_until(began + tuning.live_interval).await;
                }
            };
            let mut next = Box::pin(next);
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    _ = beat.tick() => self.seen.send_modify(|seen| seen.beats += 1),
                    () = &mut next => break,
                }
            }
            drop(next);
            if is_abandoned() {
                return;
            }
        }
    }
}

fn is_last_good(answer: &Answer) -> bool {
    answer.stale.is_some_and(|stale| stale.reason == StaleReason::StoreAway)
}

#[cfg(test)]
mod tests {
    use super::super::change::tests::answer;
    use super::*;

    fn kinds(sent: &[Sent]) -> Vec<(u64, Kind)> {
        let kind = |event: &[u8]| {
            if event.windows(15).any(|part| part == b"event: snapshot") { Kind::Snapshot } else { Kind::Change }
        };
        sent.iter().map(|sent| (sent.seq, kind(&sent.event))).collect()
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
        assert_eq!(kinds(&standing.since(Some(now - 1))), [(now, Kind::Change)]);
        // Two changes are more than all there is.
        assert_eq!(kinds(&standing.since(Some(now - 2))), [(now, Kind::Snapshot)]);
        // Further back than the history, and a number that this process never gave.
        assert_eq!(kinds(&standing.since(Some(start))), [(now, Kind::Snapshot)]);
        assert_eq!(kinds(&standing.since(Some(now + 1))), [(now, Kind::Snapshot)]);
        assert_eq!(kinds(&standing.since(Some(7))), [(now, Kind::Snapshot)]);
    }

    #[test]
    fn changes_are_sent_one_by_one_where_they_are_less_than_everything() {
        let many: Vec<(i64, i128)> = (0..50).map(|minute| (minute * 60, 1)).collect();
        let with = |value| [&many[1..], &[(0, value)]].concat();
        let mut standing = Standing::new(answer(&[("a", &many)], 1));
        let start = standing.seq;
        for value in [2, 3] {
            standing = standing.advance(answer(&[("a", &with(value))], 2), 3);
        }
        let changes = [(start + 1, Kind::Change), (start + 2, Kind::Change)];
        assert_eq!(kinds(&standing.since(Some(start))), changes);
        let [first, _] = &standing.since(Some(start))[..] else { panic!("two changes") };
        let event = std::str::from_utf8(&first.event).expect("text");
        let json = std::str::from_utf8(&first.json).expect("text");
        assert_eq!(event, format!("id: {}\nevent: change\ndata: {json}\n\n", start + 1));
        assert!(json.starts_with('{') && json.ends_with('}'), "{json}");
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
