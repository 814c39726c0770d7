//! Two tenants on one installation: ours with a little of everything, and theirs with the canary in all of it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reckon_schemas::catalog::{Measure, Metric};
use reckon_tests::books::TUNING;
use reckon_tests::lake::until_conserved;
use reckon_tests::{Process, Stack, World, until};
use reqwest::Method;
use serde_json::{Value, json};

use super::super::scene::Answer;

pub(super) const PASSWORD: &str = "a horse that nobody sees";
/// What they took once, and nobody else.
pub(super) const AMOUNT: &str = "70707070.07";
const PATIENCE: Duration = Duration::from_secs(120);

/// A tenant of the world, as its admin.
pub(super) struct Tenant {
    pub(super) id: String,
    pub(super) email: String,
    /// What its things are called.
    pub(super) word: String,
    /// Every scope.
    pub(super) key: String,
    /// A session, and what has to be sent along with its cookie.
    pub(super) cookie: String,
    pub(super) csrf: String,
}

pub(super) struct Stage {
    pub(super) world: World,
    pub(super) process: Process,
    /// Who looks, and who must not be seen.
    pub(super) ours: Tenant,
    pub(super) theirs: Tenant,
    pub(super) canary: String,
    /// What they have, by the part of a path that it comes after.
    pub(super) ids: BTreeMap<&'static str, String>,
    /// An invitation of theirs that waits.
    pub(super) invitation: String,
    /// The day of the first events, in the month before this one.
    pub(super) from: jiff::civil::Date,
    /// The day after tomorrow.
    pub(super) to: jiff::civil::Date,
    http: reqwest::Client,
}

impl Stage {
    pub(super) async fn set() -> Result<Self> {
        // A stream that has nothing to say is heard all the same.
        let tuning = format!("{TUNING}\n[serve]\nheartbeat = \"1s\"\n");
        let mut world = World::with_neighbours(&Stack::shared()?, &tuning, &["b"])?;
        let canary = format!("canary{}", uuid::Uuid::new_v4().simple());
        let named = Metric {
            name: canary.clone(),
            event: "purchase".to_owned(),
            measure: Measure::Count,
            currency: None,
            property: None,
            limit: None,
        };
        let rollup = canary.parse()?;
        world.change_catalog_of(1, |tenant| {
            tenant.metrics.push(named);
            tenant.rollups.push(rollup);
        })?;
        let process = world.start("all")?;
        until("the serving node", PATIENCE, || world.is_ready(world.serve_port)).await?;
        let tenant = |id: String, word: &str| Tenant {
            id,
            email: format!("{word}@example.com"),
            word: word.to_owned(),
            key: String::new(),
            cookie: String::new(),
            csrf: String::new(),
        };
        let (ours, theirs) = (tenant(world.tenant.clone(), "ours"), tenant(format!("{}b", world.tenant), &canary));
        let today = jiff::Zoned::now().in_tz("America/New_York")?.date();
        let to = today.checked_add(jiff::ToSpan::days(2))?;
        let from = today.first_of_month().checked_sub(jiff::ToSpan::days(2))?;
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        let (ids, invitation) = (BTreeMap::new(), String::new());
        let mut stage = Self { world, process, ours, theirs, canary, ids, invitation, from, to, http };
        stage.ours = stage.signed_in(&stage.ours, "60000000").await?;
        stage.theirs = stage.signed_in(&stage.theirs, "70707070").await?;
        stage.fill_the_past().await?;
        stage.fill_today().await?;
        stage.save().await?;
        stage.until_it_is_seen().await?;
        Ok(stage)
    }

