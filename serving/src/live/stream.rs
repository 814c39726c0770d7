//! A subscription as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use tokio_util::sync::CancellationToken;

use super::Subscription;
use super::change::Kind;
use super::feed::Sent;
use crate::problem::Problem;

impl Subscription {
    /// Waits for the first state.
    ///
    /// # Errors
    /// Why there is none: so that a question that cannot be answered is refused before a stream begins.
    pub(crate) async fn ready(&mut self) -> Result<(), Problem> {
        let first = self.seen.wait_for(Option::is_some).await;
        match first.as_deref() {
            Ok(Some(Ok(_))) => Ok(()),
            Ok(Some(Err(problem))) => Err(problem.clone()),
            Ok(None) | Err(_) => Err(Problem::unavailable("shutting down")),
        }
    }

    /// The messages after the one that the client has seen last, as they come, with heartbeats in between.
    ///
    /// When the question cannot be answered any more the stream says why and ends: a client must not take
    /// heartbeats for fresh numbers.
    pub(crate) fn into_sse(
        self,
        mut seen: Option<u64>,
        heartbeat: Duration,
        shutdown: CancellationToken,
    ) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
        let Self { seen: mut latest, _place: place } = self;
        let stream = async_stream::stream! {
            // Named here, or the stream would not hold it: only what is used is captured.
            let _place = place;
            loop {
                let now = latest.borrow_and_update().clone();
                match now {
                    Some(Ok(standing)) => {
                        for sent in standing.since(seen) {
                            seen = Some(sent.seq);
                            yield Ok(event(&sent));
                        }
                    }
                    Some(Err(problem)) => {
                        yield Ok(failure(&problem));
                        return;
                    }
                    None => {}
                }
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    changed = latest.changed() => if changed.is_err() { return },
                }
            }
        };
        Sse::new(stream).keep_alive(KeepAlive::new().interval(heartbeat).text("heartbeat"))
    }
}

fn event(sent: &Sent) -> Event {
    let name = match sent.kind {
        Kind::Snapshot => "snapshot",
        Kind::Change => "change",
    };
    Event::default().id(sent.seq.to_string()).event(name).data(&*sent.json)
}

fn failure(problem: &Problem) -> Event {
    Event::default().event("problem").data(serde_json::to_string(problem).unwrap_or_default())
}
