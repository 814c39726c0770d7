//! One computation for everybody who asks for the same at the same time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::sync::oneshot;

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
        let (told, result) = oneshot::channel();
        let flight = async { result.await.unwrap_or_else(|_| Err(Problem::internal())) }.boxed().shared();
        {
            let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(flight) = under_way.get(key) {
                return (flight.clone(), false);
            }
            under_way.insert(key.clone(), flight.clone());
        }
        // Not under the lock, which it takes to land: a runtime that shuts down lets it land at once, on this thread.
        let landing = Landing { key: key.clone(), under_way: self.0.clone(), told: Some(told) };
        let (work, payer) = (begin(), meter::payer());
        tokio::spawn(async move {
            let result = match payer {
                Some(payer) => meter::on_account_of(payer, work).await,
                None => work.await,
            };
            landing.with(result);
        });
        (flight, true)
    }
}

/// Strikes a computation off the list when it ends, however it ends, and only then tells those who wait for it.
struct Landing<K: Eq + Hash, T> {
    key: K,
    under_way: UnderWay<K, T>,
    told: Option<oneshot::Sender<Result<T, Problem>>>,
}

impl<K: Eq + Hash, T> Landing<K, T> {
    fn with(mut self, result: Result<T, Problem>) {
        let told = self.told.take();
        drop(self);
        if let Some(told) = told {
            // Nobody may wait any more.
            let _ = told.send(result);
        }
    }
}

impl<K: Eq + Hash, T> Drop for Landing<K, T> {
    fn drop(&mut self) {
        let struck = self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        // After the lock: nobody knows what is dropped with it.
        drop(struck);
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

    #[test]
    fn a_computation_that_begins_while_the_runtime_ends_blocks_nobody() {
        /// Begins one when it is dropped, which happens as the runtime ends.
        struct Late(Flights<u8, u32>);
        impl Drop for Late {
            fn drop(&mut self) {
                self.0.set_off(&1, || async { Ok(7) });
            }
        }
        let (ended, waiting) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
            let (flights, late) = (Flights::default(), Late(Flights::default()));
            let begun = Flights(late.0.0.clone());
            runtime.spawn(async move {
                let _late = late;
                std::future::pending::<()>().await;
            });
            runtime.block_on(async { flights.join(&1, || async { Ok(7) }).await.0.expect("a number") });
            drop(runtime);
            ended.send(begun.0.lock().expect("not poisoned").len()).expect("it waits");
        });
        assert_eq!(waiting.recv_timeout(Duration::from_secs(20)), Ok(0), "it is struck off, and nothing hangs");
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
