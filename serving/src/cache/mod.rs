//! Answers that are kept for a while, and the last good ones for when a store is away.
//!
//! An answer is given again only to the same question of the same tenant, over the same range, settled by the same runs
//! ([`entry::Meaning`]); how long depends on how much of it can still move. It always says how old it is. There are two
//! places: this node's memory, and Redis, which all nodes share ([`shared`]); without Redis each node is on its own.
//! Heat maps and funnels are kept for a moment by each node ([`newest`]).

pub(crate) mod entry;
pub(crate) mod flights;
pub(crate) mod newest;
pub(crate) mod remembered;
pub(crate) mod shared;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reckon_schemas::catalog::{Measure, Tenant};
use reckon_schemas::time::EventTime;

use self::entry::{Entry, Key, Meaning};
use self::flights::Flights;
use self::newest::Newest;
use self::shared::{Lease, Looked, Shared};
use crate::answer::{Answer, Group, GroupDelta};
use crate::funnel::answer::FunnelAnswer;
use crate::funnel::question::FunnelQuestion;
use crate::heat::HeatMap;
use crate::problem::Problem;
use crate::query::events::Reads;
use crate::query::params::Query;
use crate::query::question::Question;
use crate::query::range::Range;
use crate::query::{Evaluator, Standing};
use crate::telemetry::{Outcome, answered};
use crate::tuning::Tuning;

/// How often a node looks whether another one has the answer: at first, and at the most.
const LOOK_MIN: Duration = Duration::from_millis(4);
const LOOK_MAX: Duration = Duration::from_millis(64);
/// What an answer takes beside its numbers, in bytes; a guess.
const ENTRY_BYTES: usize = 2_000;
/// What a number takes in memory, in bytes; a guess on the high side.
const NUMBER_BYTES: usize = 300;

/// Answers questions, from what is kept where that is good enough. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Answers {
    evaluator: Evaluator,
    /// The newest answer to each question, good or not: what is not good any more is the last good one.
    kept: moka::sync::Cache<Key, Arc<Entry>>,
    flights: Flights<Key, Arc<Entry>>,
    shared: Shared,
    maps: Newest<HeatMap>,
    funnels: Newest<FunnelAnswer>,
    tuning: Arc<Tuning>,
}

impl Answers {
    pub(crate) fn new(evaluator: Evaluator, tuning: Arc<Tuning>) -> Self {
        let kept = moka::sync::Cache::builder()
            .max_capacity(tuning.cache_bytes_max)
            .weigher(|_, entry: &Arc<Entry>| weight(&entry.answer))
            .time_to_live(tuning.last_good_max)
            .build();
        let shared = Shared::new(evaluator.stores().redis.clone(), &tuning);
        let (maps, funnels) = (Newest::new(tuning.clone()), Newest::new(tuning.clone()));
        Self { evaluator, kept, flights: Flights::default(), shared, maps, funnels, tuning }
    }

    /// Answers a question of a tenant. While ClickHouse is away this is the last good answer, which says so.
    ///
    /// # Errors
    /// The question cannot be answered, or there is no last good answer.
    pub(crate) async fn answer(
        &self,
        question: &Question,
        tenant: &Arc<Tenant>,
        now: Timestamp,
    ) -> Result<Answer, Problem> {
        self.answer_over(None, question, tenant, now).await
    }

    /// The same for a question that somebody else has put instants into, who means `range` by them, such as `the last day`:
    /// a moment later it has other instants and is the same question.
    ///
    /// # Errors
    /// As for [`Self::answer`].
    pub(crate) async fn answer_over(
        &self,
        range: Option<&str>,
        question: &Question,
        tenant: &Arc<Tenant>,
        now: Timestamp,
    ) -> Result<Answer, Problem> {
        // By what it computes, not by a name that may mean something else tomorrow.
        let query = self.evaluator.resolved(&question.query, tenant).into_owned();
        let question = &Question { query, compared: question.compared.clone() };
        let key = self.key(range, question, tenant);
        let last = self.kept.get(&key);
        let current = Box::pin(self.current(&key, question, tenant, now));
        let current = match &last {
            // Who has something to give does not make others wait.
            Some(_) => tokio::time::timeout(self.tuning.patience, current)
                .await
                .unwrap_or_else(|_| Err(Problem::unavailable("the stores take too long"))),
            None => current.await,
        };
        match (current, last) {
            (Err(problem), Some(last)) if problem.is_passing() => self.last_good(&last).ok_or(problem),
            (current, _) => current,
        }
    }

