//! How a job of the batch layer can fail, by what the caller can do about it.

use reckon_schemas::catalog::UnknownTenant;
use reckon_schemas::sums::SumOverflow;

use crate::lake::LakeError;
use crate::lock::LockError;
use crate::objects::ObjectError;
use crate::recount::RecountError;
use crate::settle::StoreError;

/// Why nothing, or not everything, was done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for is not final yet: ask again later.
    #[error("{0}")]
    NotYetFinal(String),
    /// A server was away, or the job was asked to stop: try again.
    #[error("{0}")]
    Retryable(String),
    /// The request or the configuration names what does not exist: correct it.
    #[error("{0}")]
    Config(String),
    /// What the lake holds could not be read: try again, unless it is damaged.
    #[error("{0}")]
    Unreadable(String),
    /// A file of the lake is not as it was written: it has to be brought back first.
    #[error("{0}")]
    Damaged(String),
    /// Something is stored that cannot be right: a person must look at it.
    #[error("{0}")]
    Broken(String),
}

impl From<LakeError> for Error {
    fn from(error: LakeError) -> Self {
        match error {
            LakeError::Location { .. } => Self::Config(error.to_string()),
            LakeError::Unavailable { .. } | LakeError::Conflict { .. } => Self::Retryable(error.to_string()),
            LakeError::DamagedFile { .. } => Self::Damaged(error.to_string()),
            LakeError::Incompatible { .. } | LakeError::Damaged { .. } => Self::Broken(error.to_string()),
        }
    }
}

impl From<RecountError> for Error {
    fn from(error: RecountError) -> Self {
        match error {
            RecountError::Unreadable(_) => Self::Unreadable(error.to_string()),
            RecountError::Disk(_) => Self::Retryable(error.to_string()),
            RecountError::Damaged(_) | RecountError::Overflow(_) => Self::Broken(error.to_string()),
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { .. } | StoreError::Moving(_) => Self::Retryable(error.to_string()),
            StoreError::Incompatible(_) => Self::Broken(error.to_string()),
        }
    }
}

impl From<ObjectError> for Error {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::Location { .. } => Self::Config(error.to_string()),
            ObjectError::Unavailable { .. } => Self::Retryable(error.to_string()),
        }
    }
}

impl From<LockError> for Error {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Held { .. } => Self::Retryable(error.to_string()),
            LockError::Object(error) => error.into(),
        }
    }
}

impl From<UnknownTenant> for Error {
    fn from(error: UnknownTenant) -> Self {
        Self::Config(error.to_string())
    }
}

impl From<SumOverflow> for Error {
    fn from(error: SumOverflow) -> Self {
        Self::Broken(error.to_string())
    }
}
