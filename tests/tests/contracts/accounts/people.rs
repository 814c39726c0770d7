//! People: sign-in, sessions, invitations.

use std::time::Duration;

use anyhow::{Context, Result};
use reckon_schemas::access::Scope;
use reckon_serving::accounts::Tuning;
use reckon_tests::until;
use reqwest::Method;
use serde_json::{Value, json};

use super::on_both_stores;
use super::scene::{Answer, Database, Node, Scene, quick};

on_both_stores!(
    people_sign_in_and_out,
    other_sites_cannot_use_a_session,
    sessions_end_by_themselves,
    an_invitation_is_accepted_by_who_holds_it,
    nobody_learns_who_has_an_account,
    members_are_listed_page_by_page,
);

pub(super) const PASSWORD: &str = "correct horse battery";

/// Somebody who is signed in.
pub(super) struct Person<'a> {
    node: &'a Node,
    pub(super) cookie: String,
    pub(super) csrf: String,
}

impl<'a> Person<'a> {
    pub(super) fn new(node: &'a Node, answer: &Answer) -> Result<Self> {
        anyhow::ensure!(answer.status == 200, "{} {}", answer.status, answer.text);
        let csrf = answer.json()?["csrf_token"].as_str().context("a token")?.to_owned();
        Ok(Self { node, cookie: answer.cookie().context("a cookie")?, csrf })
    }

    /// Asks as the page does.
    pub(super) async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let headers =
            [("cookie", self.cookie.as_str()), ("x-csrf-token", &self.csrf), ("sec-fetch-site", "same-origin")];
        self.node.send(method, path, &headers, body).await
    }
}

pub(super) async fn sign_in(node: &Node, email: &str, password: &str) -> Result<Answer> {
    let body = json!({ "email": email, "password": password });
    node.send(Method::POST, "/v1/session", &[("sec-fetch-site", "same-origin")], Some(&body)).await
}

async fn people_sign_in_and_out(database: Database) -> Result<()> {
    let scene = Scene::new()?;
    let node = scene.plain_node(&database.url).await?;
    let (acme, other) = (scene.acme.tenant.parse()?, scene.other.tenant.parse()?);
    node.accounts.set_user(&acme, " Ada@Example.com", PASSWORD.to_owned(), &[Scope::Read]).await?;
    let answer = sign_in(&node, "ADA@example.com", PASSWORD).await?;
    let set = answer.header("set-cookie").context("a cookie")?;
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict") && set.contains("Path=/"), "{set}");
    let ada = Person::new(&node, &answer)?;
    let session = ada.ask(Method::GET, "/v1/session", None).await?.json()?;
    assert_eq!((&session["email"], &session["tenant"]), (&json!("ada@example.com"), &json!(scene.acme.tenant)));
    assert_eq!(ada.ask(Method::GET, "/v1/catalog", None).await?.json()?["tenant"], scene.acme.tenant);
    assert_eq!(ada.ask(Method::GET, "/v1/keys", None).await?.status, 403);
    // The token is nowhere in the store.
    let token = ada.cookie.split_once('=').context("a value")?.1;
    assert!(!database.dump().await?.contains(token));

    // A member of two tenants sees one at a time, and what they may do there.
    let switch = json!({ "tenant": scene.other.tenant });
    assert_eq!(ada.ask(Method::PUT, "/v1/session", Some(&switch)).await?.status, 404);
    node.accounts.set_user(&other, "ada@example.com", PASSWORD.to_owned(), &[Scope::Read, Scope::Admin]).await?;
    assert_eq!(ada.ask(Method::GET, "/v1/catalog", None).await?.status, 401, "another password ends sessions");
    let ada = Person::new(&node, &sign_in(&node, "ada@example.com", PASSWORD).await?)?;
    assert_eq!(ada.ask(Method::PUT, "/v1/session", Some(&switch)).await?.status, 200);
    assert_eq!(ada.ask(Method::GET, "/v1/catalog", None).await?.json()?["tenant"], scene.other.tenant);
    let people = ada.ask(Method::GET, "/v1/users", None).await?.json()?;
    let id = people["members"][0]["id"].as_str().context("an id")?.to_owned();

    // Another password; the old one is asked for.
    let change = |old: &str| json!({ "old": old, "new": "another horse battery" });
    assert_eq!(ada.ask(Method::PUT, "/v1/session/password", Some(&change("wrong"))).await?.status, 401);
    assert_eq!(ada.ask(Method::PUT, "/v1/session/password", Some(&change(PASSWORD))).await?.status, 204);
    assert_eq!(sign_in(&node, "ada@example.com", PASSWORD).await?.status, 401);

    let again = Person::new(&node, &sign_in(&node, "ada@example.com", "another horse battery").await?)?;
    assert_eq!(ada.ask(Method::DELETE, "/v1/session", None).await?.status, 204);
    assert_eq!(ada.ask(Method::GET, "/v1/session", None).await?.status, 401, "signed out");
    assert_eq!(again.ask(Method::GET, "/v1/session", None).await?.status, 200);

    // Whoever is no member any more sees nothing, also in sessions that are open.
    let path = format!("/v1/users/{id}");
    assert_eq!(node.ask(Method::DELETE, &path, &scene.acme.admin, None).await?.status, 204);
    assert_eq!(again.ask(Method::GET, "/v1/catalog", None).await?.status, 401);
    until("the refused sign-in", Duration::from_secs(10), async || {
        let log = node.ask(Method::GET, "/v1/audit", &scene.other.admin, None).await?;
        Ok(log.text.contains("session.refused"))
    })
    .await?;
    let log = node.ask(Method::GET, "/v1/audit", &scene.other.admin, None).await?.json()?;
    let actions: Vec<_> =
        log["entries"].as_array().context("entries")?.iter().filter_map(|entry| entry["action"].as_str()).collect();
    for action in ["user.set", "session.switch", "session.close", "user.password", "session.refused"] {
        assert!(actions.contains(&action), "{action} in {actions:?}");
    }
    assert!(!log.to_string().contains("horse"));
    Ok(())
}

