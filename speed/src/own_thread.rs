//! Work on a thread of its own, not one of the runtime's: the runtime would wait for it even if the log's client hangs.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// How long the end may take once it has been asked for; what is not in the stores by then is read again at the next
/// start.
const SHUTDOWN_MAX: Duration = Duration::from_secs(10);

/// How the work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended<T> {
    /// With this.
    With(T),
    /// By a panic.
    Died,
    /// Not in time: the thread is left to itself.
    NotInTime,
}

/// Works until the work ends, which it does by itself after `shutdown`, or does not in time.
///
/// # Errors
/// If the system has no thread to give.
pub(crate) async fn work<T: Send + 'static>(
    name: &str,
    shutdown: &CancellationToken,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<Ended<T>> {
    work_within(SHUTDOWN_MAX, name, shutdown, work).await
}

async fn work_within<T: Send + 'static>(
    shutdown_max: Duration,
    name: &str,
    shutdown: &CancellationToken,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<Ended<T>> {
    let (done, mut ended) = oneshot::channel();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // Nobody is left to hear it only if the shutdown took too long.
        let _ = done.send(work());
    })?;
    tokio::select! {
        result = &mut ended => return Ok(result.map_or(Ended::Died, Ended::With)),
        () = shutdown.cancelled() => {}
    }
    Ok(match tokio::time::timeout(shutdown_max, ended).await {
        Ok(result) => result.map_or(Ended::Died, Ended::With),
        Err(_) => Ended::NotInTime,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_ends_by_itself_by_a_panic_or_too_late() {
        let shutdown = CancellationToken::new();
        assert_eq!(work("done", &shutdown, || 7).await.expect("a thread"), Ended::With(7));
        assert_eq!(work::<()>("dead", &shutdown, || panic!("on purpose")).await.expect("a thread"), Ended::Died);
        shutdown.cancel();
        assert_eq!(work("quick", &shutdown, || 8).await.expect("a thread"), Ended::With(8));
        // The thread waits for a word that comes after the time is over.
        let (over, wait) = std::sync::mpsc::channel::<()>();
        let late = work_within(Duration::from_millis(50), "late", &shutdown, move || wait.recv().is_ok()).await;
        assert_eq!(late.expect("a thread"), Ended::NotInTime);
        drop(over);
    }
}
