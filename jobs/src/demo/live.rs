//! Today's purchases, made up after the pattern of the data, so that there is something provisional to look at.

use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reckon_schemas::time::EventTime;
use tokio_util::sync::CancellationToken;

use super::dataset::Purchase;
use super::items;
use super::plan::Delivery;
use super::send::Sender;

const PAUSE: Duration = Duration::from_millis(400);

/// Sends one to four purchases every 400 ms until shutdown: real ones of the year, with a basket of their own, now.
pub(crate) async fn keep_sending(purchases: &[Purchase], sender: &Sender, shutdown: &CancellationToken) -> Result<()> {
    let usd = "USD".parse()?;
    let mut random = StdRng::from_os_rng();
    let mut basket = -jiff::Timestamp::now().as_millisecond();
    while !shutdown.is_cancelled() {
        let now = EventTime::from_timestamp(jiff::Timestamp::now());
        let fresh: Vec<Purchase> = (0..random.random_range(1..=4))
            .map(|_| {
                basket -= 1;
                Purchase { basket, at: now, ..purchases[random.random_range(0..purchases.len())].clone() }
            })
            .collect();
        let body: Vec<String> =
            (0..fresh.len()).map(|index| items::item(&fresh, Delivery::Purchase(index), usd).to_string()).collect();
        sender.send_all(std::iter::once(format!("[{}]", body.join(","))), shutdown, |_| {}).await?;
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
    Ok(())
}
