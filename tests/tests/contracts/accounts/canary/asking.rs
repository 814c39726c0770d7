//! Asking what a row of the table says: as those who look, before and after those who have the canary.

use anyhow::{Result, ensure};
use reqwest::Method;
use serde_json::Value;

use super::super::scene::Answer;
use super::stage::{PASSWORD, Stage, Tenant};
use super::table::{Kind, Row};

/// How somebody shows who they are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Key,
    Cookie,
    Nothing,
}

impl Stage {
    /// As us, as them, and as us again: by then their answer may be kept somewhere.
    pub(super) async fn ask_as_both(&self, row: &Row) -> Result<()> {
        let by = if row.kind == Kind::Session { By::Cookie } else { By::Key };
        self.look(row, by).await?;
        self.owner_sees(row, by).await?;
        if row.kind == Kind::Read {
            self.look(row, By::Key).await?;
            self.look(row, By::Cookie).await?;
            self.name_their_tenant(row).await?;
        }
        Ok(())
    }

    /// By nobody in particular.
    pub(super) async fn ask_in_public(&self, row: &Row) -> Result<()> {
        self.owner_sees(row, By::Nothing).await?;
        let by_invitation = row.body.contains("{invitation}");
        if by_invitation { Ok(()) } else { self.look(row, By::Nothing).await }
    }

    /// We see nothing of theirs, and what they named is what nobody has.
    async fn look(&self, row: &Row, by: By) -> Result<()> {
        let answer = self.send(&self.ours, row, self.path(row, None), &self.filled(row.body, &self.ours), by).await?;
        self.check(row, &answer)?;
        if !row.names_theirs() {
            ensure!(answer.status == row.status, "we: {} {}", answer.status, answer.text);
            return Ok(());
        }
        let nobodys = self.path(row, Some('0'));
        let nobodys = self.send(&self.ours, row, nobodys, &self.filled(row.body, &self.ours), by).await?;
        ensure!(nobodys.status == 404, "{} {}", nobodys.status, nobodys.text);
        ensure!((answer.status, &answer.text) == (404, &nobodys.text), "{} {}", answer.status, answer.text);
        Ok(())
    }

    async fn owner_sees(&self, row: &Row, by: By) -> Result<()> {
        let body = self.filled(row.body, &self.theirs);
        let answer = self.send(&self.theirs, row, self.path(row, None), &body, by).await?;
        ensure!(answer.status == row.status, "they: {} {}", answer.status, answer.text);
        let sight = row.sight(&self.canary, &self.theirs.id).unwrap_or_default();
        ensure!(answer.text.contains(sight), "they do not see {sight}: {}", answer.text);
        Ok(())
    }

    /// A tenant that is named in a request is no way to see it.
    async fn name_their_tenant(&self, row: &Row) -> Result<()> {
        let mut path = self.path(row, None);
        path += if path.contains('?') { "&tenant=" } else { "?tenant=" };
        path += &self.theirs.id;
        let mut body = self.filled(row.body, &self.ours);
        if let Ok(Value::Object(mut fields)) = serde_json::from_str(&body) {
            fields.insert("tenant".to_owned(), self.theirs.id.clone().into());
            body = Value::Object(fields).to_string();
        }
        self.check(row, &self.send(&self.ours, row, path, &body, By::Key).await?)
    }

    async fn send(&self, who: &Tenant, row: &Row, path: String, body: &str, by: By) -> Result<Answer> {
        let method: Method = row.method.to_uppercase().parse()?;
        let mut request = self.request(method, &path).header("accept", row.accept);
        request = match by {
            By::Key => request.bearer_auth(&who.key),
            By::Cookie => request.header("cookie", &who.cookie).header("x-csrf-token", &who.csrf),
            By::Nothing => request,
        };
        if !body.is_empty() {
            request = request.header("content-type", "application/json").body(body.to_owned());
        }
        Answer::read(request.send().await?).await
    }

    /// The row's path with what it names: theirs, or something that looks like it.
    pub(super) fn path(&self, row: &Row, every_digit: Option<char>) -> String {
        let mut path = row.path.to_owned();
        if let Some((before, rest)) = row.path.split_once('{') {
            let after = rest.split_once('}').map_or("", |(_, after)| after);
            let collection = before.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            let theirs = row.named.or_else(|| self.ids.get(collection).map(String::as_str)).unwrap_or_default();
            let other = |sign: char| every_digit.filter(|_| sign.is_ascii_hexdigit()).unwrap_or(sign);
            path = format!("{before}{}{after}", theirs.chars().map(other).collect::<String>());
        }
        let query = self.filled(row.query, &self.ours);
        if query.is_empty() { path } else { format!("{path}?{query}") }
    }

    fn filled(&self, text: &str, who: &Tenant) -> String {
        [
            ("{canary}", self.canary.as_str()),
            ("{word}", &who.word),
            ("{tenant}", &who.id),
            ("{email}", &who.email),
            ("{password}", PASSWORD),
            ("{invitation}", &self.invitation),
            ("{from}", &self.from.to_string()),
            ("{to}", &self.to.to_string()),
        ]
        .iter()
        .fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    }

    /// Nothing of theirs is in an answer to us, and it is one that was meant.
    pub(super) fn check(&self, row: &Row, answer: &Answer) -> Result<()> {
        let text = answer.text.to_lowercase();
        let sight = row.sight(&self.canary, &self.theirs.id);
        let is_seen = [Some(self.canary.as_str()), sight].into_iter().flatten().any(|sight| text.contains(sight));
        // Who names something that is not there is told what they named.
        let is_told = is_seen || text.contains(&self.theirs.id);
        ensure!(answer.status >= 400 || !is_told, "{} {}", answer.status, answer.text);
        ensure!(!text.contains(&self.canary), "{} {}", answer.status, answer.text);
        ensure!(answer.status < 500, "{} {}", answer.status, answer.text);
        Ok(())
    }
}
