//! Two tenants on one installation. What one of them has is nowhere in what the other can get: not in an answer of any
//! route, a stream, a cache entry or a log line; and asking for it is like asking for what nobody has.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reckon_tests::{Process, Stack, World, until};
use reqwest::Method;
use serde_json::{Value, json};

use super::scene::Answer;

const PASSWORD: &str = "a horse that nobody sees";

/// A tenant of the world, as its admin.
struct Tenant {
    id: String,
    /// Every scope.
    key: String,
}

struct Stage {
    world: World,
    _process: Process,
    /// Who looks, and who must not be seen.
    ours: Tenant,
    theirs: Tenant,
    canary: String,
    /// What the others have, by the parameter that names it in a path.
    ids: BTreeMap<&'static str, String>,
}

#[tokio::test]
async fn nothing_of_another_tenant_is_anywhere() -> Result<()> {
    let stage = Stage::set().await?;
    let document: Value = stage.world.http.get(stage.url("/openapi.json")).send().await?.json().await?;
    let paths = document["paths"].as_object().context("paths")?;
    let mut answered = Vec::new();
    for (path, operations) in paths {
        for (method, operation) in operations.as_object().context("operations")? {
            let method: Method = method.to_uppercase().parse()?;
            if operation["tags"][0] == "collect" || method == Method::DELETE && path == "/v1/session" {
                continue;
            }
            stage.look(&method, path, &mut answered).await.with_context(|| format!("{method} {path}"))?;
        }
    }
    for path in ["/v1/query", "/v1/catalog", "/v1/keys", "/v1/users", "/v1/audit", "/v1/quotas", "/v1/dashboards"] {
        assert!(answered.iter().any(|good| good == path), "{path} was never answered: {answered:?}");
    }
    stage.look_at_the_stream().await?;
    stage.look_into_redis().await?;
    let log = stage._process.log();
    ensure!(log.lines().count() > 5, "there is no log:\n{log}");
    for secret in [stage.canary.as_str(), PASSWORD, &stage.theirs.key, &stage.ours.key] {
        assert!(!log.contains(secret), "{secret} in the log");
    }
    Ok(())
}

impl Stage {
    async fn set() -> Result<Self> {
        let world = World::with_neighbours(&Stack::shared()?, "[speed]\nflush_interval = \"100ms\"\n", &["b"])?;
        let process = world.start("all")?;
        until("the serving node", Duration::from_secs(60), || world.is_ready(world.serve_port)).await?;
        let ours = Tenant { id: world.tenant.clone(), key: String::new() };
        let theirs = Tenant { id: format!("{}b", world.tenant), key: String::new() };
        let canary = format!("CANARY{}", uuid::Uuid::new_v4().simple());
        let mut stage = Self { world, _process: process, ours, theirs, canary, ids: BTreeMap::new() };
        stage.ours.key = stage.admin_key(&stage.ours.id, "ours@example.com", "ours").await?;
        stage.theirs.key =
            stage.admin_key(&stage.theirs.id, &format!("{}@example.com", stage.canary), "theirs").await?;
        stage.fill().await?;
        Ok(stage)
    }

    /// The first admin signs in and makes a key that may do everything.
    async fn admin_key(&self, tenant: &str, email: &str, name: &str) -> Result<String> {
        let scopes = ["--scope", "read", "--scope", "admin", "--scope", "finance", "--scope", "write"];
        let arguments = [&["user", "add", "--tenant", tenant, "--email", email][..], &scopes].concat();
        let made = self.world.run_with_input(&arguments, PASSWORD)?;
        ensure!(made.code == 0, "{}", made.log);
        let body = json!({ "email": email, "password": PASSWORD });
        let answer = self.world.http.post(self.url("/v1/session")).json(&body).send().await?;
        let cookie = Answer::read(answer).await?;
        let (csrf, cookie) = (cookie.json()?["csrf_token"].clone(), cookie.cookie().context("a cookie")?);
        let wish = json!({ "name": name, "scopes": ["read", "write", "finance", "admin"] });
        let request = self.world.http.post(self.url("/v1/keys")).header("cookie", cookie);
        let request = request.header("x-csrf-token", csrf.as_str().context("a token")?);
        let made: Value = request.json(&wish).send().await?.json().await?;
        Ok(made["key"].as_str().with_context(|| made.to_string())?.to_owned())
    }

