//! Where the stores are. Plain addresses: which client is used to reach them is each layer's own business.

use serde::{Deserialize, Serialize};

use crate::kafka::Topics;

/// The log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kafka {
    /// Bootstrap addresses, `host:port`, separated by commas.
    pub brokers: String,
    /// The topics' names.
    pub topics: Topics,
}

impl Default for Kafka {
    fn default() -> Self {
        Self { brokers: "127.0.0.1:9092".to_owned(), topics: Topics::default() }
    }
}

/// The store of fresh cells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    /// `redis://host:port/database`.
    pub url: String,
}

impl Default for Redis {
    fn default() -> Self {
        Self { url: "redis://127.0.0.1:6379/0".to_owned() }
    }
}

/// The store of cells, drift and settlements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClickHouse {
    /// `http://host:port` of the HTTP interface.
    pub url: String,
    /// The database that holds the tables; made if it does not exist.
    pub database: String,
    /// The user, if not the default one.
    pub user: Option<String>,
    /// The password, if there is one.
    pub password: Option<String>,
}

impl Default for ClickHouse {
    fn default() -> Self {
        Self { url: "http://127.0.0.1:8123".to_owned(), database: "reckon".to_owned(), user: None, password: None }
    }
}

/// The object store: the lake lies under `lake/`, the speed layer's snapshots under `snapshots/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lake {
    /// `file:///path` or `s3://bucket/prefix`.
    pub url: String,
}

impl Default for Lake {
    fn default() -> Self {
        Self { url: "file:///var/lib/reckon".to_owned() }
    }
}
