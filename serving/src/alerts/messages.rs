//! Messages to other systems: kept with the event that they are about, sent until they arrive, given up after a day.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::definition::Definition;
use super::webhook::{Message, Undelivered};
use crate::accounts::{Accounts, Error, micros};

/// Messages of one tenant that are sent at the same time.
pub(super) const OF_TENANT_MAX: u8 = 4;
/// An attempt that has not ended after so long was not made: longer than a receiver may take.
const ATTEMPT_TIME_MAX: SignedDuration = SignedDuration::from_secs(30);
/// After so many attempts, about a day after the first, a message is given up.
const ATTEMPTS_MAX: i64 = 24;
const FIRST_WAIT_S: i64 = 10;
const WAIT_S_MAX: i64 = 3_600;
/// Events and messages are kept for so long.
const KEPT: SignedDuration = SignedDuration::from_hours(24 * 90);
const LEASE: &str = "alerts";

type DueRow = (String, i64, String, String, String, String);

/// A message that waits to be sent.
pub(super) struct Due {
    event: String,
    attempts: i64,
    pub(super) tenant: String,
    pub(super) message: Message,
    /// Where to, or why nowhere.
    pub(super) address: Result<String, Undelivered>,
    pub(super) secret: String,
}

impl Accounts {
    /// Whether this process is the one that watches, for the next while. The others take over when it stops to ask.
    pub(super) async fn lead_alerts(&self, owner: &str, now: Timestamp, term: SignedDuration) -> Result<bool, Error> {
        let sql = "INSERT INTO leases (name, owner, until) VALUES ($1, $2, $3) \
                   ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until = excluded.until \
                   WHERE leases.until < $4 OR leases.owner = excluded.owner";
        let query = sqlx::query(sql).bind(LEASE).bind(owner).bind(micros(now + term)).bind(micros(now));
        let done = self.store().within(async { Ok(query.execute(self.store().pool()).await?) }).await?;
        Ok(done.rows_affected() > 0)
    }

    /// The messages that are due: the oldest of every tenant, then the second ones, and so on.
    pub(super) async fn due_messages(&self, limit: i64) -> Result<Vec<Due>, Error> {
        let sql = "SELECT event, attempts, body, secret, definition, tenant FROM (\
                       SELECT m.event, m.attempts, e.body, a.secret, a.definition, m.tenant, m.next_at, \
                       ROW_NUMBER() OVER (PARTITION BY m.tenant ORDER BY m.next_at, m.event) AS place \
                       FROM alert_messages m JOIN alert_events e ON e.id = m.event \
                       JOIN alerts a ON a.tenant = m.tenant AND a.id = m.alert \
                       WHERE m.state = 'due' AND m.next_at <= $1\
                   ) due WHERE place <= $2 ORDER BY place, next_at, event LIMIT $3";
        let query = sqlx::query_as::<_, DueRow>(sql);
        let query = query.bind(micros(Timestamp::now())).bind(i64::from(OF_TENANT_MAX)).bind(limit);
        let rows = self.store().within(async { Ok(query.fetch_all(self.store().pool()).await?) }).await?;
        Ok(rows.into_iter().map(due).collect())
    }

    /// Writes an attempt down before it is made; whether it may be made. Another node that was paused before it made the
    /// same one finds out here, and who dies before the end has it made again a little later.
    pub(super) async fn begin_attempt(&self, due: &Due) -> Result<bool, Error> {
        let sql = "UPDATE alert_messages SET attempts = attempts + 1, next_at = $1 \
                   WHERE event = $2 AND attempts = $3 AND state = 'due'";
        let next_at = micros(Timestamp::now() + ATTEMPT_TIME_MAX);
        let query = sqlx::query(sql).bind(next_at).bind(&due.event).bind(due.attempts);
        let done = self.store().within(async { Ok(query.execute(self.store().pool()).await?) }).await?;
        Ok(done.rows_affected() > 0)
    }

    /// Writes down what became of it.
    pub(super) async fn end_attempt(&self, due: &Due, sent: &Result<(), Undelivered>) -> Result<(), Error> {
        let (id, attempts) = (&due.event, due.attempts + 1);
        let (state, problem) = match sent {
            Ok(()) => ("arrived", None),
            Err(Undelivered::Later(problem)) if attempts < ATTEMPTS_MAX => ("due", Some(problem)),
            Err(Undelivered::Later(problem) | Undelivered::Never(problem)) => ("given_up", Some(problem)),
        };
        if let Some(problem) = problem {
            tracing::warn!(message = id, attempts, state, problem, "an alert's message did not arrive");
        }
        let doublings = u32::try_from(attempts - 1).unwrap_or(0).min(16);
        let wait_s = (FIRST_WAIT_S << doublings).min(WAIT_S_MAX);
        let sql = "UPDATE alert_messages SET state = $1, next_at = $2, problem = $3 WHERE event = $4 AND attempts = $5";
        let next_at = micros(Timestamp::now() + SignedDuration::from_secs(wait_s));
        let query = sqlx::query(sql).bind(state).bind(next_at).bind(problem).bind(id).bind(attempts);
        self.store().within(async { Ok(query.execute(self.store().pool()).await?) }).await?;
        Ok(())
    }

    /// Removes what was told long ago.
    pub(super) async fn forget_alert_events(&self, now: Timestamp) -> Result<(), Error> {
        // Identifiers begin with their time.
        let oldest = Uuid::new_v7(uuid_time(now - KEPT)).simple().to_string()[..12].to_owned();
        let work = async {
            sqlx::query("DELETE FROM alert_messages WHERE event < $1")
                .bind(&oldest)
                .execute(self.store().pool())
                .await?;
            sqlx::query("DELETE FROM alert_events WHERE id < $1").bind(&oldest).execute(self.store().pool()).await?;
            Ok(())
        };
        self.store().within(work).await
    }
}

fn due((event, attempts, body, secret, definition, tenant): DueRow) -> Due {
    let address = match serde_json::from_str::<Definition>(&definition) {
        Ok(Definition { webhook: Some(address), .. }) => Ok(address),
        Ok(_) => Err(Undelivered::Never("the alert has no webhook any more".to_owned())),
        Err(error) => Err(Undelivered::Never(format!("the alert cannot be read: {error}"))),
    };
    Due { message: Message { id: format!("msg_{event}"), body }, event, attempts, tenant, address, secret }
}

fn uuid_time(at: Timestamp) -> uuid::Timestamp {
    let seconds = u64::try_from(at.as_second()).unwrap_or(0);
    uuid::Timestamp::from_unix(uuid::NoContext, seconds, 0)
}
