//! An OpenID provider of a test's own, and a browser that goes there and comes back.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::python;
use crate::stack::repository;

/// A running provider. Gone when dropped.
pub struct Provider {
    child: Child,
    pub issuer: String,
    http: reqwest::Client,
}

impl Provider {
    pub fn start() -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut child = Command::new(python()?)
            .arg(repository().join("tests/python/oidc_provider.py"))
            .arg(port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut ready = String::new();
        let stdout = child.stdout.take().context("its output")?;
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        let provider = Self { child, issuer: format!("http://127.0.0.1:{port}"), http };
        BufReader::new(stdout).read_line(&mut ready)?;
        ensure!(ready.trim() == "ready", "the provider did not start: {ready:?}");
        Ok(provider)
    }

    /// What the provider knows about somebody.
    pub async fn knows(&self, subject: &str, claims: &Value) -> Result<()> {
        let url = format!("{}/users/{subject}", self.issuer);
        self.http.put(url).json(claims).send().await?.error_for_status()?;
        Ok(())
    }

    /// Signs somebody in at the address that the browser was sent to; where it is sent back to.
    pub async fn sign_in(&self, address: &str, subject: &str) -> Result<String> {
        ensure!(address.starts_with(&self.issuer), "{address}");
        let form = self.http.post(address).header("content-type", "application/x-www-form-urlencoded");
        let answer = form.body(format!("sub={subject}")).send().await?;
        let status = answer.status();
        let location = answer.headers().get("location").and_then(|value| value.to_str().ok()).map(str::to_owned);
        location.with_context(|| format!("sent nowhere: {status}"))
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
