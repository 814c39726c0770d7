//! Sessions in cookies, and what keeps other sites from using them.
//!
//! A browser sends a cookie along whoever made it send the request. So a request that changes something counts only if it
//! carries the session's second token in a header, which other sites can neither read nor set; and one that says that it
//! comes from another site counts in no case. The cookie itself is `HttpOnly`, `SameSite=Strict` and, by its name, bound
//! to this very host.

use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum_extra::extract::CookieJar;
use axum_extra::extract::cookie::{Cookie, SameSite};

use crate::accounts::secret;
use crate::problem::Problem;

/// What a session's cookie is called.
const SESSION: &str = "reckon";
/// Browsers take a cookie of this name only from the host itself, over HTTPS, for all of its paths.
const HOST_PREFIX: &str = "__Host-";
/// The header of a session's second token.
pub(crate) const CSRF_HEADER: &str = "x-csrf-token";

/// How cookies are made and read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cookies {
    pub(crate) secure: bool,
}

impl Cookies {
    /// A cookie that ends with the browser's session, or at the end of ours.
    pub(crate) fn session(self, token: String) -> Cookie<'static> {
        self.make(SESSION, token, SameSite::Strict)
    }

    /// A cookie that has to be there when somebody comes back from another site.
    pub(crate) fn returning(self, name: &str, value: String) -> Cookie<'static> {
        self.make(name, value, SameSite::Lax)
    }

    /// Takes a cookie back.
    pub(crate) fn gone(self, name: &str) -> Cookie<'static> {
        let mut cookie = self.make(name, String::new(), SameSite::Strict);
        cookie.make_removal();
        cookie
    }

    /// Takes a session's cookie back.
    pub(crate) fn no_session(self) -> Cookie<'static> {
        self.gone(SESSION)
    }

    /// The token of the session, if the request has one.
    pub(crate) fn token(self, headers: &HeaderMap) -> Option<String> {
        self.value(headers, SESSION)
    }

    pub(crate) fn value(self, headers: &HeaderMap, name: &str) -> Option<String> {
        CookieJar::from_headers(headers).get(&self.name(name)).map(|cookie| cookie.value().to_owned())
    }

    fn make(self, name: &str, value: String, same_site: SameSite) -> Cookie<'static> {
        Cookie::build((self.name(name), value))
            .path("/")
            .http_only(true)
            .secure(self.secure)
            .same_site(same_site)
            .build()
    }

    fn name(self, name: &str) -> String {
        if self.secure { format!("{HOST_PREFIX}{name}") } else { name.to_owned() }
    }
}

/// Whether a request with this session's cookie was meant by who has it.
///
/// # Errors
/// 403 if another site may have made the browser send it.
pub(super) fn check(parts: &Parts, token: &str) -> Result<(), Problem> {
    let changes = ![Method::GET, Method::HEAD, Method::OPTIONS].contains(&parts.method);
    // A WebSocket is opened by a GET that other sites may send, and it is read by them.
    if !changes && !parts.headers.contains_key(header::UPGRADE) {
        return Ok(());
    }
    own_site(&parts.headers)?;
    let sent = parts.headers.get(CSRF_HEADER).and_then(|value| value.to_str().ok());
    if changes && !sent.is_some_and(|sent| secret::is_same(sent, &secret::csrf_token(token))) {
        return Err(Problem::cross_site("send the session's `csrf_token` in the header `X-CSRF-Token`"));
    }
    Ok(())
}

/// Refuses what a browser says is from another site.
///
/// # Errors
/// 403.
pub(crate) fn own_site(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let is_foreign = match (text("sec-fetch-site"), text("origin")) {
        (Some(site), _) => site != "same-origin" && site != "none",
        (None, Some(origin)) => host_of(origin) != text("host"),
        (None, None) => false,
    };
    if is_foreign { Err(Problem::cross_site("another site has sent this request")) } else { Ok(()) }
}

/// The host and port of an origin.
fn host_of(origin: &str) -> Option<&str> {
    origin.split_once("://").map(|(_, host)| host)
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn parts(method: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri("/v1/dashboards").header("host", "reckon.example:8443");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("valid").into_parts().0
    }

    #[test]
    fn only_the_page_itself_changes_something() {
        let csrf = secret::csrf_token("rs_1");
        let token = (CSRF_HEADER, csrf.as_str());
        let (own, foreign) = (("origin", "https://reckon.example:8443"), ("origin", "https://evil.example"));
        let is_good = |method, headers: &[(&str, &str)]| check(&parts(method, headers), "rs_1").is_ok();
        assert!(is_good("GET", &[foreign]), "what it reads, the other site cannot see");
        assert!(is_good("POST", &[own, token]) && is_good("DELETE", &[token]));
        assert!(is_good("PUT", &[("sec-fetch-site", "same-origin"), token]));
        assert!(!is_good("POST", &[own]) && !is_good("POST", &[own, (CSRF_HEADER, "")]));
        assert!(!is_good("POST", &[own, (CSRF_HEADER, &secret::csrf_token("rs_2"))]));
        assert!(!is_good("POST", &[foreign, token]) && !is_good("POST", &[("origin", "null"), token]));
        assert!(!is_good("POST", &[("sec-fetch-site", "same-site"), own, token]));
        assert!(
            !is_good("GET", &[("upgrade", "websocket"), foreign]) && is_good("GET", &[("upgrade", "websocket"), own])
        );
    }

    #[test]
    fn the_cookie_is_bound_to_the_host() {
        let cookie = Cookies { secure: true }.session("rs_1".to_owned()).to_string();
        assert_eq!(cookie, "__Host-reckon=rs_1; HttpOnly; SameSite=Strict; Secure; Path=/");
        let headers = HeaderMap::from_iter([(header::COOKIE, "a=b; __Host-reckon=rs_1".parse().expect("valid"))]);
        assert_eq!(Cookies { secure: true }.token(&headers).as_deref(), Some("rs_1"));
        assert_eq!(Cookies { secure: false }.token(&headers), None);
    }
}
