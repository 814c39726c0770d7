//! Whatever is changed is in the audit log, and the list of what changes something is that of the interface itself.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reckon_schemas::access::Scope;
use reckon_serving::accounts::{Actor, Quota};
use reckon_tests::until;
use reqwest::Method;
use serde_json::{Value, json};

use super::on_both_stores;
use super::people::{PASSWORD, Person, sign_in};
use super::scene::{Answer, Database, Node, Scene, quick};

on_both_stores!(every_change_is_in_the_audit_log);

/// Questions, which are long enough to be sent as a body.
const QUESTIONS: [&str; 7] = [
    "POST /v1/funnels",
    "POST /v1/grafana/metrics",
    "POST /v1/grafana/query",
    "POST /v1/grafana/tag-keys",
    "POST /v1/grafana/tag-values",
    "POST /v1/grafana/variable",
    "POST /v1/query",
];

struct Log<'a> {
    node: &'a Node,
    admin: &'a str,
    /// The operations that were seen to be in it.
    seen: RefCell<BTreeSet<&'static str>>,
}

impl Log<'_> {
    async fn entries(&self) -> Result<Vec<Value>> {
        let log = good(self.node.ask(Method::GET, "/v1/audit?limit=1000", self.admin, None).await?)?.json()?;
        Ok(log["entries"].as_array().context("entries")?.clone())
    }

    /// Does something that has to succeed, and to be in the log by these names and no others.
    async fn has<T>(
        &self,
        operation: &'static str,
        actions: &[&str],
        change: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let before = self.entries().await?.len();
        let done = change.await.with_context(|| operation)?;
        until(operation, Duration::from_secs(10), async || Ok(self.entries().await?.len() >= before + actions.len()))
            .await?;
        let entries = self.entries().await?;
        let new = &entries[..entries.len() - before];
        let found: BTreeSet<&str> = new.iter().filter_map(|entry| entry["action"].as_str()).collect();
        ensure!(new.len() == actions.len() && found == actions.iter().copied().collect(), "{operation}: {new:#?}");
        self.seen.borrow_mut().insert(operation);
        Ok(done)
    }
}

