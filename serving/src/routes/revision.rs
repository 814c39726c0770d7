//! Which version of something saved a request is about (RFC 9110, 8.8.3 and 13.1.1).

use axum::http::{HeaderMap, HeaderValue, header};

use crate::problem::Problem;

/// The strong validator of a version.
pub(super) fn etag(revision: i64) -> (header::HeaderName, HeaderValue) {
    let tag = HeaderValue::try_from(quoted(revision));
    (header::ETAG, tag.unwrap_or(HeaderValue::from_static("\"0\"")))
}

/// Whether the request is about this version.
///
/// # Errors
/// 428 if it does not say, 412 if it is about another one.
pub(super) fn matches(headers: &HeaderMap, revision: i64) -> Result<(), Problem> {
    let wanted = headers.get(header::IF_MATCH).ok_or_else(Problem::if_match_missing)?;
    let wanted = wanted.to_str().unwrap_or_default();
    let own = quoted(revision);
    if wanted.trim() == "*" || wanted.split(',').any(|tag| tag.trim() == own) {
        return Ok(());
    }
    Err(Problem::changed_meanwhile())
}

fn quoted(revision: i64) -> String {
    format!("\"{revision}\"")
}
