//! Where the stores are. Plain addresses: which client is used to reach them is each layer's own business.

use std::fmt;

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
    /// How an `s3://` address is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3>,
}

/// S3-compatible storage. It has to honour conditional puts (`If-None-Match: *`), which decide between two writers.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3 {
    /// `https://host:port`; Amazon's own if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The region.
    pub region: String,
    /// The name of the key; the machine's own role if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// The key. Better given by the variable `RECKON_LAKE__S3__SECRET_ACCESS_KEY`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<String>,
    /// Whether the endpoint may be plain `http://`.
    pub allow_http: bool,
    /// How long one request may take, such as `30s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
}

impl Default for S3 {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: "us-east-1".to_owned(),
            access_key_id: None,
            secret_access_key: None,
            allow_http: false,
            timeout: None,
        }
    }
}

impl fmt::Debug for S3 {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, region, access_key_id, .. } = self;
        write!(f, "S3({endpoint:?}, {region}, key {access_key_id:?})")
    }
}

impl Lake {
    /// A store that needs nothing but its address.
    #[must_use]
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: url.into(), s3: None }
    }

    /// Everything but the address, as pairs of names and values that clients of object stores know.
    #[must_use]
    pub fn options(&self) -> Vec<(&'static str, String)> {
        let Some(s3) = &self.s3 else { return Vec::new() };
        let mut options = vec![("aws_region", s3.region.clone()), ("aws_allow_http", s3.allow_http.to_string())];
        for (name, value) in [
            ("aws_endpoint", &s3.endpoint),
            ("aws_access_key_id", &s3.access_key_id),
            ("aws_secret_access_key", &s3.secret_access_key),
            ("timeout", &s3.timeout),
        ] {
            options.extend(value.clone().map(|value| (name, value)));
        }
        options
    }
}

impl Default for Lake {
    fn default() -> Self {
        Self::at("file:///var/lib/reckon")
    }
}