    /// What a question reads whose answers are to be pushed.
    ///
    /// # Errors
    /// 422 if that cannot be read again and again.
    pub(crate) fn pushed_from(&self, query: &Query, tenant: &Tenant) -> Result<Reads, Problem> {
        self.evaluator.pushable(query, tenant, Timestamp::now()).map(|(_, reads)| reads)
    }

    fn key(&self, range: Option<&str>, question: &Question, tenant: &Tenant) -> Key {
        let Some(range) = range else { return Key::of(question, tenant, &self.tuning) };
        let query = Query { range: Range::default(), ..question.query.clone() };
        let unbounded = Key::of(&Question { query, compared: question.compared.clone() }, tenant, &self.tuning);
        unbounded.with(range)
    }

    /// A heat map, which this node keeps for a moment.
    ///
    /// # Errors
    /// The question cannot be answered, or there is no last good answer.
    pub(crate) async fn heat_map(
        &self,
        pairs: Vec<(String, String)>,
        tenant: &Arc<Tenant>,
    ) -> Result<HeatMap, Problem> {
        // What cannot be asked is told by whoever would answer it.
        let Ok(query) = Query::parse(&pairs) else {
            return Box::pin(self.evaluator.heat_map(&pairs, tenant, Timestamp::now())).await;
        };
        let query = self.evaluator.resolved(&query, tenant).into_owned();
        let key = self.key(None, &Question { query, compared: None }, tenant).with("heat map");
        let (evaluator, tenant) = (self.evaluator.clone(), tenant.clone());
        let compute = || async move { Box::pin(evaluator.heat_map(&pairs, &tenant, Timestamp::now())).await };
        self.maps.get(&key, compute).await
    }

    /// A funnel, which this node keeps for a moment.
    ///
    /// # Errors
    /// The question cannot be answered, or there is no last good answer.
    pub(crate) async fn funnel(&self, question: FunnelQuestion, tenant: &Arc<Tenant>) -> Result<FunnelAnswer, Problem> {
        let text = format!("{} {:?} {question:?}", self.tuning.groups_max, tenant.time_zone);
        let key = Key { tenant: tenant.id.to_string(), hash: entry::hash(text.as_bytes()) };
        let (evaluator, tenant) = (self.evaluator.clone(), tenant.clone());
        let compute = || async move { Box::pin(evaluator.funnel(question, &tenant, Timestamp::now())).await };
        self.funnels.get(&key, compute).await
    }

    /// A new answer for those who watch, or the last good one while ClickHouse is away.
    ///
    /// # Errors
    /// The question cannot be answered, not again and again (the catalog may have changed), or there is no last good answer.
    pub(crate) async fn live(&self, query: &Query, tenant: &Tenant) -> Result<Answer, Problem> {
        let now = Timestamp::now();
        let query = &*self.evaluator.pushable(query, tenant, now)?.0;
        let key = Key::of(&Question { query: query.clone(), compared: None }, tenant, &self.tuning);
        match self.evaluator.answer(query, tenant, now).await {
            Ok(answer) => {
                // Not known to be good for any other moment.
                let meaning = Meaning { from: EventTime(0), to: EventTime(0), settled: String::new() };
                let entry = Entry { meaning, until_ms: 0, answer: answer.clone() };
                self.kept.insert(key, Arc::new(entry));
                Ok(answer)
            }
            Err(problem) if problem.is_passing() => {
                self.kept.get(&key).and_then(|last| self.last_good(&last)).ok_or(problem)
            }
            Err(problem) => Err(problem),
        }
    }

    fn last_good(&self, last: &Entry) -> Option<Answer> {
        let mut answer = last.answer.clone();
        answer.mark_last_good(Timestamp::now());
        let age = Duration::from_millis(u64::try_from(answer.age_ms).unwrap_or(u64::MAX));
        (age <= self.tuning.last_good_max).then(|| {
            answered(Outcome::LastGood);
            answer
        })
    }

