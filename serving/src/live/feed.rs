//! One live query: evaluated once, however many clients watch it.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use reckon_schemas::catalog::Tenant;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::change::{Kind, LiveMessage, Position, change, is_no_news};
use crate::answer::{Answer, StaleReason};
use crate::cache::Answers;
use crate::problem::Problem;
use crate::query::events::Reads;
use crate::query::params::Query;
use crate::tuning::Tuning;

/// A message as it goes over the wire: encoded once, whoever gets it.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) position: Position,
    /// As JSON.
    pub(crate) json: Bytes,
    /// The same as a server-sent event.
    pub(crate) event: Bytes,
}

/// Where a live query stands: its newest answer, and the few changes that led there.
#[derive(Debug)]
pub(crate) struct Standing {
    position: Position,
    /// When the last message was made.
    told: Instant,
    answer: Answer,
    history: VecDeque<Sent>,
    /// Encoded when the first client needs it.
    snapshot: OnceLock<Option<Sent>>,
}

impl Standing {
    /// The first answer.
    pub(crate) fn new(answer: Answer) -> Self {
        Self::at(Position { feed: rand::random(), seq: 1 }, Instant::now(), answer, VecDeque::new())
    }

    /// Goes on to a new answer. That is a message if it says something new; or else, that the numbers are fresh, if there
    /// was none for `silence_max`.
    pub(crate) fn advance(&self, answer: Answer, history_max: usize, silence_max: Duration) -> Self {
        let mut history = self.history.clone();
        let change = change(&self.answer, &answer);
        let is_quiet = change.as_ref().is_some_and(|change| is_no_news(&self.answer, change));
        if is_quiet && self.told.elapsed() < silence_max {
            return Self::at(self.position, self.told, answer, history);
        }
        let position = Position { seq: self.position.seq + 1, ..self.position };
        match change {
            Some(change) => {
                history.extend(encode(position, Kind::Change, &change));
                let excess = history.len().saturating_sub(history_max);
                history.drain(..excess);
            }
            None => history.clear(),
        }
        Self::at(position, Instant::now(), answer, history)
    }

    fn at(position: Position, told: Instant, answer: Answer, history: VecDeque<Sent>) -> Self {
        Self { position, told, answer, history, snapshot: OnceLock::new() }
    }

    /// What brings a client here that has seen `seen`: nothing, the changes since then if they are still known, or
    /// a snapshot; whichever is less. So a slow client gets the newest state, and no backlog; and who comes from another
    /// feed a snapshot.
    pub(crate) fn since(&self, seen: Option<Position>) -> Vec<Sent> {
        let now = self.position;
        let seen = seen.filter(|seen| seen.feed == now.feed && seen.seq <= now.seq);
        let Some(Position { seq: seen, .. }) = seen else { return self.snapshot() };
        let missing: Vec<Sent> = self.history.iter().filter(|sent| sent.position.seq > seen).cloned().collect();
        let is_complete = u64::try_from(missing.len()) == Ok(now.seq - seen);
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
        self.snapshot.get_or_init(|| encode(self.position, Kind::Snapshot, &self.answer)).as_ref()
    }
}

