//! The connection to ClickHouse: bounded in rows, bytes and time, and read only.

use std::time::Duration;

use clickhouse::error::Error;
use clickhouse::query::Query;
use clickhouse::{Client, RowOwned, RowRead};
use reckon_schemas::stores;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::breaker::Breaker;
use super::{Bounds, StoreError};
use crate::access::meter;

const STORE: &str = "ClickHouse";

/// Exception codes that say "too large for the bound": TOO_MANY_ROWS, TOO_MANY_ROWS_OR_BYTES, TOO_MANY_BYTES.
const TOO_MUCH: &[u32] = &[158, 396, 307];
/// Exception codes that pass: tables not made yet (60, 81), timeouts (159, 160, 209), network (210), too many
/// queries (202), memory (241), shutting down (236).
const PASSING: &[u32] = &[60, 81, 159, 160, 202, 209, 210, 236, 241];
/// For statements with limits of their own also: TIMEOUT_EXCEEDED, TOO_SLOW, MEMORY_LIMIT_EXCEEDED.
const OVER_LIMIT: &[u32] = &[158, 159, 160, 241, 307];

/// What a statement that reads single events may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The most rows that it reads.
    pub(crate) rows_read_max: u64,
    /// The most memory that it uses, in bytes.
    pub(crate) memory_max: u64,
    /// The most time that it takes.
    pub(crate) time_max: Duration,
}

/// Reads from one database.
#[derive(Clone)]
pub(crate) struct ClickHouse {
    client: Client,
    rows_max: u64,
    timeout: Duration,
    breaker: Breaker,
}

impl ClickHouse {
    pub(crate) fn new(config: &stores::ClickHouse, bounds: Bounds) -> Self {
        let Bounds { rows_max, result_bytes_max, query_timeout: timeout, .. } = bounds;
        let mut client = Client::default()
            .with_url(&config.url)
            .with_database(&config.database)
            .with_setting("max_result_rows", rows_max.to_string())
            .with_setting("max_result_bytes", result_bytes_max.to_string())
            .with_setting("result_overflow_mode", "throw")
            .with_setting("max_execution_time", timeout.as_secs().max(1).to_string());
        if let Some(user) = &config.user {
            client = client.with_user(user);
        }
        if let Some(password) = &config.password {
            client = client.with_password(password);
        }
        Self { client, rows_max, timeout, breaker: Breaker::new(STORE) }
    }

    /// A statement whose values are all bound by the server: `{name:Type}` in its text, [`Statement::bind`] for the
    /// value. The text is a constant of this program.
    pub(crate) fn statement(&self, sql: &'static str) -> Statement {
        let Self { client, rows_max, timeout, breaker } = self;
        let (rows_max, timeout, breaker) = (*rows_max, *timeout, breaker.clone());
        Statement { query: client.query_raw(sql), rows_max, timeout, is_limited: false, breaker }
    }

    /// Whether the server answers; asks it even if it is left alone at the moment.
    pub(crate) async fn ping(&self) -> Result<(), StoreError> {
        self.statement("SELECT toUInt8(1)").fetch::<u8>().await.map(|_| ())
    }

    /// Looks after the server until shutdown.
    pub(super) async fn watch(&self, shutdown: CancellationToken) {
        self.breaker.watch(|| self.ping(), shutdown).await;
    }
}

/// A statement on its way.
pub(crate) struct Statement {
    query: Query,
    rows_max: u64,
    timeout: Duration,
    is_limited: bool,
    breaker: Breaker,
}

impl Statement {
    /// Keeps the statement within limits of its own.
    pub(crate) fn within(self, limits: Limits) -> Self {
        let Limits { rows_read_max, memory_max, time_max } = limits;
        let query = self.query.with_setting("max_rows_to_read", rows_read_max.to_string());
        let query = query.with_setting("max_memory_usage", memory_max.to_string());
        let query = query.with_setting("max_execution_time", time_max.as_secs().max(1).to_string());
        Self { query, timeout: time_max, is_limited: true, ..self }
    }

