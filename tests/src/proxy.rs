//! A TCP proxy between a part and a server: it forwards, holds, delays or cuts, each direction by itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What becomes of bytes that go one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// They are forwarded.
    #[default]
    Open,
    /// They wait until this changes.
    Held,
    /// They are forwarded after a while.
    Slow(Duration),
    /// They are thrown away and their connection is closed.
    Cut,
}

/// From the client to the server, or back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Requests,
    Answers,
}

/// One listening address in front of one server. Gone, with its connections, when dropped.
pub struct Proxy {
    address: SocketAddr,
    requests: Lane,
    answers: Lane,
    connections: watch::Sender<CancellationToken>,
    _stop: DropGuard,
}

/// One direction of all connections.
#[derive(Clone)]
struct Lane {
    way: watch::Sender<Way>,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Pieces forwarded, held at this moment, and cut: as many as there were reads.
    forwarded: AtomicU64,
    held: AtomicU64,
    cut: AtomicU64,
}

impl Lane {
    fn new() -> Self {
        Self { way: watch::Sender::new(Way::Open), seen: Arc::default() }
    }
}

impl Proxy {
    /// Listens on a free port in front of `server` (`host:port`).
    pub async fn open(server: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let proxy = Self {
            address,
            requests: Lane::new(),
            answers: Lane::new(),
            connections: watch::Sender::new(stop.child_token()),
            _stop: stop.clone().drop_guard(),
        };
        let (requests, answers, connections) =
            (proxy.requests.clone(), proxy.answers.clone(), proxy.connections.subscribe());
        let server = server.to_owned();
        let accept = async move {
            while let Ok((client, _)) = listener.accept().await {
                let closed = connections.borrow().child_token();
                tokio::spawn(connect(client, server.clone(), requests.clone(), answers.clone(), closed));
            }
        };
        tokio::spawn(async move { stop.run_until_cancelled(accept).await });
        Ok(proxy)
    }

    /// The same in front of the server of a URL; the second value is that URL through the proxy.
    pub async fn before(url: &str) -> Result<(Self, String)> {
        let (scheme, rest) = url.split_once("://").with_context(|| format!("{url} is no URL"))?;
        let (server, path) = rest.split_once('/').unwrap_or((rest, ""));
        let proxy = Self::open(server).await?;
        let url = format!("{scheme}://{}/{path}", proxy.address);
        Ok((proxy, url.trim_end_matches('/').to_owned()))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what becomes of one direction, for bytes that wait and bytes to come.
    pub fn set(&self, direction: Direction, way: Way) {
        self.lane(direction).way.send_replace(way);
    }

    /// How many pieces wait at this moment.
    #[must_use]
    pub fn held(&self, direction: Direction) -> u64 {
        self.lane(direction).seen.held.load(Ordering::SeqCst)
    }

    /// How many pieces were forwarded.
    #[must_use]
    pub fn forwarded(&self, direction: Direction) -> u64 {
        self.lane(direction).seen.forwarded.load(Ordering::SeqCst)
    }

    /// How many pieces were thrown away.
    #[must_use]
    pub fn cut(&self, direction: Direction) -> u64 {
        self.lane(direction).seen.cut.load(Ordering::SeqCst)
    }

    /// Closes every connection there is; new ones are welcome.
    pub fn close_connections(&self) {
        self.connections.send_modify(|open| {
            open.cancel();
            *open = CancellationToken::new();
        });
    }

    fn lane(&self, direction: Direction) -> &Lane {
        match direction {
            Direction::Requests => &self.requests,
            Direction::Answers => &self.answers,
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.connections.borrow().cancel();
    }
}

async fn connect(client: TcpStream, server: String, requests: Lane, answers: Lane, closed: CancellationToken) {
    let Ok(server) = TcpStream::connect(&server).await else { return };
    // Small pieces must not wait for one another here.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let both = async {
        tokio::select! {
            () = pump(from_client, to_server, requests) => {}
            () = pump(from_server, to_client, answers) => {}
        }
    };
    closed.run_until_cancelled(both).await;
}

/// Carries one direction of one connection until it ends or is cut.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, lane: Lane) {
    let mut way = lane.way.subscribe();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
        let seen = &lane.seen;
        let _held = Held::note(&seen.held);
        loop {
            let now = *way.borrow_and_update();
            match now {
                Way::Open => break,
                Way::Slow(delay) => {
                    tokio::time::sleep(delay).await;
                    break;
                }
                Way::Cut => {
                    seen.cut.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                Way::Held => {
                    if way.changed().await.is_err() {
                        return;
                    }
                }
            }
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
        seen.forwarded.fetch_add(1, Ordering::SeqCst);
    }
}

/// Counts a piece as waiting for as long as it does, also if its connection ends meanwhile.
struct Held<'a>(&'a AtomicU64);

impl<'a> Held<'a> {
    fn note(held: &'a AtomicU64) -> Self {
        held.fetch_add(1, Ordering::SeqCst);
        Self(held)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
