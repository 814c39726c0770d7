//! Clients that mean no good, or do nothing: each is bounded, none of the others notices.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reckon_tests::counted::{produce, until_counted};
use reckon_tests::purchases::{Purchase, generate};
use reckon_tests::{Stack, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const TUNING: &str = r#"
[speed]
flush_interval = "100ms"

[serve]
header_read_timeout = "3s"
write_stall_max = "2s"
queries_per_second_max = 100000
live_clients_max = 60
live_interval = "50ms"
"#;
const HALF_OPEN: usize = 1_000;
const STALLED: usize = 50;
const P99_MAX: Duration = Duration::from_millis(500);

/// A world with purchases of the last minutes in many stores, and a node that answers.
async fn served() -> Result<(World, Vec<reckon_tests::Process>)> {
    let world = World::with_tuning(&Stack::shared()?, TUNING)?;
    let worker = world.start("speed")?;
    produce(&world, &purchases()).await?;
    until_counted(&world).await?;
    let node = world.start_serving().await?;
    Ok((world, vec![worker, node]))
}

fn purchases() -> Vec<Purchase> {
    let from_us = jiff::Timestamp::now().as_microsecond() - 1_200 * 1_000_000;
    let made = generate(0x5eed_0026, 10_000, from_us, 110_000);
    (0..).zip(made).map(|(n, purchase)| Purchase { store: format!("store-{}", n % 100), ..purchase }).collect()
}

/// The time that one answer in a hundred exceeds, of clients that ask for a while.
async fn p99(world: &World, span: Duration) -> Result<Duration> {
    let client = async || {
        let (began, mut times) = (Instant::now(), Vec::new());
        while began.elapsed() < span {
            let asked = Instant::now();
            world.query("/v1/query?metric=revenue&grain=1m").await?;
            times.push(asked.elapsed());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(times)
    };
    let mut times = futures::future::try_join_all((0..4).map(|_| client())).await?.concat();
    times.sort();
    times.get(times.len() * 99 / 100).copied().context("no answers")
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_connections_end_and_disturb_nobody() -> Result<()> {
    let (world, _parts) = served().await?;
    let address = format!("127.0.0.1:{}", world.serve_port);
    let begun = Instant::now();
    let hold = |number: usize| {
        let address = address.clone();
        async move {
            let mut stream = TcpStream::connect(address).await?;
            // Nothing; a request line that does not end; a header every now and then, for ever.
            match number % 3 {
                0 => {}
                1 => stream.write_all(b"GET / HT").await?,
                _ => stream.write_all(b"GET /v1/catalog HTTP/1.1\r\nhost: x\r\n").await?,
            }
            let mut answer = Vec::new();
            loop {
                let wait = if number % 3 == 2 { Duration::from_millis(300) } else { Duration::from_secs(30) };
                match tokio::time::timeout(wait, stream.read_buf(&mut answer)).await {
                    Ok(Ok(0) | Err(_)) => return anyhow::Ok((begun.elapsed(), answer)),
                    Ok(Ok(_)) => {}
                    // A write that fails is noticed by the next read.
                    Err(_) => drop(stream.write_all(b"x-slow: 1\r\n").await),
                }
            }
        }
    };
    let held = tokio::spawn(futures::future::try_join_all((0..HALF_OPEN).map(hold)));
    let p99 = p99(&world, Duration::from_secs(3)).await?;
    ensure!(p99 < P99_MAX, "p99 {p99:?} beside {HALF_OPEN} half-open connections");
    for (lived, answer) in tokio::time::timeout(Duration::from_secs(30), held).await??? {
        ensure!(lived < Duration::from_secs(10), "a half-open connection lived for {lived:?}");
        let answer = String::from_utf8_lossy(&answer);
        ensure!(!answer.contains("200 OK"), "{answer}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn live_clients_that_do_not_read_are_thrown_out_and_cost_little() -> Result<()> {
    let (world, parts) = served().await?;
    let node = &parts[1];
    let path = "/v1/live?metric=revenue&grain=1m&by=store";
    // One who reads learns how much there is to read.
    let url = format!("http://127.0.0.1:{}{}", world.serve_port, path.replace("live", "query"));
    let whole = world.http.get(&url).bearer_auth(&world.read_key).send().await?.bytes().await?.len();
    ensure!(whole > 300_000, "{whole} bytes would fit into buffers");
    let before = node.resident_bytes()?;
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4096)?;
        let mut stream = socket.connect(([127, 0, 0, 1], world.serve_port).into()).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", world.read_key);
        stream.write_all(request.as_bytes()).await?;
        stalled.push(stream);
    }
    let p99 = p99(&world, Duration::from_secs(5)).await?;
    ensure!(p99 < P99_MAX, "p99 {p99:?} beside {STALLED} clients that do not read");
    let grown = node.resident_bytes()?.saturating_sub(before);
    ensure!(grown < 64 << 20, "{STALLED} clients that do not read took {grown} bytes");
    for mut stream in stalled {
        let mut read = Vec::new();
        // Cut off: what was in the system's buffers, and no more.
        let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut read)).await;
        ensure!(ended.is_ok(), "still connected");
        ensure!(read.len() < whole, "{} of {whole} bytes", read.len());
    }
    ensure!(node.log().contains("did not read for too long"), "{}", node.log_tail());
    // Their places are free again.
    let again = world.http.get(format!("http://127.0.0.1:{}{path}", world.serve_port)).bearer_auth(&world.read_key);
    ensure!(again.send().await?.status() == 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_subscriptions_are_refused() -> Result<()> {
    let (world, parts) = served().await?;
    let url = format!("http://127.0.0.1:{}/v1/live?metric=purchases&grain=1m", world.serve_port);
    let endless = reqwest::Client::new();
    let mut open = Vec::new();
    let mut refused = 0;
    for _ in 0..100 {
        let answer = endless.get(&url).bearer_auth(&world.read_key).send().await?;
        match answer.status().as_u16() {
            200 => open.push(answer),
            429 => refused += 1,
            other => anyhow::bail!("{other}"),
        }
    }
    ensure!((open.len(), refused) == (60, 40), "{} open, {refused} refused", open.len());
    ensure!(p99(&world, Duration::from_secs(1)).await? < P99_MAX, "{}", parts[1].log_tail());
    Ok(())
}