    async fn current(
        &self,
        key: &Key,
        question: &Question,
        tenant: &Arc<Tenant>,
        now: Timestamp,
    ) -> Result<Answer, Problem> {
        let Some((from, to)) = self.range(question, tenant, now) else {
            return self.passed(key, question, tenant).await;
        };
        let standing = self.evaluator.standing(tenant).await?;
        // What it is compared with lies before it.
        let since = if question.compared.is_some() { EventTime(i64::MIN) } else { from };
        let settled = format!("{} {:?}", standing.settlements.fingerprint(since, to), standing.books);
        let meaning = Meaning { from, to, settled };
        if let Some(entry) = self.kept.get(key).filter(|entry| entry.is_good(&meaning, now)) {
            answered(Outcome::Hit);
            return Ok(self.said(&entry, &standing));
        }
        loop {
            let begin = || {
                let (answers, key, question, tenant) = (self.clone(), key.clone(), question.clone(), tenant.clone());
                let (meaning, watermark) = (meaning.clone(), standing.progress.watermark());
                async move { Box::pin(answers.fetch(&key, &question, &tenant, meaning, watermark)).await }
            };
            let (entry, is_mine) = self.flights.join(key, begin).await;
            let entry = entry?;
            // Somebody else's may be of the minute before.
            if is_mine || entry.is_good(&meaning, now) {
                if !is_mine {
                    answered(Outcome::Coalesced);
                }
                return Ok(self.said(&entry, &standing));
            }
        }
    }

    /// A new answer, which is good for this moment only: after that it is the last good one.
    async fn passed(&self, key: &Key, question: &Question, tenant: &Arc<Tenant>) -> Result<Answer, Problem> {
        let begin = || {
            let (answers, key, question, tenant) = (self.clone(), key.clone(), question.clone(), tenant.clone());
            async move {
                let answer = Box::pin(answers.evaluator.ask(&question, &tenant, Timestamp::now())).await?;
                let meaning = Meaning { from: EventTime(0), to: EventTime(0), settled: String::new() };
                let entry = Arc::new(Entry { meaning, until_ms: 0, answer });
                answers.kept.insert(key, Arc::clone(&entry));
                Ok(entry)
            }
        };
        let (entry, is_mine) = self.flights.join(key, begin).await;
        answered(if is_mine { Outcome::Passed } else { Outcome::Coalesced });
        Ok(entry?.answer.clone())
    }

    /// The range of the question now; `None` if its answer is not kept, or if there is none.
    fn range(
        &self,
        Question { query, .. }: &Question,
        tenant: &Tenant,
        now: Timestamp,
    ) -> Option<(EventTime, EventTime)> {
        let is_kept = match tenant.metric(&query.metric) {
            // Its range moves with every second.
            Some(metric) => metric.measure != Measure::ActiveUsers,
            None => query.formula.is_some(),
        };
        let now = EventTime::from_timestamp(now);
        let windows = is_kept.then(|| query.windows(now, &tenant.time_zone, self.evaluator.bounds()).ok()).flatten()?;
        Some((windows.first()?.start, windows.last()?.end))
    }

    /// The answer from any node, or computed here.
    async fn fetch(
        &self,
        key: &Key,
        question: &Question,
        tenant: &Tenant,
        meaning: Meaning,
        watermark: Option<EventTime>,
    ) -> Result<Arc<Entry>, Problem> {
        let lease = match self.look(key, &meaning).await {
            Ok(entry) => {
                answered(Outcome::SharedHit);
                let entry = Arc::from(entry);
                self.kept.insert(key.clone(), Arc::clone(&entry));
                return Ok(entry);
            }
            Err(lease) => lease,
        };
        let computed = self.evaluator.ask(question, tenant, Timestamp::now()).await;
        let answer = match (computed, &lease) {
            (Ok(answer), _) => answer,
            (Err(problem), Some(lease)) => {
                // Without it the lock ends by itself.
                let _ = self.shared.release(key, lease).await;
                return Err(problem);
            }
            (Err(problem), None) => return Err(problem),
        };
        answered(Outcome::Miss);
        let entry = Arc::new(Entry::new(meaning, answer, watermark, &self.tuning, rand::random()));
        self.kept.insert(key.clone(), Arc::clone(&entry));
        if let Some(lease) = lease {
            // Without it the others compute for themselves.
            let _ = self.shared.put(key, &lease, &entry, Timestamp::now()).await;
        }
        Ok(entry)
    }