fn encode(position: Position, kind: Kind, answer: &Answer) -> Option<Sent> {
    let message = LiveMessage { position, seq: position.seq, kind, answer: answer.clone() };
    let json = serde_json::to_string(&message).inspect_err(|error| tracing::error!(%error, "a live message")).ok()?;
    let head = format!("id: {position}\nevent: {}\ndata: ", kind.name());
    // JSON has no line breaks.
    let event = Bytes::from(format!("{head}{json}\n\n"));
    let json = event.slice(head.len()..head.len() + json.len());
    Some(Sent { position, json, event })
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

    /// Who comes next sees this; who watches already is woken only if there is something to tell.
    pub(crate) fn show(&self, latest: Result<Arc<Standing>, Problem>) {
        self.seen.send_if_modified(|seen| {
            let is_quiet = match (&seen.latest, &latest) {
                (Some(Ok(before)), Ok(now)) => before.position == now.position,
                _ => false,
            };
            seen.latest = Some(latest);
            !is_quiet
        });
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
                (Ok(answer), Some(before)) => {
                    Ok(Arc::new(before.advance(answer, tuning.live_history, tuning.live_refresh)))
                }
                (Ok(answer), None) => Ok(Arc::new(Standing::new(answer))),
                (Err(problem), _) => Err(problem),
            };
            if let Ok(now) = &latest {
                standing = Some(now.clone());
            }
            self.show(latest);
            let next = async {
                if is_stale {
                    // What is announced cannot be read.
                    return tokio::time::sleep(tuning.live_refresh).await;
                }
                let least = match answers.pushed_from(&query, &tenant) {
                    Ok(Reads::RawEvents) => tuning.live_events_interval,
                    Ok(Reads::Rollups) | Err(_) => tuning.live_interval,
                };
                // Changes that are announced meanwhile are answered by the same evaluation.
                let _ = tokio::time::timeout(tuning.live_refresh, self.wake.notified()).await;
                tokio::time::sleep_until(began + least).await;
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
        sent.iter().map(|sent| (sent.position.seq, kind(&sent.event))).collect()
    }

    /// After these answers, one after the other.
    fn led(answers: impl IntoIterator<Item = Answer>) -> Standing {
        let mut answers = answers.into_iter();
        let first = Standing::new(answers.next().expect("a first one"));
        answers.fold(first, |standing, answer| standing.advance(answer, 3, Duration::from_secs(60)))
    }

    impl Standing {
        fn since_seq(&self, seq: u64) -> Vec<(u64, Kind)> {
            kinds(&self.since(Some(Position { seq, ..self.position })))
        }
    }

    #[test]
    fn a_client_gets_what_it_misses_and_no_more() {
        let standing = led((1..6).map(|value| answer(&[("a", &[(0, value)])], 2)));
        assert_eq!(kinds(&standing.since(None)), [(5, Kind::Snapshot)]);
        assert!(standing.since_seq(5).is_empty());
        assert_eq!(standing.since_seq(4), [(5, Kind::Change)]);
        // Two changes are more than all there is.
        assert_eq!(standing.since_seq(3), [(5, Kind::Snapshot)]);
        // Further back than the history, and a number that this feed never gave.
        assert_eq!(standing.since_seq(1), [(5, Kind::Snapshot)]);
        assert_eq!(standing.since_seq(6), [(5, Kind::Snapshot)]);
    }

    #[test]
    fn a_position_in_one_feed_is_none_in_another() {
        let [one, other] = [1, 7].map(|first| led([first, 2, 3].map(|value| answer(&[("a", &[(0, value)])], 2))));
        assert_eq!(one.position.seq, other.position.seq);
        for seq in 1..=3 {
            let position = Position { seq, ..one.position };
            assert_eq!(kinds(&other.since(Some(position))), [(3, Kind::Snapshot)], "{position}");
        }
    }

    #[test]
    fn that_nothing_moved_is_told_from_time_to_time_only() {
        let at = |as_of_ms| answer(&[("a", &[(0, 1)])], as_of_ms);
        let first = Standing::new(at(1));
        let quiet = first.advance(at(2), 3, Duration::from_secs(60));
        assert_eq!(quiet.position, first.position);
        assert!(quiet.since(Some(first.position)).is_empty());
        // Who comes now gets what is known now.
        let [snapshot] = &quiet.since(None)[..] else { panic!("one snapshot") };
        assert!(String::from_utf8_lossy(&snapshot.json).contains("1970-01-01T00:00:00.002Z"), "{snapshot:?}");
        let told = quiet.advance(at(3), 3, Duration::ZERO);
        assert_eq!(told.since_seq(1), [(2, Kind::Change)]);
        // What is new is told at once, also after a quiet one.
        let moved = quiet.advance(answer(&[("a", &[(0, 2)])], 4), 3, Duration::from_secs(60));
        assert_eq!(moved.since_seq(1), [(2, Kind::Change)]);
    }

    #[tokio::test]
    async fn who_watches_is_woken_only_by_what_is_told() {
        let feed = Feed::new();
        let mut seen = feed.seen.subscribe();
        let first = Arc::new(Standing::new(answer(&[("a", &[(0, 1)])], 1)));
        let quiet = Arc::new(first.advance(answer(&[("a", &[(0, 1)])], 2), 3, Duration::from_secs(60)));
        let moved = Arc::new(quiet.advance(answer(&[("a", &[(0, 2)])], 3), 3, Duration::from_secs(60)));
        let shown = [
            (Ok(first), true),
            (Ok(quiet.clone()), false),
            (Ok(moved), true),
            (Err(Problem::internal()), true),
            (Ok(quiet), true),
        ];
        for (latest, is_told) in shown {
            feed.show(latest.clone());
            assert_eq!(seen.has_changed().expect("it is there"), is_told, "{latest:?}");
            let now = seen.borrow_and_update().latest.clone().map(|latest| latest.map(|now| now.answer.computed_at));
            assert_eq!(now, Some(latest.map(|latest| latest.answer.computed_at)));
        }
    }

    #[test]
    fn changes_are_sent_one_by_one_where_they_are_less_than_everything() {
        let many: Vec<(i64, i128)> = (0..50).map(|minute| (minute * 60, 1)).collect();
        let with = |value| [&many[1..], &[(0, value)]].concat();
        let standing = led([1, 2, 3].map(|value| answer(&[("a", &with(value))], 1)));
        assert_eq!(standing.since_seq(1), [(2, Kind::Change), (3, Kind::Change)]);
        let start = Position { seq: 1, ..standing.position };
        let [first, _] = &standing.since(Some(start))[..] else { panic!("two changes") };
        let event = std::str::from_utf8(&first.event).expect("text");
        let json = std::str::from_utf8(&first.json).expect("text");
        let position = Position { seq: 2, ..start };
        assert_eq!(event, format!("id: {position}\nevent: change\ndata: {json}\n\n"));
        assert!(json.starts_with(&format!("{{\"position\":\"{position}\",\"seq\":2,")), "{json}");
        assert!(json.ends_with('}'), "{json}");
    }

    #[test]
    fn no_change_leads_over_a_snapshot() {
        let both = answer(&[("a", &[(0, 1)]), ("b", &[(0, 1)])], 1);
        let standing = led([both, answer(&[("a", &[(0, 1)])], 2), answer(&[("a", &[(0, 2)])], 3)]);
        assert_eq!(standing.since_seq(1), [(3, Kind::Snapshot)]);
        assert_eq!(standing.since_seq(2), [(3, Kind::Change)]);
    }
}