    /// The others' events, people, keys and dashboards, all with the canary; and one event of ours.
    async fn fill(&mut self) -> Result<()> {
        let canary = self.canary.clone();
        let event = |id: &str, department: &str| {
            json!({ "event_id": id, "name": "purchase", "occurred_at": jiff::Timestamp::now(), "user_id": id,
                    "money": { "amount": "7.77", "currency": "USD" },
                    "properties": { "department": department, "store": department, "page": department } })
        };
        let mut broken = event(&canary, &canary);
        broken["occurred_at"] = json!(canary);
        let collect = format!("http://127.0.0.1:{}/v1/events", self.world.collect_port);
        for (tenant, events) in [
            (&self.theirs, json!([event(&canary, &canary), event(&canary, &canary), broken])),
            (&self.ours, json!([event("ours", "DELI")])),
        ] {
            until("the key at the collector", Duration::from_secs(10), async || {
                let answer = self.world.http.post(&collect).bearer_auth(&tenant.key).json(&events).send().await?;
                Ok(answer.status().as_u16() == 202)
            })
            .await?;
        }
        let dashboard = json!({ "name": canary, "charts": [
            { "title": canary, "shape": "line", "question": { "metric": "purchases", "filter": format!("department:{canary}") } }
        ] });
        let theirs = &self.theirs;
        let saved = self.ask(theirs, Method::POST, "/v1/dashboards", Some(&dashboard)).await?.json()?;
        let alert = json!({ "name": canary, "metric": "purchases", "filter": [format!("department:{canary}")],
                            "side": "above", "threshold": "1", "for_seconds": 0 });
        let alert = self.ask(theirs, Method::POST, "/v1/alerts", Some(&alert)).await?.json()?;
        let wish = json!({ "name": canary, "scopes": ["read"] });
        let key = self.ask(theirs, Method::POST, "/v1/keys", Some(&wish)).await?.json()?;
        let invitee = json!({ "email": format!("{canary}@example.org"), "scopes": ["read"] });
        ensure!(self.ask(theirs, Method::POST, "/v1/users", Some(&invitee)).await?.status == 201);
        let people = self.ask(theirs, Method::GET, "/v1/users", None).await?.json()?;
        let id = |value: &Value| value.as_str().map(str::to_owned).with_context(|| value.to_string());
        let (dashboard, prefix, user) = (id(&saved["id"])?, id(&key["prefix"])?, id(&people["members"][0]["id"])?);
        self.ids = [("dashboard", dashboard), ("alert", id(&alert["id"])?), ("prefix", prefix), ("user", user)].into();
        // The canary sings where it may: the others see it, everywhere that we are going to look.
        until("the others' numbers", Duration::from_secs(30), async || {
            let answer = self.ask(&self.theirs, Method::GET, "/v1/query?metric=purchases&by=department", None).await?;
            Ok(answer.text.contains(&self.canary))
        })
        .await?;
        for path in ["/v1/dashboards", "/v1/alerts", "/v1/keys", "/v1/users", "/v1/audit"] {
            let answer = self.ask(&self.theirs, Method::GET, path, None).await?;
            ensure!(answer.text.to_lowercase().contains(&self.canary.to_lowercase()), "{path} {}", answer.text);
        }
        until("our numbers", Duration::from_secs(30), async || {
            let answer = self.ask(&self.ours, Method::GET, "/v1/query?metric=purchases&by=department", None).await?;
            Ok(answer.text.contains("DELI"))
        })
        .await
    }