async fn every_change_is_in_the_audit_log(database: Database) -> Result<()> {
    let scene = Scene::new()?;
    // No pause between one question and the next.
    let serve = reckon_serving::Tuning { queries_per_second_max: 100_000, ..reckon_serving::Tuning::default() };
    let node = scene.node(&database.url, quick(), serve).await?;
    let (admin, acme) = (scene.acme.admin.as_str(), scene.acme.tenant.parse()?);
    let log = Log { node: &node, admin, seen: RefCell::default() };
    let authorization = format!("Bearer {admin}");
    let ask = async |method: Method, path: &str, body: Option<&Value>| {
        let headers = [("authorization", authorization.as_str()), ("if-match", "*")];
        good(node.send(method, path, &headers, body).await?)
    };
    let text = |answer: &Answer, field: &str| -> Result<String> {
        Ok(answer.json()?[field].as_str().with_context(|| answer.text.clone())?.to_owned())
    };

    let body = json!({ "name": "a key", "scopes": ["read"] });
    let key = log.has("POST /v1/keys", &["key.create"], ask(Method::POST, "/v1/keys", Some(&body))).await?;
    let path = format!("/v1/keys/{}", text(&key, "prefix")?);
    log.has("DELETE /v1/keys/{prefix}", &["key.revoke"], ask(Method::DELETE, &path, None)).await?;
    let quota = Quota { live_clients_max: Some(50), ..Quota::default() };
    let set = async { Ok(node.accounts.set_quota(&acme, quota, &Actor::Operator).await?) };
    log.has("reckon quota", &["quota.set"], set).await?;
    let add = async { Ok(node.accounts.tenant_added(&acme, json!({}), &Actor::Operator).await?) };
    log.has("reckon tenant add", &["tenant.add"], add).await?;
    ensure!(node.accounts.tenant_actions(&acme).await?.contains("tenant.add"));
    ensure!(node.accounts.tenant_actions(&"nobody".parse()?).await?.is_empty());

    let saved = [
        ("dashboard", "/v1/dashboards", json!({ "name": "mine", "charts": [] })),
        ("metric", "/v1/metrics", json!({ "name": "all", "text": "count(*)", "description": "all of them" })),
        ("alert", "/v1/alerts", json!({ "name": "few", "metric": "purchases", "side": "below", "threshold": "1" })),
    ];
    let operations = [
        ["POST /v1/dashboards", "PUT /v1/dashboards/{id}", "DELETE /v1/dashboards/{id}"],
        ["POST /v1/metrics", "PUT /v1/metrics/{id}", "DELETE /v1/metrics/{id}"],
        ["POST /v1/alerts", "PUT /v1/alerts/{id}", "DELETE /v1/alerts/{id}"],
    ];
    for ((kind, path, body), [create, change, remove]) in saved.into_iter().zip(operations) {
        let action = |verb: &str| format!("{kind}.{verb}");
        let made = log.has(create, &[&action("create")], ask(Method::POST, path, Some(&body))).await?;
        let id = if kind == "metric" { "all".to_owned() } else { text(&made, "id")? };
        let path = format!("{path}/{id}");
        log.has(change, &[&action("change")], ask(Method::PUT, &path, Some(&body))).await?;
        let removed = action(if kind == "alert" { "delete" } else { "remove" });
        log.has(remove, &[&removed], ask(Method::DELETE, &path, None)).await?;
    }

    let set =
        async { Ok(node.accounts.set_user(&acme, "ada@example.com", PASSWORD.to_owned(), &[Scope::Read]).await?) };
    log.has("reckon user add", &["user.set"], set).await?;
    let refused = sign_in(&node, "ada@example.com", "not her password");
    log.has("a refused sign-in", &["session.refused"], refused).await?;
    let opened = async { good(sign_in(&node, "ada@example.com", PASSWORD).await?) };
    let ada = Person::new(&node, &log.has("POST /v1/session", &["session.open"], opened).await?)?;
    let to = json!({ "tenant": scene.acme.tenant });
    let switched = async { good(ada.ask(Method::PUT, "/v1/session", Some(&to)).await?) };
    log.has("PUT /v1/session", &["session.switch"], switched).await?;
    let change = json!({ "old": PASSWORD, "new": "another horse battery" });
    let changed = async { good(ada.ask(Method::PUT, "/v1/session/password", Some(&change)).await?) };
    log.has("PUT /v1/session/password", &["user.password"], changed).await?;
    let closed = async { good(ada.ask(Method::DELETE, "/v1/session", None).await?) };
    log.has("DELETE /v1/session", &["session.close"], closed).await?;

    let body = json!({ "email": "bob@example.com", "scopes": ["read"] });
    let invited = log.has("POST /v1/users", &["user.invite"], ask(Method::POST, "/v1/users", Some(&body))).await?;
    let body = json!({ "invitation": text(&invited, "invitation")?, "password": PASSWORD });
    let accepted = async { good(node.send(Method::POST, "/v1/session/accept", &[], Some(&body)).await?) };
    log.has("POST /v1/session/accept", &["user.join", "session.open"], accepted).await?;
    let people = ask(Method::GET, "/v1/users", None).await?.json()?;
    let bob = people["members"].as_array().context("members")?.iter().find(|one| one["email"] == "bob@example.com");
    let path = format!("/v1/users/{}", bob.context("bob")?["id"].as_str().context("an id")?);
    let body = json!({ "scopes": ["read", "finance"] });
    log.has("PUT /v1/users/{id}", &["user.change"], ask(Method::PUT, &path, Some(&body))).await?;
    log.has("DELETE /v1/users/{id}", &["user.remove"], ask(Method::DELETE, &path, None)).await?;

    // Nothing that the interface can change is missing above.
    let document = node.send(Method::GET, "/openapi.json", &[], None).await?.json()?;
    for (path, methods) in document["paths"].as_object().context("paths")? {
        for method in methods.as_object().context("methods")?.keys().filter(|method| *method != "get") {
            let operation = format!("{} {path}", method.to_uppercase());
            let is_known = log.seen.borrow().contains(operation.as_str()) || QUESTIONS.contains(&operation.as_str());
            ensure!(is_known, "{operation} is neither seen in the audit log nor a question");
        }
    }
    Ok(())
}

fn good(answer: Answer) -> Result<Answer> {
    ensure!((200..300).contains(&answer.status), "{} {}", answer.status, answer.text);
    Ok(answer)
}
