//! The index's files in the object store, below `index/<tenant>/`.

use std::ops::Range;
use std::sync::Arc;

use reckon_schemas::ids::TenantId;

use super::super::reading::Reading;
use super::IndexError;
use crate::objects::{ObjectError, Objects};

/// See the module.
#[derive(Debug)]
pub(super) struct Files {
    objects: Objects,
    folder: String,
    reading: Arc<Reading>,
}

impl Files {
    pub(super) fn new(objects: &Objects, tenant: &TenantId, reading: &Arc<Reading>) -> Self {
        Self { objects: objects.clone(), folder: format!("index/{tenant}"), reading: Arc::clone(reading) }
    }

    /// The numbers of the states that are there, in order.
    pub(super) async fn states(&self) -> Result<Vec<u64>, IndexError> {
        Ok(self.objects.numbered(&self.folder).await?)
    }

    /// Writes a file that nobody else has written yet.
    pub(super) async fn create(&self, name: &str, content: Vec<u8>) -> Result<(), IndexError> {
        let created = self.objects.create(&self.path(name), content).await?;
        if created { Ok(()) } else { Err(self.unusable(name, "somebody else wrote it")) }
    }

    pub(super) async fn write(&self, name: &str, content: Vec<u8>) -> Result<(), IndexError> {
        Ok(self.objects.write(&self.path(name), content).await?)
    }

    /// A whole file; none if there is none.
    pub(super) async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, IndexError> {
        let read = self.objects.read(&self.path(name)).await?;
        self.reading.add_index_bytes(read.as_ref().map_or(0, |bytes| bytes.len() as u64));
        Ok(read)
    }

    /// Parts of a file that has to be there.
    pub(super) async fn read_parts(&self, name: &str, parts: &[Range<u64>]) -> Result<Vec<Vec<u8>>, IndexError> {
        let read = self.objects.read_parts(&self.path(name), parts).await?;
        let read = read.ok_or_else(|| self.unusable(name, "it is missing"))?;
        self.reading.add_index_bytes(read.iter().map(|part| part.len() as u64).sum());
        Ok(read)
    }

    /// Removes every file but those that are still needed.
    pub(super) async fn keep_only(&self, is_needed: impl Fn(&str) -> bool) -> Result<(), IndexError> {
        for name in self.objects.names(&self.folder).await? {
            if !is_needed(&name) {
                self.objects.remove(&self.path(&name)).await?;
            }
        }
        Ok(())
    }

    pub(super) fn unusable(&self, name: &str, why: &str) -> IndexError {
        IndexError::Unusable(format!("{}: {why}", self.path(name)))
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }
}

impl From<ObjectError> for IndexError {
    fn from(error: ObjectError) -> Self {
        Self::Unusable(error.to_string())
    }
}
