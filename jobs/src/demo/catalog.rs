//! The demo's tenant: a grocer in New York.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use reckon_schemas::access::Scope;
use reckon_schemas::catalog::{Catalog, Measure, Metric, Tenant};
use reckon_schemas::time::Zone;

use super::dataset::TIME_ZONE;
use crate::keys;

/// The tenant's name.
pub(crate) const TENANT: &str = "grocer";

/// The demo's keys, shown to the person who runs it.
pub(crate) struct Keys {
    pub(crate) catalog: PathBuf,
    pub(crate) write_key: String,
    pub(crate) read_key: String,
}

/// Writes a catalog with fresh keys into a folder.
pub(crate) fn write(folder: &Path) -> Result<Keys> {
    let write = keys::generate(vec![Scope::Write])?;
    let read = keys::generate(vec![Scope::Read, Scope::Finance])?;
    let metric = |name: &str, measure: Measure| -> Result<Metric> {
        let currency = if measure == Measure::Money { Some("USD".parse()?) } else { None };
        Ok(Metric {
            name: name.to_owned(),
            event: "purchase".to_owned(),
            measure,
            currency,
            property: None,
            limit: None,
        })
    };
    let catalog = Catalog {
        tenants: vec![Tenant {
            id: TENANT.parse()?,
            time_zone: Zone::parse(TIME_ZONE)?,
            rollups: vec!["department".parse()?, "store".parse()?],
            metrics: vec![
                metric("revenue", Measure::Money)?,
                metric("purchases", Measure::Count)?,
                metric("households", Measure::Users)?,
            ],
            keys: vec![write.entry, read.entry],
            dimension_values_max: Tenant::DIMENSION_VALUES_MAX,
            events_per_second_max: None,
        }],
    };
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join("catalog.toml");
    std::fs::write(&path, toml::to_string(&catalog)?).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Keys { catalog: path, write_key: write.key, read_key: read.key })
}
