//! The newest answers of other shapes than [`Answer`](crate::answer::Answer): kept by this node alone, for as long as
//! one that moves with every event, and after that as the last good one.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::entry::Key;
use super::flights::Flights;
use crate::answer::{Stale, StaleReason};
use crate::problem::Problem;
use crate::telemetry::{Outcome, answered};
use crate::tuning::Tuning;

/// The part of the memory for kept answers that those of one shape get.
const PART: u64 = 8;

/// An answer that can say how old it is.
pub(crate) trait Aging: Clone + Send + Sync + 'static {
    /// When it was computed.
    fn computed_at(&self) -> Timestamp;
    /// What it takes in memory, in bytes; a guess.
    fn bytes(&self) -> u32;
    /// Says how old it is, in milliseconds; and why, if it is the last good one.
    fn age(&mut self, age_ms: i64, stale: Option<Stale>);
}

/// Answers of one shape. Cheap to clone.
#[derive(Clone)]
pub(super) struct Newest<T> {
    kept: moka::sync::Cache<Key, Known<T>>,
    flights: Flights<Key, Known<T>>,
    tuning: Arc<Tuning>,
}

#[derive(Clone)]
struct Known<T> {
    answer: Arc<T>,
    took: Duration,
}

impl<T: Aging> Newest<T> {
    pub(super) fn new(tuning: Arc<Tuning>) -> Self {
        let kept = moka::sync::Cache::builder()
            .max_capacity(tuning.cache_bytes_max / PART)
            .weigher(|_, known: &Known<T>| known.answer.bytes())
            .time_to_live(tuning.last_good_max)
            .build();
        Self { kept, flights: Flights::default(), tuning }
    }

    /// The answer of this name: one that was just made, or else a new one, which is computed once for all who ask. While a
    /// store is away it is the last good one, which says so.
    ///
    /// # Errors
    /// The computation's, if there is no last good answer.
    pub(super) async fn get<F>(&self, key: &Key, compute: impl FnOnce() -> F) -> Result<T, Problem>
    where
        F: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        let last = self.kept.get(key);
        if let Some(known) = last.as_ref().filter(|known| age(&*known.answer) < self.tuning.cache_moving) {
            answered(Outcome::Hit);
            return Ok(aged(known, None));
        }
        let current = self.flights.join(key, || {
            let (kept, key, work) = (self.kept.clone(), key.clone(), compute());
            async move {
                let began = Instant::now();
                let known = Known { answer: Arc::new(work.await?), took: began.elapsed() };
                kept.insert(key, known.clone());
                Ok(known)
            }
        });
        let current = match &last {
            // Who has something to give does not make others wait, but for what it usually takes.
            Some(known) => tokio::time::timeout(self.tuning.patience + known.took * 2, current)
                .await
                .unwrap_or_else(|_| (Err(Problem::unavailable("the stores take too long")), false)),
            None => current.await,
        };
        match (current, last) {
            ((Ok(known), is_mine), _) => {
                answered(if is_mine { Outcome::Miss } else { Outcome::Coalesced });
                Ok(aged(&known, None))
            }
            ((Err(problem), _), Some(last))
                if problem.is_passing() && age(&*last.answer) <= self.tuning.last_good_max =>
            {
                answered(Outcome::LastGood);
                Ok(aged(&last, Some(StaleReason::StoreAway)))
            }
            ((Err(problem), _), _) => Err(problem),
        }
    }
}

fn age<T: Aging>(answer: &T) -> Duration {
    let age_ms = Timestamp::now().as_millisecond().saturating_sub(answer.computed_at().as_millisecond());
    Duration::from_millis(u64::try_from(age_ms).unwrap_or(0))
}

fn aged<T: Aging>(known: &Known<T>, reason: Option<StaleReason>) -> T {
    let mut answer = T::clone(&known.answer);
    let age_ms = i64::try_from(age(&answer).as_millis()).unwrap_or(i64::MAX);
    answer.age(age_ms, reason.map(|reason| Stale { age_ms, reason }));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Number {
        value: u32,
        at: Timestamp,
        stale: Option<StaleReason>,
    }

    impl Aging for Number {
        fn computed_at(&self) -> Timestamp {
            self.at
        }

        fn bytes(&self) -> u32 {
            1
        }

        fn age(&mut self, _: i64, stale: Option<Stale>) {
            self.stale = stale.map(|stale| stale.reason);
        }
    }

    async fn get(newest: &Newest<Number>, found: Result<u32, Problem>) -> Result<(u32, Option<StaleReason>), u16> {
        let key = Key { tenant: "acme".to_owned(), hash: "h".to_owned() };
        let compute = || async move { found.map(|value| Number { value, at: Timestamp::now(), stale: None }) };
        let got = newest.get(&key, compute).await;
        got.map(|number| (number.value, number.stale)).map_err(|problem| problem.status)
    }

    #[tokio::test]
    async fn the_last_good_one_serves_while_a_store_is_away_and_for_nothing_else() {
        let at_once = Tuning { cache_moving: Duration::ZERO, ..Tuning::default() };
        let newest = Newest::new(Arc::new(at_once));
        let away = || Err(Problem::unavailable("away"));
        assert_eq!(get(&newest, away()).await, Err(503));
        assert_eq!(get(&newest, Ok(1)).await, Ok((1, None)));
        assert_eq!(get(&newest, away()).await, Ok((1, Some(StaleReason::StoreAway))));
        assert_eq!(get(&newest, Err(Problem::too_much())).await, Err(422));
        assert_eq!(get(&newest, Ok(2)).await, Ok((2, None)));
        let keeping = Newest::new(Arc::new(Tuning { cache_moving: Duration::from_secs(60), ..Tuning::default() }));
        assert_eq!(get(&keeping, Ok(1)).await, Ok((1, None)));
        assert_eq!(get(&keeping, Ok(2)).await, Ok((1, None)));
    }

    #[tokio::test]
    async fn who_asks_at_the_same_time_gets_one_computation() {
        let newest = Newest::<Number>::new(Arc::new(Tuning { cache_moving: Duration::ZERO, ..Tuning::default() }));
        let key = Key { tenant: "acme".to_owned(), hash: "h".to_owned() };
        let asked = (0..50).map(|value| {
            newest.get(&key, move || async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok(Number { value, at: Timestamp::now(), stale: None })
            })
        });
        let answers = futures::future::join_all(asked).await;
        assert!(answers.into_iter().all(|answer| answer.is_ok_and(|number| number.value == 0)));
    }
}
