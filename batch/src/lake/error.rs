//! What can be wrong with the lake, by what the caller can do about it.

use deltalake::DeltaTableError;
use deltalake::kernel::transaction::TransactionError;

/// Why the lake did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The URL names no store that this build can use: correct the configuration.
    #[error("lake.url {url:?} cannot be used: {reason}")]
    Location {
        /// The URL as configured.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store did not answer, or not well: try again later.
    #[error("the lake table {table} is unavailable: {reason}")]
    Unavailable {
        /// The table.
        table: String,
        /// What the store said.
        reason: String,
    },
    /// Somebody else wrote to the table at the same time: load it again and look.
    #[error("another writer changed the lake table {table}: {reason}")]
    Conflict {
        /// The table.
        table: String,
        /// What collided.
        reason: String,
    },
    /// The table is not one that this build can work with: a person must look at it.
    #[error("the lake table {table} does not fit this build: {reason}")]
    Incompatible {
        /// The table.
        table: &'static str,
        /// What does not fit.
        reason: String,
    },
    /// A file of the table is not as it was written. Nothing may be counted from it.
    #[error(
        "the file {file} of the lake table {table} is not as it was written: {reason}. Nothing is counted from it. \
         `reckon archive --again {file}` writes its records anew from the log, if the log still has them; what a backup \
         has must be byte by byte what was written"
    )]
    DamagedFile {
        /// The table.
        table: String,
        /// The file, below the table.
        file: String,
        /// How it is known.
        reason: String,
    },
    /// The table's log cannot be read: a person must look at it.
    #[error("the log of the lake table {table} is damaged: {reason}")]
    Damaged {
        /// The table.
        table: String,
        /// What cannot be read.
        reason: String,
    },
}

impl LakeError {
    /// Whether trying the same again later can help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Conflict { .. })
    }

    pub(crate) fn of(table: &str, error: DeltaTableError) -> Self {
        let table = table.to_owned();
        let reason = error.to_string();
        match error {
            DeltaTableError::VersionAlreadyExists(_)
            | DeltaTableError::Transaction {
                source:
                    TransactionError::CommitConflict(_)
                    | TransactionError::MaxCommitAttempts(_)
                    | TransactionError::VersionAlreadyExists(_),
            } => Self::Conflict { table, reason },
            DeltaTableError::InvalidJsonLog { .. }
            | DeltaTableError::InvalidStatsJson { .. }
            | DeltaTableError::InvalidData { .. }
            | DeltaTableError::SchemaMismatch { .. }
            | DeltaTableError::MetadataError(_)
            | DeltaTableError::Transaction {
                source: TransactionError::UnsupportedTableFeatures(_) | TransactionError::TableFeaturesRequired(_),
            } => Self::Damaged { table, reason },
            // Most of what remains is the store's doing, and what is not shows in the log as long as it lasts.
            _ => Self::Unavailable { table, reason },
        }
    }
}
