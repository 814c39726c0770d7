//! What an open event stream costs: its socket and its content.
//!
//! While a response is under way hyper keeps what it needs to read another request and to write another head, two
//! buffers of 8 KB each. An event stream of HTTP/1.1 is the last response of its connection and is open for hours, so its
//! connection is taken from hyper as soon as the head is written: what follows are the chunks of its body, and nothing
//! else. Handlers know nothing of this, and HTTP/2 is not concerned.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use axum::http::{HeaderValue, Method, Request, Response, Version, header};
use bytes::{Buf, Bytes};
use futures::StreamExt;
use hyper::body::Frame;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// What is read at once of what a client says on a connection that only listens.
const UNHEARD_BYTES: usize = 64;

/// Where the content of an event stream waits until the head of its response is written.
#[derive(Default)]
pub(super) struct Handover {
    content: Mutex<Option<Body>>,
    /// The head is in hyper's buffer: what is flushed from now on, is flushed behind it.
    is_head_encoded: AtomicBool,
    head_written: Notify,
}

impl Handover {
    /// Whether the answer to a request may be taken from hyper, if it is an event stream.
    pub(super) fn fits<B>(request: &Request<B>) -> bool {
        request.version() == Version::HTTP_11 && request.method() == Method::GET
    }

    /// Keeps the content of an event stream back; any other response stays as it is.
    pub(super) fn keep_content(self: &Arc<Self>, mut response: Response<Body>) -> Response<Body> {
        if response.headers().get(header::CONTENT_TYPE).is_none_or(|form| form != "text/event-stream") {
            return response;
        }
        // No request follows on this connection.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        response.map(|content| {
            *self.content.lock().unwrap_or_else(PoisonError::into_inner) = Some(content);
            Body::new(Withheld(self.clone()))
        })
    }

    /// Waits until the head of an event stream is with the system, and gives its content.
    pub(super) async fn head_written(&self) -> Body {
        loop {
            self.head_written.notified().await;
            if let Some(content) = self.content.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return content;
            }
        }
    }
}

/// The body that hyper sees in place of the content. It is asked for first when the head is encoded, and never ends.
struct Withheld(Arc<Handover>);

impl HttpBody for Withheld {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.is_head_encoded.store(true, Ordering::Relaxed);
        Poll::Pending
    }
}

/// A connection's socket. Hyper holds one, and whoever goes on after it another.
#[derive(Clone)]
pub(super) struct Socket {
    stream: Arc<TcpStream>,
    handover: Arc<Handover>,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, handover: Arc<Handover>) -> Self {
        Self { stream: Arc::new(stream), handover }
    }

    /// Waits until the client has left. What it still says is not heard.
    pub(super) async fn left(&self) {
        let mut unheard = [0; UNHEARD_BYTES];
        while self.stream.readable().await.is_ok() {
            match self.stream.try_read(&mut unheard) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, read: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(context))?;
            match self.stream.try_read_buf(read) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result.map(drop)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            match self.stream.try_write_vectored(pieces) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Hyper flushes when it has written everything that it had.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.handover.is_head_encoded.load(Ordering::Relaxed) {
            self.handover.head_written.notify_one();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.stream).shutdown(Shutdown::Write))
    }
}

/// Writes content in chunks, and its end. Content that breaks off has none, so that nobody takes it for whole.
///
/// # Errors
/// The client has left, or has not read anything for too long.
pub(super) async fn tell(content: Body, client: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let mut content = content.into_data_stream();
    while let Some(data) = content.next().await {
        let data = data.map_err(io::Error::other)?;
        // A chunk of nothing would be the end.
        if data.has_remaining() {
            let size = format!("{:x}\r\n", data.len());
            client.write_all_buf(&mut size.as_bytes().chain(data).chain(&b"\r\n"[..])).await?;
        }
    }
    client.write_all(b"0\r\n\r\n").await?;
    client.shutdown().await
}
