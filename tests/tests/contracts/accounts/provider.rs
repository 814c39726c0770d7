//! Sign-in by an OpenID provider.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reckon_schemas::access::Scope;
use reckon_serving::accounts::{Oidc, Tuning};
use reckon_tests::openid::Provider;
use reqwest::Method;
use serde_json::{Value, json};

use super::on_both_stores;
use super::scene::{Answer, Database, Node, Scene, quick};

on_both_stores!(a_provider_vouches_for_people, a_full_tenant_keeps_nobody_out_of_others);

struct Trip<'a> {
    node: &'a Node,
    provider: &'a Provider,
}

impl Trip<'_> {
    /// To the provider: the cookie that is kept meanwhile, and where the provider sends the browser back to.
    async fn there(&self, subject: &str) -> Result<(String, String)> {
        let sent = self.node.send(Method::GET, "/v1/session/oidc", &[], None).await?;
        assert_eq!(sent.status, 303, "{}", sent.text);
        let set = sent.header("set-cookie").context("a cookie")?;
        assert!(set.contains("HttpOnly") && set.contains("SameSite=Lax"), "{set}");
        let kept = sent.cookie().context("a cookie")?;
        let back = self.provider.sign_in(sent.header("location").context("where")?, subject).await?;
        Ok((kept, back.strip_prefix("http://reckon.test").with_context(|| back.clone())?.to_owned()))
    }

    async fn back(&self, kept: &str, path: &str) -> Result<Answer> {
        self.node.send(Method::GET, path, &[("cookie", kept)], None).await
    }

    async fn and_back(&self, subject: &str) -> Result<Answer> {
        let (kept, path) = self.there(subject).await?;
        self.back(&kept, &path).await
    }
}

/// What the browser keeps, with one thing changed.
fn changed(kept: &str, field: &str) -> Result<String> {
    let (name, value) = kept.split_once('=').context("a cookie")?;
    let mut json: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(value)?)?;
    assert!(json[field].is_string(), "{field}");
    json[field] = json!("x".repeat(43));
    Ok(format!("{name}={}", URL_SAFE_NO_PAD.encode(json.to_string())))
}

fn signing_in_by(provider: &Provider) -> Tuning {
    let oidc = Oidc {
        name: "Example".to_owned(),
        issuer: provider.issuer.clone(),
        client_id: "reckon".to_owned(),
        client_secret: "a secret of ours".to_owned(),
        redirect_url: "http://reckon.test/v1/session/oidc/callback".to_owned(),
    };
    Tuning { oidc: Some(oidc), ..quick() }
}