async fn other_sites_cannot_use_a_session(database: Database) -> Result<()> {
    let scene = Scene::new()?;
    let node = scene.plain_node(&database.url).await?;
    node.accounts.set_user(&scene.acme.tenant.parse()?, "ada@example.com", PASSWORD.to_owned(), &[Scope::Read]).await?;
    let ada = Person::new(&node, &sign_in(&node, "ada@example.com", PASSWORD).await?)?;
    let body = json!({ "name": "mine", "charts": [] });
    let (cookie, token) = (("cookie", ada.cookie.as_str()), ("x-csrf-token", ada.csrf.as_str()));
    let foreign = "https://evil.example";
    for (headers, status) in [
        (vec![cookie], 403),
        (vec![cookie, ("x-csrf-token", "guessed")], 403),
        (vec![cookie, token, ("origin", foreign)], 403),
        (vec![cookie, token, ("sec-fetch-site", "cross-site")], 403),
        (vec![cookie, token, ("sec-fetch-site", "same-site")], 403),
        (vec![cookie, token, ("origin", node.url.as_str())], 201),
        (vec![cookie, token, ("sec-fetch-site", "same-origin")], 201),
    ] {
        let answer = node.send(Method::POST, "/v1/dashboards", &headers, Some(&body)).await?;
        assert_eq!(answer.status, status, "{headers:?} {}", answer.text);
    }
    // Nor can they sign somebody in.
    let credentials = json!({ "email": "ada@example.com", "password": PASSWORD });
    let headers = [("origin", foreign)];
    assert_eq!(node.send(Method::POST, "/v1/session", &headers, Some(&credentials)).await?.status, 403);
    // No other site is told that it may read.
    let preflight = [("origin", foreign), ("access-control-request-method", "GET")];
    let answer = node.send(Method::OPTIONS, "/v1/catalog", &preflight, None).await?;
    assert_eq!(answer.header("access-control-allow-origin"), None);
    Ok(())
}

