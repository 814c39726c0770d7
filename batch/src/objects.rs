//! Small files beside the lake, in the same object store: locks and run manifests.
//!
//! Only two ways of writing are used: creating what must not exist yet, which every store does atomically, and
//! overwriting what has a single writer. So a folder serves as well as S3.

use std::ops::Range;
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use reckon_schemas::stores;

/// Why the store did not do as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObjectError {
    /// The URL names no store that this build can use: correct the configuration.
    #[error("lake.url {url:?} cannot be used: {reason}")]
    Location {
        /// The URL as configured.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store did not answer, or not well: try again later.
    #[error("the object store could not {doing} {path}: {reason}")]
    Unavailable {
        /// What was tried.
        doing: &'static str,
        /// Of what.
        path: String,
        /// What it said.
        reason: String,
    },
}

/// The files below the lake's URL.
#[derive(Clone, Debug)]
pub(crate) struct Objects {
    store: Arc<dyn ObjectStore>,
    root: Path,
}

impl Objects {
    /// # Errors
    /// [`ObjectError::Location`].
    pub(crate) fn open(lake: &stores::Lake) -> Result<Self, ObjectError> {
        let wrong = |reason: String| ObjectError::Location { url: lake.url.clone(), reason };
        let url = lake.url.parse().map_err(|error| wrong(format!("{error}")))?;
        let (store, root) =
            object_store::parse_url_opts(&url, lake.options()).map_err(|error| wrong(error.to_string()))?;
        Ok(Self { store: store.into(), root })
    }

    /// Writes a file that must not exist yet; false if it does.
    pub(crate) async fn create(&self, path: &str, content: Vec<u8>) -> Result<bool, ObjectError> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&self.at(path), content.into(), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(unavailable("create", path, &error)),
        }
    }

    /// Writes a file of which the caller is the only writer.
    pub(crate) async fn write(&self, path: &str, content: Vec<u8>) -> Result<(), ObjectError> {
        let written = self.store.put(&self.at(path), content.into()).await;
        written.map(|_| ()).map_err(|error| unavailable("write", path, &error))
    }

    /// The content of a file; `None` if there is none.
    pub(crate) async fn read(&self, path: &str) -> Result<Option<Vec<u8>>, ObjectError> {
        let got = match self.store.get(&self.at(path)).await {
            Ok(got) => got,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(unavailable("read", path, &error)),
        };
        let bytes = got.bytes().await.map_err(|error| unavailable("read", path, &error))?;
        Ok(Some(bytes.to_vec()))
    }

    /// Parts of a file; `None` if there is none.
    pub(crate) async fn read_parts(
        &self,
        path: &str,
        parts: &[Range<u64>],
    ) -> Result<Option<Vec<Vec<u8>>>, ObjectError> {
        match self.store.get_ranges(&self.at(path), parts).await {
            Ok(read) => Ok(Some(read.iter().map(|part| part.to_vec()).collect())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(unavailable("read", path, &error)),
        }
    }

    /// The names of the files in a folder.
    pub(crate) async fn names(&self, folder: &str) -> Result<Vec<String>, ObjectError> {
        let listed = self.store.list(Some(&self.at(folder))).try_collect::<Vec<_>>().await;
        let listed = listed.map_err(|error| unavailable("list", folder, &error))?;
        Ok(listed.iter().filter_map(|object| object.location.filename().map(str::to_owned)).collect())
    }

    /// Removes a file, if it is there.
    pub(crate) async fn remove(&self, path: &str) -> Result<(), ObjectError> {
        match self.store.delete(&self.at(path)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(unavailable("remove", path, &error)),
        }
    }

    /// The numbers that name the files `<folder>/<20 digits>.json`, in order; other files are left out.
    pub(crate) async fn numbered(&self, folder: &str) -> Result<Vec<u64>, ObjectError> {
        let prefix = self.at(folder);
        let listed = self.store.list(Some(&prefix)).try_collect::<Vec<_>>().await;
        let listed = listed.map_err(|error| unavailable("list", folder, &error))?;
        let number = |path: &Path| path.filename()?.strip_suffix(".json")?.parse::<u64>().ok();
        let mut numbers: Vec<u64> = listed.iter().filter_map(|object| number(&object.location)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn at(&self, path: &str) -> Path {
        path.split('/').fold(self.root.clone(), |parent, part| parent.join(part))
    }
}

/// The path of a file that [`Objects::numbered`] finds.
pub(crate) fn numbered_path(folder: &str, number: u64) -> String {
    format!("{folder}/{number:020}.json")
}

fn unavailable(doing: &'static str, path: &str, error: &object_store::Error) -> ObjectError {
    ObjectError::Unavailable { doing, path: path.to_owned(), reason: error.to_string() }
}
