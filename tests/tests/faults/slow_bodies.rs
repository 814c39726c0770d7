//! Clients that send a good head and then a body that takes for ever: each is ended in time, and none of the others notices.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use reckon_tests::{Stack, World};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer may take twice as long as a question: four seconds.
const TUNING: &str = r#"
[serve]
query_timeout = "2s"
events_timeout = "2s"
queries_per_second_max = 100000

[collect]
body_read_timeout = "3s"
"#;
const SLOW: usize = 200;
/// A byte a second.
const PACE: Duration = Duration::from_secs(1);
/// The longest of both limits, and what a loaded machine adds.
const LIFE_MAX: Duration = Duration::from_secs(20);
const P99_MAX: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_takes_for_ever_is_ended_and_disturbs_nobody() -> Result<()> {
    let world = World::with_tuning(&Stack::shared()?, TUNING)?;
    let (_collector, _node) = (world.start_collector().await?, world.start_serving().await?);
    let item = json!([{ "event_id": "quick", "name": "purchase", "occurred_at": jiff::Timestamp::now() }]);
    for (port, path, key) in [
        (world.serve_port, "/v1/query", &world.read_key),
        (world.serve_port, "/v1/funnels", &world.read_key),
        (world.collect_port, "/v1/events", &world.write_key),
    ] {
        // Chunks, too: there nobody knows how long it could become.
        let slow = (0..SLOW).map(|number| trickle(port, path, key, number % 2 == 0));
        let slow = tokio::spawn(futures::future::try_join_all(slow.collect::<Vec<_>>()));
        let mut times = Vec::new();
        while times.len() < 100 {
            let asked = Instant::now();
            if port == world.collect_port {
                world.send(item.as_array().map_or(&[], Vec::as_slice)).await?;
            } else {
                world.query("/v1/query?metric=purchases").await?;
            }
            times.push(asked.elapsed());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        times.sort();
        ensure!(times[98] < P99_MAX, "p99 {:?} beside {SLOW} slow bodies to {path}", times[98]);
        for (lived, answer) in tokio::time::timeout(LIFE_MAX * 2, slow).await??? {
            ensure!(lived < LIFE_MAX, "{path}: it lived for {lived:?}: {answer}");
            // With a word about it, or without; but not with an answer.
            ensure!(
                answer.is_empty() || answer.starts_with("HTTP/1.1 408") || answer.starts_with("HTTP/1.1 503"),
                "{answer}"
            );
        }
    }
    Ok(())
}

/// Sends a body byte by byte until the connection ends: how long that took, and what was answered.
fn trickle(
    port: u16,
    path: &str,
    key: &str,
    with_length: bool,
) -> impl Future<Output = Result<(Duration, String)>> + use<> {
    let length = if with_length { "content-length: 100000" } else { "transfer-encoding: chunked" };
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n{length}\r\n\r\n"
    );
    let piece: &[u8] = if with_length { b" " } else { b"1\r\n \r\n" };
    async move {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let begun = Instant::now();
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        while begun.elapsed() < LIFE_MAX {
            match tokio::time::timeout(PACE, stream.read_buf(&mut answer)).await {
                Ok(Ok(0) | Err(_)) => break,
                Ok(Ok(_)) => {}
                // A write that fails is noticed by the next read.
                Err(_) => drop(stream.write_all(piece).await),
            }
        }
        Ok((begun.elapsed(), String::from_utf8_lossy(&answer).into_owned()))
    }
}