    /// Binds a parameter of the statement.
    pub(crate) fn bind(self, name: &'static str, value: impl Serialize) -> Self {
        Self { query: self.query.param(name, value), ..self }
    }

    /// All rows.
    pub(crate) async fn rows<T: RowOwned + RowRead>(self) -> Result<Vec<T>, StoreError> {
        self.breaker.admit()?;
        self.fetch().await
    }

    async fn fetch<T: RowOwned + RowRead>(self) -> Result<Vec<T>, StoreError> {
        let answered = tokio::time::timeout(self.timeout, metered(self.query)).await;
        match &answered {
            Ok(Err(Error::Network(_))) => self.breaker.failed(),
            // A refusal is an answer.
            Ok(_) => self.breaker.answered(),
            // One statement that takes too long proves nothing: whether the server hangs, the probe tells.
            Err(_) => {}
        }
        match answered {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(Error::BadResponse(text))) if self.is_limited && is_over_limit(&text) => {
                Err(StoreError::OverLimit { store: STORE, problem: text })
            }
            Ok(Err(error)) => Err(classify(&error, self.rows_max)),
            Err(_) if self.is_limited => {
                Err(StoreError::OverLimit { store: STORE, problem: format!("nothing within {:?}", self.timeout) })
            }
            Err(_) => Err(unavailable(format!("nothing within {:?}", self.timeout))),
        }
    }
}

/// Reads all rows, and puts what the server read for them on the account of whoever asked.
async fn metered<T: RowOwned + RowRead>(query: Query) -> Result<Vec<T>, Error> {
    // The server tells how much it read before its answer: with this setting it answers when it is done.
    let mut cursor = query.with_setting("wait_end_of_query", "1").fetch::<T>()?;
    let mut rows = Vec::new();
    while let Some(row) = cursor.next().await? {
        rows.push(row);
    }
    let read = cursor.summary().and_then(|summary| summary.read_rows());
    meter::charge(read.unwrap_or(u64::try_from(rows.len()).unwrap_or(u64::MAX)));
    Ok(rows)
}

/// A value that this build does not write.
pub(super) fn broken(problem: impl Into<String>) -> StoreError {
    StoreError::Broken { store: STORE, problem: problem.into() }
}

fn unavailable(problem: String) -> StoreError {
    StoreError::Unavailable { store: STORE, problem }
}

fn classify(error: &Error, rows_max: u64) -> StoreError {
    match error {
        Error::Network(_) | Error::TimedOut => unavailable(error.to_string()),
        Error::BadResponse(text) => match exception_code(text) {
            Some(code) if TOO_MUCH.contains(&code) => StoreError::TooMuch { rows_max },
            Some(code) if !PASSING.contains(&code) => broken(text.as_str()),
            // A proxy in between, or a server that is starting.
            _ => unavailable(text.clone()),
        },
        other => broken(other.to_string()),
    }
}

fn is_over_limit(text: &str) -> bool {
    exception_code(text).is_some_and(|code| OVER_LIMIT.contains(&code))
}

fn exception_code(text: &str) -> Option<u32> {
    let digits = text.split_once("Code: ")?.1;
    digits[..digits.find(|c: char| !c.is_ascii_digit())?].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_told_apart() {
        let error = |text: &str| classify(&Error::BadResponse(text.to_owned()), 7);
        assert!(matches!(error("Code: 396. DB::Exception: Limit"), StoreError::TooMuch { rows_max: 7 }));
        assert!(matches!(error("Code: 60. DB::Exception: no table"), StoreError::Unavailable { .. }));
        assert!(matches!(error("Code: 62. DB::Exception: Syntax error"), StoreError::Broken { .. }));
        assert!(matches!(error("502 Bad Gateway"), StoreError::Unavailable { .. }));
    }
}