    /// An entry that another node has made or is making, else the right to make one: `None` if Redis is away, or if
    /// somebody has had it for too long.
    async fn look(&self, key: &Key, meaning: &Meaning) -> Result<Box<Entry>, Option<Lease>> {
        let began = tokio::time::Instant::now();
        let (mut known, mut pause) = (0, LOOK_MIN);
        loop {
            match self.shared.look(key, known).await {
                Ok(Looked::Entry(entry, fence)) => {
                    let is_own = entry.answer.tenant == key.tenant;
                    if is_own && entry.is_good(meaning, Timestamp::now()) {
                        return Ok(entry);
                    }
                    known = fence;
                }
                Ok(Looked::Unreadable(fence)) => known = fence,
                Ok(Looked::Lease(lease)) => return Err(Some(lease)),
                Ok(Looked::Wait) => {
                    if began.elapsed() > self.tuning.cache_lock * 2 {
                        return Err(None);
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LOOK_MAX);
                }
                Err(_) => return Err(None),
            }
        }
    }

    /// An entry as it is given now: its numbers as they were, everything else as it is.
    fn said(&self, entry: &Entry, standing: &Standing) -> Answer {
        let mut answer = entry.answer.clone();
        bring_up_to_date(&mut answer, standing, Timestamp::now());
        answer.mark_if_behind(self.tuning.speed_lag_max);
        answer
    }
}

impl Key {
    /// The name of something else that is made of the same question.
    fn with(self, what: &str) -> Self {
        Self { hash: entry::hash(format!("{} {what}", self.hash).as_bytes()), ..self }
    }
}

/// What an answer says beside its numbers, and what it is compared with likewise.
fn bring_up_to_date(answer: &mut Answer, standing: &Standing, now: Timestamp) {
    answer.age_ms = now.as_millisecond().saturating_sub(answer.computed_at.as_millisecond()).max(0);
    answer.horizon = standing.settlements.horizon().map(EventTime::to_timestamp);
    answer.watermark = standing.progress.watermark().map(EventTime::to_timestamp);
    answer.speed_lag_ms = standing.progress.lag_ms(now);
    if let Some(comparison) = &mut answer.comparison {
        bring_up_to_date(&mut comparison.base, standing, now);
    }
}

/// What an answer takes in memory, in bytes; a guess.
fn weight(answer: &Answer) -> u32 {
    u32::try_from(ENTRY_BYTES + numbers(answer) * NUMBER_BYTES).unwrap_or(u32::MAX)
}

fn numbers(answer: &Answer) -> usize {
    let of_group = |group: &Group| 1 + group.parts.len() + group.points.len();
    let of_delta = |delta: &GroupDelta| 2 * (1 + delta.points.len());
    let compared = answer.comparison.as_ref().map_or(0, |compared| {
        let deltas = compared.groups.iter().chain(&compared.other).map(of_delta).sum::<usize>();
        numbers(&compared.base) + deltas
    });
    answer.groups.iter().chain(&answer.other).map(of_group).sum::<usize>() + compared
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::{Comparison, Delta};
    use crate::live::change::tests::answer;

    #[test]
    fn an_answer_weighs_what_it_is_compared_with_and_what_was_left_out() {
        let made = || answer(&[("a", &[(0, 1), (60, 2)]), ("b", &[(0, 5)])], 0);
        assert_eq!(numbers(&made()), 3 + 2);
        let other = made().groups.first().cloned();
        assert_eq!(numbers(&Answer { other, ..made() }), 3 + 2 + 3);
        let total = Delta { difference: None, ratio: None };
        let delta = GroupDelta { dimensions: Default::default(), total: total.clone(), points: Vec::new() };
        let (kind, groups) = ("period".to_owned(), vec![delta]);
        let comparison = Comparison { kind, base: made(), same_state: true, total, groups, other: None };
        assert_eq!(numbers(&Answer { comparison: Some(Box::new(comparison)), ..made() }), 5 + 5 + 2);
    }
}
