//! One row for every operation of the serving node's OpenAPI document, in the order in which they are asked: a request that
//! is answered, and how who has the canary sees it there. What removes something comes last.
//!
//! In queries and bodies `{canary}` is the canary, whoever asks; `{word}` is what who asks calls their things, which is the
//! canary for those who have it; `{tenant}`, `{email}`, `{password}` are those of who asks, `{from}` and `{to}` are dates around all events,
//! and `{invitation}` waits for somebody. A path that names something names what belongs to those who have the canary.

use super::stage::AMOUNT;

/// How the canary is seen.
#[derive(Clone, Copy)]
pub(super) enum Sees {
    /// As the word that it is.
    Canary,
    /// As an amount that only they have.
    Amount,
    /// As the name of the tenant.
    Tenant,
    /// As something else that only they have.
    Text(&'static str),
    /// Not at all: this says nothing that belongs to anybody.
    Nothing,
}

/// How often a request can be made, and how it is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// As often as one likes, with the same answer.
    Read,
    /// Once: something is different afterwards.
    Change,
    /// The same by who is signed in, with a cookie.
    Session,
    /// By nobody in particular, but for the one that the request itself names.
    Public,
    /// With events that have no end.
    Stream,
    /// With the words of a WebSocket.
    Socket,
}

/// See the module.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) method: &'static str,
    /// As in the document.
    pub(super) path: &'static str,
    /// What its parameter is, if it is nothing of theirs.
    pub(super) named: Option<&'static str>,
    pub(super) query: &'static str,
    pub(super) body: &'static str,
    pub(super) accept: &'static str,
    pub(super) status: u16,
    pub(super) kind: Kind,
    pub(super) sees: Sees,
}

const READ: Row = Row {
    method: "get",
    path: "",
    named: None,
    query: "",
    body: "",
    accept: "*/*",
    status: 200,
    kind: Kind::Read,
    sees: Sees::Canary,
};
/// A question that has to be sent.
const ASKED: Row = Row { method: "post", ..READ };
const CREATED: Row = Row { method: "post", status: 201, kind: Kind::Change, ..READ };
const CHANGED: Row = Row { method: "put", kind: Kind::Change, ..READ };
const REMOVED: Row = Row { method: "delete", status: 204, kind: Kind::Change, sees: Sees::Nothing, ..READ };

const CSV: &str = "text/csv";
const ARROW: &str = "application/vnd.apache.arrow.stream";
pub(super) const BY_DEPARTMENT: &str = "metric=purchases&by=department";
const DASHBOARD: &str = r#"{"name":"{word}","charts":[]}"#;
const METRIC: &str = r#"{"name":"saved_{word}","text":"count(*) filter (where department = '{word}')"}"#;
const ALERT: &str = r#"{"name":"{word}","metric":"purchases","side":"above","threshold":"1000000"}"#;
const SCOPES: &str = r#"{"scopes":["read","write"]}"#;
const FUNNEL: &str =
    r#"{"steps":[{"event":"view"},{"event":"purchase"}],"within_s":3600,"by":"department","from":"{from}"}"#;
const PANEL: &str = r#"{"range":{"from":"{from}","to":"{to}"},"intervalMs":86400000,
    "targets":[{"target":"purchases","payload":{"by":"department","grain":"1d"}}]}"#;
const TABLE: &str = r#"{"range":{"from":"{from}","to":"{to}"},
    "targets":[{"target":"revenue","payload":{"format":"table","grain":"1d"}}],
    "adhocFilters":[{"key":"department","operator":"=","value":"{canary}"}]}"#;

