//! Lists, page by page: one way for all of them. A page has at most so many items, and says in `next` how to go on.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use reckon_schemas::time::EventTime;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::problem::Problem;
use crate::records::{Cursor, Line, PAGE, PAGE_MAX, Page};
use crate::table::{Form, lines};

/// The forms that lists for finance have.
pub(super) const FORMS: &[Form] = &[Form::Json, Form::Csv];

/// What to ask for the next page with, for clients that read no JSON.
pub(super) const NEXT: HeaderName = HeaderName::from_static("reckon-next");

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Paging {
    /// Items of the page, 100 by default, 1,000 at most.
    limit: Option<u32>,
    /// The `next` of the page before.
    after: Option<String>,
}

/// Which page of a list that has the oldest first.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PagingSince {
    /// Items of the page, 100 by default, 1,000 at most.
    limit: Option<u32>,
    /// The `next` of the page before.
    after: Option<String>,
    /// Items since this instant (RFC 3339); all of them without it.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
}

impl Paging {
    /// How many items, and behind what.
    ///
    /// # Errors
    /// 400 if there is no such page.
    pub(super) fn read(self) -> Result<(u32, Option<String>), Problem> {
        Ok((limit(self.limit)?, self.after))
    }

    /// How many items, and behind which place of a list that has the newest first.
    pub(super) fn newest_first(self) -> Result<(u32, Cursor), Problem> {
        self.behind(Cursor { at_us: i64::MAX, tie: String::new() })
    }

    /// How many items, and behind which place of a list that has an order of its own.
    pub(super) fn in_order(self) -> Result<(u32, Cursor), Problem> {
        self.behind(Cursor { at_us: i64::MIN, tie: String::new() })
    }

    fn behind(self, first: Cursor) -> Result<(u32, Cursor), Problem> {
        let (limit, after) = self.read()?;
        Ok((limit, after.map_or(Ok(first), |after| Cursor::decode(&after))?))
    }
}

impl PagingSince {
    /// How many items, and behind which place.
    pub(super) fn oldest_first(self) -> Result<(u32, Cursor), Problem> {
        let after = match (self.after, self.since) {
            (Some(_), Some(_)) => return Err(Problem::invalid_parameter("since", "give either `since` or `after`")),
            (Some(after), None) => Cursor::decode(&after)?,
            // The empty text is before every other, so that the instant itself is included.
            (None, since) => {
                let at_us = since.map_or(i64::MIN, |since| EventTime::from_timestamp(since).0);
                Cursor { at_us, tie: String::new() }
            }
        };
        Ok((limit(self.limit)?, after))
    }
}

fn limit(given: Option<u32>) -> Result<u32, Problem> {
    let limit = given.unwrap_or(PAGE);
    let detail = || format!("a page has 1 to {PAGE_MAX} items");
    (1..=PAGE_MAX).contains(&limit).then_some(limit).ok_or_else(|| Problem::invalid_parameter("limit", detail()))
}

/// A page in the form that was asked for.
pub(super) fn say<T: Line + Serialize + ToSchema>(form: Form, page: Page<T>) -> Result<Response, Problem> {
    let vary = (header::VARY, HeaderValue::from_static("accept"));
    if form != Form::Csv {
        return Ok(([vary], Json(page)).into_response());
    }
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static(form.content_type()));
    let mut response = ([vary, kind], lines(&page.items)?).into_response();
    let next = page.next.and_then(|next| HeaderValue::try_from(next).ok());
    response.headers_mut().extend(next.map(|next| (NEXT, next)));
    Ok(response)
}
