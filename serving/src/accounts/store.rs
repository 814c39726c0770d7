//! The connection to the configuration store: SQLite in a file, or PostgreSQL. One set of statements serves both, so
//! they know texts and 64-bit integers only, and write their parameters `$1`; the texts are constants of this program.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Any, AnyPool, ConnectOptions, SqlSafeStr, Transaction};

use super::{Error, Tuning};

const ACCOUNTS: &str = include_str!("../../migrations/0001_accounts.sql");
const ALERTS: &str = include_str!("../../migrations/0010_alerts.sql");
const EVENT_RATES: &str = include_str!("../../migrations/0011_event_rates.sql");
const KEPT_SQLITE: &str = include_str!("../../migrations/0002_audit_is_kept.sqlite.sql");
const KEPT_POSTGRES: &str = include_str!("../../migrations/0002_audit_is_kept.postgres.sql");

/// A process that is paused between two statements must not keep what it has locked from the others.
const LET_GO: &str = "SET idle_in_transaction_session_timeout = '10s'";
/// A connection that is idle for so long is closed.
const IDLE_MAX: Duration = Duration::from_secs(300);

#[derive(Clone, Debug)]
enum Kind {
    Sqlite(PathBuf),
    Postgres,
}

/// Cheap to clone. The server, or the file, does not have to be there at the start.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pool: AnyPool,
    kind: Kind,
    timeout: Duration,
    /// Whether this process has made sure of its tables.
    is_prepared: Arc<AtomicBool>,
}

impl Store {
    pub(super) fn open(tuning: &Tuning) -> Result<Self, Error> {
        sqlx::any::install_default_drivers();
        let url = tuning.url.as_deref().ok_or_else(|| Error::Url("no store is named".to_owned()))?;
        let kind = match url.split_once(':') {
            Some(("sqlite", _)) => Kind::Sqlite(sqlite_file(url)?),
            Some(("postgres" | "postgresql", _)) => Kind::Postgres,
            _ => return Err(Error::Url("give sqlite:///path or postgres://user:password@host/database".to_owned())),
        };
        // What is wrong with an address is told without the address.
        let options = AnyConnectOptions::from_str(url).map_err(|_| Error::Url("cannot be read as a URL".to_owned()))?;
        let pool = AnyPoolOptions::new()
            .max_connections(tuning.connections_max.max(1))
            .acquire_timeout(tuning.timeout)
            .idle_timeout(IDLE_MAX);
        let pool = match kind {
            Kind::Sqlite(_) => pool,
            Kind::Postgres => pool.after_connect(|connection, _| {
                Box::pin(async move { sqlx::query(LET_GO).execute(connection).await.map(|_| ()) })
            }),
        };
        let pool = pool.connect_lazy_with(options.disable_statement_logging());
        Ok(Self { pool, kind, timeout: tuning.timeout, is_prepared: Arc::default() })
    }

    /// Makes the tables that are missing. Safe at any time, by any number of processes.
    pub(super) async fn migrate(&self) -> Result<(), Error> {
        if let Kind::Sqlite(file) = &self.kind {
            make_private(file)?;
            // Readers and the one writer do not wait for each other; the file remembers it.
            self.timed(async { Ok(sqlx::query("PRAGMA journal_mode = WAL").execute(&self.pool).await?) }).await?;
        }
        let kept = match self.kind {
            Kind::Sqlite(_) => KEPT_SQLITE,
            Kind::Postgres => KEPT_POSTGRES,
        };
        let steps = [
            (1, "accounts", ACCOUNTS),
            (2, "the audit log is kept", kept),
            (10, "alerts", ALERTS),
            (11, "event rates", EVENT_RATES),
        ];
        let steps = steps.map(|(version, name, sql)| {
            Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
        });
        let migrator = Migrator::with_migrations(steps.into());
        match (migrator.run(&self.pool).await, &self.kind) {
            // SQLite has no lock for this: who comes second finds what the first one has made meanwhile.
            (Err(_), Kind::Sqlite(_)) => {
                tokio::time::sleep(self.timeout / 4).await;
                migrator.run(&self.pool).await?;
            }
            (ran, _) => ran?,
        }
        self.is_prepared.store(true, Ordering::Release);
        Ok(())
    }

    /// For who only reads, and looks again until there is something: the tables are somebody else's business.
    pub(super) fn take_for_prepared(&self) {
        self.is_prepared.store(true, Ordering::Release);
    }

    /// For statements on their own.
    pub(crate) fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// For statements that belong together. Nothing happens unless it is committed.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Any>, Error> {
        // SQLite has one writer: who is going to write waits at the beginning, where waiting is possible.
        Ok(match self.kind {
            Kind::Sqlite(_) => self.pool.begin_with("BEGIN IMMEDIATE").await?,
            Kind::Postgres => self.pool.begin().await?,
        })
    }

    /// Does something within the time limit, once there are tables: until then the store is away.
    pub(crate) async fn within<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        if !self.is_prepared.load(Ordering::Acquire) {
            return Err(Error::Away("its tables are not there yet".to_owned()));
        }
        self.timed(work).await
    }

    async fn timed<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match tokio::time::timeout(self.timeout, work).await {
            Ok(done) => done,
            Err(_) => Err(Error::Away(format!("nothing within {:?}", self.timeout))),
        }
    }
}

fn sqlite_file(url: &str) -> Result<PathBuf, Error> {
    let unreadable = |_| Error::Url("cannot be read: write sqlite:///path/accounts.db".to_owned());
    let file = SqliteConnectOptions::from_str(url).map_err(unreadable)?.get_filename().to_owned();
    if file.as_os_str().is_empty() || file.to_string_lossy().contains(":memory:") {
        return Err(Error::Url("keep accounts in a file: sqlite:///path/accounts.db".to_owned()));
    }
    Ok(file)
}

/// Makes the file, if it is missing, for its owner only.
fn make_private(file: &PathBuf) -> Result<(), Error> {
    use std::os::unix::fs::OpenOptionsExt;
    let away = |error: std::io::Error| Error::Away(format!("{}: {error}", file.display()));
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(away)?;
    }
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(away(error)),
        _ => Ok(()),
    }
}
