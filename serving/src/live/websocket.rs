//! The same messages over a WebSocket: several questions on one connection, which are begun and ended by messages.
//!
//! | the client says | and gets |
//! |---|---|
//! | `{"type":"auth","key":"rk_…"}`, first and only if its request had no key | `{"type":"ready","tenant":"…"}` |
//! | `{"type":"subscribe","id":"a","query":"metric=revenue&grain=1h","resume":"…"}` | `{"type":"message","id":"a","message":{…}}`, then one for every change; `resume` is the `position` of the last message seen, if any |
//! | `{"type":"unsubscribe","id":"a"}` | `{"type":"unsubscribed","id":"a"}` |
//!
//! `{"type":"problem","id":…,"problem":{…}}` says what was refused or why a question ended, `{"type":"heartbeat"}` that
//! the connection lives. A key is never part of an address.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use bytes::Bytes;
use futures::FutureExt;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use reckon_schemas::catalog::Tenant;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::change::Position;
use super::{Hub, Subscription};
use crate::access::Access;
use crate::access::watcher::{Admission, Watcher};
use crate::problem::Problem;
use crate::query::params::Query;
use crate::tuning::Tuning;

/// The longest message that a client may send, in bytes.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// What a connection reads at once; messages of clients are short.
pub(crate) const READ_BUFFER_BYTES: usize = 2 * 1024;
/// How long a client may take to say who it is.
const AUTH_MAX: Duration = Duration::from_secs(10);
/// How long a client may take to close its side.
const CLOSE_MAX: Duration = Duration::from_secs(2);
/// How many messages a client may send in a second.
const MESSAGES_PER_SECOND_MAX: NonZeroU32 = NonZeroU32::new(20).expect("positive");
/// The longest name of a subscription, in bytes.
const ID_BYTES_MAX: usize = 128;

/// What a client says.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Said {
    Auth { key: String },
    Subscribe { id: String, query: String, resume: Option<String> },
    Unsubscribe { id: String },
}

/// What a client hears beside the messages of its questions.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Told<'a> {
    Ready { tenant: &'a str },
    Unsubscribed { id: &'a str },
    Problem { id: Option<&'a str>, problem: &'a Problem },
    Heartbeat,
}

/// What conversations share.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) access: Arc<Access>,
    pub(crate) hub: Hub,
    pub(crate) tuning: Arc<Tuning>,
    pub(crate) shutdown: CancellationToken,
}

/// Why a conversation ends.
enum End {
    /// The client left, or does not read.
    Gone,
    /// It is told why.
    Close(u16, &'static str),
}

/// One connection.
struct Conversation {
    socket: WebSocket,
    host: Host,
    watched: Vec<Watched>,
    quota: DefaultDirectRateLimiter,
}

/// One question of a connection.
struct Watched {
    id: String,
    subscription: Subscription,
    seen: Option<Position>,
}

/// Talks until one of the two has had enough. `watcher` is who the request's own key belongs to.
pub(crate) async fn converse(socket: WebSocket, host: Host, watcher: Option<Watcher>) {
    let quota = RateLimiter::direct(Quota::per_second(MESSAGES_PER_SECOND_MAX));
    let mut conversation = Conversation { socket, host, watched: Vec::new(), quota };
    if let End::Close(code, reason) = conversation.run(watcher).await {
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        // Who is gone by now does not need to know. What a client has said meanwhile is read, or it would lose the reason
        // with the connection.
        if conversation.socket.send(Message::Close(Some(frame))).await.is_ok() {
            let rest = async { while let Some(Ok(_)) = conversation.socket.recv().await {} };
            let _ = tokio::time::timeout(CLOSE_MAX, rest).await;
        }
    }
}

impl Conversation {
    async fn run(&mut self, watcher: Option<Watcher>) -> End {
        let shutdown = self.host.shutdown.clone();
        let talk = async {
            let Watcher { tenant, admission } = match watcher {
                Some(watcher) => watcher,
                None => match tokio::time::timeout(AUTH_MAX, self.authenticate()).await {
                    Ok(Ok(watcher)) => watcher,
                    Ok(Err(end)) => return end,
                    Err(_) => return End::Close(close_code::POLICY, "no key in time"),
                },
            };
            // For all of its questions.
            let _place = match self.host.hub.take_place(&tenant) {
                Ok(place) => place,
                Err(problem) => return self.refuse(&problem, close_code::AGAIN, "too many live connections").await,
            };
            match self.tell(&Told::Ready { tenant: tenant.id.as_str() }).await {
                Ok(()) => tokio::select! {
                    end = self.listen(&tenant) => end,
                    _ = admission.ended() => End::Close(close_code::POLICY, "the key is not valid any more"),
                },
                Err(end) => end,
            }
        };
        shutdown.run_until_cancelled(Box::pin(talk)).await.unwrap_or(End::Close(close_code::AWAY, "shutting down"))
    }