async fn a_provider_vouches_for_people(database: Database) -> Result<()> {
    let (scene, provider) = (Scene::new()?, Provider::start()?);
    let node = scene.node(&database.url, signing_in_by(&provider), reckon_serving::Tuning::default()).await?;
    let ways = node.send(Method::GET, "/v1/session/ways", &[], None).await?.json()?;
    assert_eq!(ways, json!({ "password": true, "oidc": "Example" }));
    let trip = Trip { node: &node, provider: &provider };
    let refused = |answer: &Answer| answer.status == 303 && answer.header("location") == Some("/?signin=refused");
    let invite = async |email: &str| {
        let body = json!({ "email": email, "scopes": ["read"] });
        node.ask(Method::POST, "/v1/users", &scene.acme.admin, Some(&body)).await
    };

    provider.knows("eve", &json!({ "email": "eve@example.com", "email_verified": true })).await?;
    assert!(refused(&trip.and_back("eve").await?), "nobody has invited her");
    assert_eq!(invite("eve@example.com").await?.status, 201);
    provider.knows("mallory", &json!({ "email": "eve@example.com", "email_verified": false })).await?;
    assert!(refused(&trip.and_back("mallory").await?), "nobody vouches for that");

    // What was sent along has to come back, from the same browser.
    let (kept, path) = trip.there("eve").await?;
    assert!(refused(&node.send(Method::GET, &path, &[], None).await?), "another browser");
    assert!(refused(&trip.back(&kept, &path.replace("state=", "state=x")).await?));
    assert!(refused(&trip.back(&changed(&kept, "state")?, &path).await?));
    assert!(refused(&trip.back(&changed(&kept, "verifier")?, &path).await?), "PKCE");
    let (kept, path) = trip.there("eve").await?;
    let replayed = trip.back(&changed(&kept, "nonce")?, &path).await?;
    assert_eq!((replayed.status, replayed.cookie()), (502, None), "{}", replayed.text);

    let (kept, path) = trip.there("eve").await?;
    let eve = trip.back(&kept, &path).await?;
    assert_eq!((eve.status, eve.header("location")), (303, Some("/")), "{}", eve.text);
    let cookie = eve.cookie().context("a session")?;
    let session = node.send(Method::GET, "/v1/session", &[("cookie", &cookie)], None).await?.json()?;
    assert_eq!((&session["email"], &session["tenant"]), (&json!("eve@example.com"), &json!(scene.acme.tenant)));
    assert!(refused(&trip.back(&kept, &path).await?), "a code is good for once");
    assert_eq!(trip.and_back("eve").await?.header("location"), Some("/"), "known by now");

    // A password that somebody has set before is forgotten once the person is vouched for.
    let password = "somebody set this";
    let tenant = scene.other.tenant.parse()?;
    node.accounts.set_user(&tenant, "frank@example.com", password.to_owned(), &[Scope::Read]).await?;
    provider.knows("frank", &json!({ "email": "frank@example.com", "email_verified": true })).await?;
    assert_eq!(trip.and_back("frank").await?.header("location"), Some("/"));
    let body = json!({ "email": "frank@example.com", "password": password });
    assert_eq!(node.send(Method::POST, "/v1/session", &[], Some(&body)).await?.status, 401);
    assert!(!database.dump().await?.contains("a secret of ours"));
    Ok(())
}

async fn a_full_tenant_keeps_nobody_out_of_others(database: Database) -> Result<()> {
    let (scene, provider) = (Scene::new()?, Provider::start()?);
    let node = scene.node(&database.url, signing_in_by(&provider), reckon_serving::Tuning::default()).await?;
    let mut filling = database.pool().await?.begin().await?;
    for number in 0..1_000 {
        let id = format!("member-{number:04}");
        sqlx::query("INSERT INTO users (id, email, created_at) VALUES ($1, $2, 0)")
            .bind(&id)
            .bind(format!("{id}@example.com"))
            .execute(&mut *filling)
            .await?;
        sqlx::query("INSERT INTO memberships (tenant, user_id, scopes, created_at) VALUES ($1, $2, 'read', 0)")
            .bind(&scene.other.tenant)
            .bind(&id)
            .execute(&mut *filling)
            .await?;
    }
    filling.commit().await?;
    let body = json!({ "email": "eve@example.com", "scopes": ["read"] });
    for admin in [&scene.other.admin, &scene.acme.admin] {
        assert_eq!(node.ask(Method::POST, "/v1/users", admin, Some(&body)).await?.status, 201);
    }
    provider.knows("eve", &json!({ "email": "eve@example.com", "email_verified": true })).await?;
    let eve = Trip { node: &node, provider: &provider }.and_back("eve").await?;
    assert_eq!((eve.status, eve.header("location")), (303, Some("/")), "{}", eve.text);
    let cookie = eve.cookie().context("a session")?;
    let session = node.send(Method::GET, "/v1/session", &[("cookie", &cookie)], None).await?.json()?;
    assert_eq!(session["tenants"], json!([scene.acme.tenant]));
    let theirs = node.ask(Method::GET, "/v1/users", &scene.other.admin, None).await?.json()?;
    assert_eq!(theirs["invitations"].as_array().map(Vec::len), Some(1), "it goes on waiting");
    // Who is a member of it already can be one still.
    let (other, password) = (scene.other.tenant.parse()?, "another password".to_owned());
    node.accounts.set_user(&other, "member-0007@example.com", password.clone(), &[Scope::Read]).await?;
    let one_more = node.accounts.set_user(&other, "one-more@example.com", password, &[Scope::Read]).await;
    assert!(one_more.is_err_and(|error| error.to_string().contains("as many members")));
    Ok(())
}
