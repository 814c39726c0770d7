//! What the client calls back with, from within `poll`: the group's decisions are noted, and answered after it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Statistics, TopicPartitionList};

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
    ends: Mutex<Vec<(i32, i64)>>,
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

    pub(super) fn ends(&self) -> Vec<(i32, i64)> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
        let partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values());
        let ends = partitions.filter(|partition| partition.partition >= 0 && partition.hi_offset >= 0);
        let ends = ends.map(|partition| (partition.partition, partition.hi_offset)).collect();
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = ends;
    }
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
