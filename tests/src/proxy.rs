//! A way to a server that loses answers (the request arrives and is carried out, and its sender never hears of it), or
//! lets no request through.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// A proxy on a port of its own, gone when it is dropped.
pub struct Proxy {
    pub url: String,
    state: Arc<State>,
    accepting: AbortHandle,
}

#[derive(Default)]
struct State {
    to_lose: AtomicUsize,
    lost: AtomicUsize,
    closed: AtomicBool,
}

impl Proxy {
    /// A proxy before an `http://host:port` address.
    pub async fn before(url: &str) -> Result<Self> {
        let server = url.trim_end_matches('/').strip_prefix("http://").context("an http address")?.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let state = Arc::new(State::default());
        let shared = state.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server.clone(), shared.clone()));
            }
        });
        Ok(Self { url, state, accepting: accepting.abort_handle() })
    }

    /// From now on, cuts so many connections at the moment that the answer to a request comes back.
    pub fn lose_answers(&self, count: usize) {
        self.state.to_lose.fetch_add(count, Ordering::SeqCst);
    }

    /// Whether connections are cut at the first byte of a request, which then does not arrive.
    pub fn close(&self, closed: bool) {
        self.state.closed.store(closed, Ordering::SeqCst);
    }

    /// How many answers were lost.
    pub fn lost(&self) -> usize {
        self.state.lost.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(client: TcpStream, server: String, state: Arc<State>) -> io::Result<()> {
    let server = TcpStream::connect(server).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let requests = async {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let read = from_client.read(&mut bytes).await?;
            if read == 0 {
                return to_server.shutdown().await;
            }
            if state.closed.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            to_server.write_all(&bytes[..read]).await?;
        }
    };
    let answers = async {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let read = from_server.read(&mut bytes).await?;
            if read == 0 {
                return to_client.shutdown().await;
            }
            // The server answers when it is done. What it says ends here, and the connection with it.
            let lose = state.to_lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            if lose.is_ok() {
                state.lost.fetch_add(1, Ordering::SeqCst);
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            to_client.write_all(&bytes[..read]).await?;
        }
    };
    tokio::try_join!(requests, answers).map(|_| ())
}
