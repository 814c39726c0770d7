//! A subscription as server-sent events.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::Stream;
use tokio_util::sync::CancellationToken;

use super::Subscription;
use super::change::Position;
use crate::access::Place;
use crate::access::watcher::Admission;
use crate::problem::Problem;

/// A comment, which clients pass over.
const HEARTBEAT: Bytes = Bytes::from_static(b": heartbeat\n\n");

impl Subscription {
    /// Waits for the first state.
    ///
    /// # Errors
    /// Why there is none: so that a question that cannot be answered is refused before a stream begins.
    pub(crate) async fn ready(&mut self) -> Result<(), Problem> {
        let first = self.seen.wait_for(|seen| seen.latest.is_some()).await;
        match first.as_deref().map(|seen| &seen.latest) {
            Ok(Some(Ok(_))) => Ok(()),
            Ok(Some(Err(problem))) => Err(problem.clone()),
            Ok(None) | Err(_) => Err(Problem::unavailable("shutting down")),
        }
    }

    /// The messages after the one that the client has seen last, as they come, with heartbeats in between.
    ///
    /// When the question cannot be answered any more, or the credential is not good any more, the stream says why and
    /// ends: a client must not take heartbeats for fresh numbers.
    pub(crate) fn into_sse(
        self,
        seen: Option<Position>,
        place: Place,
        admission: Admission,
        shutdown: CancellationToken,
    ) -> Response {
        let mut response = Body::from_stream(self.events(seen, place, admission, shutdown)).into_response();
        let content_type = HeaderValue::from_static("text/event-stream");
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        response
    }

    fn events(
        self,
        mut seen: Option<Position>,
        place: Place,
        admission: Admission,
        shutdown: CancellationToken,
    ) -> impl Stream<Item = Result<Bytes, Infallible>> {
        async_stream::stream! {
            // Both, and all of them: only what is used is captured.
            let (mut subscription, _place) = (self, place);
            let latest = &mut subscription.seen;
            let mut ended = std::pin::pin!(admission.ended());
            loop {
                let now = latest.borrow_and_update().latest.clone();
                let mut is_silent = true;
                match now {
                    Some(Ok(standing)) => {
                        for sent in standing.since(seen) {
                            is_silent = false;
                            seen = Some(sent.position);
                            yield Ok(sent.event);
                        }
                    }
                    Some(Err(problem)) => {
                        yield Ok(failure(&problem));
                        return;
                    }
                    None => {}
                }
                if is_silent {
                    yield Ok(HEARTBEAT);
                }
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => return,
                    problem = &mut ended => {
                        yield Ok(failure(&problem));
                        return;
                    }
                    changed = latest.changed() => if changed.is_err() { return },
                }
            }
        }
    }
}

fn failure(problem: &Problem) -> Bytes {
    format!("event: problem\ndata: {}\n\n", serde_json::to_string(problem).unwrap_or_default()).into()
}
