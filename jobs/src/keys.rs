//! `reckon key`: makes an access key.

use rand::TryRngCore;
use rand::rngs::OsRng;
use reckon_schemas::access::{NewKey, Scope};

/// A new key, from the operating system's random source.
///
/// # Errors
/// When the operating system has no random bytes.
pub(crate) fn generate(scopes: Vec<Scope>) -> anyhow::Result<NewKey> {
    let mut random = [0_u8; 20];
    OsRng.try_fill_bytes(&mut random)?;
    Ok(NewKey::from_random(random, scopes))
}

/// Prints a new key, and the lines for the catalog that make it known.
///
/// # Errors
/// When the operating system has no random bytes.
#[expect(clippy::print_stdout, reason = "the key is the result of this command")]
pub(crate) fn print_new(scopes: Vec<Scope>) -> anyhow::Result<()> {
    let new = generate(scopes)?;
    println!("# Give this key to its owner; it is shown only now:\n# {}\n", new.key);
    println!("# Put this below the tenant in the catalog:\n[[tenants.keys]]\n{}", toml::to_string(&new.entry)?);
    Ok(())
}
