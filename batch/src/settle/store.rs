//! The connection.

use std::time::Duration;

use clickhouse::insert::Insert;
use clickhouse::{Client, Row, RowOwned, RowRead};
use reckon_schemas::stores;

use super::StoreError;

/// No single answer takes longer.
const READ_TIMEOUT: Duration = Duration::from_secs(300);
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// The end of an insert waits until the server has written all of it.
const END_TIMEOUT: Duration = Duration::from_secs(300);

/// A handle to the database of cells, drift and settlements.
#[derive(Clone)]
pub(crate) struct Store {
    client: Client,
}

impl Store {
    /// A handle; nothing is sent yet.
    pub(crate) fn new(clickhouse: &stores::ClickHouse) -> Self {
        let mut client = Client::default().with_url(&clickhouse.url).with_database(&clickhouse.database);
        if let Some(user) = &clickhouse.user {
            client = client.with_user(user);
        }
        if let Some(password) = &clickhouse.password {
            client = client.with_password(password);
        }
        // Acknowledged means written; and a year's days, or ten years', are one insert.
        let client = client.with_setting("async_insert", "0").with_setting("max_partitions_per_insert_block", "0");
        Self { client }
    }

    pub(super) fn query(&self, sql: &str) -> clickhouse::query::Query {
        self.client.query(sql)
    }

    /// Reads all rows of an answer, handing over one by one.
    pub(super) async fn read<T: RowOwned + RowRead>(
        &self,
        doing: &'static str,
        query: clickhouse::query::Query,
        mut receive: impl FnMut(T) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let reading = async {
            let mut rows = query.fetch::<T>().map_err(|error| unavailable(doing, &error))?;
            while let Some(row) = rows.next().await.map_err(|error| unavailable(doing, &error))? {
                receive(row)?;
            }
            Ok(())
        };
        let too_long = || StoreError::Unavailable { doing, reason: format!("no answer within {READ_TIMEOUT:?}") };
        tokio::time::timeout(READ_TIMEOUT, reading).await.map_err(|_| too_long())?
    }

    pub(super) async fn insert<T: Row>(&self, doing: &'static str, table: &str) -> Result<Insert<T>, StoreError> {
        let insert = self.client.insert(table).await.map_err(|error| unavailable(doing, &error))?;
        Ok(insert.with_timeouts(Some(SEND_TIMEOUT), Some(END_TIMEOUT)))
    }
}

pub(super) fn unavailable(doing: &'static str, error: &clickhouse::error::Error) -> StoreError {
    use clickhouse::error::Error;
    match error {
        Error::SchemaMismatch(text) => StoreError::Incompatible(text.clone()),
        error => StoreError::Unavailable { doing, reason: error.to_string() },
    }
}
