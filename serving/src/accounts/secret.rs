//! Random tokens that are shown once and kept as hashes: sessions and invitations.

use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Error;

/// 256 random bits, and the hash that is kept of them.
pub(super) struct NewToken {
    pub(super) token: String,
    pub(super) sha256: String,
}

/// A new token; the prefix says what it is of, for whoever finds one.
pub(super) fn new(prefix: &str) -> Result<NewToken, Error> {
    let mut random = [0_u8; 32];
    OsRng.try_fill_bytes(&mut random).map_err(|error| Error::Broken(error.to_string()))?;
    let token = format!("{prefix}_{}", hex::encode(random));
    let sha256 = hash(&token);
    Ok(NewToken { token, sha256 })
}

/// What is kept of a token. The token is random enough to be found by it.
pub(crate) fn hash(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

/// What a page has to send along with a session's cookie, which other sites cannot know. It is made from the token, so
/// it needs no place of its own, and it does not give the token away.
pub(crate) fn csrf_token(token: &str) -> String {
    hash(&format!("csrf:{token}"))
}

/// Compares in constant time.
pub(crate) fn is_same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}
