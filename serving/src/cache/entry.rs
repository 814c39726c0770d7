//! A kept answer, and how long it is one. Pure: the time is an argument.

use std::time::Duration;

use jiff::Timestamp;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::time::EventTime;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::answer::{Answer, LayerName};
use crate::query::question::Question;
use crate::tuning::Tuning;

/// Windows that were over so long ago hardly get late events any more.
const HISTORY_AFTER_US: i64 = 3600 * 1_000_000;
/// How far lifetimes are spread, in thousandths: so that answers that were made together do not end together.
const JITTER_MILLI: i64 = 200;
/// Counts up when the same question has another answer in a new build.
const FORMAT: &str = "2";

/// The name of a question of a tenant: 128 bits of everything that decides the answer but the numbers themselves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) tenant: String,
    pub(crate) hash: String,
}

impl Key {
    /// Two questions have one name only if they are equal, to the same tenant, with the same catalog and bounds.
    pub(crate) fn of(question: &Question, tenant: &Tenant, tuning: &Tuning) -> Self {
        let bounds = (tuning.groups_max, tuning.points_max, tuning.windows_max, tuning.top_windows_max);
        let catalog = (&tenant.time_zone, &tenant.rollups, &tenant.metrics);
        let build = (FORMAT, env!("CARGO_PKG_VERSION"));
        // Every field of a question is in its debug form, those that are added later too.
        let text = format!("{build:?} {:?} {catalog:?} {bounds:?} {question:?}", tenant.id);
        Self { tenant: tenant.id.to_string(), hash: hash(text.as_bytes()) }
    }
}

/// 128 bits of a text, in hexadecimal digits.
pub(crate) fn hash(text: &[u8]) -> String {
    hex::encode(&Sha256::digest(text)[..16])
}

/// What a question means at this moment: an answer is one to it only if it agrees in all of this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meaning {
    /// The range in whole windows; one without an end moves on with the time.
    pub(crate) from: EventTime,
    pub(crate) to: EventTime,
    /// What is settled of it, by which runs, and how far the books are: an adjustment is told beside closed numbers, and a
    /// backfill fills gaps of settled ones.
    pub(crate) settled: String,
}

/// An answer that is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) meaning: Meaning,
    /// The last millisecond of its life.
    pub(crate) until_ms: i64,
    pub(crate) answer: Answer,
}

/// How much an answer can still move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Motion {
    /// Only by a settlement, which is part of the meaning.
    Settled,
    /// By events that are very late.
    History,
    /// By late events.
    Recent,
    /// With every event.
    Moving,
}

impl Entry {
    /// An answer that was computed just now. `watermark` is up to where the speed layer has seen every partition;
    /// `random` is any number.
    pub(crate) fn new(
        meaning: Meaning,
        answer: Answer,
        watermark: Option<EventTime>,
        tuning: &Tuning,
        random: u32,
    ) -> Self {
        let life = match motion(&answer, meaning.to, watermark) {
            Motion::Settled => tuning.cache_settled,
            Motion::History => tuning.cache_history,
            Motion::Recent => tuning.cache_recent,
            Motion::Moving => tuning.cache_moving,
        };
        let until_ms = answer.computed_at.as_millisecond().saturating_add(spread(life, random));
        Self { meaning, until_ms, answer }
    }

    /// Whether it answers a question of this meaning now.
    pub(crate) fn is_good(&self, meaning: &Meaning, now: Timestamp) -> bool {
        self.meaning == *meaning && now.as_millisecond() < self.until_ms
    }

    /// How long it has got from now on.
    pub(crate) fn left(&self, now: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(self.until_ms - now.as_millisecond()).unwrap_or(0))
    }
}

/// That of an answer, or of what it is compared with if that moves more.
fn motion(answer: &Answer, to: EventTime, watermark: Option<EventTime>) -> Motion {
    let own = own_motion(answer, to, watermark);
    match &answer.comparison {
        Some(compared) => own.max(motion(&compared.base, EventTime::from_timestamp(compared.base.to), watermark)),
        None => own,
    }
}

fn own_motion(answer: &Answer, to: EventTime, watermark: Option<EventTime>) -> Motion {
    // A remark means that something was missing: the next answer may be better.
    if !answer.notes.is_empty() || !answer.gaps.is_empty() {
        return Motion::Moving;
    }
    let is_settled = answer.coverage.iter().all(|part| part.layer == LayerName::Batch) && !answer.is_provisional();
    match watermark {
        _ if is_settled && !answer.coverage.is_empty() => Motion::Settled,
        Some(watermark) if to.plus_micros(HISTORY_AFTER_US) <= watermark => Motion::History,
        Some(watermark) if to <= watermark => Motion::Recent,
        _ => Motion::Moving,
    }
}

