//! How a close or a reopening can end without being done.

use super::Checklist;

/// Why nothing was closed or opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something on the checklist is open: do it, or accept what can be accepted.
    #[error("the period cannot be closed: {}", .0.open_items())]
    Open(Box<Checklist>),
    /// There is nothing to do.
    #[error("{0}")]
    AlreadyClosed(String),
    /// A period cannot be opened while a later one is closed, or it is not closed at all.
    #[error("{0}")]
    NotReopenable(String),
    /// A server was away, or the request names what is not there.
    #[error(transparent)]
    Failed(crate::Error),
}

impl<E> From<E> for Error
where
    crate::Error: From<E>,
{
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}
