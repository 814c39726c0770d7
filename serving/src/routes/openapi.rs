//! The description of the interface, generated from the handlers, and a page to try it.

use axum::routing::get;
use axum::{Json, Router};
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::{
    App, accounts, alert_events, alerts, anomalies, api, dashboards, funnels, grafana, questions, records,
    saved_metrics, session, users,
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
        alert_events::Description::openapi(),
    ];
    for other in rooms.into_iter().chain(extra) {
        document.merge(other);
    }
    document
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
        ] {
            assert!(text.contains(part), "{part}");
        }
        let document = document(vec![]);
        let query = document.paths.paths.get("/v1/query").expect("described");
        assert!(query.get.is_some() && query.post.is_some());
        assert!(text.contains("/v1/metrics/{id}/history") && text.contains("/v1/heatmap"));
    }
}
