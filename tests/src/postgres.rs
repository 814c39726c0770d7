//! A PostgreSQL server of the tests' own, one for all that need one at the same time, each in a database of its own.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::stack::repository;

/// A running server. Gone, with its data, when the last one who holds it lets go.
pub struct Postgres {
    dir: PathBuf,
    port: u16,
    password: String,
    child: Mutex<Option<Child>>,
}

static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());

impl Postgres {
    /// The server that tests share; started if nobody has it.
    pub async fn shared() -> Result<Arc<Self>> {
        let (server, is_new) = {
            let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
            match shared.upgrade() {
                Some(server) => (server, false),
                None => {
                    let server = Arc::new(Self::new()?);
                    *shared = Arc::downgrade(&server);
                    (server, true)
                }
            }
        };
        if is_new {
            server.start()?;
        }
        server.ready().await?;
        Ok(server)
    }

    /// One of a test's own, which it may stop.
    pub async fn own() -> Result<Self> {
        let server = Self::new()?;
        server.start()?;
        server.ready().await?;
        Ok(server)
    }

    fn new() -> Result<Self> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        Ok(Self {
            // Not below a folder that only root may enter.
            dir: std::env::temp_dir().join(format!("reckon-postgres-{id}")),
            port: TcpListener::bind("127.0.0.1:0")?.local_addr()?.port(),
            password: id,
            child: Mutex::default(),
        })
    }

    /// Starts it, on its port, with its data.
    pub fn start(&self) -> Result<()> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let mut command = Command::new(repository().join("tests/postgres"));
        command.arg(&self.dir).arg(self.port.to_string()).arg(&self.password);
        let log = std::fs::File::options().create(true).append(true).open(self.dir.with_extension("log"))?;
        *child = Some(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?);
        Ok(())
    }

    /// Stops it as an operator would, at once for whoever is connected.
    pub fn stop(&self) -> Result<()> {
        let Some(mut child) = self.child.lock().unwrap_or_else(PoisonError::into_inner).take() else { return Ok(()) };
        let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status()?;
        ensure!(sent.success(), "kill -INT: {sent}");
        child.wait()?;
        Ok(())
    }

    /// Waits until it answers.
    pub async fn ready(&self) -> Result<()> {
        let started = Instant::now();
        loop {
            let listens = TcpStream::connect(("127.0.0.1", self.port)).is_ok();
            if listens && PgConnection::connect(&self.url("postgres")).await.is_ok() {
                return Ok(());
            }
            let log = || std::fs::read_to_string(self.dir.with_extension("log")).unwrap_or_default();
            ensure!(started.elapsed() < Duration::from_secs(60), "PostgreSQL does not answer:\n{}", log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The address of a new, empty database.
    pub async fn database(&self) -> Result<String> {
        let name = format!("d{}", uuid::Uuid::new_v4().simple());
        let mut connection = PgConnection::connect(&self.url("postgres")).await.context("connecting to PostgreSQL")?;
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await?;
        Ok(self.url(&name))
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://reckon:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("PostgreSQL could not be stopped: {error:#}");
        }
        let _ = std::fs::remove_dir_all(&self.dir);
        let _ = std::fs::remove_file(self.dir.with_extension("log"));
    }
}