pub(super) const ROWS: &[Row] = &[
    Row { path: "/healthz", sees: Sees::Nothing, ..READ },
    Row { path: "/readyz", sees: Sees::Nothing, ..READ },
    Row { path: "/v1/query", query: BY_DEPARTMENT, ..READ },
    Row { path: "/v1/query", query: BY_DEPARTMENT, accept: CSV, ..READ },
    Row { path: "/v1/query", query: BY_DEPARTMENT, accept: ARROW, ..READ },
    Row {
        path: "/v1/query",
        query: "metric=revenue&filter=department:{canary}&from={from}&grain=1d",
        sees: Sees::Amount,
        ..READ
    },
    Row { path: "/v1/query", query: "metric=purchases&by=user_id", ..READ },
    Row { path: "/v1/query", query: "metric=households&by=user_id&from={from}&grain=1d&exact=true", ..READ },
    Row { path: "/v1/query", query: "metric=stores&grain=1d", ..READ },
    Row { path: "/v1/query", query: "metric_text=sum(money.USD)&from={from}&grain=1d", sees: Sees::Amount, ..READ },
    Row { path: "/v1/query", body: r#"{"metric":"purchases","by":["department"]}"#, ..ASKED },
    Row { path: "/v1/query", body: r#"{"metric":"purchases","by":["department"]}"#, accept: CSV, ..ASKED },
    Row {
        path: "/v1/query",
        body: r#"[{"metric":"stores","grain":"1d"},{"metric":"purchases","by":["user_id"]}]"#,
        ..ASKED
    },
    Row { path: "/v1/metrics/{id}/history", ..READ },
    Row { path: "/v1/metrics/{id}/history", named: Some("purchases"), query: "by=department", ..READ },
    Row { path: "/v1/metrics/{id}/history", named: Some("purchases"), query: "by=department", accept: ARROW, ..READ },
    Row { path: "/v1/heatmap", query: "metric=revenue&from={from}", sees: Sees::Amount, ..READ },
    Row {
        path: "/v1/heatmap",
        query: "metric=revenue&from={from}&filter=department:{canary}",
        sees: Sees::Amount,
        ..READ
    },
    Row { path: "/v1/anomalies", query: BY_DEPARTMENT, ..READ },
    Row {
        path: "/v1/anomalies",
        query: "metric=revenue&filter=department:{canary}&from={from}T00:00:00Z",
        sees: Sees::Amount,
        ..READ
    },
    Row { path: "/v1/funnels", body: FUNNEL, ..ASKED },
    Row { path: "/v1/live", query: BY_DEPARTMENT, kind: Kind::Stream, ..READ },
    Row { path: "/v1/live/ws", query: BY_DEPARTMENT, status: 101, kind: Kind::Socket, ..READ },
    Row { path: "/v1/catalog", ..READ },
    Row { path: "/v1/reconciliations/latest", sees: Sees::Tenant, ..READ },
    // So many events they had on the first days, and nobody else.
    Row { path: "/v1/reconciliations", sees: Sees::Text("\"events\":7,"), ..READ },
    Row { path: "/v1/periods", ..READ },
    Row { path: "/v1/changes", ..READ },
    Row { path: "/v1/rejected", ..READ },
    Row { path: "/v1/grafana", sees: Sees::Nothing, ..READ },
    Row { path: "/v1/grafana/metrics", ..ASKED },
    Row { path: "/v1/grafana/query", body: PANEL, ..ASKED },
    Row { path: "/v1/grafana/query", body: TABLE, sees: Sees::Amount, ..ASKED },
    Row { path: "/v1/grafana/variable", body: r#"{"payload":{"target":"department"}}"#, ..ASKED },
    Row { path: "/v1/grafana/tag-keys", ..ASKED },
    Row { path: "/v1/grafana/tag-values", body: r#"{"key":"department"}"#, ..ASKED },
    Row { path: "/v1/dashboards", ..READ },
    Row { path: "/v1/dashboards/{id}", ..READ },
    Row { path: "/v1/metrics", ..READ },
    Row { path: "/v1/metrics/{id}", ..READ },
    Row { path: "/v1/alerts", ..READ },
    Row { path: "/v1/alerts/{id}", ..READ },
    Row { path: "/v1/alert-events", ..READ },
    Row { path: "/v1/alert-events/live", kind: Kind::Stream, ..READ },
    Row { path: "/v1/keys", ..READ },
    Row { path: "/v1/users", ..READ },
    Row { path: "/v1/audit", query: "limit=1000", ..READ },
    Row { path: "/v1/quotas", sees: Sees::Text("70707070"), ..READ },
    Row { path: "/v1/session/ways", kind: Kind::Public, sees: Sees::Nothing, ..READ },
    // There is no provider here.
    Row { path: "/v1/session/oidc", status: 404, kind: Kind::Public, sees: Sees::Nothing, ..READ },
    // Nobody was sent there.
    Row { path: "/v1/session/oidc/callback", status: 303, kind: Kind::Public, sees: Sees::Nothing, ..READ },
    Row { path: "/v1/session", kind: Kind::Session, ..READ },
    Row { path: "/v1/dashboards", body: DASHBOARD, ..CREATED },
    Row { path: "/v1/dashboards/{id}", body: DASHBOARD, ..CHANGED },
    Row { path: "/v1/metrics", body: r#"{"name":"made_{word}","text":"count(*)"}"#, ..CREATED },
    Row { path: "/v1/metrics/{id}", body: METRIC, ..CHANGED },
    Row { path: "/v1/alerts", body: ALERT, ..CREATED },
    Row { path: "/v1/alerts/{id}", body: ALERT, ..CHANGED },
    Row { path: "/v1/keys", body: r#"{"name":"{word}","scopes":["read"]}"#, ..CREATED },
    Row { path: "/v1/users", body: r#"{"email":"{word}-new@example.org","scopes":["read"]}"#, ..CREATED },
    Row { path: "/v1/users/{id}", body: SCOPES, status: 204, sees: Sees::Nothing, ..CHANGED },
    Row { path: "/v1/session", body: r#"{"email":"{email}","password":"{password}"}"#, kind: Kind::Public, ..ASKED },
    Row {
        path: "/v1/session/accept",
        body: r#"{"invitation":"{invitation}","password":"{password}"}"#,
        kind: Kind::Public,
        ..ASKED
    },
    Row { path: "/v1/session", body: r#"{"tenant":"{tenant}"}"#, method: "put", kind: Kind::Session, ..READ },
    Row { path: "/v1/dashboards/{id}", ..REMOVED },
    Row { path: "/v1/metrics/{id}", ..REMOVED },
    Row { path: "/v1/alerts/{id}", ..REMOVED },
    Row { path: "/v1/keys/{prefix}", ..REMOVED },
    Row { path: "/v1/users/{id}", ..REMOVED },
    Row {
        path: "/v1/session/password",
        body: r#"{"old":"{password}","new":"{password}"}"#,
        method: "put",
        status: 204,
        kind: Kind::Session,
        sees: Sees::Nothing,
        ..READ
    },
    Row { path: "/v1/session", kind: Kind::Session, ..REMOVED },
];

impl Row {
    /// Which operation of the document it is about.
    pub(super) fn operation(&self) -> (String, String) {
        (self.method.to_owned(), self.path.to_owned())
    }

    /// Whether it names something that belongs to those who have the canary.
    pub(super) fn names_theirs(&self) -> bool {
        self.named.is_none() && self.path.contains('{')
    }

    /// What those who have the canary see in the answer, and nobody else.
    pub(super) fn sight<'a>(&self, canary: &'a str, tenant: &'a str) -> Option<&'a str> {
        match self.sees {
            Sees::Canary => Some(canary),
            Sees::Amount => Some(AMOUNT),
            Sees::Tenant => Some(tenant),
            Sees::Text(text) => Some(text),
            Sees::Nothing => None,
        }
    }
}
