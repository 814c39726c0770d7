//! Places for questions that are answered at the same time, and the line before them: who has as many under way as there
//! may be waits for a while, and who finds too many waiting already, or has waited for too long, comes back later.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::problem::Problem;

/// When it is worth to come back.
const COME_BACK: Duration = Duration::from_secs(2);

/// See the module.
pub(crate) struct Places {
    free: Arc<Semaphore>,
    count: usize,
    waiting: AtomicUsize,
    waiting_max: usize,
}

/// A position in the line. Left when dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Places {
    pub(super) fn new(count: usize, waiting_max: usize) -> Self {
        let count = count.max(1);
        Self { free: Arc::new(Semaphore::new(count)), count, waiting: AtomicUsize::new(0), waiting_max }
    }

    /// A place, as soon as there is one.
    ///
    /// # Errors
    /// 429 if the line is too long, or has not moved on for so long.
    pub(super) async fn take(&self, wait_max: Duration) -> Result<OwnedSemaphorePermit, Problem> {
        if let Ok(place) = self.free.clone().try_acquire_owned() {
            return Ok(place);
        }
        let full = || {
            let detail = format!("this tenant has {} questions of this kind under way, and others wait", self.count);
            Problem::too_many_requests(detail, COME_BACK)
        };
        let _waiting = self.line_up().ok_or_else(full)?;
        match tokio::time::timeout(wait_max, self.free.clone().acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            // Nobody closes it.
            Ok(Err(_)) | Err(_) => Err(full()),
        }
    }

    fn line_up(&self) -> Option<Waiting<'_>> {
        let waits = |waiting| (waiting < self.waiting_max).then_some(waiting + 1);
        self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, waits).ok()?;
        Some(Waiting(&self.waiting))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_line_is_bounded_in_length_and_in_time() {
        let places = Places::new(1, 1);
        let (short, long) = (Duration::from_millis(20), Duration::from_secs(60));
        let status = |taken: Result<OwnedSemaphorePermit, Problem>| taken.map(drop).map_err(|problem| problem.status);
        let taken = places.take(short).await.expect("free");
        let (first, second) = tokio::join!(places.take(short), places.take(long));
        assert_eq!((status(first), status(second)), (Err(429), Err(429)), "waited too long, and found a line");
        let next = async {
            tokio::time::sleep(short).await;
            drop(taken);
        };
        let (waited, ()) = tokio::join!(places.take(long), next);
        let problem = places.take(Duration::ZERO).await.expect_err("taken again");
        assert_eq!((status(waited), problem.retry_after_s), (Ok(()), Some(2)));
        assert_eq!(places.waiting.load(Ordering::Relaxed), 0);
    }
}
