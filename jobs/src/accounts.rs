//! Where accounts are kept.

use reckon_serving::accounts::{Accounts, Error, Tuning};

use crate::config::Settings;

/// Beside the lake, if that is a folder; else where the local data of a service belongs.
const ELSEWHERE: &str = "/var/lib/reckon";

/// The configuration store; it need not be up.
///
/// # Errors
/// If its address is not one.
pub(crate) fn open(settings: &Settings) -> Result<Accounts, Error> {
    let url = settings.accounts.url.clone().unwrap_or_else(|| beside(&settings.lake.url));
    Accounts::open(Tuning { url: Some(url), ..settings.accounts.clone() })
}

fn beside(lake: &str) -> String {
    let folder = lake.strip_prefix("file://").unwrap_or(ELSEWHERE).trim_end_matches('/');
    format!("sqlite://{folder}/accounts.db")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_lie_beside_the_lake() {
        assert_eq!(beside("file:///data/reckon/"), "sqlite:///data/reckon/accounts.db");
        assert_eq!(beside("s3://bucket/prefix"), "sqlite:///var/lib/reckon/accounts.db");
    }
}
