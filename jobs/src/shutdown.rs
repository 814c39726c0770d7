//! From the operating system's signals to one token that every part listens to.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled by SIGINT (Ctrl-C) or SIGTERM. A second signal ends the process at once.
///
/// # Errors
/// When the operating system refuses the handlers.
pub(crate) fn on_signal() -> anyhow::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let cancelled = token.clone();
    tokio::spawn(async move {
        for round in 0_u8.. {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if round > 0 {
                tracing::warn!("second signal: stopping without waiting");
                std::process::exit(130);
            }
            tracing::info!("stopping: intake ends, everything is flushed; signal again to stop at once");
            cancelled.cancel();
        }
    });
    Ok(token)
}
