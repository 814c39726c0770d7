//! How a command ends: exit codes that a scheduler can act on.

use std::process::ExitCode;

use reckon_batch::{close, tie_out};
use reckon_schemas::catalog::UnknownTenant;
use reckon_serving::accounts;

use crate::config::ConfigError;

/// Every way to end that is not plain success (0). `reckon --help` lists the codes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Exit {
    /// 99: there was nothing to do. Airflow reads it as "skipped".
    #[error("nothing to do")]
    NothingToDo,
    /// 10: the two layers differ by something that no reason explains.
    #[error("unexplained drift: {0}")]
    UnexplainedDrift(String),
    /// 11: not final yet; ask again later.
    #[error("not final yet: {0}")]
    NotYetFinal(String),
    /// 12: a period cannot be closed, because something on its checklist is open, or opened, because a later one is
    /// closed.
    #[error("{0}")]
    Open(String),
    /// 13: what is stored is not what was published.
    #[error("verification failed: {0}")]
    Mismatch(String),
    /// 20: the lake lacks records of the log, or has some twice.
    #[error("the lake does not hold the log: {0}")]
    NotConserved(String),
    /// 21: a ledger and the events do not agree.
    #[error("open breaks: {0}")]
    OpenBreaks(String),
    /// 22: a file of the lake is not as it was written.
    #[error("{0}")]
    Damaged(String),
    /// 23: corrected items were rejected again.
    #[error("{0}")]
    RejectedAgain(String),
    /// 78: the configuration is wrong; trying again changes nothing.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// 75: a server was away, or another job holds the lock; trying again may help.
    #[error("{0:#}")]
    Retryable(anyhow::Error),
    /// 1: anything else.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

/// The table for `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
   0  done
  99  nothing to do (Airflow reads it as skipped)
  10  unexplained drift: the exact numbers are stored, but something needs a person
  11  not final yet: ask again later
  12  the period cannot be closed, or opened: the text says what is open
  13  verification failed: what is stored is not what was published
  20  the lake lacks records of the log, or has some twice
  21  a ledger and the events do not agree: breaks are open
  22  a file of the lake is damaged: the text names it, and how to get it back
  23  corrected items were rejected again: the text says which, and why
  78  the configuration is wrong
  75  a server was away, or another job holds the lock: try again
   1  anything else
   2  the command line is wrong";

impl Exit {
    fn code(&self) -> u8 {
        match self {
            Exit::NothingToDo => 99,
            Exit::UnexplainedDrift(_) => 10,
            Exit::NotYetFinal(_) => 11,
            Exit::Open(_) => 12,
            Exit::Mismatch(_) => 13,
            Exit::NotConserved(_) => 20,
            Exit::OpenBreaks(_) => 21,
            Exit::Damaged(_) => 22,
            Exit::RejectedAgain(_) => 23,
            Exit::Config(_) => 78,
            Exit::Retryable(_) => 75,
            Exit::Failed(_) => 1,
        }
    }

    /// Tells the person, and gives the process its exit code.
    pub(crate) fn report(self) -> ExitCode {
        match &self {
            Exit::NothingToDo => tracing::info!("nothing to do"),
            other => tracing::error!(exit_code = self.code(), "{other}"),
        }
        ExitCode::from(self.code())
    }
}

impl From<UnknownTenant> for Exit {
    fn from(error: UnknownTenant) -> Self {
        Exit::Config(ConfigError::Rejected(error.to_string()))
    }
}

impl From<close::Error> for Exit {
    fn from(error: close::Error) -> Self {
        match error {
            close::Error::Open(_) | close::Error::NotReopenable(_) => Exit::Open(error.to_string()),
            close::Error::AlreadyClosed(_) => Exit::NothingToDo,
            close::Error::Failed(error) => error.into(),
        }
    }
}

impl From<accounts::Error> for Exit {
    fn from(error: accounts::Error) -> Self {
        match error {
            accounts::Error::Away(_) => Exit::Retryable(error.into()),
            other => Exit::Failed(other.into()),
        }
    }
}

impl From<reckon_batch::Error> for Exit {
    fn from(error: reckon_batch::Error) -> Self {
        match error {
            reckon_batch::Error::NotYetFinal { .. } => Exit::NotYetFinal(error.to_string()),
            reckon_batch::Error::Config(_) => Exit::Config(ConfigError::Rejected(error.to_string())),
            reckon_batch::Error::Retryable(_) | reckon_batch::Error::Unreadable(_) => Exit::Retryable(error.into()),
            reckon_batch::Error::Damaged(text) => Exit::Damaged(text),
            other => Exit::Failed(other.into()),
        }
    }
}

impl From<tie_out::Error> for Exit {
    fn from(error: tie_out::Error) -> Self {
        match error {
            tie_out::Error::Store(error) => error.into(),
            // Half a ledger would show breaks that are none: the file or the mapping has to be corrected.
            other => Exit::Config(ConfigError::Rejected(other.to_string())),
        }
    }
}
