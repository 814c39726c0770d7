//! The section `collect` of the configuration.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Bounds of the collector, and where it learns about clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tuning {
    /// The largest body of `POST /v1/events` as it is sent, in bytes.
    pub body_bytes_max: usize,
    /// The largest body after decompression, in bytes.
    pub decompressed_bytes_max: usize,
    /// The most events in one request.
    pub events_per_request_max: u32,
    /// How much memory the bodies that are being received may take together, in bytes.
    pub body_memory_bytes_max: usize,
    /// The most connections at a time; the next ones are closed at once.
    pub connections_max: usize,
    /// How long a connection may take to send a request's head, and so also how long it may be idle.
    #[serde(with = "humantime_serde")]
    pub header_read_timeout: Duration,
    /// How long a request may take to send its body.
    #[serde(with = "humantime_serde")]
    pub body_read_timeout: Duration,
    /// After this time a connection is closed when its requests have ended; clients connect again.
    #[serde(with = "humantime_serde")]
    pub connection_age_max: Duration,
    /// How long the log may take to acknowledge before the client is told to try again.
    #[serde(with = "humantime_serde")]
    pub delivery_timeout: Duration,
    /// How long messages wait for others to share a request to the log with.
    #[serde(with = "humantime_serde")]
    pub linger: Duration,
    /// The most messages that wait for the log's acknowledgement; beyond it clients are told to come back.
    pub queue_messages_max: u32,
    /// How much memory these messages may take, in bytes.
    pub queue_bytes_max: usize,
    /// How often the log is asked whether it is there.
    #[serde(with = "humantime_serde")]
    pub probe_interval: Duration,
    /// The origins whose pages may send events, e.g. `https://shop.example`; `*` for all. None by default: browsers ask
    /// before they send, and are refused.
    pub cors_origins: Vec<String>,
    /// A header in which a proxy gives the client's country, e.g. `cf-ipcountry`. Only for a proxy that always sets it.
    pub country_header: Option<String>,
    /// A MaxMind file (`.mmdb`) of countries or cities, to look the client's address up in.
    pub geoip_file: Option<PathBuf>,
    /// A header in which a proxy gives the client's address, e.g. `x-forwarded-for`, of which the last entry is taken:
    /// the one that the nearest proxy wrote. Without it, the connection's own address is looked up.
    pub client_address_header: Option<String>,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            body_bytes_max: 4 << 20,
            decompressed_bytes_max: 16 << 20,
            events_per_request_max: 5_000,
            body_memory_bytes_max: 256 << 20,
            connections_max: 4_096,
            header_read_timeout: Duration::from_secs(30),
            body_read_timeout: Duration::from_secs(15),
            connection_age_max: Duration::from_secs(300),
            delivery_timeout: Duration::from_secs(20),
            linger: Duration::from_millis(5),
            queue_messages_max: 100_000,
            queue_bytes_max: 128 << 20,
            probe_interval: Duration::from_secs(2),
            cors_origins: Vec::new(),
            country_header: None,
            geoip_file: None,
            client_address_header: None,
        }
    }
}
