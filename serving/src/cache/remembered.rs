//! What is looked up once in a while, however many ask for it.

use std::hash::Hash;
use std::time::{Duration, Instant};

use super::flights::Flights;
use crate::problem::Problem;

/// Values that are good for an interval. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Remembered<K, V> {
    values: moka::sync::Cache<K, (V, Instant)>,
    under_way: Flights<K, V>,
    interval: Duration,
}

impl<K, V> Remembered<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn new(values_max: u64, interval: Duration) -> Self {
        let values = moka::sync::Cache::builder().max_capacity(values_max).time_to_live(interval).build();
        Self { values, under_way: Flights::default(), interval }
    }

    /// The value, at most an interval old. Of those who ask often nobody waits for it: the next one is there before this one
    /// is too old.
    ///
    /// # Errors
    /// It had to be looked up, and that failed.
    pub(crate) async fn get<F>(&self, key: &K, look_up: impl FnOnce() -> F) -> Result<V, Problem>
    where
        F: Future<Output = Result<V, Problem>> + Send + 'static,
    {
        // What took long to look up was long ago when it was remembered.
        let known = self.values.get(key).filter(|(_, began)| began.elapsed() < self.interval);
        if let Some((value, at)) = &known
            && at.elapsed() < self.interval * 3 / 4
        {
            return Ok(value.clone());
        }
        let begin = || {
            let (values, key, work) = (self.values.clone(), key.clone(), look_up());
            async move {
                let began = Instant::now();
                let value = work.await?;
                values.insert(key, (value.clone(), began));
                Ok(value)
            }
        };
        match known {
            Some((value, _)) => {
                self.under_way.set_off(key, begin);
                Ok(value)
            }
            None => self.under_way.join(key, begin).await.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_value_is_as_old_as_its_look_up() {
        let (remembered, looked) =
            (Remembered::<u8, u32>::new(10, Duration::from_secs(2)), Arc::new(AtomicU32::new(0)));
        let ask = async || {
            let looked = looked.clone();
            let slowly = async move {
                tokio::time::sleep(Duration::from_millis(1_000)).await;
                Ok(looked.fetch_add(1, Ordering::SeqCst))
            };
            remembered.get(&1, || slowly).await
        };
        assert_eq!(ask().await, Ok(0));
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        assert_eq!(ask().await, Ok(1), "1.2 s after it was remembered, 2.2 s after it was so");
    }

    #[tokio::test]
    async fn one_looks_up_for_all_and_the_next_one_in_time() {
        let (remembered, looked) =
            (Remembered::<u8, u32>::new(10, Duration::from_secs(2)), Arc::new(AtomicU32::new(0)));
        let ask = async |remembered: &Remembered<u8, u32>| {
            let looked = looked.clone();
            remembered.get(&1, || async move { Ok(looked.fetch_add(1, Ordering::SeqCst)) }).await
        };
        let all = futures::future::join_all((0..50).map(|_| ask(&remembered))).await;
        assert!(all.into_iter().all(|value| value == Ok(0)));
        tokio::time::sleep(Duration::from_millis(1_600)).await;
        assert_eq!(ask(&remembered).await, Ok(0), "still good");
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(ask(&remembered).await, Ok(1), "looked up beside the one before");
        let at_once = Remembered::<u8, u32>::new(10, Duration::ZERO);
        assert_eq!((ask(&at_once).await, ask(&at_once).await), (Ok(2), Ok(3)));
        let failing = remembered.get(&2, || async { Err(Problem::internal()) }).await;
        assert_eq!(failing.map_err(|problem| problem.status), Err(500));
    }
}