async fn sessions_end_by_themselves(database: Database) -> Result<()> {
    let scene = Scene::new()?;
    let tuning = Tuning { session_idle: Duration::from_secs(2), session_age_max: Duration::from_secs(5), ..quick() };
    let node = scene.node(&database.url, tuning, reckon_serving::Tuning::default()).await?;
    node.accounts.set_user(&scene.acme.tenant.parse()?, "ada@example.com", PASSWORD.to_owned(), &[Scope::Read]).await?;
    let idle = Person::new(&node, &sign_in(&node, "ada@example.com", PASSWORD).await?)?;
    let busy = Person::new(&node, &sign_in(&node, "ada@example.com", PASSWORD).await?)?;
    let began = std::time::Instant::now();
    until("the longest that a session lasts", Duration::from_secs(15), async || {
        Ok(busy.ask(Method::GET, "/v1/session", None).await?.status == 401)
    })
    .await?;
    assert!(began.elapsed() > Duration::from_secs(4), "in use, it lasted {:?}", began.elapsed());
    let idle_end = idle.ask(Method::GET, "/v1/session", None).await?;
    assert_eq!(idle_end.status, 401);
    let short = Person::new(&node, &sign_in(&node, "ada@example.com", PASSWORD).await?)?;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(short.ask(Method::GET, "/v1/session", None).await?.status, 401, "idle");
    Ok(())
}

async fn an_invitation_is_accepted_by_who_holds_it(database: Database) -> Result<()> {
    let scene = Scene::new()?;
    let node = scene.plain_node(&database.url).await?;
    let invite = async |admin: &str, email: &str| -> Result<String> {
        let body = json!({ "email": email, "scopes": ["read"] });
        let answer = node.ask(Method::POST, "/v1/users", admin, Some(&body)).await?;
        anyhow::ensure!(answer.status == 201, "{}", answer.text);
        Ok(answer.json()?["invitation"].as_str().context("a token")?.to_owned())
    };
    let accept = async |invitation: &str, password: &str| {
        let body = json!({ "invitation": invitation, "password": password });
        node.send(Method::POST, "/v1/session/accept", &[], Some(&body)).await
    };
    let invitation = invite(&scene.acme.admin, "bob@example.com").await?;
    assert!(!database.dump().await?.contains(&invitation));
    assert_eq!(accept(&invitation, "short").await?.status, 422);
    assert_eq!(accept("ri_00", PASSWORD).await?.status, 401);
    let bob = Person::new(&node, &accept(&invitation, PASSWORD).await?)?;
    assert_eq!(bob.ask(Method::GET, "/v1/session", None).await?.json()?["tenant"], scene.acme.tenant);
    assert_eq!(accept(&invitation, PASSWORD).await?.status, 401, "once only");

    // Another tenant's invitation of the same address takes the password that the account has.
    let second = invite(&scene.other.admin, "bob@example.com").await?;
    assert_eq!(accept(&second, "a password of my own").await?.status, 401);
    assert_eq!(bob.ask(Method::PUT, "/v1/session", Some(&json!({ "tenant": scene.other.tenant }))).await?.status, 404);
    let bob = Person::new(&node, &accept(&second, PASSWORD).await?)?;
    assert_eq!(bob.ask(Method::GET, "/v1/session", None).await?.json()?["tenant"], scene.other.tenant);
    let people = node.ask(Method::GET, "/v1/users", &scene.other.admin, None).await?.json()?;
    assert_eq!((people["members"].as_array().map(Vec::len), &people["invitations"]), (Some(1), &json!([])));
    // The admins see who had invited somebody, and whether whoever held the token has set the account's password.
    for (admin, proof) in [(&scene.acme.admin, "new password"), (&scene.other.admin, "password")] {
        let log = node.ask(Method::GET, "/v1/audit", admin, None).await?.json()?;
        let entries = log["entries"].as_array().context("entries")?;
        let joined = entries.iter().find(|entry| entry["action"] == "user.join").context("joined")?;
        let invited = entries.iter().find(|entry| entry["action"] == "user.invite").context("invited")?;
        assert_eq!((&joined["detail"]["proof"], &joined["detail"]["invited_by"]), (&json!(proof), &invited["actor"]));
    }
    Ok(())
}

