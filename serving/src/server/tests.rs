//! Event streams on real connections, byte by byte.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header;
use axum::routing::get;
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::serve;
use crate::tuning::Tuning;

const PATIENCE: Duration = Duration::from_secs(20);

/// A server of one route; gone with the token.
async fn served(route: axum::routing::MethodRouter, tuning: Tuning) -> (TcpStream, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let shutdown = CancellationToken::new();
    let router = Router::new().route("/", route);
    let stop = shutdown.clone();
    tokio::spawn(async move { serve(listener, router, &tuning, Duration::from_millis(200), stop).await });
    (TcpStream::connect(address).await.expect("a listener"), shutdown)
}

fn event_stream(
    content: impl stream::Stream<Item = Result<Bytes, &'static str>> + Send + 'static,
) -> impl axum::response::IntoResponse {
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(content))
}

/// What is said until the connection ends.
async fn heard(client: &mut TcpStream) -> String {
    let mut heard = String::new();
    tokio::time::timeout(PATIENCE, client.read_to_string(&mut heard)).await.expect("an end").expect("text");
    heard
}

/// Three events, which come one by one.
async fn three() -> impl axum::response::IntoResponse {
    event_stream(stream::iter(["data: 1\n\n", "", "data: 22\n\n"]).then(|event| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(Bytes::from(event))
    }))
}

#[tokio::test]
async fn an_event_stream_is_chunks_and_an_end_whatever_else_its_client_says() {
    let (mut client, _stop) = served(get(three), Tuning::default()).await;
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it reads");
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it reads");
    let heard = heard(&mut client).await;
    let (head, chunks) = heard.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    for field in ["content-type: text/event-stream", "transfer-encoding: chunked", "connection: close"] {
        assert!(head.contains(field), "{head}");
    }
    assert_eq!(chunks, "9\r\ndata: 1\n\n\r\na\r\ndata: 22\n\n\r\n0\r\n\r\n");
}

#[tokio::test]
async fn versions_without_chunks_and_heads_alone_stay_with_hyper() {
    let (mut client, _stop) = served(get(three), Tuning::default()).await;
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").await.expect("it reads");
    let heard_of_old = heard(&mut client).await;
    assert!(heard_of_old.ends_with("\r\n\r\ndata: 1\n\ndata: 22\n\n"), "{heard_of_old}");
    let (mut client, _stop) = served(get(three), Tuning::default()).await;
    client.write_all(b"HEAD / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("it reads");
    let heard_of_head = heard(&mut client).await;
    assert!(heard_of_head.contains("text/event-stream") && heard_of_head.ends_with("\r\n\r\n"), "{heard_of_head}");
}

#[tokio::test]
async fn content_that_breaks_off_has_no_end() {
    let broken = || async { event_stream(stream::iter([Ok(Bytes::from("data: 1\n\n")), Err("no more")])) };
    let (mut client, _stop) = served(get(broken), Tuning::default()).await;
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it reads");
    let heard = heard(&mut client).await;
    assert!(heard.ends_with("9\r\ndata: 1\n\n\r\n"), "{heard}");
}

/// A stream that says one thing and then nothing, and tells when it is dropped.
fn silent() -> (axum::routing::MethodRouter, oneshot::Receiver<()>) {
    let (held, dropped) = oneshot::channel::<()>();
    let held = std::sync::Arc::new(std::sync::Mutex::new(Some(held)));
    let route = get(move || {
        let held = held.lock().expect("whole").take();
        async move {
            let rest = stream::pending().inspect(move |_: &Result<_, _>| {
                let _ = &held;
            });
            event_stream(stream::iter([Ok(Bytes::from("data: 1\n\n"))]).chain(rest))
        }
    });
    (route, dropped)
}

#[tokio::test]
async fn a_stream_ends_with_its_client_and_with_the_server() {
    for leaves in [true, false] {
        let (route, dropped) = silent();
        let (mut client, stop) = served(route, Tuning::default()).await;
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it reads");
        let mut heard = Vec::new();
        while !heard.ends_with(b"data: 1\n\n\r\n") {
            tokio::time::timeout(PATIENCE, client.read_buf(&mut heard)).await.expect("an event").expect("bytes");
        }
        if leaves {
            drop(client);
        } else {
            stop.cancel();
        }
        // The other end of the channel is gone.
        tokio::time::timeout(PATIENCE, dropped).await.expect("it is dropped").expect_err("nothing is sent");
    }
}

#[tokio::test]
async fn who_does_not_read_is_thrown_out() {
    let endless = || async { event_stream(stream::repeat_with(|| Ok(Bytes::from(vec![b'x'; 1 << 20])))) };
    let tuning = Tuning { write_stall_max: Duration::from_millis(300), ..Tuning::default() };
    let (mut client, _stop) = served(get(endless), tuning).await;
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it reads");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    // What was in the system's buffers still comes, and then nothing.
    let mut heard = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, client.read_to_end(&mut heard)).await.expect("an end");
    assert!(heard.starts_with(b"HTTP/1.1 200 OK") && !heard.ends_with(b"0\r\n\r\n"));
}
