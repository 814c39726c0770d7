//! JSON bodies, with problems in the form that all problems have.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// A body that is JSON of this shape. The content type has to say so: a form of another site cannot.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/json") {
            return Err(Problem::refused_body(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "send a body of the type `application/json`",
            ));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            Problem::refused_body(rejection.status(), format!("{}: send less at once", rejection.body_text()))
        })?;
        serde_json::from_slice(&bytes).map(Body).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => Problem::invalid_body(error.to_string()),
            _ => Problem::unreadable_body(error.to_string()),
        })
    }
}
