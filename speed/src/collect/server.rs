//! Connections: how many, how long, and how they end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::ConnectInfo;
use axum::http::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Service, service_fn};

use super::{DRAIN_TIME_MAX, Tuning};

/// Requests that one HTTP/2 connection may have under way.
const STREAMS_MAX: u32 = 32;
const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: u32 = 16 * 1024;
const READ_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// How long to wait before accepting again when the system has no more sockets to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves connections until shutdown, then gives the requests under way some time to end.
pub(crate) async fn serve(listener: TcpListener, router: Router, tuning: &Tuning, shutdown: CancellationToken) {
    let connections = Arc::new(Semaphore::new(tuning.connections_max.clamp(1, Semaphore::MAX_PERMITS)));
    let tracker = TaskTracker::new();
    let limits = Limits {
        builder: Arc::new(builder(tuning)),
        first_byte_timeout: tuning.header_read_timeout,
        age_max: tuning.connection_age_max,
        shutdown: shutdown.clone(),
        abort: CancellationToken::new(),
    };
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // One too many is closed at once: a client that waits for nothing cannot do anything about it.
                let Ok(permit) = connections.clone().try_acquire_owned() else { continue };
                let (router, limits) = (router.clone(), limits.clone());
                tracker.spawn(async move {
                    limits.serve_connection(stream, peer, router).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    tracker.close();
    if tokio::time::timeout(DRAIN_TIME_MAX, tracker.wait()).await.is_err() {
        tracing::warn!(connections = tracker.len(), "closing connections whose requests have not ended");
        limits.abort.cancel();
        tracker.wait().await;
    }
}

fn builder(tuning: &Tuning) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(tuning.header_read_timeout)
        .max_headers(HEADERS_MAX)
        .max_buf_size(READ_BUFFER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .keep_alive_interval(tuning.header_read_timeout)
        .keep_alive_timeout(tuning.header_read_timeout);
    builder
}

#[derive(Clone)]
struct Limits {
    builder: Arc<auto::Builder<TokioExecutor>>,
    first_byte_timeout: Duration,
    age_max: Duration,
    /// Ends connections when their requests have ended.
    shutdown: CancellationToken,
    /// Ends them at once.
    abort: CancellationToken,
}

impl Limits {
    async fn serve_connection(&self, stream: TcpStream, peer: SocketAddr, router: Router) {
        // Until the first byte, not even the HTTP version is known, so no timeout of it applies.
        let mut first_byte = [0];
        let first_byte = tokio::select! {
            read = tokio::time::timeout(self.first_byte_timeout, stream.peek(&mut first_byte)) => read,
            () = self.shutdown.cancelled() => return,
        };
        if !matches!(first_byte, Ok(Ok(1..))) || stream.set_nodelay(true).is_err() {
            return;
        }
        let service = TowerToHyperService::new(service_fn(move |request| handle(router.clone(), request, peer)));
        let mut connection = pin!(self.builder.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            // How a client leaves is its own business.
            _ = connection.as_mut() => return,
            () = tokio::time::sleep(self.age_max) => {}
            () = self.shutdown.cancelled() => {}
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            _ = connection => {}
            // A client that does not read its answer is as old as it may get.
            () = tokio::time::sleep(self.age_max) => {}
            () = self.abort.cancelled() => {}
        }
    }
}

async fn handle<B>(mut router: Router, request: Request<B>, peer: SocketAddr) -> Result<Response<Body>, Infallible>
where
    B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + 'static,
{
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    router.call(request).await
}
