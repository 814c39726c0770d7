//! The section `accounts` of the configuration.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where accounts are kept, and how long what lasts.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tuning {
    /// `sqlite:///path/accounts.db` or `postgres://user:password@host/database`. `accounts.db` beside the lake if absent.
    /// Parts on several machines need PostgreSQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The most connections to the store.
    pub connections_max: u32,
    /// The time limit of one request to the store, waiting for a connection included.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// How often it is asked whether keys or quotas changed: a key that is revoked on one node is refused everywhere
    /// after this time.
    #[serde(with = "humantime_serde")]
    pub refresh: Duration,
    /// While the store is away, the keys that were known go on working for this time; then only the catalog's do.
    #[serde(with = "humantime_serde")]
    pub keys_kept: Duration,
    /// A session ends when nothing was asked in it for this time,
    #[serde(with = "humantime_serde")]
    pub session_idle: Duration,
    /// and in any case after this one.
    #[serde(with = "humantime_serde")]
    pub session_age_max: Duration,
    /// Whether session cookies are sent over HTTPS only. Browsers make an exception for `localhost`.
    pub secure_cookies: bool,
    /// A header in which a proxy gives the client's address, of which the last entry is taken; only for a proxy that
    /// always sets it. Without it the connection's own address is what attempts to sign in are counted by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_address_header: Option<String>,
    /// The sign-in by an OpenID provider, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oidc: Option<Oidc>,
}

/// An OpenID provider.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    /// What the page calls it.
    pub name: String,
    /// Its issuer URL; `/.well-known/openid-configuration` below it describes it.
    pub issuer: String,
    /// What it knows this installation by.
    pub client_id: String,
    /// The secret that goes with it. Better given by the variable `RECKON_ACCOUNTS__OIDC__CLIENT_SECRET`.
    pub client_secret: String,
    /// Where it sends people back to: this node's public address and `/v1/session/oidc/callback`.
    pub redirect_url: String,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            url: None,
            connections_max: 8,
            timeout: Duration::from_secs(3),
            refresh: Duration::from_secs(1),
            keys_kept: Duration::from_secs(15 * 60),
            session_idle: Duration::from_secs(2 * 3600),
            session_age_max: Duration::from_secs(24 * 3600),
            secure_cookies: true,
            client_address_header: None,
            oidc: None,
        }
    }
}

impl fmt::Debug for Tuning {
    /// Without the address, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tuning").field("refresh", &self.refresh).field("oidc", &self.oidc).finish_non_exhaustive()
    }
}

impl fmt::Debug for Oidc {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oidc").field("issuer", &self.issuer).field("client_id", &self.client_id).finish_non_exhaustive()
    }
}