/// How long an answer takes must not tell who has an account: what is written for one is written beside the answer.
#[tokio::test]
async fn a_refused_sign_in_waits_for_no_entry_in_the_log() -> Result<()> {
    let (scene, database) = (Scene::new()?, Database::postgres().await?);
    let node = scene.plain_node(&database.url).await?;
    let acme = scene.acme.tenant.parse()?;
    node.accounts.set_user(&acme, "ada@example.com", PASSWORD.to_owned(), &[Scope::Read]).await?;
    let mut locked = database.pool().await?.begin().await?;
    sqlx::query("LOCK TABLE audit IN EXCLUSIVE MODE").execute(&mut *locked).await?;
    let known = sign_in(&node, "ada@example.com", "not her password").await?;
    let unknown = sign_in(&node, "nobody@example.com", "not her password").await?;
    assert_eq!((known.status, &known.text), (401, &unknown.text));
    locked.rollback().await?;
    until("the entry", Duration::from_secs(10), async || {
        let log = node.ask(Method::GET, "/v1/audit", &scene.acme.admin, None).await?;
        Ok(log.text.contains("session.refused"))
    })
    .await
}

async fn nobody_learns_who_has_an_account(database: Database) -> Result<()> {
    let scene = Scene::new()?;
    let node = scene.plain_node(&database.url).await?;
    node.accounts
        .set_user(&scene.other.tenant.parse()?, "carol@example.com", PASSWORD.to_owned(), &[Scope::Read])
        .await?;
    let wrong = sign_in(&node, "carol@example.com", "not her password").await?;
    let unknown = sign_in(&node, "dave@example.com", "not his password").await?;
    assert_eq!((wrong.status, &wrong.text), (401, &unknown.text));
    // Nor does inviting somebody tell.
    for email in ["carol@example.com", "dave@example.com"] {
        let body = json!({ "email": email, "scopes": ["read"] });
        let invited = node.ask(Method::POST, "/v1/users", &scene.acme.admin, Some(&body)).await?;
        assert_eq!(invited.status, 201, "{}", invited.text);
        // Nor does a password that nobody can have.
        let body = json!({ "invitation": invited.json()?["invitation"], "password": "short" });
        assert_eq!(node.send(Method::POST, "/v1/session/accept", &[], Some(&body)).await?.status, 422, "{email}");
    }
    let people = node.ask(Method::GET, "/v1/users", &scene.acme.admin, None).await?.json()?;
    assert_eq!(people["members"], json!([]));

    // Guessing ends soon, for an account that there is and for one that there is not.
    for email in ["carol@example.com", "dave@example.com"] {
        let mut statuses = Vec::new();
        for _ in 0..11 {
            statuses.push(sign_in(&node, email, "another guess").await?.status);
        }
        assert_eq!((statuses.first(), statuses.last()), (Some(&401), Some(&429)), "{email} {statuses:?}");
    }
    // Whatever is sent as an address is one attempt like every other.
    assert_eq!(sign_in(&node, &"x".repeat(200_000), "a guess").await?.status, 401);
    let late = sign_in(&node, "carol@example.com", PASSWORD).await?;
    assert_eq!((late.status, late.header("retry-after")), (429, Some("900")), "also with the right one");
    Ok(())
}

async fn members_are_listed_page_by_page(database: Database) -> Result<()> {
    let scene = Scene::new()?;
    let node = scene.plain_node(&database.url).await?;
    let pool = database.pool().await?;
    // Those of another tenant are between them.
    for (number, tenant) in [&scene.acme.tenant, &scene.other.tenant].into_iter().cycle().take(10).enumerate() {
        sqlx::query("INSERT INTO users (id, email, created_at) VALUES ($1, $2, 1)")
            .bind(number.to_string())
            .bind(format!("user-{}@example.com", 9 - number))
            .execute(&pool)
            .await?;
        sqlx::query("INSERT INTO memberships (tenant, user_id, scopes, created_at) VALUES ($1, $2, 'read', 1)")
            .bind(tenant)
            .bind(number.to_string())
            .execute(&pool)
            .await?;
    }
    let body = json!({ "email": "ada@example.com", "scopes": ["read"] });
    assert_eq!(node.ask(Method::POST, "/v1/users", &scene.acme.admin, Some(&body)).await?.status, 201);
    let (members, pages) = node.pages("/v1/users", "members", &scene.acme.admin, 2).await?;
    let emails: Vec<&str> = members.iter().filter_map(|member| member["email"].as_str()).collect();
    assert_eq!(emails, [1, 3, 5, 7, 9].map(|number| format!("user-{number}@example.com")));
    // Whoever is invited is on every page: there are not many.
    assert_eq!(pages.len(), 3);
    assert!(pages.iter().all(|page| page["invitations"][0]["email"] == "ada@example.com"), "{pages:?}");
    Ok(())
}
