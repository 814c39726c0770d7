//! Sends items to a collector, in order, one batch after the other, until each is acknowledged.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

const ATTEMPTS_MAX: u32 = 30;

/// Where to send to.
#[derive(Clone)]
pub(crate) struct Sender {
    client: Client,
    url: Url,
    key: String,
}

/// What the collector answered.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct Acknowledged {
    pub(crate) accepted: u64,
    #[serde(deserialize_with = "length", rename = "rejected")]
    pub(crate) rejected: u64,
}

fn length<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Vec::<serde::de::IgnoredAny>::deserialize(deserializer).map(|items| items.len() as u64)
}

impl Sender {
    /// A sender with one write key.
    pub(crate) fn new(base: &str, key: String) -> Result<Self> {
        let url = Url::parse(base).and_then(|base| base.join("/v1/events")).with_context(|| format!("URL {base:?}"))?;
        let client = Client::builder().timeout(Duration::from_secs(60)).build()?;
        Ok(Self { client, url, key })
    }

    /// Sends one batch (a JSON array); waits and tries again while the collector is busy or the log is away. Trying
    /// again is safe: an event that was taken twice is counted once.
    pub(crate) async fn send(&self, body: String) -> Result<Acknowledged> {
        for attempt in 0..ATTEMPTS_MAX {
            let request = self
                .client
                .post(self.url.clone())
                .bearer_auth(&self.key)
                .header("content-type", "application/json")
                .body(body.clone());
            let wait = match request.send().await {
                Ok(response) if response.status().is_success() => return Ok(response.json().await?),
                Ok(response) if is_worth_trying(response.status()) => retry_after(&response),
                Ok(response) => {
                    let status = response.status();
                    bail!("the collector answered {status}: {}", response.text().await.unwrap_or_default());
                }
                Err(error) => {
                    tracing::debug!(attempt, "sending: {error}");
                    Duration::from_millis(500)
                }
            };
            tokio::time::sleep(wait).await;
        }
        bail!("the collector did not take a batch in {ATTEMPTS_MAX} attempts")
    }

    /// Sends batches one after the other, so that the log keeps their order, and calls `after` for each one
    /// acknowledged. Stops between two batches on shutdown.
    pub(crate) async fn send_all(
        &self,
        batches: impl Iterator<Item = String>,
        shutdown: &CancellationToken,
        mut after: impl FnMut(Acknowledged),
    ) -> Result<Acknowledged> {
        let mut sum = Acknowledged::default();
        for body in batches {
            let answer = tokio::select! {
                () = shutdown.cancelled() => break,
                answer = self.send(body) => answer?,
            };
            sum.accepted += answer.accepted;
            sum.rejected += answer.rejected;
            after(answer);
        }
        Ok(sum)
    }
}

fn is_worth_trying(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY)
}

fn retry_after(response: &reqwest::Response) -> Duration {
    let seconds = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1)).min(Duration::from_secs(10))
}
