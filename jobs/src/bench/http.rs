//! A connection to a collector or a serving node, with as little of its own as can be: it shares two cores with what it measures.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::scene::Scene;
use crate::child::Process;

const START_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// One connection, one request at a time.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.context("connecting")?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // What goes wrong with it is what the next request says.
        tokio::spawn(connection);
        Ok(Self { sender, host: address.to_string() })
    }

    /// Sends a batch; anything but the acknowledgement of all of its items is an error.
    pub(crate) async fn post(&mut self, key: &str, body: String) -> Result<()> {
        let request = Request::post("/v1/events")
            .header("host", &self.host)
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))?;
        let response = self.sender.send_request(request).await.context("sending a batch")?;
        let status = response.status();
        let answer = response.into_body().collect().await?.to_bytes();
        if status != 202 || !answer.ends_with(b"\"rejected\":[]}") {
            bail!("the collector answered {status}: {}", String::from_utf8_lossy(&answer));
        }
        Ok(())
    }
}

impl Connection {
    /// Reads something; anything but 200 is an error. Without a key if that is empty.
    pub(crate) async fn get(&mut self, key: &str, path: &str) -> Result<Bytes> {
        let mut request = Request::get(path).header("host", &self.host);
        if !key.is_empty() {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        // The answer before may be read to its end before the connection has noticed.
        self.sender.ready().await.context("the connection ended")?;
        let response = self.sender.send_request(request.body(Full::new(Bytes::new()))?).await.context("asking")?;
        let status = response.status();
        let answer = response.into_body().collect().await?.to_bytes();
        if status != 200 {
            bail!("{path} was answered with {status}: {}", String::from_utf8_lossy(&answer));
        }
        Ok(answer)
    }
}

/// A collector of its own on a free port.
pub(crate) struct Collector {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

impl Collector {
    /// Starts it, and waits until it answers.
    pub(crate) async fn start(scene: &Scene) -> Result<Self> {
        let process = Process::reckon(&scene.config, "collect", scene.folder.join("collect.log"))?;
        let mut collector = Self { process, address: scene.settings.listen.collect };
        let deadline = Instant::now() + START_MAX;
        while !is_ready(collector.address).await {
            collector.process.check()?;
            if Instant::now() > deadline {
                bail!("the collector did not answer within {START_MAX:?}");
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(collector)
    }
}

async fn is_ready(address: SocketAddr) -> bool {
    let ask = async {
        let mut connection = Connection::open(address).await?;
        let request = Request::get("/readyz").header("host", &connection.host).body(Full::new(Bytes::new()))?;
        anyhow::Ok(connection.sender.send_request(request).await?.status() == 204)
    };
    ask.await.unwrap_or(false)
}

/// A scene for traffic of now: a topic of its own, and a free port to listen on.
pub(crate) async fn live_scene(settings: &crate::config::Settings, dir: &Path, name: &str) -> Result<Scene> {
    let mut settings = settings.clone();
    settings.kafka.topics.events = format!("{}.{name}", settings.kafka.topics.events);
    settings.kafka.topics.rejected = format!("{}.{name}", settings.kafka.topics.rejected);
    // Free now, and nobody else is asked for it in the moment until the collector takes it.
    settings.listen.collect = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    Scene::set(settings, dir, name, &[]).await
}
