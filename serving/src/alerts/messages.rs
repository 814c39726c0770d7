//! Messages to other systems: kept with the event that they are about, sent until they arrive, given up after a day.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::definition::Definition;
use super::webhook::{Message, Undelivered, Webhooks};
use crate::accounts::{Accounts, Error, micros};

/// Messages that are sent in one round.
const ROUND_MAX: i64 = 50;
/// After so many attempts, about a day after the first, a message is given up.
const ATTEMPTS_MAX: i64 = 24;
const FIRST_WAIT_S: i64 = 10;
const WAIT_S_MAX: i64 = 3_600;
/// Events and messages are kept for so long.
const KEPT: SignedDuration = SignedDuration::from_hours(24 * 90);
const LEASE: &str = "alerts";

type DueRow = (String, i64, String, String, String);

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

    /// Sends what is due, one after the other. That a receiver is slow costs the others of this round some seconds.
    pub(super) async fn send_messages(&self, webhooks: &Webhooks) -> Result<(), Error> {
        let sql = "SELECT m.event, m.attempts, e.body, a.secret, a.definition FROM alert_messages m \
                   JOIN alert_events e ON e.id = m.event JOIN alerts a ON a.tenant = m.tenant AND a.id = m.alert \
                   WHERE m.state = 'due' AND m.next_at <= $1 ORDER BY m.next_at LIMIT $2";
        let query = sqlx::query_as::<_, DueRow>(sql).bind(micros(Timestamp::now())).bind(ROUND_MAX);
        let due = self.store().within(async { Ok(query.fetch_all(self.store().pool()).await?) }).await?;
        for (id, attempts, body, secret, definition) in due {
            let definition: Definition =
                serde_json::from_str(&definition).map_err(|error| Error::Broken(format!("message {id}: {error}")))?;
            let message = Message { id: format!("msg_{id}"), body };
            let sent = match &definition.webhook {
                Some(address) => webhooks.send(address, &secret, &message, Timestamp::now()).await,
                None => Err(Undelivered::Never("the alert has no webhook any more".to_owned())),
            };
            self.record_attempt(&id, attempts + 1, &sent).await?;
        }
        Ok(())
    }

    async fn record_attempt(&self, id: &str, attempts: i64, sent: &Result<(), Undelivered>) -> Result<(), Error> {
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
        let sql = "UPDATE alert_messages SET state = $1, attempts = $2, next_at = $3, problem = $4 WHERE event = $5";
        let next_at = micros(Timestamp::now() + SignedDuration::from_secs(wait_s));
        let query = sqlx::query(sql).bind(state).bind(attempts).bind(next_at).bind(problem).bind(id);
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

fn uuid_time(at: Timestamp) -> uuid::Timestamp {
    let seconds = u64::try_from(at.as_second()).unwrap_or(0);
    uuid::Timestamp::from_unix(uuid::NoContext, seconds, 0)
}
