//! S3-compatible storage of a test's own, which fails on order; and what others read in a table on it.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use reckon_schemas::stores;
use serde_json::Value;

use crate::python;
use crate::stack::repository;

const BUCKET: &str = "lake";
const PREFIX: &str = "some/prefix";

/// A running server. Gone when dropped.
pub struct S3 {
    child: Child,
    endpoint: String,
}

/// What the server does to requests to come.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// 503.
    Unavailable,
    /// The commit happens, and the answer says that it did not.
    Lost,
}

impl Fault {
    const fn name(self) -> &'static str {
        match self {
            Fault::Unavailable => "unavailable",
            Fault::Lost => "lost",
        }
    }
}

impl S3 {
    /// Starts a server with an empty bucket.
    pub fn start() -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut child = Command::new(python()?)
            .arg(repository().join("tests/python/s3_server.py"))
            .args([&port.to_string(), BUCKET])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut ready = String::new();
        let stdout = child.stdout.take().context("its output")?;
        let server = Self { child, endpoint: format!("http://127.0.0.1:{port}") };
        BufReader::new(stdout).read_line(&mut ready)?;
        ensure!(ready.trim() == "ready", "the S3 server did not start: {ready:?}");
        Ok(server)
    }

    /// Its address, `http://host:port`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A lake on it, reached by that address or another way to it.
    #[must_use]
    pub fn lake(&self, endpoint: &str) -> stores::Lake {
        let s3 = stores::S3 {
            endpoint: Some(endpoint.to_owned()),
            access_key_id: Some("test".to_owned()),
            secret_access_key: Some("test".to_owned()),
            allow_http: true,
            timeout: Some("2s".to_owned()),
            ..stores::S3::default()
        };
        stores::Lake { url: format!("s3://{BUCKET}/{PREFIX}"), s3: Some(s3) }
    }

    /// Lets the next requests fail.
    pub async fn order(&self, fault: Fault, times: u32) -> Result<()> {
        let url = format!("{}/__faults__?kind={}&times={times}", self.endpoint, fault.name());
        reqwest::Client::new().post(url).send().await?.error_for_status()?;
        Ok(())
    }

    /// How many failures are still to come.
    pub async fn ordered(&self, fault: Fault) -> Result<u64> {
        let left: Value = reqwest::get(format!("{}/__faults__", self.endpoint)).await?.json().await?;
        left[fault.name()].as_u64().with_context(|| left.to_string())
    }

    /// The names of the objects below the prefix.
    pub async fn objects(&self, folder: &str) -> Result<Vec<String>> {
        let url = format!("{}/{BUCKET}?list-type=2&prefix={PREFIX}/{folder}", self.endpoint);
        let list = reqwest::get(url).await?.text().await?;
        let keys = list.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
        Ok(keys.map(str::to_owned).collect())
    }

    /// What Python's deltalake package and Polars see in a table: `{"deltalake": {"offsets", "minor"}, "polars": …}`.
    pub fn read_by_others(&self, table: &str) -> Result<Value> {
        let output = Command::new(python()?)
            .arg(repository().join("tests/python/read_lake.py"))
            .args([&format!("s3://{BUCKET}/{PREFIX}/{table}"), &self.endpoint])
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
