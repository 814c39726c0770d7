//! From the credential of a request to the tenant it speaks for.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reckon_schemas::access::{Denied, KeyBook, Scope};
use reckon_schemas::catalog::Catalog;
use reckon_schemas::ids::TenantId;
use tokio::sync::watch;

use super::problem::Problem;

/// The key in `Authorization: Bearer <key>`.
pub(crate) fn bearer_key(headers: &HeaderMap) -> Option<&str> {
    credential(headers, "bearer")
}

/// The user of `Authorization: Basic`, which is where Segment's libraries put the write key.
pub(crate) fn basic_user(headers: &HeaderMap) -> Option<String> {
    let decoded = STANDARD.decode(credential(headers, "basic")?).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let user = text.split_once(':').map_or(text.as_str(), |(user, _)| user);
    Some(user.to_owned())
}

/// Who may write: the keys of the catalog, and those of the book. Both are replaced while the collector runs.
#[derive(Clone, Debug)]
pub(crate) struct Doors {
    pub(crate) catalog: watch::Receiver<Arc<Catalog>>,
    pub(crate) book: watch::Receiver<Arc<KeyBook>>,
}

/// The tenant that a write key speaks for.
pub(crate) fn tenant_of(doors: &Doors, key: Option<&str>) -> Result<TenantId, Problem> {
    let key = key.ok_or_else(|| Problem::unauthorized("send a write key"))?;
    let (catalog, book) = (doors.catalog.borrow().clone(), doors.book.borrow().clone());
    let tenant = catalog.authenticate(&book, key, Scope::Write, jiff::Timestamp::now());
    tenant.map(|tenant| tenant.id.clone()).map_err(|denied| match denied {
        Denied::InvalidKey => Problem::unauthorized(denied.to_string()),
        Denied::MissingScope => Problem::new(StatusCode::FORBIDDEN, denied.to_string()),
    })
}

fn credential<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let (given, credential) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    given.eq_ignore_ascii_case(scheme).then(|| credential.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(authorization: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, authorization.parse().expect("a header value"))])
    }

    #[test]
    fn keys_are_found_under_both_schemes() {
        assert_eq!(bearer_key(&headers("bearer abc")), Some("abc"));
        assert_eq!(bearer_key(&headers("Basic YWJjOg==")), None);
        assert_eq!(basic_user(&headers("Basic YWJjOg==")).as_deref(), Some("abc"));
        assert_eq!(basic_user(&headers("Basic YWJj")).as_deref(), Some("abc"));
        assert_eq!(basic_user(&headers("Basic ***")), None);
        assert_eq!(bearer_key(&HeaderMap::new()), None);
    }

    #[test]
    fn without_a_known_key_there_is_no_tenant() {
        let (_sender, book) = watch::channel(Arc::default());
        let (_catalogs, catalog) = watch::channel(Arc::default());
        let doors = Doors { catalog, book };
        for key in [None, Some("rk_00000000_x")] {
            let problem = tenant_of(&doors, key).expect_err("no tenant");
            assert_eq!(problem.status(), StatusCode::UNAUTHORIZED);
        }
    }
}
