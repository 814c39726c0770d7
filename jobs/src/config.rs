//! The configuration: a TOML file, overridden by the environment, every unknown key refused by name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use reckon_schemas::catalog::Catalog;
use reckon_schemas::stores::{ClickHouse, Kafka, Lake, Redis};
use serde::{Deserialize, Serialize};

/// Everything that can be configured. Each part owns its section.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// The catalog's file; a relative path is taken from the configuration file's folder.
    pub(crate) catalog: PathBuf,
    pub(crate) kafka: Kafka,
    pub(crate) redis: Redis,
    pub(crate) clickhouse: ClickHouse,
    pub(crate) lake: Lake,
    pub(crate) listen: Listen,
    pub(crate) collect: reckon_speed::collect::Tuning,
    pub(crate) speed: reckon_speed::worker::Tuning,
    pub(crate) raw: reckon_speed::raw::Tuning,
    pub(crate) archive: reckon_batch::archive::Tuning,
    pub(crate) nightly: reckon_batch::nightly::Tuning,
    pub(crate) expire: crate::upkeep::Retention,
    pub(crate) lineage: crate::lineage::Lineage,
    pub(crate) accounts: reckon_serving::accounts::Tuning,
    pub(crate) serve: reckon_serving::Tuning,
}

/// The addresses that are listened on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Listen {
    /// The collector.
    pub(crate) collect: std::net::SocketAddr,
    /// Queries and the page.
    pub(crate) serve: std::net::SocketAddr,
    /// Prometheus metrics at `/metrics`, not for the public; none if absent.
    pub(crate) metrics: Option<std::net::SocketAddr>,
}

impl Default for Listen {
    fn default() -> Self {
        Self { collect: ([127, 0, 0, 1], 7700).into(), serve: ([127, 0, 0, 1], 7701).into(), metrics: None }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            catalog: "catalog.toml".into(),
            kafka: Kafka::default(),
            redis: Redis::default(),
            clickhouse: ClickHouse::default(),
            lake: Lake::default(),
            listen: Listen::default(),
            collect: Default::default(),
            speed: Default::default(),
            raw: Default::default(),
            archive: Default::default(),
            nightly: Default::default(),
            expire: Default::default(),
            lineage: Default::default(),
            accounts: Default::default(),
            serve: Default::default(),
        }
    }
}

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// A key is unknown or has a wrong value; the text names the key and where it was set.
    #[error("configuration: {0}")]
    Rejected(String),
    /// A file that was named cannot be read.
    #[error("cannot read {path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The configuration store's address is not one.
    #[error("configuration: {0}")]
    Accounts(#[from] reckon_serving::accounts::Error),
    /// The catalog is not valid.
    #[error("catalog {path}: {error}")]
    Catalog {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        error: String,
    },
}

/// Variables that begin with `RECKON_` and are not configuration keys.
const OTHER_VARIABLES: &[&str] =
    &["RECKON_LOG", "RECKON_CONFIG", "RECKON_CACHE", "RECKON_WRITE_KEY", "RECKON_TEST_STACK"];

impl Settings {
    /// Reads the file (if one is given) and the environment: `RECKON_KAFKA__BROKERS` sets `brokers` in `[kafka]`,
    /// `RECKON_SPEED__FLUSH_INTERVAL` sets `flush_interval` in `[speed]`.
    ///
    /// # Errors
    /// [`ConfigError`] that names the key.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        refuse_unknown_variables()?;
        let mut figment = Figment::from(Serialized::defaults(Settings::default()));
        if let Some(path) = file {
            std::fs::metadata(path).map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
            figment = figment.merge(Toml::file_exact(path));
        }
        figment = figment.merge(Env::prefixed("RECKON_").filter(|key| is_setting(key.as_str())).split("__"));
        let mut settings: Settings =
            figment.extract().map_err(|error| ConfigError::Rejected(error.to_string().replace("default.", "")))?;
        if let (true, Some(folder)) = (settings.catalog.is_relative(), file.and_then(Path::parent)) {
            settings.catalog = folder.join(&settings.catalog);
        }
        Ok(settings)
    }

    /// Reads and checks the catalog.
    ///
    /// # Errors
    /// [`ConfigError`] that says where it is wrong.
    pub(crate) fn read_catalog(&self) -> Result<Arc<Catalog>, ConfigError> {
        let path = &self.catalog;
        let text =
            std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable { path: path.clone(), error })?;
        Ok(Arc::new(parse_catalog(path, &text)?))
    }
}

/// The catalog that a text is, checked; `path` is where it is from.
///
/// # Errors
/// [`ConfigError::Catalog`].
pub(crate) fn parse_catalog(path: &Path, text: &str) -> Result<Catalog, ConfigError> {
    let wrong = |error: String| ConfigError::Catalog { path: path.to_owned(), error };
    let catalog: Catalog = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
    catalog.check().map_err(|error| wrong(error.to_string()))?;
    Ok(catalog)
}

fn is_setting(key: &str) -> bool {
    key.contains("__") || key.eq_ignore_ascii_case("catalog")
}

/// `RECKON_KAFKA_BROKERS`, with one underscore, would be overlooked in silence; better to say so.
fn refuse_unknown_variables() -> Result<(), ConfigError> {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if let Some(key) = name.strip_prefix("RECKON_")
            && !is_setting(key)
            && !OTHER_VARIABLES.contains(&name.as_ref())
        {
            return Err(ConfigError::Rejected(format!(
                "unknown variable {name}: a key is written RECKON_<SECTION>__<KEY>, with two underscores"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Settings, ConfigError> {
        let file = std::env::temp_dir().join(format!("reckon-config-{}.toml", uuid::Uuid::now_v7()));
        std::fs::write(&file, text).expect("writable");
        let loaded = Settings::load(Some(&file));
        std::fs::remove_file(&file).expect("it was just written");
        loaded
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = load("[kafka]\nbrokrs = 'x'").expect_err("a typo").to_string();
        assert!(error.contains("brokrs") && error.contains("brokers"), "{error}");
        let error = load("colect = 1").expect_err("a typo").to_string();
        assert!(error.contains("colect"), "{error}");
    }

    #[test]
    fn a_wrong_value_names_its_key() {
        let error = load("[listen]\nserve = 'nowhere'").expect_err("no address").to_string();
        assert!(error.contains("listen.serve"), "{error}");
    }

    #[test]
    fn sections_override_defaults_and_the_catalog_is_beside_the_file() {
        let settings = load("[kafka]\nbrokers = 'a:1'\n[kafka.topics]\nevents = 'e'").expect("valid");
        assert_eq!(settings.kafka.brokers, "a:1");
        assert_eq!(settings.kafka.topics.rejected, "events.rejected");
        assert_eq!(settings.catalog, std::env::temp_dir().join("catalog.toml"));
    }
}
