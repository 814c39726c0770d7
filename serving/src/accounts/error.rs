//! Why the configuration store did not do what it was asked to.

use crate::problem::Problem;

/// See the module. Never holds an address: that may contain a password.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration names no store that there is; correct it.
    #[error("accounts.url: {0}")]
    Url(String),
    /// The store does not answer; trying again may help.
    #[error("the configuration store does not answer: {0}")]
    Away(String),
    /// Something of this name is there already.
    #[error("there is already {0} of this name")]
    Taken(&'static str),
    /// As many are there as there may be.
    #[error("there are as many {what} as there may be ({max}): remove some first")]
    Full {
        /// What there are too many of.
        what: &'static str,
        /// How many there may be.
        max: i64,
    },
    /// There is no such thing, or not of this tenant.
    #[error("there is no such thing")]
    Missing,
    /// Somebody else changed it meanwhile; read it again.
    #[error("it was changed meanwhile")]
    Changed,
    /// A value cannot be kept.
    #[error("{0}")]
    Invalid(String),
    /// The OpenID provider does not answer, or not as it should.
    #[error("the OpenID provider: {0}")]
    Provider(String),
    /// The store and this build do not agree; an operator has to look.
    #[error("the configuration store: {0}")]
    Broken(String),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match error {
            E::Database(error) if error.is_unique_violation() => Error::Taken("one"),
            // A text with a character that PostgreSQL cannot hold: nothing of that name is there.
            E::Database(error) if error.code().as_deref() == Some("22021") => Error::Missing,
            E::Database(error) => {
                let passing = error.code().is_some_and(|code| is_passing(&code));
                if passing { Error::Away(error.to_string()) } else { Error::Broken(error.to_string()) }
            }
            E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed | E::Protocol(_) => {
                Error::Away(error.to_string())
            }
            E::RowNotFound => Error::Missing,
            other => Error::Broken(other.to_string()),
        }
    }
}

impl From<sqlx::migrate::MigrateError> for Error {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        use sqlx::migrate::MigrateError as M;
        match error {
            M::Execute(error) | M::ExecuteMigration(error, _) => error.into(),
            other => Error::Broken(other.to_string()),
        }
    }
}

/// PostgreSQL's classes of lost connections (08), missing resources (53) and a server that stops or starts (57P), a
/// refused password (28), a transaction that was paused for too long (25P03) and a table that is not made yet (42P01);
/// SQLite's busy (5), locked (6), unreadable (10), full (13) and cannot be opened (14), with what they have in their
/// higher bytes.
fn is_passing(code: &str) -> bool {
    if let Ok(sqlite @ 1..=9_999) = code.parse::<u32>()
        && code.len() < 5
    {
        return matches!(sqlite & 0xff, 5 | 6 | 10 | 13 | 14);
    }
    ["08", "53", "57P", "28"].iter().any(|class| code.starts_with(class)) || ["25P03", "42P01", "3D000"].contains(&code)
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Away(_) => {
                tracing::warn!(%error, "a request could not be answered");
                Problem::store_away()
            }
            Error::Url(_) | Error::Broken(_) => {
                tracing::error!(%error, "a request could not be answered");
                Problem::internal()
            }
            Error::Provider(_) => {
                tracing::warn!(%error, "a sign-in could not be completed");
                Problem::provider_away()
            }
            Error::Missing => Problem::nothing_here(),
            Error::Changed => Problem::changed_meanwhile(),
            Error::Taken(_) | Error::Full { .. } => Problem::conflict(error.to_string()),
            Error::Invalid(detail) => Problem::invalid_body(detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_told_from_what_stays() {
        for code in ["08006", "53300", "57P03", "28P01", "5", "261", "14", "1550"] {
            assert!(is_passing(code), "{code}");
        }
        for code in ["23505", "42601", "1", "19", "2067"] {
            assert!(!is_passing(code), "{code}");
        }
    }
}