    async fn authenticate(&mut self) -> Result<Watcher, End> {
        let problem = match self.hear().await? {
            Ok(Said::Auth { key }) => match self.host.access.reader_by_key(&key) {
                Ok(tenant) => {
                    let admission = Admission::by_key(self.host.access.clone(), &tenant, &key);
                    return Ok(Watcher { tenant, admission });
                }
                Err(problem) => problem,
            },
            Ok(_) => Problem::unauthorized(),
            Err(problem) => problem,
        };
        Err(self.refuse(&problem, close_code::POLICY, "not authorised").await)
    }

    /// Says why there is no conversation.
    async fn refuse(&mut self, problem: &Problem, code: u16, reason: &'static str) -> End {
        match self.tell(&Told::Problem { id: None, problem }).await {
            Ok(()) => End::Close(code, reason),
            Err(end) => end,
        }
    }

    async fn listen(&mut self, tenant: &Arc<Tenant>) -> End {
        let mut heartbeat = tokio::time::interval(self.host.tuning.heartbeat);
        heartbeat.reset();
        loop {
            let done = tokio::select! {
                index = moved(&mut self.watched) => self.deliver(index).await,
                said = self.socket.recv() => match understood(said) {
                    Ok(Some(said)) => self.obey(said, tenant).await,
                    Ok(None) => Ok(()),
                    Err(end) => Err(end),
                },
                _ = heartbeat.tick() => self.tell(&Told::Heartbeat).await,
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    /// The next message of the client; the inner error is one that it is told.
    async fn hear(&mut self) -> Result<Result<Said, Problem>, End> {
        loop {
            if let Some(said) = understood(self.socket.recv().await)? {
                return Ok(said);
            }
        }
    }

    async fn obey(&mut self, said: Result<Said, Problem>, tenant: &Arc<Tenant>) -> Result<(), End> {
        if self.quota.check().is_err() {
            return Err(End::Close(close_code::POLICY, "too many messages"));
        }
        let (id, done) = match said {
            Ok(Said::Subscribe { id, query, resume }) => {
                let seen = resume.as_deref().and_then(Position::parse);
                let done = self.subscribe(&id, &query, seen, tenant);
                if done.is_ok() {
                    return self.deliver(self.watched.len() - 1).await;
                }
                (Some(id), done)
            }
            Ok(Said::Unsubscribe { id }) => {
                self.watched.retain(|watched| watched.id != id);
                return self.tell(&Told::Unsubscribed { id: &id }).await;
            }
            Ok(Said::Auth { .. }) => (None, Err(Problem::unreadable_message("a key was given already"))),
            Err(problem) => (None, Err(problem)),
        };
        match done {
            Ok(()) => Ok(()),
            Err(problem) => self.tell(&Told::Problem { id: id.as_deref(), problem: &problem }).await,
        }
    }

    /// The new question is the last of the list. It costs what the same question costs over HTTP.
    fn subscribe(
        &mut self,
        id: &str,
        query: &str,
        seen: Option<Position>,
        tenant: &Arc<Tenant>,
    ) -> Result<(), Problem> {
        if id.is_empty() || id.len() > ID_BYTES_MAX || self.watched.iter().any(|watched| watched.id == id) {
            let detail = format!("`id` has 1 to {ID_BYTES_MAX} bytes and is none of a question that is watched");
            return Err(Problem::unreadable_message(detail));
        }
        if self.watched.len() >= self.host.tuning.live_subscriptions_max {
            let detail = "this connection has as many live queries as it may have";
            return Err(Problem::too_many_requests(detail, self.host.tuning.live_refresh));
        }
        self.host.access.charge(tenant, 1)?;
        let pairs: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let subscription = self.host.hub.subscribe(Query::parse(&pairs)?, tenant)?;
        self.watched.push(Watched { id: id.to_owned(), subscription, seen });
        Ok(())
    }

    /// Sends what is new. While that waits for a slow client, what else is new becomes one newest state.
    async fn deliver(&mut self, index: usize) -> Result<(), End> {
        let Some(watched) = self.watched.get_mut(index) else { return Ok(()) };
        let latest = watched.subscription.seen.borrow_and_update().latest.clone();
        match latest {
            Some(Ok(standing)) => {
                for sent in standing.since(watched.seen) {
                    watched.seen = Some(sent.position);
                    let message = wrapped(&watched.id, &sent.json);
                    self.socket.send(message).await.map_err(|_| End::Gone)?;
                }
                Ok(())
            }
            Some(Err(problem)) => {
                let watched = self.watched.swap_remove(index);
                self.tell(&Told::Problem { id: Some(&watched.id), problem: &problem }).await
            }
            None => Ok(()),
        }
    }

    async fn tell(&mut self, told: &Told<'_>) -> Result<(), End> {
        let text = serde_json::to_string(told).unwrap_or_default();
        self.socket.send(Message::text(text)).await.map_err(|_| End::Gone)
    }
}

/// A question's message as it is for everybody, with the name that this client has for the question.
fn wrapped(id: &str, json: &Bytes) -> Message {
    let id = serde_json::to_string(id).unwrap_or_default();
    let mut text = Vec::with_capacity(json.len() + id.len() + 40);
    text.extend_from_slice(b"{\"type\":\"message\",\"id\":");
    text.extend_from_slice(id.as_bytes());
    text.extend_from_slice(b",\"message\":");
    text.extend_from_slice(json);
    text.push(b'}');
    Utf8Bytes::try_from(text).map_or_else(|_| Message::text(""), Message::Text)
}

/// Waits until one of the questions has something new; the place of the first one that has.
async fn moved(watched: &mut [Watched]) -> usize {
    if watched.is_empty() {
        return std::future::pending().await;
    }
    let changes = watched.iter_mut().map(|watched| watched.subscription.seen.changed().boxed());
    futures::future::select_all(changes).await.1
}

/// What a client said; `None` for what the protocol itself answers.
fn understood(said: Option<Result<Message, axum::Error>>) -> Result<Option<Result<Said, Problem>>, End> {
    match said {
        Some(Ok(Message::Text(text))) => {
            let said = serde_json::from_str(&text);
            Ok(Some(said.map_err(|error| Problem::unreadable_message(error.to_string()))))
        }
        Some(Ok(Message::Binary(_))) => Err(End::Close(close_code::UNSUPPORTED, "messages are JSON, as text")),
        Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(None),
        Some(Ok(Message::Close(_)) | Err(_)) | None => Err(End::Gone),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_the_one_of_everybody_with_the_clients_own_name() {
        let Message::Text(text) = wrapped("a\"b", &Bytes::from_static(b"{\"seq\":1}")) else { panic!("text") };
        assert_eq!(text.as_str(), r#"{"type":"message","id":"a\"b","message":{"seq":1}}"#);
    }
}