/// A lifetime in milliseconds, up to a fifth longer or shorter.
fn spread(life: Duration, random: u32) -> i64 {
    let life_ms = i64::try_from(life.as_millis()).unwrap_or(i64::MAX / 2000).min(i64::MAX / 2000);
    let milli = 1000 - JITTER_MILLI + i64::from(random) % (2 * JITTER_MILLI + 1);
    life_ms * milli / 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::{Comparison, Coverage, Delta, Gap};
    use crate::live::change::tests::answer;
    use reckon_schemas::settlement::State;

    const S: i64 = 1_000_000;

    fn covered(layer: LayerName, state: State) -> Answer {
        let made = answer(&[("a", &[(0, 1)])], 0);
        let (from, to) = (made.from, made.to);
        let part = Coverage { from, to, layer, state, as_of: None, run_ids: Vec::new(), lake_version: None };
        Answer { coverage: vec![part], ..made }
    }

    fn meaning(settled: &str) -> Meaning {
        Meaning { from: EventTime(0), to: EventTime(3600 * S), settled: settled.to_owned() }
    }

    fn life_ms(answer: Answer, watermark_s: Option<i64>) -> i64 {
        // In the middle of the jitter.
        let random = u32::try_from(JITTER_MILLI).expect("small");
        let watermark = watermark_s.map(|seconds| EventTime(seconds * S));
        Entry::new(meaning("x"), answer, watermark, &Tuning::default(), random).until_ms
    }

    #[test]
    fn what_moves_is_kept_shorter() {
        let speed = || covered(LayerName::Speed, State::Provisional);
        assert_eq!(life_ms(speed(), None), 1_000);
        assert_eq!(life_ms(speed(), Some(3599)), 1_000);
        assert_eq!(life_ms(speed(), Some(3600)), 60_000);
        assert_eq!(life_ms(speed(), Some(7200)), 300_000);
        assert_eq!(life_ms(covered(LayerName::Batch, State::Settled), None), 3_600_000);
        let noted = Answer { notes: vec!["without Redis".to_owned()], ..speed() };
        assert_eq!(life_ms(noted, Some(7200)), 1_000);
        assert_eq!(life_ms(answer(&[], 0), None), 1_000, "nothing is known about it");
    }

    #[test]
    fn what_it_is_compared_with_moves_it_too() {
        let settled = || covered(LayerName::Batch, State::Settled);
        let compared = |base: Answer| {
            let total = Delta { difference: None, ratio: None };
            let (kind, groups) = ("period".to_owned(), Vec::new());
            let comparison = Comparison { kind, base, same_state: true, total, groups, other: None };
            life_ms(Answer { comparison: Some(Box::new(comparison)), ..settled() }, Some(7200))
        };
        assert_eq!(compared(settled()), 3_600_000);
        assert_eq!(compared(covered(LayerName::Speed, State::Provisional)), 300_000);
        let gap = Gap { from: settled().from, to: settled().to, reason: "not counted".to_owned() };
        assert_eq!(compared(Answer { gaps: vec![gap], ..settled() }), 1_000);
    }

    #[test]
    fn lifetimes_are_spread_by_a_fifth_at_most() {
        let lives: Vec<i64> = (0..2_000).map(|random| spread(Duration::from_secs(60), random)).collect();
        assert_eq!((lives.iter().min(), lives.iter().max()), (Some(&48_000), Some(&72_000)));
    }

    #[test]
    fn an_answer_is_one_to_its_own_meaning_only_and_not_for_ever() {
        let at = |ms| Timestamp::from_millisecond(ms).expect("in range");
        let entry =
            Entry::new(meaning("run-1"), covered(LayerName::Batch, State::Settled), None, &Tuning::default(), 200);
        assert!(entry.is_good(&meaning("run-1"), at(3_599_999)));
        assert!(!entry.is_good(&meaning("run-1"), at(3_600_000)));
        assert!(!entry.is_good(&meaning("run-2"), at(0)), "a restatement");
        let moved_on = Meaning { to: EventTime(3660 * S), ..meaning("run-1") };
        assert!(!entry.is_good(&moved_on, at(0)));
    }

    #[test]
    fn kept_answers_read_back_as_they_were() {
        let entry =
            Entry::new(meaning("r"), answer(&[("a", &[(0, i128::from(u64::MAX))])], 5), None, &Tuning::default(), 0);
        let text = serde_json::to_string(&entry).expect("serialises");
        assert_eq!(serde_json::from_str::<Entry>(&text).expect("reads"), entry);
    }
}
