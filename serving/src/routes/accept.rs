//! Which form of an answer a client takes (RFC 9110, 12.5.1).

use axum::extract::Request;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::problem::Problem;
use crate::table::Form;

/// The forms of an answer.
pub(super) const FORMS: &[Form] = &[Form::Json, Form::Csv, Form::Arrow];

/// The form that the client likes best of those that there are, the first one for who takes anything.
///
/// # Errors
/// 406 if it takes none.
pub(super) fn form(headers: &HeaderMap, forms: &[Form]) -> Result<Form, Problem> {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let accepted = values.collect::<Vec<_>>().join(",");
    if accepted.trim().is_empty() {
        return Ok(forms.first().copied().unwrap_or(Form::Json));
    }
    let ranges: Vec<Range<'_>> = accepted.split(',').filter_map(Range::parse).collect();
    let liked = |form: &Form| {
        let (kind, subtype) = media_type(*form);
        // The most specific range that matches says how much it is liked.
        let matching = ranges.iter().filter(|range| range.matches(kind, subtype));
        let quality = matching.max_by_key(|range| range.precision())?.quality_per_mille;
        (quality > 0).then_some((*form, quality))
    };
    let best = forms.iter().filter_map(liked).rev().max_by_key(|(_, quality)| *quality);
    best.map(|(form, _)| form).ok_or_else(|| {
        let named = |form: &Form| [media_type(*form).0, media_type(*form).1].join("/");
        Problem::not_acceptable(format!("there are: {}", forms.iter().map(named).collect::<Vec<_>>().join(", ")))
    })
}

/// In front of routes without rows: who takes nothing else is told so, and nothing is done for them.
pub(super) async fn no_rows(request: Request, next: Next) -> Response {
    let headers = request.headers();
    match form(headers, &[Form::Json]) {
        Err(problem) if form(headers, &[Form::Csv, Form::Arrow]).is_ok() => problem.into_response(),
        _ => next.run(request).await,
    }
}

const fn media_type(form: Form) -> (&'static str, &'static str) {
    match form {
        Form::Json => ("application", "json"),
        Form::Csv => ("text", "csv"),
        Form::Arrow => ("application", "vnd.apache.arrow.stream"),
    }
}

/// One of the media ranges that are accepted.
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    quality_per_mille: u16,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        Some(Self { kind, subtype, quality_per_mille: quality.map_or(Some(1000), per_mille)? })
    }

    fn matches(&self, kind: &str, subtype: &str) -> bool {
        (self.kind == "*" || self.kind.eq_ignore_ascii_case(kind))
            && (self.subtype == "*" || self.subtype.eq_ignore_ascii_case(subtype))
    }

    fn precision(&self) -> u8 {
        u8::from(self.kind != "*") + u8::from(self.subtype != "*")
    }
}

/// A quality between 0 and 1 with at most three decimals, in thousandths.
fn per_mille(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{fraction:0<3}");
    digits.parse().ok().filter(|quality| *quality <= 1000 && fraction.len() <= 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(accept: &str) -> Result<Form, u16> {
        let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().expect("a header"))]);
        form(&headers, FORMS).map_err(|problem| problem.status)
    }

    #[test]
    fn the_form_that_is_liked_best_is_sent() {
        assert_eq!(form(&HeaderMap::new(), FORMS), Ok(Form::Json));
        assert_eq!(taken("*/*"), Ok(Form::Json));
        assert_eq!(taken("text/html, application/xhtml+xml, */*;q=0.8"), Ok(Form::Json));
        assert_eq!(taken("text/csv"), Ok(Form::Csv));
        assert_eq!(taken("Text/*"), Ok(Form::Csv));
        assert_eq!(taken("application/json;q=0.5, application/vnd.apache.arrow.stream;q=0.9"), Ok(Form::Arrow));
        assert_eq!(taken("application/json;q=0, */*;q=0.1"), Ok(Form::Csv));
        for none in ["text/html", "application/json;q=0", "image/*, application/xml", "application/json;q=7", "json"] {
            assert_eq!(taken(none), Err(406), "{none}");
        }
    }
}
