//! Passwords: argon2id with the crate's defaults (19 MiB, two passes), a few at a time.

use std::sync::LazyLock;

use argon2::Argon2;
use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use tokio::sync::Semaphore;

use super::Error;

/// The fewest characters of a password.
pub(crate) const CHARS_MIN: usize = 12;
/// The most bytes: more are no better, and hashing them costs.
pub(crate) const BYTES_MAX: usize = 256;

/// Each takes memory and a core for some 20 ms: whoever tries many passwords must not take all of both.
static SLOTS: Semaphore = Semaphore::const_new(2);

/// Whoever has no password is compared with this one, so that the time does not tell who has an account.
static NOBODYS: LazyLock<Option<String>> = LazyLock::new(|| hash_now("nobody has this password").ok());

/// Whether a password may be set.
pub(crate) fn check(password: &str) -> Result<(), Error> {
    if password.chars().count() < CHARS_MIN || password.len() > BYTES_MAX {
        return Err(Error::Invalid(format!(
            "a password has at least {CHARS_MIN} characters, and at most {BYTES_MAX} bytes"
        )));
    }
    Ok(())
}

/// The hash that is kept.
pub(super) async fn hash(password: String) -> Result<String, Error> {
    check(&password)?;
    off_thread(move || hash_now(&password)).await?
}

/// Whether it is the password of that hash; takes as long where there is none.
pub(super) async fn is_right(password: String, stored: Option<String>) -> Result<bool, Error> {
    if password.len() > BYTES_MAX {
        return Ok(false);
    }
    off_thread(move || {
        let Some(against) = stored.as_deref().or(NOBODYS.as_deref()) else { return false };
        let Ok(parsed) = PasswordHash::new(against) else { return false };
        let is_same = Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok();
        is_same && stored.is_some()
    })
    .await
}

fn hash_now(password: &str) -> Result<String, Error> {
    let salt = SaltString::generate(&mut OsRng);
    let hashed = Argon2::default().hash_password(password.as_bytes(), &salt);
    hashed.map(|hash| hash.to_string()).map_err(|error| Error::Broken(error.to_string()))
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    let _slot = SLOTS.acquire().await.map_err(|_| Error::Away("shutting down".to_owned()))?;
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Broken(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_is_right() {
        let password = "correct horse battery".to_owned();
        let kept = hash(password.clone()).await.expect("long enough");
        assert!(kept.starts_with("$argon2id$") && !kept.contains("horse"));
        assert!(is_right(password.clone(), Some(kept.clone())).await.expect("compared"));
        assert!(!is_right("correct horse batterz".to_owned(), Some(kept)).await.expect("compared"));
        assert!(!is_right("nobody has this password".to_owned(), None).await.expect("compared"));
        assert!(hash("too short".to_owned()).await.is_err());
    }
}
