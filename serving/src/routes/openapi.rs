//! The description of the interface, generated from the handlers, and a page to try it.

use std::collections::BTreeSet;

use axum::routing::get;
use axum::{Json, Router};
use reckon_schemas::access::Scope;
use utoipa::openapi::schema::{AllOf, Schema};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi as Document, RefOr};
use utoipa::{Modify, OpenApi};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::{
    App, accounts, alert_events, alerts, anomalies, api, catalog, dashboards, funnels, grafana, health, questions,
    records, saved_metrics, session, users,
};

/// What a session's cookie is called where it goes over HTTPS only.
const SESSION_COOKIE: &str = "__Host-reckon";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Reckon",
        description = "Numbers that say where they come from: settled or provisional, exact or estimated, and how far off they can be."
    ),
    paths(api::query, anomalies::anomalies, funnels::funnels, api::live, api::live_ws, catalog::catalog),
    // It has an answer that is its base, so it is not found from there.
    components(schemas(crate::answer::Comparison)),
    modifiers(&Credentials),
    tags((name = "read", description = "Ask for numbers"))
)]
struct Description;

struct Credentials;

impl Modify for Credentials {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_default();
        for scope in [Scope::Read, Scope::Finance, Scope::Admin].map(Scope::name) {
            let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
            let bearer = bearer.description(Some(format!("A key with the scope `{scope}`")));
            components.add_security_scheme(format!("{scope}_key"), SecurityScheme::Http(bearer.build()));
        }
        let cookie = ApiKeyValue::with_description(SESSION_COOKIE, "A person who signed in at /v1/session");
        components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    }
}

/// The document of everything that can be asked for here, and of `extra` interfaces beside it.
pub(crate) fn document(extra: Vec<Document>) -> Document {
    let mut document = Description::openapi();
    let rooms = [
        questions::Description::openapi(),
        health::Description::openapi(),
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
    use std::path::Path;

    use super::*;

    const METHODS: [&str; 4] = ["get", "post", "put", "delete"];

    /// What is routed and not described.
    const NOT_DESCRIBED: [&str; 4] = [
        // The page and its files: for people, not for programs.
        "get /",
        "get /{*file}",
        // The description itself.
        "get /openapi.json",
        // The same as without the slash, which some clients add.
        "get /v1/grafana/",
    ];

    /// Every `.route("path", method(handler)…)` of a source text, as `method path`.
    fn routed(source: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for call in source.split(".route(\"").skip(1) {
            let (path, rest) = call.split_once('"').expect("a path");
            // As far as the parenthesis that the call began with.
            let mut depth = 1_usize;
            let end = rest.find(|sign| {
                depth = match sign {
                    '(' => depth + 1,
                    ')' => depth - 1,
                    _ => depth,
                };
                depth == 0
            });
            let handlers = &rest[..end.expect("the end of a call")];
            // A WebSocket is asked for with GET.
            let handlers = handlers.replace("any(", "get(");
            let methods = METHODS.into_iter().filter(|method| {
                let call = format!("{method}(");
                handlers.split([' ', '.']).any(|part| part.starts_with(&call))
            });
            let before = found.len();
            found.extend(methods.map(|method| format!("{method} {path}")));
            assert!(found.len() > before, "no method, or a second time: {path}");
        }
        found
    }

    #[test]
    fn every_route_is_described_and_every_description_is_routed() {
        let mut routes = BTreeSet::new();
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/routes")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("the routes") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let source = std::fs::read_to_string(&path).expect("text");
                // Without tests such as this one.
                routes.extend(routed(source.split("#[cfg(test)]").next().unwrap_or_default()));
            }
        }
        let document = serde_json::to_value(document(vec![])).expect("serialises");
        let paths = document["paths"].as_object().expect("paths").iter();
        let described: BTreeSet<String> = paths
            .flat_map(|(path, methods)| {
                methods.as_object().into_iter().flatten().map(move |(method, _)| format!("{method} {path}"))
            })
            .collect();
        let exceptions: BTreeSet<String> = NOT_DESCRIBED.map(str::to_owned).into();
        assert_eq!(routes.difference(&described).cloned().collect::<BTreeSet<_>>(), exceptions, "not described");
        assert_eq!(described.difference(&routes).collect::<Vec<_>>(), Vec::<&String>::new(), "not routed");
    }
}
