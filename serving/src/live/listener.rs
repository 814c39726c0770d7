//! Hearing that something changed. A push is only a reason to look: what is pushed is read from the stores, so a lost
//! announcement costs a few seconds, never a number.

use std::time::Duration;

use futures::StreamExt;
use reckon_schemas::redis_keys;
use redis::RedisError;
use tokio_util::sync::CancellationToken;

use super::Hub;

const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(5);

impl Hub {
    /// Wakes live queries when their tenant's numbers change, until shutdown. Connects again after every loss.
    pub(crate) async fn listen(&self, client: redis::Client, shutdown: CancellationToken) {
        let mut pause = RETRY_MIN;
        let mut is_told = false;
        loop {
            let mut is_heard = false;
            let lost = tokio::select! {
                () = shutdown.cancelled() => return,
                lost = self.listen_once(&client, &mut is_heard) => lost,
            };
            if is_heard {
                (pause, is_told) = (RETRY_MIN, false);
            }
            if !is_told {
                let error = lost.err().map(|error| error.to_string());
                tracing::warn!(error, "not listening for changes; live queries are refreshed from time to time");
                is_told = true;
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    async fn listen_once(&self, client: &redis::Client, is_heard: &mut bool) -> Result<(), RedisError> {
        let mut pubsub = client.get_async_pubsub().await?;
        // Those of tenants that come later, too.
        pubsub.psubscribe(redis_keys::changes_channel("*")).await?;
        *is_heard = true;
        tracing::info!("listening for changes");
        // What was announced in between was not heard.
        self.wake(None);
        let mut messages = pubsub.on_message();
        while let Some(message) = messages.next().await {
            self.wake(redis_keys::changes_channel_tenant(message.get_channel_name()));
        }
        Ok(())
    }
}
