//! What the client calls back with, from within `poll`: the group's decisions are noted, and answered after it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::statistics::Partition;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Statistics, TopicPartitionList};

/// How often the client tells what it knows.
pub(super) const TELL_INTERVAL: Duration = Duration::from_millis(500);
/// Who tells after so much time only, in microseconds, stood still.
const STANDSTILL_US: i64 = 2_000_000;

/// Where a partition ended when the client last heard of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) partition: i32,
    /// The offset after its last record.
    pub(crate) high: i64,
    /// Who has read everything before this offset has read everything that can be read: what marks the ends of
    /// transactions is no record.
    pub(crate) readable: i64,
    /// When that was, in milliseconds of the wall clock.
    pub(crate) at_ms: i64,
}

/// A decision of the group about this member.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rebalance {
    /// These partitions are now this member's.
    Assigned(Vec<i32>),
    /// These are to be given back. If they are lost, somebody else may have them already.
    Revoked { partitions: Vec<i32>, lost: bool },
}

#[derive(Debug, Default)]
pub(super) struct Context {
    decisions: Mutex<Decisions>,
    seen: Mutex<Seen>,
}

/// What the client last told about the ends of partitions.
#[derive(Debug, Default)]
struct Seen {
    ends: Option<Vec<End>>,
    /// When, in microseconds of a clock of its own.
    told_us: i64,
}

#[derive(Debug, Default)]
struct Decisions {
    waiting: VecDeque<Rebalance>,
    closing: bool,
}

impl Context {
    pub(super) fn next_rebalance(&self) -> Option<Rebalance> {
        self.decisions().waiting.pop_front()
    }

    pub(super) fn take_ends(&self) -> Option<Vec<End>> {
        self.seen().ends.take()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // The same: what calls back does so from within `poll`.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nobody asks for decisions any more: partitions are given back when they are revoked.
    pub(super) fn close(&self) {
        self.decisions().closing = true;
    }

    fn decisions(&self) -> MutexGuard<'_, Decisions> {
        // A plain mutex: it is only ever locked by the one thread that polls, for a few instructions.
        self.decisions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        // What stops the work is also an error of `poll`, and is logged there once.
        tracing::debug!(%error, reason, "log client");
    }

    fn stats(&self, statistics: Statistics) {
        let mut seen = self.seen();
        let told_us = std::mem::replace(&mut seen.told_us, statistics.ts);
        // After standing still the client tells what it knew before.
        if statistics.ts - told_us < STANDSTILL_US {
            seen.ends = Some(ends(&statistics, jiff::Timestamp::now().as_millisecond()));
        }
    }
}

fn ends(statistics: &Statistics, now_ms: i64) -> Vec<End> {
    // It may have waited for somebody to ask; its own time is in whole seconds.
    let told_ms = now_ms.min(statistics.time.saturating_add(1).saturating_mul(1000));
    // The group's coordinator appears a second time, as a broker that no record comes from.
    let brokers = statistics.brokers.values().filter(|it| it.nodeid >= 0 && it.rxidle >= 0 && it.source != "logical");
    let silent_us: BTreeMap<i32, i64> = brokers.map(|it| (it.nodeid, it.rxidle)).collect();
    let partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values());
    let end = |it: &Partition| {
        // Brokers are asked all the time, so this is from their last answer.
        let at_ms = told_ms - silent_us.get(&it.broker)? / 1000;
        let end = if it.ls_offset >= 0 { it.ls_offset } else { it.hi_offset };
        let is_fetched = it.next_offset >= end && it.fetchq_cnt == 0;
        let readable = if is_fetched { it.app_offset.clamp(0, end) } else { end };
        Some(End { partition: it.partition, high: it.hi_offset, readable, at_ms })
    };
    partitions.filter(|it| it.partition >= 0 && it.hi_offset >= 0).filter_map(end).collect()
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let assigned = kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        let mut decisions = self.decisions();
        if decisions.closing {
            let answered = if assigned { Ok(()) } else { consumer.incremental_unassign(list) };
            if let Err(error) = answered.or_else(|_| consumer.unassign()) {
                tracing::debug!(%error, "partitions were not given back");
            }
            return;
        }
        let partitions = list.elements().iter().map(|element| element.partition()).collect();
        decisions.waiting.push_back(if assigned {
            Rebalance::Assigned(partitions)
        } else {
            Rebalance::Revoked { partitions, lost: consumer.assignment_lost() }
        });
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::statistics::{Broker, Topic};

    use super::*;

    const NOW_MS: i64 = 1_000_000_000;

    fn told(partition: Partition, silent_us: i64) -> Statistics {
        let broker = Broker { nodeid: 1, rxidle: silent_us, ..Broker::default() };
        let topic =
            Topic { partitions: [(3, Partition { partition: 3, broker: 1, ..partition })].into(), ..Topic::default() };
        Statistics {
            time: NOW_MS / 1000,
            brokers: [("one".to_owned(), broker)].into(),
            topics: [("events".to_owned(), topic)].into(),
            ..Statistics::default()
        }
    }

    #[test]
    fn an_end_is_as_old_as_the_last_answer_of_its_broker() {
        let fetching =
            Partition { hi_offset: 50, ls_offset: 50, next_offset: 40, app_offset: 30, ..Partition::default() };
        let end = |readable, at_ms| End { partition: 3, high: 50, readable, at_ms };
        assert_eq!(ends(&told(fetching.clone(), 20_000), NOW_MS + 5), [end(50, NOW_MS - 15)]);
        // Asked for late: then only the second is known in which it was told.
        assert_eq!(ends(&told(fetching.clone(), 20_000), NOW_MS + 9_000), [end(50, NOW_MS + 980)]);
        assert_eq!(ends(&told(fetching, -1), NOW_MS), []);
    }

    #[test]
    fn what_ends_a_transaction_is_not_waited_for() {
        let fetched =
            Partition { hi_offset: 50, ls_offset: 50, next_offset: 50, app_offset: 49, ..Partition::default() };
        let readable = |partition| ends(&told(partition, 0), NOW_MS)[0].readable;
        assert_eq!(readable(fetched.clone()), 49);
        assert_eq!(readable(Partition { fetchq_cnt: 1, ..fetched.clone() }), 50, "it may be the record at 49");
        assert_eq!(readable(Partition { app_offset: -1001, ..fetched.clone() }), 0, "there was no record at all");
        assert_eq!(readable(Partition { ls_offset: 45, app_offset: 45, ..fetched }), 45, "not committed yet");
    }
}
