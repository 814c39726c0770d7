//! Errors as clients see them: RFC 9457 `application/problem+json`.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use reckon_schemas::access::Scope;
use serde::Serialize;
use utoipa::ToSchema;

use crate::stores::StoreError;

/// Something that was refused or failed, in a form for programs and for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Which kind it is: one of a fixed set of names.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// The kind in words.
    pub(crate) title: &'static str,
    /// The HTTP status.
    pub(crate) status: u16,
    /// What is wrong here, and what can be done.
    pub(crate) detail: String,
    /// The query parameter that is at fault, if one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parameter: Option<&'static str>,
    /// Where in that parameter, as the number of the character from 1, if it is a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) position: Option<u64>,
    /// After how many seconds it is worth to try again; also in the `Retry-After` header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after_s: Option<u64>,
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        let (parameter, position, retry_after_s) = (None, None, None);
        Self { kind, title, status: status.as_u16(), detail: detail.into(), parameter, position, retry_after_s }
    }

    pub(crate) fn invalid_parameter(parameter: &'static str, detail: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::BAD_REQUEST, "invalid-parameter", "A parameter cannot be read", detail);
        Self { parameter: Some(parameter), ..problem }
    }

    /// A parameter that can be read and asks for what there is not, or for more than there may be.
    pub(crate) fn not_answerable(parameter: &'static str, detail: impl Into<String>) -> Self {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        let problem = Self::new(status, "not-answerable", "This question cannot be answered", detail);
        Self { parameter: Some(parameter), ..problem }
    }

    pub(crate) fn too_much() -> Self {
        let detail = "there are too many numbers in this answer: ask for a shorter range, a coarser grain or fewer \
                      dimensions";
        Self::not_answerable("from", detail)
    }

    /// Single events are read within limits on rows, memory and time.
    pub(crate) fn over_limit() -> Self {
        let detail = "no rollup answers this question, so it reads single events, and more of them than its limits on \
                      rows, memory and time allow: ask for a shorter range, fewer values, or declare a rollup";
        Self::not_answerable("from", detail)
    }

    pub(crate) fn unreadable_path(detail: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid-parameter", "The path cannot be read", detail)
    }

    pub(crate) fn unreadable_query(detail: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid-parameter", "The query string cannot be read", detail)
    }

    /// A body that is no question.
    pub(crate) fn unreadable_body(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "unreadable-body", "The body cannot be read", detail)
    }

    /// A body that is too large, or has a content type that is not read.
    pub(crate) fn refused_body(status: StatusCode, detail: impl Into<String>) -> Self {
        Self::new(status, "refused-body", "The body is not read", detail)
    }

    pub(crate) fn not_acceptable(detail: impl Into<String>) -> Self {
        let status = StatusCode::NOT_ACCEPTABLE;
        Self::new(status, "not-acceptable", "This answer has no such form", detail)
    }

    pub(crate) fn unreadable_message(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid-message", "The message cannot be read", detail)
    }

    pub(crate) fn too_long(query_string_bytes_max: usize, header_bytes_max: usize) -> Self {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        let detail = format!(
            "at most {query_string_bytes_max} bytes of query string and {header_bytes_max} bytes of headers are read"
        );
        Self::new(status, "too-long", "The request is too long", detail)
    }

    /// The same words for a key that does not exist, is wrong or has expired.
    pub(crate) fn unauthorized() -> Self {
        let detail = "send a valid key as `Authorization: Bearer <key>`, or sign in";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "The key is not valid", detail)
    }

    /// The credential is good, but not for this.
    pub(crate) fn forbidden(needed: Scope) -> Self {
        let detail = format!("this is not open to you: it needs the scope `{}`", needed.name());
        Self::new(StatusCode::FORBIDDEN, "forbidden", "The key does not have the scope that this needs", detail)
    }

    /// A request that a browser may have been tricked into.
    pub(crate) fn cross_site(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "cross-site", "This request does not come from the page", detail)
    }

    /// The same words for what does not exist and for what belongs to somebody else.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing", detail)
    }

    /// What is not there, and what is somebody else's: not a byte tells them apart.
    pub(crate) fn nothing_here() -> Self {
        Self::not_found("there is nothing of this name")
    }

    pub(crate) fn invalid_body(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-body", "The body cannot be taken as it is", detail)
    }

    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "This does not go together with what is there", detail)
    }

    pub(crate) fn changed_meanwhile() -> Self {
        let detail = "it was changed meanwhile: read it again, and send the `ETag` that you get as `If-Match`";
        Self::new(StatusCode::PRECONDITION_FAILED, "changed-meanwhile", "Somebody else was faster", detail)
    }

    pub(crate) fn if_match_missing() -> Self {
        let detail = "say which version you change: send the `ETag` that you have read as `If-Match`";
        Self::new(StatusCode::PRECONDITION_REQUIRED, "if-match-missing", "The version is missing", detail)
    }

    /// The configuration store is away.
    pub(crate) fn store_away() -> Self {
        let (status, detail) = (StatusCode::SERVICE_UNAVAILABLE, "accounts and saved things cannot be reached");
        Self::new(status, "unavailable", "The configuration store is away", detail).retry_after(Duration::from_secs(5))
    }

    /// The same words whatever was not right about it.
    pub(crate) fn sign_in_refused() -> Self {
        let detail = "the address or the password is not right, or nobody has invited you";
        Self::new(StatusCode::UNAUTHORIZED, "sign-in-refused", "You are not signed in", detail)
    }

    pub(crate) fn provider_away() -> Self {
        let (status, detail) = (StatusCode::BAD_GATEWAY, "the OpenID provider did not answer as it should: try again");
        Self::new(status, "provider-away", "The sign-in could not be completed", detail)
    }

    pub(crate) fn method_not_allowed() -> Self {
        let detail = "the interface is described under /docs";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "This method is not supported", detail)
    }

    pub(crate) fn too_many_requests(detail: impl Into<String>, after: Duration) -> Self {
        let status = StatusCode::TOO_MANY_REQUESTS;
        Self::new(status, "too-many-requests", "The quota is used up", detail).retry_after(after)
    }

    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "unavailable", "The numbers cannot be read right now", detail)
            .retry_after(Duration::from_secs(5))
    }

    /// Neither done nor refused in the time that a request may take.
    pub(crate) fn timed_out() -> Self {
        let (status, detail) =
            (StatusCode::SERVICE_UNAVAILABLE, "this took longer than a request may: ask again later");
        Self::new(status, "unavailable", "The request took too long", detail).retry_after(Duration::from_secs(5))
    }

    /// Whether the same request may succeed later.
    pub(crate) fn is_passing(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE.as_u16()
    }

    pub(crate) fn internal() -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, "internal", "Something is broken here", "the operator finds the cause in the log")
    }

    fn retry_after(self, after: Duration) -> Self {
        // Rounded up: who comes back after zero seconds is refused again.
        Self { retry_after_s: Some((after.as_secs() + u64::from(after.subsec_nanos() > 0)).max(1)), ..self }
    }
}

/// Logged here, once; the client learns what it can do, and no internals.
impl From<&StoreError> for Problem {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::TooMuch { .. } => Self::too_much(),
            StoreError::OverLimit { .. } => {
                tracing::info!(%error, "a question was over a limit");
                Self::over_limit()
            }
            StoreError::Unavailable { store, .. } => {
                tracing::warn!(%error, "a store is away");
                Self::unavailable(format!("{store} does not answer"))
            }
            StoreError::Broken { .. } => {
                tracing::error!(%error, "a store and this build do not agree");
                Self::internal()
            }
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::from(&error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(after_s) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after_s));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"reckon\""));
        }
        response
    }
}
