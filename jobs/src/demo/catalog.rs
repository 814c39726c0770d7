//! The demo's tenant: a grocer in New York.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use reckon_schemas::access::Scope;
use reckon_schemas::catalog::{Catalog, Metric, Tenant};
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
    let tenant = Tenant {
        rollups: vec!["department".parse()?, "store".parse()?],
        metrics: vec![
            Metric::money("revenue", "purchase", "USD".parse()?),
            Metric::count("purchases", "purchase"),
            Metric::users("households", "purchase"),
        ],
        keys: vec![write.entry, read.entry],
        ..Tenant::new(TENANT.parse()?, Zone::parse(TIME_ZONE)?)
    };
    let catalog = Catalog { tenants: vec![tenant] };
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join("catalog.toml");
    std::fs::write(&path, toml::to_string(&catalog)?).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Keys { catalog: path, write_key: write.key, read_key: read.key })
}