    /// The first admin signs in and makes a key that may do everything; the tenant may ask a lot.
    async fn signed_in(&self, tenant: &Tenant, rows_per_minute: &str) -> Result<Tenant> {
        let Tenant { id, email, word, .. } = tenant;
        let scopes = ["--scope", "read", "--scope", "admin", "--scope", "finance", "--scope", "write"];
        let arguments = [&["user", "add", "--tenant", id, "--email", email][..], &scopes].concat();
        let made = self.world.run_with_input(&arguments, PASSWORD)?;
        ensure!(made.code == 0, "{}", made.log);
        let bounds = ["--queries-per-second", "10000", "--rows-per-minute", rows_per_minute];
        let bounded = self.world.run(&[&["quota", "--tenant", id][..], &bounds].concat())?;
        ensure!(bounded.code == 0, "{}", bounded.log);
        let body = json!({ "email": email, "password": PASSWORD });
        let answer = self.world.http.post(self.url("/v1/session")).json(&body).send().await?;
        let answer = Answer::read(answer).await?;
        let csrf = answer.json()?["csrf_token"].as_str().context("a token")?.to_owned();
        let cookie = answer.cookie().context("a cookie")?;
        let wish = json!({ "name": word, "scopes": ["read", "write", "finance", "admin"] });
        let request = self.world.http.post(self.url("/v1/keys")).header("cookie", &cookie);
        let made: Value = request.header("x-csrf-token", &csrf).json(&wish).send().await?.json().await?;
        let key = made["key"].as_str().with_context(|| made.to_string())?.to_owned();
        Ok(Tenant { id: id.clone(), email: email.clone(), word: word.clone(), key, cookie, csrf })
    }

    /// Days of the month before are settled, one of them again; they close the month, and an event comes after that.
    async fn fill_the_past(&self) -> Result<()> {
        let noon = self.from.at(12, 0, 0, 0).in_tz("America/New_York")?.timestamp();
        let theirs = |number: usize| {
            let mut event = purchase(&format!("{}-old-{number}", self.canary), noon, &self.canary);
            if number == 0 {
                event["money"] = json!({ "amount": AMOUNT, "currency": "USD" });
            }
            event
        };
        self.collect(&self.ours, &[purchase("ours-old", noon, "DELI")]).await?;
        self.collect(&self.theirs, &(0..7).map(theirs).collect::<Vec<_>>()).await?;
        self.nightly().await?;
        self.collect(&self.theirs, &[theirs(7)]).await?;
        self.nightly().await?;
        let period = self.from.strftime("%Y-%m").to_string();
        let close = ["close", "--period", &period, "--sign-off", &self.canary, "--tenant", &self.theirs.id];
        let closed = self.world.run(&close)?;
        ensure!(closed.code == 0, "exit {}:\n{}\n{}", closed.code, closed.stdout, closed.log);
        self.collect(&self.theirs, &[theirs(8)]).await?;
        self.nightly().await
    }

    async fn nightly(&self) -> Result<()> {
        until_conserved(&self.world).await?;
        let nightly = self.world.run(&["nightly"])?;
        ensure!(nightly.code == 0, "exit {}:\n{}\n{}", nightly.code, nightly.stdout, nightly.log);
        Ok(())
    }

    /// Events of minutes that are over and of now, repeated ones, and what is refused.
    async fn fill_today(&self) -> Result<()> {
        let now = jiff::Timestamp::now();
        for tenant in [&self.ours, &self.theirs] {
            let department = if tenant.word == "ours" { "DELI" } else { &tenant.word };
            let event = |name: &str, seconds_ago: i64| {
                let at = now - jiff::SignedDuration::from_secs(seconds_ago);
                let mut event = purchase(&format!("{}-{name}-{seconds_ago}", tenant.word), at, department);
                event["name"] = json!(name);
                event
            };
            let mut broken = event("purchase", 1);
            broken["occurred_at"] = json!(tenant.word);
            let bought = event("purchase", 120);
            let events = [event("view", 150), bought.clone(), bought, broken, event("purchase", 0)];
            self.collect(tenant, &events).await?;
        }
        Ok(())
    }

