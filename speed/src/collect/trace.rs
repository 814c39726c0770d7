//! Correlation: the W3C trace context that a request brings, or a new one.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use reckon_schemas::kafka::TRACEPARENT_HEADER;
use tracing::Instrument;
use uuid::Uuid;

/// The collector's own place in a trace: the client's trace id if it gave one, and a span id of this request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TraceContext {
    traceparent: String,
}

impl TraceContext {
    /// A trace of its own.
    pub(crate) fn new() -> Self {
        Self::of(&HeaderMap::new())
    }

    /// Continues the trace of the request, or begins one if it has none or an unreadable one.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(TRACEPARENT_HEADER).and_then(|value| value.to_str().ok()).and_then(parse);
        let new_trace = || Uuid::new_v4().simple().to_string();
        let (trace_id, flags) = given.map_or_else(
            || (new_trace(), "01".to_owned()),
            |(trace_id, flags)| (trace_id.to_owned(), flags.to_owned()),
        );
        let span = Uuid::new_v4().simple().to_string();
        Self { traceparent: format!("00-{trace_id}-{}-{flags}", &span[..16]) }
    }

    /// The value of the header `traceparent` for whatever comes after this request.
    pub(crate) fn traceparent(&self) -> &str {
        &self.traceparent
    }

    fn trace_id(&self) -> &str {
        &self.traceparent[3..35]
    }
}

/// Gives the request its trace context, in an extension, in the span that it is handled in, and in its answer.
pub(crate) async fn correlate(mut request: Request, next: Next) -> Response {
    let trace = TraceContext::of(request.headers());
    let span = tracing::info_span!("request", path = request.uri().path(), trace_id = trace.trace_id());
    let header = HeaderValue::from_str(trace.traceparent()).expect("hexadecimal digits and dashes");
    request.extensions_mut().insert(trace);
    let mut response = next.run(request).instrument(span).await;
    response.headers_mut().insert(TRACEPARENT_HEADER, header);
    response
}

/// The trace id and the flags of a valid header; versions above 00 may have more parts, which are left out.
fn parse(header: &str) -> Option<(&str, &str)> {
    let mut parts = header.split('-');
    let (version, trace_id, span_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_zero = |text: &str| text.bytes().all(|byte| byte == b'0');
    let valid = is_hex(version, 2)
        && version != "ff"
        && is_hex(trace_id, 32)
        && !is_zero(trace_id)
        && is_hex(span_id, 16)
        && !is_zero(span_id)
        && is_hex(flags, 2)
        && (version != "00" || parts.next().is_none());
    valid.then_some((trace_id, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(header: &str) -> TraceContext {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT_HEADER, header.parse().expect("a header value"));
        TraceContext::of(&headers)
    }

    #[test]
    fn a_valid_trace_is_continued_with_a_span_of_its_own() {
        let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        let trace = of(given);
        assert_eq!(trace.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(trace.traceparent().ends_with("-00"), "the sampling decision is the client's");
        assert_ne!(trace.traceparent(), given);
        assert!(parse(trace.traceparent()).is_some());
    }

    #[test]
    fn an_invalid_trace_is_replaced() {
        for given in [
            "",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        ] {
            assert!(parse(given).is_none(), "{given}");
            assert!(parse(of(given).traceparent()).is_some(), "{given}");
        }
    }
}
