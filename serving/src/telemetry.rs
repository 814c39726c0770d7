//! What a serving node tells about itself: metrics by the names that `describe` lists.

use metrics::{counter, describe_counter, describe_gauge, gauge};

/// Whether a store is away.
pub(crate) const AWAY: &str = "reckon_serving_store_away";
/// Live clients.
pub(crate) const LIVE_CLIENTS: &str = "reckon_serving_live_clients";
const ALERT_ROUND: &str = "reckon_serving_alert_round_seconds";
const ANSWERS: &str = "reckon_serving_answers_total";
const STALLED: &str = "reckon_serving_stalled_connections_total";

/// Says what each metric is.
pub(crate) fn describe() {
    describe_counter!(
        ANSWERS,
        "Answers by how they came about: hit (kept by this node), shared_hit (kept by any node), miss (computed), \
         coalesced (another request's computation), passed (of a kind that is not kept), last_good (a store was away)"
    );
    describe_gauge!(ALERT_ROUND, "How long the last round of looks at all alerts took, on the node that looks");
    describe_gauge!(AWAY, "1 while a store is left alone because it does not answer, by store");
    describe_gauge!(LIVE_CLIENTS, "Live subscriptions that are open");
    describe_counter!(STALLED, "Connections closed because their client did not read");
}

/// How an answer came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Hit,
    SharedHit,
    Miss,
    Coalesced,
    Passed,
    LastGood,
}

/// Counts an answer.
pub(crate) fn answered(outcome: Outcome) {
    let outcome = match outcome {
        Outcome::Hit => "hit",
        Outcome::SharedHit => "shared_hit",
        Outcome::Miss => "miss",
        Outcome::Coalesced => "coalesced",
        Outcome::Passed => "passed",
        Outcome::LastGood => "last_good",
    };
    counter!(ANSWERS, "outcome" => outcome).increment(1);
}

/// Says how long a round of looks at all alerts took.
pub(crate) fn looked_at_alerts(round: std::time::Duration) {
    gauge!(ALERT_ROUND).set(round.as_secs_f64());
}

/// Counts a connection whose client did not read.
pub(crate) fn stalled() {
    counter!(STALLED).increment(1);
}
