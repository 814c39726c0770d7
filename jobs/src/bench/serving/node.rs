//! A serving node of its own, with a configuration of its own.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use reckon_serving::Tuning;

use super::super::http::Connection;
use super::super::scene::Scene;
use crate::child::Process;

const START_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
/// No quota of a tenant is what is measured.
const UNBOUNDED: usize = 1_000_000;

/// It, at work.
pub(super) struct Node {
    pub(super) process: Process,
    pub(super) address: SocketAddr,
    metrics: SocketAddr,
}

impl Node {
    /// Starts it on free ports, and waits until it answers.
    pub(super) async fn start(scene: &Scene, name: &str, edit: impl FnOnce(&mut Tuning)) -> Result<Self> {
        let mut settings = scene.settings.clone();
        let free = || anyhow::Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?);
        let (address, metrics) = (free()?, free()?);
        settings.listen.serve = address;
        settings.listen.metrics = Some(metrics);
        settings.serve.queries_per_second_max = u32::try_from(UNBOUNDED)?;
        settings.serve.live_clients_max = UNBOUNDED;
        settings.serve.connections_max = UNBOUNDED;
        edit(&mut settings.serve);
        let config = scene.folder.join(format!("{name}.toml"));
        std::fs::write(&config, toml::to_string(&settings)?).context("writing the node's configuration")?;
        let process = Process::reckon(&config, "serve", scene.folder.join(format!("{name}.log")))?;
        let mut node = Self { process, address, metrics };
        let deadline = Instant::now() + START_MAX;
        while !node.is_ready().await {
            node.process.check()?;
            if Instant::now() > deadline {
                bail!("the node did not answer within {START_MAX:?}");
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(node)
    }

    async fn is_ready(&self) -> bool {
        let ask = async { Connection::open(self.address).await?.get("", "/readyz").await };
        ask.await.is_ok()
    }

    /// How many answers came about in this way.
    pub(super) async fn answers(&self, outcome: &str) -> Result<u64> {
        let text = Connection::open(self.metrics).await?.get("", "/metrics").await?;
        let text = String::from_utf8(text.to_vec())?;
        let name = format!("reckon_serving_answers_total{{outcome=\"{outcome}\"}} ");
        Ok(text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0))
    }
}