    /// What their people have saved, and who they are.
    async fn save(&mut self) -> Result<()> {
        let canary = self.canary.clone();
        let filter = format!("department:{canary}");
        let question = json!({ "metric": "purchases", "filter": filter });
        let dashboard =
            json!({ "name": canary, "charts": [{ "title": canary, "shape": "line", "question": question }] });
        let text = format!("count(*) filter (where department = '{canary}')");
        let metric = json!({ "name": format!("saved_{canary}"), "text": text });
        let alert = json!({ "name": canary, "metric": "purchases", "filter": [filter], "over_minutes": 60,
                            "side": "above", "threshold": "0", "for_seconds": 0 });
        let dashboard = self.created("/v1/dashboards", &dashboard).await?;
        let metric = self.created("/v1/metrics", &metric).await?;
        let alert = self.created("/v1/alerts", &alert).await?;
        let key = self.created("/v1/keys", &json!({ "name": canary, "scopes": ["read"] })).await?;
        let invited = async |name: &str| {
            let invitee = json!({ "email": format!("{canary}-{name}@example.org"), "scopes": ["read"] });
            let invited = self.created("/v1/users", &invitee).await?;
            Ok::<_, anyhow::Error>(invited["invitation"].as_str().context("an invitation")?.to_owned())
        };
        let (member, waiting) = (invited("member").await?, invited("waiting").await?);
        let accept = json!({ "invitation": member, "password": PASSWORD });
        let accepted = self.http.post(self.url("/v1/session/accept")).json(&accept).send().await?;
        ensure!(accepted.status() == 200, "{}", accepted.text().await?);
        let people = self.ask(&self.theirs, Method::GET, "/v1/users", None).await?.json()?;
        let members = people["members"].as_array().context("members")?;
        let member = members.iter().find(|member| member["email"] == format!("{canary}-member@example.org"));
        let id = |value: &Value| value.as_str().map(str::to_owned).with_context(|| value.to_string());
        self.ids = [
            ("dashboards", id(&dashboard["id"])?),
            ("metrics", id(&metric["name"])?),
            ("alerts", id(&alert["id"])?),
            ("keys", id(&key["prefix"])?),
            ("users", id(&member.context("the member")?["id"])?),
        ]
        .into();
        self.invitation = waiting;
        Ok(())
    }

    async fn created(&self, path: &str, body: &Value) -> Result<Value> {
        let answer = self.ask(&self.theirs, Method::POST, path, Some(body)).await?;
        ensure!(answer.status == 201, "{path}: {} {}", answer.status, answer.text);
        answer.json()
    }

    /// What takes its time has arrived.
    async fn until_it_is_seen(&self) -> Result<()> {
        let (by_department, by_user) =
            ("/v1/query?metric=purchases&by=department", "/v1/query?metric=purchases&by=user_id");
        for (tenant, path, text) in [
            (&self.theirs, by_department, self.canary.as_str()),
            (&self.theirs, by_user, &self.canary),
            (&self.theirs, "/v1/rejected", &self.canary),
            (&self.theirs, "/v1/alert-events", &self.canary),
            (&self.theirs, "/v1/quotas", "70707070"),
            (&self.ours, by_department, "DELI"),
            (&self.ours, by_user, "DELI"),
            (&self.ours, "/v1/quotas", "60000000"),
        ] {
            until(path, PATIENCE, async || Ok(self.ask(tenant, Method::GET, path, None).await?.text.contains(text)))
                .await?;
        }
        Ok(())
    }

    /// Sends events through the collector, which learns of new keys after a while.
    pub(super) async fn collect(&self, tenant: &Tenant, events: &[Value]) -> Result<()> {
        let url = format!("http://127.0.0.1:{}/v1/events", self.world.collect_port);
        until("the key at the collector", PATIENCE, async || {
            let answer = self.world.http.post(&url).bearer_auth(&tenant.key).json(events).send().await?;
            Ok(answer.status().as_u16() == 202)
        })
        .await
    }

    pub(super) async fn ask(&self, who: &Tenant, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let request = self.request(method, path).bearer_auth(&who.key);
        let request = if let Some(body) = body { request.json(body) } else { request };
        Answer::read(request.send().await?).await
    }

    /// A request of somebody who changes whatever version there is, and is not led elsewhere.
    pub(super) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, self.url(path)).header("if-match", "*")
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.world.serve_port)
    }
}

fn purchase(id: &str, at: jiff::Timestamp, department: &str) -> Value {
    json!({ "event_id": id, "name": "purchase", "occurred_at": at, "user_id": department,
            "properties": { "department": department, "store": department } })
}
