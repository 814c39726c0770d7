//! Answers that have no end.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{SinkExt, StreamExt};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::stage::{Stage, Tenant};
use super::table::{Kind, Row};

/// Who has something to hear has heard it by then.
const PATIENCE: Duration = Duration::from_secs(60);
/// What was heard in this time has begun, and nothing of others is in it.
const A_WHILE: Duration = Duration::from_secs(2);

impl Stage {
    /// They hear the canary, and we do not hear it, while they do.
    pub(super) async fn listen(&self, row: &Row) -> Result<()> {
        let theirs = self.heard(&self.theirs, row, PATIENCE, &self.canary).await?;
        ensure!(theirs.contains(&self.canary), "they hear nothing of it: {theirs}");
        let begins = if row.path.contains("alert") { ":" } else { "DELI" };
        let ours = self.heard(&self.ours, row, PATIENCE, begins).await?;
        ensure!(ours.contains(begins), "we hear nothing: {ours}");
        let ours = ours + &self.heard(&self.ours, row, A_WHILE, "not to be heard").await?;
        ensure!(!ours.contains(&self.canary) && !ours.contains(&self.theirs.id), "{ours}");
        Ok(())
    }

    /// What somebody hears until a text comes, or the time is over.
    async fn heard(&self, who: &Tenant, row: &Row, limit: Duration, until: &str) -> Result<String> {
        let mut heard = String::new();
        let listening = async {
            if row.kind == Kind::Socket {
                return self.converse(who, row, until, &mut heard).await;
            }
            let request = self.world.http.get(self.url(&self.path(row, None))).bearer_auth(&who.key);
            // As somebody who was away: everything that happened since is told.
            let mut stream = request.header("last-event-id", "0").send().await?.error_for_status()?;
            while !heard.contains(until) {
                heard += &String::from_utf8_lossy(&stream.chunk().await?.context("the stream ended")?);
            }
            Ok(())
        };
        if let Ok(ended) = tokio::time::timeout(limit, listening).await {
            ended?;
        }
        Ok(heard)
    }

    async fn converse(&self, who: &Tenant, row: &Row, until: &str, heard: &mut String) -> Result<()> {
        let mut request = self.url(row.path).replacen("http", "ws", 1).into_client_request()?;
        request.headers_mut().insert("authorization", format!("Bearer {}", who.key).parse()?);
        let (mut socket, answer) = tokio_tungstenite::connect_async(request).await?;
        ensure!(answer.status().as_u16() == row.status, "{}", answer.status());
        let subscribe = json!({ "type": "subscribe", "id": "a", "query": row.query });
        socket.send(Message::text(subscribe.to_string())).await?;
        while !heard.contains(until) {
            *heard += &socket.next().await.context("the connection ended")??.into_text()?;
        }
        Ok(())
    }

    /// A live stream of ours while the others are busy.
    pub(super) async fn look_at_a_busy_stream(&self) -> Result<()> {
        let url = self.url("/v1/live?metric=purchases&by=department");
        let mut stream = self.world.http.get(url).bearer_auth(&self.ours.key).send().await?;
        let mut text = String::new();
        for number in 0..20 {
            for (tenant, department) in [(&self.theirs, self.canary.as_str()), (&self.ours, "DELI")] {
                let event = json!({ "event_id": format!("{department}-busy-{number}"), "name": "purchase",
                                    "occurred_at": jiff::Timestamp::now(), "properties": { "department": department } });
                self.collect(tenant, &[event]).await?;
            }
            if let Ok(chunk) = tokio::time::timeout(Duration::from_millis(150), stream.chunk()).await {
                text += &String::from_utf8_lossy(&chunk?.context("the stream ended")?);
            }
        }
        ensure!(text.matches("event: ").count() > 2 && text.contains("DELI"), "{text}");
        ensure!(!text.contains(&self.canary) && !text.contains(&self.theirs.id), "{text}");
        Ok(())
    }
}
