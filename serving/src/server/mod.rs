//! Connections: how many, how long they may do nothing, and how they end.

mod event_stream;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutWriter;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Service, service_fn};

use self::event_stream::{Handover, Socket};
use crate::telemetry;
use crate::tuning::Tuning;

/// Requests that one HTTP/2 connection may have under way.
const STREAMS_MAX: u32 = 64;
const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: u32 = 16 * 1024;
const READ_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// What the system keeps for a client that does not read; without a bound it keeps megabytes.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// How long to wait before accepting again when the system has no more sockets to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves connections until shutdown, then gives the requests under way `drain_max` to end.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    tuning: &Tuning,
    drain_max: Duration,
    shutdown: CancellationToken,
) {
    let connections = Arc::new(Semaphore::new(tuning.connections_max.clamp(1, Semaphore::MAX_PERMITS)));
    let tracker = TaskTracker::new();
    let limits = Limits {
        builder: Arc::new(builder(tuning)),
        first_request_timeout: tuning.header_read_timeout,
        write_stall_max: tuning.write_stall_max,
        shutdown: shutdown.clone(),
        abort: CancellationToken::new(),
    };
    // Accepted sockets inherit it.
    if let Err(error) = socket2::SockRef::from(&listener).set_send_buffer_size(SEND_BUFFER_BYTES) {
        tracing::warn!(%error, "the size of send buffers is the system's");
    }
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
                    limits.serve_connection(stream, peer, Place(Arc::new(permit)), router).await;
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
    if tokio::time::timeout(drain_max, tracker.wait()).await.is_err() {
        tracing::warn!(connections = tracker.len(), "requests were still open at the end of the drain");
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

/// One of so many connections; who takes a connection over takes this with it.
#[derive(Clone)]
pub(crate) struct Place(#[expect(dead_code, reason = "it counts as long as it is there")] Arc<OwnedSemaphorePermit>);

#[derive(Clone)]
struct Limits {
    builder: Arc<auto::Builder<TokioExecutor>>,
    first_request_timeout: Duration,
    write_stall_max: Duration,
    /// Ends connections when their requests have ended.
    shutdown: CancellationToken,
    /// Ends them at once.
    abort: CancellationToken,
}

impl Limits {
    async fn serve_connection(&self, stream: TcpStream, peer: SocketAddr, place: Place, router: Router) {
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let (asked, handover) = (Arc::new(AtomicBool::new(false)), Arc::new(Handover::default()));
        let service = TowerToHyperService::new(service_fn({
            let (asked, handover, place) = (asked.clone(), handover.clone(), place.clone());
            move |request| {
                asked.store(true, Ordering::Relaxed);
                // On the heap: a connection keeps room for what answers a request for as long as it lives.
                Box::pin(handle(router.clone(), peer, place.clone(), handover.clone(), request))
            }
        }));
        let socket = Socket::new(stream, handover.clone());
        let io = TokioIo::new(self.watched(socket.clone()));
        let mut connection = Box::pin(self.builder.serve_connection_with_upgrades(io, service));
        let mut is_ending = false;
        let content = loop {
            tokio::select! {
                ended = connection.as_mut() => return ended.unwrap_or_else(|error| note(&*error)),
                content = handover.head_written() => break content,
                () = self.nothing_asked(&asked), if !is_ending => return,
                () = self.shutdown.cancelled(), if !is_ending => {
                    is_ending = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = self.abort.cancelled() => return,
            }
        };
        // With its buffers.
        drop(connection);
        let mut client = self.watched(socket.clone());
        tokio::select! {
            told = event_stream::tell(content, &mut client) => told.unwrap_or_else(|error| note(&error)),
            () = socket.left() => {}
            () = self.abort.cancelled() => {}
        }
    }

    /// A connection whose writes fail once its client has not read anything for too long.
    fn watched(&self, socket: Socket) -> Pin<Box<TimeoutWriter<Socket>>> {
        let mut socket = TimeoutWriter::new(socket);
        socket.set_timeout(Some(self.write_stall_max));
        Box::pin(socket)
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

/// How a client leaves is its own business, but for those who had to be thrown out.
fn note(error: &(dyn std::error::Error + 'static)) {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            telemetry::stalled();
            tracing::info!("a client did not read for too long, and was disconnected");
            return;
        }
        cause = error.source();
    }
}

async fn handle(
    mut router: Router,
    peer: SocketAddr,
    place: Place,
    handover: Arc<Handover>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let fits = Handover::fits(&request);
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    request.extensions_mut().insert(place);
    let response = router.call(request).await?;
    Ok(if fits { handover.keep_content(response) } else { response })
}