    /// Asks one path in every way there is to ask for something of the others.
    async fn look(&self, method: &Method, path: &str, answered: &mut Vec<String>) -> Result<()> {
        // Streams have no end.
        if path.ends_with("/live") {
            return Ok(());
        }
        let theirs = self.theirs.id.as_str();
        for (their_path, nobodys_path) in self.named(path) {
            for query in
                ["", "?metric=purchases&by=department&from=2020-01-01&grain=1d", "?limit=1000", "?metric=purchases"]
            {
                let with_tenant = format!("{query}{}tenant={theirs}", if query.is_empty() { "?" } else { "&" });
                for query in [query, &with_tenant] {
                    for body in self.bodies(method) {
                        let theirs = format!("{their_path}{query}");
                        let their_answer = self.ask(&self.ours, method.clone(), &theirs, body.as_ref()).await?;
                        self.check(&their_answer)?;
                        if their_answer.status == 200 {
                            answered.push(path.to_owned());
                        }
                        if path.contains('{') {
                            let nobodys = format!("{nobodys_path}{query}");
                            let nobodys = self.ask(&self.ours, method.clone(), &nobodys, body.as_ref()).await?;
                            assert_eq!(
                                (their_answer.status, &their_answer.text),
                                (nobodys.status, &nobodys.text),
                                "{query}"
                            );
                            assert!(their_answer.status >= 400, "{their_path} {}", their_answer.text);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// A path that names something of the others, and one that names nothing, as often as there is something.
    fn named(&self, path: &str) -> Vec<(String, String)> {
        let Some((before, rest)) = path.split_once('{') else { return vec![(path.to_owned(), path.to_owned())] };
        let after = rest.split_once('}').map_or("", |(_, after)| after);
        let fill = |with: &str| format!("{before}{with}{after}");
        let nobodys = |id: &str| id.chars().map(|c| if c.is_ascii_hexdigit() { '0' } else { c }).collect::<String>();
        self.ids.values().map(|id| (fill(id), fill(&nobodys(id)))).collect()
    }

    fn bodies(&self, method: &Method) -> Vec<Option<Value>> {
        if [Method::GET, Method::DELETE].contains(method) {
            return vec![None];
        }
        let theirs = &self.theirs.id;
        let question = json!({ "metric": "purchases", "by": ["department"], "grain": "1d" });
        let mut with_tenant = question.clone();
        with_tenant["tenant"] = json!(theirs);
        let board = json!({ "name": "ours", "charts": [] });
        let alert = json!({ "name": "ours", "metric": "purchases", "side": "above", "threshold": "1" });
        let switch = json!({ "tenant": theirs });
        [json!({}), question, with_tenant, board, alert, switch, json!({ "scopes": ["read"] })]
            .into_iter()
            .map(Some)
            .collect()
    }

    /// A live stream of ours while the others are busy.
    async fn look_at_the_stream(&self) -> Result<()> {
        let url = self.url("/v1/live?metric=purchases&by=department");
        let mut stream = self.world.http.get(url).bearer_auth(&self.ours.key).send().await?;
        let collect = format!("http://127.0.0.1:{}/v1/events", self.world.collect_port);
        let mut text = String::new();
        for number in 0..20 {
            for (tenant, department) in [(&self.theirs, self.canary.as_str()), (&self.ours, "DELI")] {
                let id = format!("{department}-{number}");
                let event = json!([{ "event_id": id, "name": "purchase", "occurred_at": jiff::Timestamp::now(),
                                     "properties": { "department": department } }]);
                self.world
                    .http
                    .post(&collect)
                    .bearer_auth(&tenant.key)
                    .json(&event)
                    .send()
                    .await?
                    .error_for_status()?;
            }
            if let Ok(chunk) = tokio::time::timeout(Duration::from_millis(150), stream.chunk()).await {
                text += &String::from_utf8_lossy(&chunk?.context("the stream ended")?);
            }
        }
        ensure!(text.matches("event: ").count() > 2 && text.contains("DELI"), "{text}");
        assert!(!text.contains(&self.canary) && !text.contains(&self.theirs.id), "{text}");
        Ok(())
    }

    /// Every entry of Redis that has something of the others says so in its key.
    async fn look_into_redis(&self) -> Result<()> {
        let mut redis = self.world.redis_connection().await?;
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut redis).await?;
        let tag = format!("{{{}}}", self.theirs.id);
        let (mut seen, mut answers) = (0, 0);
        for key in keys {
            let kind: String = redis::cmd("TYPE").arg(&key).query_async(&mut redis).await?;
            let read: &[&str] = match kind.as_str() {
                "hash" => &["HGETALL"],
                "zset" => &["ZRANGE", "0", "-1"],
                "set" => &["SMEMBERS"],
                "list" => &["LRANGE", "0", "-1"],
                "string" => &["GET"],
                _ => continue,
            };
            let mut command = redis::cmd(read[0]);
            command.arg(&key).arg(&read[1..]);
            let value: redis::Value = command.query_async(&mut redis).await?;
            let mut text = format!("{key} {value:?}");
            if let redis::Value::BulkString(bytes) = &value {
                // Answers are kept as compressed JSON behind a number.
                let packed = bytes.split(|byte| *byte == b' ').next().map_or(&bytes[..0], |head| &bytes[head.len()..]);
                let json = packed.get(1..).and_then(|packed| zstd::decode_all(packed).ok()).unwrap_or_default();
                answers += usize::from(!json.is_empty());
                text += &String::from_utf8_lossy(&json);
            }
            if text.contains(&self.canary) {
                assert!(key.contains(&tag), "{key}");
                seen += 1;
            }
        }
        ensure!(seen > 0 && answers > 0, "the canary is nowhere in Redis, or no answer is: this shows nothing");
        Ok(())
    }

    fn check(&self, answer: &Answer) -> Result<()> {
        let text = answer.text.to_lowercase();
        let echoes = answer.status >= 400 && answer.text.contains("tenant=");
        ensure!(!text.contains(&self.canary.to_lowercase()), "{} {}", answer.status, answer.text);
        ensure!(echoes || !text.contains(&self.theirs.id) || answer.status >= 400, "{} {}", answer.status, answer.text);
        ensure!(answer.status < 500 || answer.status == 503, "{} {}", answer.status, answer.text);
        Ok(())
    }

    async fn ask(&self, who: &Tenant, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let ask = async || -> Result<Answer> {
            let mut request = self.world.http.request(method.clone(), self.url(path)).bearer_auth(&who.key);
            // As somebody who changes whatever version there is.
            request = request.header("if-match", "*");
            if let Some(body) = body {
                request = request.json(body);
            }
            Answer::read(request.send().await?).await
        };
        // Within the quota: this test asks a lot.
        loop {
            let answer = ask().await?;
            if answer.status != 429 {
                return Ok(answer);
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.world.serve_port)
    }
}
