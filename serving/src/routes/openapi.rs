//! The description of the interface, generated from the handlers, and a page to try it.

use std::collections::BTreeSet;

use axum::routing::get;
use axum::{Json, Router};
use utoipa::openapi::schema::{AllOf, Schema};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi as Document, RefOr};
use utoipa::{Modify, OpenApi};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::{
    App, accounts, alerts, anomalies, api, dashboards, funnels, grafana, questions, records, saved_metrics, session,
    users,
};

/// What a session's cookie is called where it goes over HTTPS only.
const SESSION_COOKIE: &str = "__Host-reckon";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Reckon",
        description = "Numbers that say where they come from: settled or provisional, exact or estimated, and how far off they can be."
    ),
    paths(
        api::query, anomalies::anomalies, funnels::funnels, api::live, api::live_ws, api::latest_reconciliation,
        api::catalog, api::healthz, api::readyz
    ),
    // It has an answer that is its base, so it is not found from there.
    components(schemas(crate::answer::Comparison)),
    modifiers(&ReadKey),
    tags(
        (name = "read", description = "Ask for numbers"),
        (name = "operate", description = "For probes")
    )
)]
struct Description;

struct ReadKey;

impl Modify for ReadKey {
    fn modify(&self, document: &mut Document) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("A key with the scope `read`"));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("read_key", SecurityScheme::Http(bearer.build()));
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
        let bearer = bearer.description(Some("A key with the scope `admin`"));
        components.add_security_scheme("admin_key", SecurityScheme::Http(bearer.build()));
        let cookie = ApiKeyValue::with_description(SESSION_COOKIE, "A person who signed in at /v1/session");
        components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    }
}

/// The document of everything that can be asked for here, and of `extra` interfaces beside it.
pub(crate) fn document(extra: Vec<Document>) -> Document {
    let mut document = Description::openapi();
    let rooms = [
        questions::Description::openapi(),
        grafana::Description::openapi(),
        records::Description::openapi(),
        accounts::Description::openapi(),
        session::Description::openapi(),
        users::Description::openapi(),
        dashboards::Description::openapi(),
        saved_metrics::Description::openapi(),
        alerts::Description::openapi(),
    ];
    for other in rooms.into_iter().chain(extra) {
        document.merge(other);
    }
    open_parts(&mut document);
    document
}

/// What was saved and what is known about it are one object in an answer: there, what was saved must not say that it has no
/// other fields.
fn open_parts(document: &mut Document) {
    let schemas = &mut document.components.get_or_insert_default().schemas;
    let mut parts = BTreeSet::new();
    for schema in schemas.values() {
        let RefOr::T(Schema::AllOf(AllOf { items, .. })) = schema else { continue };
        let names = items.iter().filter_map(|item| match item {
            RefOr::Ref(part) => part.ref_location.rsplit('/').next().map(str::to_owned),
            RefOr::T(_) => None,
        });
        parts.extend(names);
    }
    for part in parts {
        if let Some(RefOr::T(Schema::Object(object))) = schemas.get_mut(&part) {
            object.additional_properties = None;
        }
    }
}

/// `/openapi.json` and `/docs`.
pub(super) fn router(extra: Vec<Document>) -> Router<App> {
    let document = document(extra);
    let page = SwaggerUi::new("/docs").config(Config::from("/openapi.json"));
    let page: Router<App> = page.into();
    page.route("/openapi.json", get(async move || Json(document.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described() {
        let text = serde_json::to_string(&document(vec![])).expect("serialises");
        for part in [
            "/v1/query",
            "/v1/funnels",
            "/v1/live",
            "/v1/live/ws",
            "/v1/reconciliations/latest",
            "/v1/catalog",
            "read_key",
            "LiveMessage",
            "\"Comparison\":",
        ] {
            assert!(text.contains(part), "{part}");
        }
        let document = document(vec![]);
        let query = document.paths.paths.get("/v1/query").expect("described");
        assert!(query.get.is_some() && query.post.is_some());
        assert!(text.contains("/v1/metrics/{id}/history") && text.contains("/v1/heatmap"));
    }
}
