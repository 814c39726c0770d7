//! The node that looks at every alert, again and again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bigdecimal::BigDecimal;
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use reckon_schemas::catalog::Tenant;
use serde_json::json;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::kept::{Looked, Watched};
use super::rule::Phase;
use super::sending::Sending;
use super::webhook::Webhooks;
use super::{Alert, TICK};
use crate::access::{Access, meter};
use crate::accounts::Error;
use crate::answer::{Answer, Value};
use crate::query::Evaluator;
use crate::telemetry;

/// Whoever leads and is not heard of for so long, does not lead any more.
const TERM: SignedDuration = SignedDuration::from_secs(15);
/// Tenants whose alerts are looked at at the same time, and alerts of each of them.
const TENANTS_AT_ONCE: usize = 4;
const OF_TENANT_AT_ONCE: usize = 2;
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
        let (mut rounds, mut was_away) = (0_u64, false);
        let (mut took, mut unreadable) = (Duration::ZERO, Vec::new());
        while next_round(shutdown, TICK).await {
            let began = Instant::now();
            match self.look(owner, rounds, pause_max(took)).await {
                Ok(found) => {
                    (took, was_away) = (began.elapsed(), false);
                    // What cannot be read is told once, not every two seconds.
                    for alert in found.iter().filter(|alert| !unreadable.contains(*alert)) {
                        tracing::error!("{alert}: it is not looked at");
                    }
                    unreadable = found;
                }
                Err(error) => {
                    if !was_away {
                        tracing::warn!(%error, "alerts are not looked at");
                    }
                    was_away = true;
                }
            }
            rounds += 1;
        }
    }

    /// A receiver that is slow must not keep anybody from looking.
    async fn keep_sending(&self, owner: &str, shutdown: &CancellationToken) {
        let accounts = self.access.accounts();
        let mut sending = Sending::new(accounts.clone(), self.webhooks.clone());
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut leads = false;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = ticks.tick() => leads = accounts.lead_alerts(owner, Timestamp::now(), TERM).await.unwrap_or(false),
                () = sending.one_ended() => {}
            }
            if leads && let Err(error) = sending.send_due().await {
                tracing::warn!(%error, "messages of alerts wait");
            }
        }
        sending.end().await;
    }

    /// Looks at every alert once, if this node is the one that does; what is wrong with those that cannot be read.
    async fn look(&self, owner: &str, rounds: u64, pause_max: SignedDuration) -> Result<Vec<String>, Error> {
        let accounts = self.access.accounts();
        if !accounts.lead_alerts(owner, Timestamp::now(), TERM).await? {
            return Ok(Vec::new());
        }
        if rounds.is_multiple_of(ROUNDS_BETWEEN_REMOVALS) {
            accounts.forget_alert_events(Timestamp::now()).await?;
        }
        let began = Instant::now();
        let (alerts, unreadable) = accounts.all_alerts().await?;
        let mut of_tenants: BTreeMap<String, Vec<Watched>> = BTreeMap::new();
        for watched in alerts {
            of_tenants.entry(watched.alert.tenant.clone()).or_default().push(watched);
        }
        let looks = futures::stream::iter(of_tenants)
            .map(|(tenant, alerts)| Box::pin(async move { self.look_at_all(&tenant, alerts, pause_max).await }));
        let results: Vec<Result<(), Error>> = looks.buffer_unordered(TENANTS_AT_ONCE).collect().await;
        telemetry::looked_at_alerts(began.elapsed());
        results.into_iter().collect::<Result<(), Error>>()?;
        Ok(unreadable.iter().map(Error::to_string).collect())
    }

    /// Looks at a tenant's alerts, on the tenant's account: however many there are, and however slow their questions, they
    /// take only the places that the tenant has.
    async fn look_at_all(&self, tenant: &str, alerts: Vec<Watched>, pause_max: SignedDuration) -> Result<(), Error> {
        // A tenant that is not in the catalog any more is not watched any more.
        let Some(tenant) = self.access.tenant(tenant) else { return Ok(()) };
        let looks = futures::stream::iter(alerts).map(|watched| {
            let tenant = tenant.clone();
            Box::pin(async move { self.look_at(&watched, &tenant, pause_max).await })
        });
        let looks = looks.buffer_unordered(OF_TENANT_AT_ONCE).collect();
        let results: Vec<Result<(), Error>> = meter::on_account_of(self.access.allowance(&tenant.id), looks).await;
        results.into_iter().collect()
    }

    async fn look_at(&self, watched: &Watched, tenant: &Tenant, pause_max: SignedDuration) -> Result<(), Error> {
        let alert = &watched.alert;
        let Ok(rule) = alert.definition.rule() else { return Ok(()) };
        let now = Timestamp::now();
        let number = self.number(alert, tenant, now).await;
        let exact = number.as_deref().and_then(|number| number.parse::<BigDecimal>().ok());
        let standing = rule.step(&alert.standing, exact.as_ref(), now, pause_max);
        let told = Phase::is_told(alert.standing.phase, standing.phase)
            .then(|| message(alert, standing.phase, number.as_deref(), now));
        let looked = Looked { watched, standing: &standing, number: number.as_deref(), told };
        self.access.accounts().record_look(&looked, now).await
    }

    /// The number that is watched, if it is known.
    async fn number(&self, alert: &Alert, tenant: &Tenant, now: Timestamp) -> Option<String> {
        let measure = tenant.metric(&alert.definition.metric)?.measure;
        let question = alert.definition.question(now, measure).ok()?;
        let question = self.evaluator.watchable(&question, tenant).ok()?;
        let answer = self.evaluator.answer(&question, tenant, now).await.ok()?;
        match answer.total.value {
            _ if !is_known(&answer) => None,
            Value::Integer(value) => Some(value.to_string()),
            Value::Decimal(ref text) => Some(text.clone()),
            Value::Undefined => None,
        }
    }
}

/// What was not looked at in six rounds was not looked at without a pause; a round takes the longer, the more there is to
/// look at.
fn pause_max(round: Duration) -> SignedDuration {
    SignedDuration::try_from((round + TICK) * 6).unwrap_or(SignedDuration::MAX)
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
