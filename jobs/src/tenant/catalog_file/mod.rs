//! The catalog's file, changed by a command: whole or not at all, one command at a time, and what people wrote stays.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use reckon_schemas::catalog::{Catalog, Tenant};
use toml_edit::{ArrayOfTables, DocumentMut, Item};

use super::definition::Definition;
use crate::config::{ConfigError, parse_catalog};
use crate::exit::Exit;

/// The catalog as it stands in its file, which no other command changes as long as this lives.
pub(crate) struct CatalogFile {
    path: PathBuf,
    text: String,
    pub(crate) catalog: Catalog,
    /// Who finds what they wanted needs no file that can be changed.
    held: io::Result<File>,
}

impl CatalogFile {
    /// Waits until no other command changes the file, and reads it.
    ///
    /// # Errors
    /// If it cannot be read, or is not valid.
    pub(crate) fn open(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |error| ConfigError::Unreadable { path: path.to_owned(), error };
        // Not the link is replaced, but what it points to.
        let path = fs::canonicalize(path).map_err(unreadable)?;
        let held = hold(&path);
        let text = fs::read_to_string(&path).map_err(unreadable)?;
        let catalog = parse_catalog(&path, &text)?;
        Ok(Self { path, text, catalog, held })
    }

    /// What the file would be with one more tenant, checked as every part checks it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn with(&self, tenant: &Tenant) -> Result<String, ConfigError> {
        let wrong = |error: String| ConfigError::Catalog { path: self.path.clone(), error };
        let text = appended(&self.text, tenant).map_err(wrong)?;
        let mut expected = self.catalog.clone();
        expected.tenants.push(tenant.clone());
        if parse_catalog(&self.path, &text)? != expected {
            return Err(wrong(format!("{} cannot be added without changing what is there: add it by hand", tenant.id)));
        }
        Ok(text)
    }

    /// Puts another text in the file's place. Who reads meanwhile reads the one or the other.
    ///
    /// # Errors
    /// If it cannot be written; the file is as it was.
    pub(crate) fn replace(&self, text: &str) -> Result<(), Exit> {
        let written = match &self.held {
            Ok(held) => replace(&self.path, held, text),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        written.map_err(|error| self.unchanged(error))
    }

    fn unchanged(&self, error: io::Error) -> Exit {
        use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, ResourceBusy};
        match error.kind() {
            // A single file that is mounted into a container is busy when it is replaced.
            PermissionDenied | ReadOnlyFilesystem | ResourceBusy => Exit::Config(ConfigError::Catalog {
                path: self.path.clone(),
                error: format!(
                    "it is read-only here ({error}); nothing was changed. If it comes from elsewhere, as from a \
                     ConfigMap in Kubernetes, add the tenant there: `--print` prints the piece to be added. If not, \
                     run this as who owns the file and may write into its folder"
                ),
            }),
            _ => Exit::Failed(
                anyhow::Error::from(error)
                    .context(format!("catalog {}: it could not be replaced; nothing was changed", self.path.display())),
            ),
        }
    }
}

/// The file, locked. The lock ends with it, whatever becomes of this process.
fn hold(path: &Path) -> io::Result<File> {
    loop {
        let file = File::options().read(true).write(true).open(path)?;
        // Only said for those who may write everything.
        if file.metadata()?.permissions().readonly() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        file.lock()?;
        // Who held it before may have put another file in its place.
        let (held, there) = (file.metadata()?, fs::metadata(path)?);
        if (held.dev(), held.ino()) == (there.dev(), there.ino()) {
            return Ok(file);
        }
    }
}

fn replace(path: &Path, old: &File, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut new = tempfile::Builder::new().prefix(".catalog-").tempfile_in(folder)?;
    new.write_all(text.as_bytes())?;
    // Whoever could read the one can read the other.
    let old = old.metadata()?;
    fchown(new.as_file(), Some(old.uid()), Some(old.gid()))?;
    new.as_file().set_permissions(old.permissions())?;
    new.as_file().sync_all()?;
    new.persist(path)?;
    if let Err(error) = File::open(folder).and_then(|folder| folder.sync_all()) {
        tracing::warn!(%error, "the new catalog is in its place, and could be lost if the power fails now");
    }
    Ok(())
}

/// The text with one more tenant at its end.
fn appended(text: &str, tenant: &Tenant) -> Result<String, String> {
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| error.to_string())?;
    let mut before = String::new();
    if let Some((key, Item::Value(value))) = document.get_key_value("tenants") {
        if !value.as_array().is_some_and(|none| none.is_empty()) {
            return Err("its tenants are a list in brackets, which cannot be added to: write each below a line \
                        [[tenants]]"
                .to_owned());
        }
        before += key.leaf_decor().prefix().and_then(|comment| comment.as_str()).unwrap_or_default();
        document.remove("tenants");
    }
    // Comments at the end of the file belong to what is above them.
    before += document.trailing().as_str().unwrap_or_default();
    document.set_trailing("");
    if !before.is_empty() && !before.ends_with('\n') {
        before.push('\n');
    }
    let mut table = Definition::of(tenant).table().map_err(|error| error.to_string())?;
    table.decor_mut().set_prefix(before + "\n");
    let tenants = document.entry("tenants").or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
    tenants.as_array_of_tables_mut().ok_or("`tenants` is no list of tables")?.push(table);
    Ok(document.to_string())
}

#[cfg(test)]
mod tests;
