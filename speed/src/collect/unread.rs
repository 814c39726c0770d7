//! What to do with the rest of a body that nobody wants to read.
//!
//! A server that answers early and closes the connection while the client still sends makes the client's system throw
//! the answer away: instead of "too large" the client sees a broken connection, and tries again. So a part of the rest
//! is read and dropped before the answer, and a client that has more than that is told that the connection closes.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderValue, Version, header};
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt;
use tokio::sync::oneshot;

const DISCARDED_BYTES_MAX: usize = 8 << 20;
const DISCARD_TIME_MAX: Duration = Duration::from_secs(2);

/// Reads what the handler left of the body, within bounds, before the answer goes out.
pub(crate) async fn discard(request: Request, next: Next) -> Response {
    // HTTP/2 ends one request without the connection. Who asks before sending has not sent anything yet.
    if request.version() >= Version::HTTP_2 || request.headers().contains_key(header::EXPECT) {
        return next.run(request).await;
    }
    let (sender, mut left) = oneshot::channel();
    let mut response = next.run(request.map(|inner| Body::new(Lent { inner, sender: Some(sender) }))).await;
    if let Ok(body) = left.try_recv() {
        let discarded = tokio::time::timeout(DISCARD_TIME_MAX, read_to_end(body)).await;
        if !matches!(discarded, Ok(true)) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
    response
}

/// Whether the body came to its end within the bound.
async fn read_to_end(mut body: Body) -> bool {
    let mut bytes = 0_usize;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > DISCARDED_BYTES_MAX {
            return false;
        }
    }
    true
}

/// A body that comes back when its reader drops it before the end.
struct Lent {
    inner: Body,
    sender: Option<oneshot::Sender<Body>>,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(sender), false) = (self.sender.take(), self.inner.is_end_stream()) {
            // Nobody waits for it any more if the connection is gone.
            let _gone = sender.send(std::mem::take(&mut self.inner));
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::StatusCode;
    use axum::middleware::from_fn;
    use axum::routing::post;
    use tower::ServiceExt;

    use super::*;

    async fn answer(bytes: usize) -> Response {
        let router = Router::new().route("/", post(|| async { StatusCode::UNAUTHORIZED })).layer(from_fn(discard));
        let chunks = (0..bytes / 1024).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 1024])));
        let body = Body::from_stream(futures::stream::iter(chunks));
        let request = Request::post("/").body(body).expect("a request");
        router.oneshot(request).await.expect("infallible")
    }

    #[tokio::test]
    async fn a_small_rest_keeps_the_connection_and_a_large_one_closes_it() {
        let small = answer(1 << 20).await;
        assert_eq!((small.status(), small.headers().get(header::CONNECTION)), (StatusCode::UNAUTHORIZED, None));
        let large = answer(DISCARDED_BYTES_MAX + (1 << 20)).await;
        assert_eq!(large.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(large.headers()[header::CONNECTION], "close");
    }
}
