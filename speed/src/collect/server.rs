//! Connections: how many, how long, and how they end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
        first_request_timeout: tuning.header_read_timeout,
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
    first_request_timeout: Duration,
    age_max: Duration,
    /// Ends connections when their requests have ended.
    shutdown: CancellationToken,
    /// Ends them at once.
    abort: CancellationToken,
}

impl Limits {
    async fn serve_connection(&self, stream: TcpStream, peer: SocketAddr, router: Router) {
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let asked = Arc::new(AtomicBool::new(false));
        let service = TowerToHyperService::new(service_fn({
            let asked = asked.clone();
            move |request| {
                asked.store(true, Ordering::Relaxed);
                handle(router.clone(), request, peer)
            }
        }));
        let mut connection = pin!(self.builder.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            // How a client leaves is its own business.
            _ = connection.as_mut() => return,
            () = self.nothing_asked(&asked) => return,
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

    /// Ends when a connection has not made its first request in time. Until its first bytes are there not even the HTTP
    /// version is known, so no timeout of that version applies.
    async fn nothing_asked(&self, asked: &AtomicBool) {
        tokio::time::sleep(self.first_request_timeout).await;
        if asked.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
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

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn start(tuning: Tuning) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shutdown = CancellationToken::new();
        let router = Router::new().route("/", get(|| async { "here" }));
        let stop = shutdown.clone();
        let task = tokio::spawn(async move { serve(listener, router, &tuning, stop).await });
        (address, shutdown, task)
    }

    /// Sends some bytes and reads until the server closes the connection.
    async fn talk(address: SocketAddr, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.expect("accepted");
        stream.write_all(bytes).await.expect("sent");
        let mut answer = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
        // A connection that is reset is closed, too.
        assert!(closed.is_ok(), "the server must not wait for ever");
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn half_open_connections_are_closed_and_others_served() {
        let tuning = Tuning { header_read_timeout: Duration::from_millis(200), ..Tuning::default() };
        let (address, shutdown, task) = start(tuning).await;
        let slow = ["", "P", "GET / HT", "GET / HTTP/1.1\r\nx: "].map(|bytes| talk(address, bytes.as_bytes()));
        let (slow, served) =
            tokio::join!(futures::future::join_all(slow), talk(address, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"));
        assert!(slow.iter().all(|answer| !answer.contains("200 OK")));
        assert!(served.starts_with("HTTP/1.1 200 OK") && served.ends_with("here"), "{served}");
        shutdown.cancel();
        task.await.expect("no panic");
    }

    #[tokio::test]
    async fn one_connection_too_many_is_closed_at_once() {
        let (address, shutdown, task) = start(Tuning { connections_max: 1, ..Tuning::default() }).await;
        let mut first = TcpStream::connect(address).await.expect("accepted");
        first.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
        let mut byte = [0];
        first.read_exact(&mut byte).await.expect("answered");
        assert_eq!(talk(address, b"").await, "");
        shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(5), task)
            .await
            .expect("idle connections end at once")
            .expect("no panic");
    }
}
