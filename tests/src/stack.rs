//! The servers: one stack for all tests, or one of a test's own that it may harm.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A server of the stack.
#[derive(Clone, Copy, Debug)]
pub enum Service {
    Kafka,
    Redis,
    ClickHouse,
}

impl Service {
    const fn name(self) -> &'static str {
        match self {
            Service::Kafka => "kafka",
            Service::Redis => "redis",
            Service::ClickHouse => "clickhouse",
        }
    }
}

/// Running servers and their addresses.
pub struct Stack {
    dir: PathBuf,
    own: bool,
    pub kafka: String,
    pub redis: String,
    pub clickhouse: String,
}

/// The repository's folder.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the repository").to_owned()
}

impl Stack {
    /// The stack that all tests share. Harm nothing in it.
    pub fn shared() -> Result<Self> {
        let dir = std::env::var_os("RECKON_TEST_STACK")
            .context("RECKON_TEST_STACK is not set: run the tests with `make test`, which starts the servers")?;
        Self::read(dir.into(), false)
    }

    /// A stack of this test's own, gone when it is dropped.
    pub fn own(name: &str) -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("reckon-{name}-{}", uuid::Uuid::now_v7().simple()));
        stack_command(&dir, &["up", "--own"])?;
        Self::read(dir, true)
    }

    fn read(dir: PathBuf, own: bool) -> Result<Self> {
        let file = dir.join("stack.env");
        let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let addresses: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let address = |name: &str| addresses.get(name).map(|text| (*text).to_owned()).context(name.to_owned());
        Ok(Self {
            kafka: address("RECKON_KAFKA__BROKERS")?,
            redis: address("RECKON_REDIS__URL")?,
            clickhouse: address("RECKON_CLICKHOUSE__URL")?,
            dir,
            own,
        })
    }

    /// `SIGKILL`.
    pub fn kill(&self, service: Service) -> Result<()> {
        self.harm("kill", service)
    }

    /// Starts a killed or stopped server again, with its data, on its port; returns when it answers.
    pub fn start(&self, service: Service) -> Result<()> {
        self.harm("start", service)
    }

    /// `SIGSTOP`.
    pub fn pause(&self, service: Service) -> Result<()> {
        self.harm("pause", service)
    }

    /// `SIGCONT`.
    pub fn resume(&self, service: Service) -> Result<()> {
        self.harm("resume", service)
    }

    fn harm(&self, command: &str, service: Service) -> Result<()> {
        ensure!(self.own, "only a stack of the test's own may be harmed");
        stack_command(&self.dir, &[command, service.name()])
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if self.own
            && let Err(error) = stack_command(&self.dir, &["down", "--purge"])
        {
            eprintln!("the stack could not be stopped: {error:#}");
        }
    }
}

fn stack_command(dir: &Path, arguments: &[&str]) -> Result<()> {
    let output = Command::new(repository().join("deploy/local/stack"))
        .arg("--dir")
        .arg(dir)
        .args(arguments)
        // Addresses of the shared stack must not become those of this one.
        .env_remove("RECKON_KAFKA__BROKERS")
        .env_remove("RECKON_REDIS__URL")
        .env_remove("RECKON_CLICKHOUSE__URL")
        .output()
        .context("deploy/local/stack")?;
    ensure!(output.status.success(), "stack {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    Ok(())
}
