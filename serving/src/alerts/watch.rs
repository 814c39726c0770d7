//! The node that looks at every alert, again and again.

use std::sync::Arc;
use std::time::Duration;

use bigdecimal::BigDecimal;
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use reckon_schemas::catalog::Tenant;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::kept::Looked;
use super::rule::Phase;
use super::webhook::Webhooks;
use super::{Alert, TICK};
use crate::access::Access;
use crate::accounts::Error;
use crate::answer::{Answer, Value};
use crate::query::Evaluator;

/// Whoever leads and is not heard of for so long, does not lead any more.
const TERM: SignedDuration = SignedDuration::from_secs(15);
/// Alerts that are looked at at the same time.
const LOOKS_AT_ONCE: usize = 8;
/// Rounds between two removals of old events: about an hour.
const ROUNDS_BETWEEN_REMOVALS: u64 = 1_800;

/// Looks at alerts and sends messages until shutdown, if no other node does.
pub(crate) struct Watch {
    pub(crate) access: Arc<Access>,
    pub(crate) evaluator: Evaluator,
    pub(crate) webhooks: Arc<Webhooks>,
}

impl Watch {
    /// Runs until shutdown.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let owner = Uuid::new_v4().simple().to_string();
        let sending = self.keep_sending(&owner, &shutdown);
        let looking = self.keep_looking(&owner, &shutdown);
        tokio::join!(sending, looking);
    }

    async fn keep_looking(&self, owner: &str, shutdown: &CancellationToken) {
        let mut rounds = 0_u64;
        let mut was_away = false;
        while next_round(shutdown, TICK).await {
            let looked = self.look(owner, rounds).await;
            if let Err(error) = &looked
                && !was_away
            {
                tracing::warn!(%error, "alerts are not looked at");
            }
            was_away = looked.is_err();
            rounds += 1;
        }
    }

    /// A receiver that is slow must not keep anybody from looking.
    async fn keep_sending(&self, owner: &str, shutdown: &CancellationToken) {
        let accounts = self.access.accounts();
        while next_round(shutdown, TICK).await {
            if accounts.lead_alerts(owner, Timestamp::now(), TERM).await.is_ok_and(|leads| leads)
                && let Err(error) = accounts.send_messages(&self.webhooks).await
            {
                tracing::warn!(%error, "messages of alerts wait");
            }
        }
    }

    async fn look(&self, owner: &str, rounds: u64) -> Result<(), Error> {
        let accounts = self.access.accounts();
        if !accounts.lead_alerts(owner, Timestamp::now(), TERM).await? {
            return Ok(());
        }
        if rounds.is_multiple_of(ROUNDS_BETWEEN_REMOVALS) {
            accounts.forget_alert_events(Timestamp::now()).await?;
        }
        let alerts = accounts.all_alerts().await?;
        let looks = futures::stream::iter(alerts).map(|alert| Box::pin(async move { self.look_at(&alert).await }));
        let results: Vec<Result<(), Error>> = looks.buffer_unordered(LOOKS_AT_ONCE).collect().await;
        results.into_iter().collect()
    }

    async fn look_at(&self, alert: &Alert) -> Result<(), Error> {
        // A tenant that is not in the catalog any more is not watched any more.
        let Some(tenant) = self.access.tenant(&alert.tenant) else { return Ok(()) };
        let Ok(rule) = alert.definition.rule() else { return Ok(()) };
        let now = Timestamp::now();
        let number = self.number(alert, &tenant, now).await;
        let exact = number.as_deref().and_then(|number| number.parse::<BigDecimal>().ok());
        let standing = rule.step(&alert.standing, exact.as_ref(), now);
        let told = Phase::is_told(alert.standing.phase, standing.phase)
            .then(|| message(alert, standing.phase, number.as_deref(), now));
        let looked = Looked { alert, standing: &standing, number: number.as_deref(), told };
        self.access.accounts().record_look(&looked, now).await
    }

    /// The number that is watched, if it is known.
    async fn number(&self, alert: &Alert, tenant: &Tenant, now: Timestamp) -> Option<String> {
        let measure = tenant.metric(&alert.definition.metric)?.measure;
        let question = alert.definition.question(now, measure).ok()?;
        let answer = self.evaluator.answer(&question, tenant, now).await.ok()?;
        match answer.total.value {
            _ if !is_known(&answer) => None,
            Value::Integer(value) => Some(value.to_string()),
            Value::Decimal(ref text) => Some(text.clone()),
            Value::Undefined => None,
        }
    }
}

/// A gap is no zero, and what is old is no news: while the speed layer is behind, everything looks like less.
fn is_known(answer: &Answer) -> bool {
    answer.gaps.is_empty() && answer.stale.is_none() && answer.speed_lag_ms.is_some()
}

fn message(alert: &Alert, phase: Phase, number: Option<&str>, now: Timestamp) -> serde_json::Value {
    let definition = &alert.definition;
    let kind = match phase {
        Phase::Firing => "alert.firing",
        Phase::NoData => "alert.no_data",
        Phase::Ok | Phase::Pending => "alert.resolved",
    };
    json!({
        "type": kind,
        "timestamp": now,
        "data": {
            "alert": alert.id,
            "name": definition.name,
            "metric": definition.metric,
            "filter": definition.filter,
            "side": definition.side,
            "threshold": definition.threshold,
            "number": number,
            "since": alert.standing.crossed_since.filter(|_| phase == Phase::Firing),
        },
    })
}

/// Waits; false at shutdown.
async fn next_round(shutdown: &CancellationToken, tick: Duration) -> bool {
    tokio::select! {
        () = shutdown.cancelled() => false,
        () = tokio::time::sleep(tick) => true,
    }
}
