//! The binary content mode: attributes in headers, data in the body. It is written as the structured mode would have
//! it, so that there is one reading of an event, and one form in which a reject is kept.

use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::super::problem::Problem;

const PREFIX: &str = "ce-";

/// The event of the headers and the body, as the JSON text of one event.
///
/// # Errors
/// 400 if no header says that this is an event, or if data that is said to be JSON is not.
pub(super) fn structured(headers: &HeaderMap, body: &[u8]) -> Result<String, Problem> {
    let mut event = Map::new();
    for (name, value) in headers {
        if let Some(attribute) = name.as_str().strip_prefix(PREFIX) {
            event.insert(attribute.to_owned(), Value::String(decoded(attribute, value)?));
        }
    }
    if !event.contains_key("specversion") {
        let detail = "neither the content type nor a `ce-specversion` header says that this is a CloudEvent";
        return Err(Problem::bad_request(detail));
    }
    let unreadable = |error| Problem::bad_request(format!("the headers cannot be read as attributes: {error}"));
    // `data` belongs to the body, whatever the headers say.
    event.remove("data");
    event.remove("data_base64");
    let attributes = serde_json::to_string(&event).map_err(unreadable)?;
    let Some(data) = data(headers, body)? else { return Ok(attributes) };
    let open = attributes.strip_suffix('}').unwrap_or(&attributes);
    Ok(format!("{open},{data}}}"))
}

/// The member that holds the data: its own text, so that no digit of a number changes.
fn data(headers: &HeaderMap, body: &[u8]) -> Result<Option<String>, Problem> {
    if body.is_empty() {
        return Ok(None);
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("application/json");
    let media_type = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if media_type.ends_with("/json") || media_type.ends_with("+json") {
        let not_json = |error| Problem::bad_request(format!("the data is not JSON, as its content type says: {error}"));
        let data: &RawValue = serde_json::from_slice(body).map_err(not_json)?;
        return Ok(Some(format!(r#""data":{}"#, data.get())));
    }
    Ok(Some(format!(r#""data_base64":"{}""#, STANDARD.encode(body))))
}

/// A header's value: perhaps in quotes, and what a header cannot hold is percent-encoded UTF-8.
fn decoded(attribute: &str, value: &HeaderValue) -> Result<String, Problem> {
    let quoted = value.as_bytes().trim_ascii();
    let bytes = match quoted.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) {
        Some(inner) => unescaped(inner),
        None => quoted.to_vec(),
    };
    let text = percent_decode(&bytes).decode_utf8();
    let text = text.map_err(|_| Problem::bad_request(format!("the header `{PREFIX}{attribute}` is not UTF-8")))?;
    Ok(text.into_owned())
}

/// In quotes, a backslash stands before a character that would mean something else.
fn unescaped(inner: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.iter();
    while let Some(byte) = rest.next() {
        bytes.extend(if *byte == b'\\' { rest.next() } else { Some(byte) });
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn headers_and_body_become_one_event() {
        let headers = headers(&[
            ("ce-specversion", "1.0"),
            ("ce-id", "Euro%20%E2%82%AC"),
            ("ce-data", "\"not data\""),
            ("content-type", "application/json; charset=utf-8"),
            ("authorization", "Bearer x"),
        ]);
        let event = structured(&headers, br#"{"revenue":19.90}"#).expect("readable");
        assert_eq!(event, r#"{"id":"Euro €","specversion":"1.0","data":{"revenue":19.90}}"#);
        let bare = structured(&headers, b"").expect("readable");
        assert_eq!(bare, r#"{"id":"Euro €","specversion":"1.0"}"#);
        assert!(structured(&headers, b"{").is_err());
    }

    #[test]
    fn quotes_are_taken_off() {
        let text = |value: &'static str| decoded("x", &HeaderValue::from_static(value)).expect("readable");
        assert_eq!(text(r#""a \"b\" %22c%22""#), r#"a "b" "c""#);
        assert_eq!((text("a\\b"), text("\"")), ("a\\b".to_owned(), "\"".to_owned()));
        assert!(decoded("x", &HeaderValue::from_static("%ff")).is_err());
    }

    #[test]
    fn other_data_is_kept_as_bytes() {
        let headers = headers(&[("ce-specversion", "1.0"), ("content-type", "text/plain")]);
        assert_eq!(structured(&headers, b"abc").ok().as_deref(), Some(r#"{"specversion":"1.0","data_base64":"YWJj"}"#));
        assert!(structured(&HeaderMap::new(), b"abc").is_err());
    }
}
