//! One computation for everybody who asks for the same at the same time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};

use crate::access::meter;
use crate::problem::Problem;

type Flight<T> = Shared<BoxFuture<'static, Result<T, Problem>>>;
type UnderWay<K, T> = Arc<Mutex<HashMap<K, Flight<T>>>>;

/// Computations under way. Each runs on its own, on the account of who began it: that one may leave, and the
/// others still get it.
#[derive(Clone)]
pub(crate) struct Flights<K, T>(UnderWay<K, T>);

impl<K, T> Default for Flights<K, T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, T> Flights<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// The result of the computation of this name, which begins if it is not under way; and whether it did.
    ///
    /// # Errors
    /// The computation's, which all get who waited for it.
    pub(crate) async fn join<F>(&self, key: &K, begin: impl FnOnce() -> F) -> (Result<T, Problem>, bool)
    where
        F: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        let (flight, is_new) = self.flight(key, begin);
        (flight.await, is_new)
    }

    /// Begins the computation of this name if it is not under way, and does not wait for it.
    pub(crate) fn set_off<F>(&self, key: &K, begin: impl FnOnce() -> F)
    where
        F: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        drop(self.flight(key, begin));
    }

    fn flight<F>(&self, key: &K, begin: impl FnOnce() -> F) -> (Flight<T>, bool)
    where
        F: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = under_way.get(key) {
            return (flight.clone(), false);
        }
        // It takes the lock to land, so it lands after it is listed.
        let landing = Landing { key: key.clone(), under_way: self.0.clone() };
        let (work, payer) = (begin(), meter::payer());
        let task = tokio::spawn(async move {
            let _landing = landing;
            match payer {
                Some(payer) => meter::on_account_of(payer, work).await,
                None => work.await,
            }
        });
        let flight = async { task.await.unwrap_or_else(|_| Err(Problem::internal())) }.boxed().shared();
        under_way.insert(key.clone(), flight.clone());
        (flight, true)
    }
}

/// Strikes a computation off the list when it ends, however it ends.
struct Landing<K: Eq + Hash, T> {
    key: K,
    under_way: UnderWay<K, T>,
}

impl<K: Eq + Hash, T> Drop for Landing<K, T> {
    fn drop(&mut self) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    #[tokio::test]
    async fn many_who_ask_make_one_computation_even_if_the_first_leaves() {
        let flights = Flights::<&str, u32>::default();
        let begun = Arc::new(AtomicU32::new(0));
        let work = || {
            let begun = begun.clone();
            move || async move {
                let number = begun.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok(number)
            }
        };
        let first = flights.join(&"a", work());
        assert!(tokio::time::timeout(Duration::from_millis(5), first).await.is_err());
        let others = futures::future::join_all((0..100).map(|_| flights.join(&"a", work()))).await;
        assert!(others.into_iter().all(|(result, is_new)| result == Ok(0) && !is_new));
        let (again, is_new) = flights.join(&"a", work()).await;
        assert_eq!((again, is_new), (Ok(1), true));
        assert!(flights.0.lock().expect("not poisoned").is_empty());
    }

    #[tokio::test]
    async fn a_panic_is_an_error_for_all_and_blocks_nobody() {
        let flights = Flights::<u8, u32>::default();
        let broken = || async { panic!("on purpose") };
        let (first, _) = flights.join(&1, broken).await;
        assert_eq!(first.map_err(|problem| problem.status), Err(500));
        let (next, is_new) = flights.join(&1, || async { Ok(7) }).await;
        assert_eq!((next, is_new), (Ok(7), true));
    }
}
