//! Clients that watch, as light as can be: a socket, and the last number that it brought. What they read goes through one
//! buffer a thread.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::live::{QUESTION, Transport};

/// How many connect at the same time.
const CONNECTING: usize = 100;
/// An address has 28,000 ports to connect from, and those of the runs before are not free yet.
const CLIENTS_PER_ADDRESS: u32 = 4_000;
const CONNECT_MAX: Duration = Duration::from_secs(20);
const READ_BYTES: usize = 64 * 1024;
/// What stands before the number, which is the sum of all partitions.
const BEFORE: &[u8] = b"\"total\":{\"value\":";
const PARTITIONS: u32 = 12;
/// Times are counted by the millisecond.
const TIMES: usize = 10_000;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// When numbers were published, and how long each delivery took.
pub(super) struct Deliveries {
    began: Instant,
    /// By number: microseconds since the beginning.
    published_us: Vec<AtomicU64>,
    taken_ms: Vec<AtomicU64>,
}

impl Deliveries {
    fn new() -> Self {
        let zeros = |count| (0..count).map(|_| AtomicU64::new(0)).collect();
        Self { began: Instant::now(), published_us: zeros(4096), taken_ms: zeros(TIMES) }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// A number is about to be published.
    pub(super) fn published(&self, number: u32) {
        if let Some(at) = self.published_us.get(number as usize) {
            at.store(self.now_us(), Ordering::Relaxed);
        }
    }

    fn delivered(&self, number: u32) {
        let published = self.published_us.get(number as usize).map_or(0, |at| at.load(Ordering::Relaxed));
        if published > 0 {
            let taken = usize::try_from(self.now_us().saturating_sub(published) / 1000).unwrap_or(usize::MAX);
            self.taken_ms[taken.min(TIMES - 1)].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.taken_ms.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// A quantile in milliseconds.
    pub(super) fn quantile_ms(&self, quantile: f64) -> Option<usize> {
        let wanted = self.count() as f64 * quantile;
        let mut seen = 0;
        self.taken_ms.iter().position(|count| {
            seen += count.load(Ordering::Relaxed);
            seen > 0 && seen as f64 >= wanted
        })
    }
}

/// So many clients.
pub(super) struct Watchers {
    deliveries: Arc<Deliveries>,
    tasks: JoinSet<Result<()>>,
    stop: CancellationToken,
}

impl Watchers {
    /// Connects them, and returns when each has heard where the question stands.
    pub(super) async fn connect(server: SocketAddr, key: &str, transport: Transport, clients: u32) -> Result<Self> {
        let deliveries = Arc::new(Deliveries::new());
        let opening: Arc<[u8]> = opening(key, transport).into();
        let open = |client: u32| {
            let opening = opening.clone();
            async move {
                let connect = connect(server, client, &opening);
                tokio::time::timeout(CONNECT_MAX, connect).await.context("connecting took too long")?
            }
        };
        let sockets: Vec<TcpStream> =
            futures::stream::iter((0..clients).map(open)).buffer_unordered(CONNECTING).try_collect().await?;
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for socket in sockets {
            let (deliveries, stop) = (deliveries.clone(), stop.clone());
            tasks.spawn(async move { stop.run_until_cancelled(watch(&socket, &deliveries)).await.unwrap_or(Ok(())) });
        }
        Ok(Self { deliveries, tasks, stop })
    }

    pub(super) fn deliveries(&self) -> &Arc<Deliveries> {
        &self.deliveries
    }

    /// Ends them; an error if one of them was disconnected.
    pub(super) async fn stop(mut self) -> Result<()> {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(())
    }
}

/// All that a client ever says.
fn opening(key: &str, transport: Transport) -> Vec<u8> {
    let head = |path: &str, more: &str| {
        format!("GET {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {key}\r\n{more}\r\n").into_bytes()
    };
    match transport {
        Transport::Sse => head(&format!("/v1/live?{QUESTION}"), ""),
        Transport::Ws => {
            let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                           sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
            let mut bytes = head("/v1/live/ws", upgrade);
            let said = format!(r#"{{"type":"subscribe","id":"a","query":"{QUESTION}"}}"#);
            let length = u8::try_from(said.len()).ok().filter(|length| *length < 126).expect("a short message");
            // A text frame whose mask of zeros changes nothing.
            bytes.extend([0x81, 0x80 | length, 0, 0, 0, 0]);
            bytes.extend(said.as_bytes());
            bytes
        }
    }
}

async fn connect(server: SocketAddr, client: u32, opening: &[u8]) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let host = u8::try_from(2 + client / CLIENTS_PER_ADDRESS)?;
    socket.bind((Ipv4Addr::new(127, 0, 0, host), 0).into())?;
    let mut stream = socket.connect(server).await?;
    stream.set_nodelay(true)?;
    stream.write_all(opening).await?;
    let mut text = String::new();
    while !text.contains("\"total\"") {
        stream.readable().await?;
        let read = BUFFER.with_borrow_mut(|buffer| {
            let read = stream.try_read(buffer);
            read.map(|length| text.push_str(&String::from_utf8_lossy(&buffer[..length])))
        });
        match read {
            Ok(()) => ensure!(text.len() < READ_BYTES && !text.contains("HTTP/1.1 4"), "refused: {text}"),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(stream)
}

/// Reads until it is told to stop, or the server ends it, which is an error.
async fn watch(stream: &TcpStream, deliveries: &Deliveries) -> Result<()> {
    let last = AtomicU32::new(0);
    loop {
        stream.readable().await?;
        let read = BUFFER.with_borrow_mut(|buffer| {
            let length = stream.try_read(buffer)?;
            if let Some(number) = newest(&buffer[..length])
                && last.swap(number, Ordering::Relaxed) != number
            {
                deliveries.delivered(number);
            }
            std::io::Result::Ok(length)
        });
        match read {
            Ok(0) => bail!("a client was disconnected"),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The number that a message says last. A message is short and comes in one piece.
fn newest(bytes: &[u8]) -> Option<u32> {
    let at = bytes.windows(BEFORE.len()).rposition(|window| window == BEFORE)? + BEFORE.len();
    let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit());
    let sum = digits.fold(0_u32, |sum, digit| sum.saturating_mul(10).saturating_add(u32::from(digit - b'0')));
    Some(sum / PARTITIONS)
}
