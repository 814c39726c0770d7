//! Purchases as items of `POST /v1/events`.

use reckon_schemas::money::Currency;
use serde_json::{Value, json};

use super::dataset::Purchase;
use super::plan::Delivery;

/// The item to send for a delivery.
pub(crate) fn item(purchases: &[Purchase], delivery: Delivery, usd: Currency) -> Value {
    match delivery {
        Delivery::Purchase(index) => purchase(&purchases[index], usd),
        Delivery::Damaged(index, kind) => damaged(&purchases[index], kind, usd),
    }
}

fn purchase(purchase: &Purchase, usd: Currency) -> Value {
    let mut properties = json!({
        "store": purchase.store.to_string(),
        "basket": purchase.basket.to_string(),
        "product": purchase.product.to_string(),
        "quantity": purchase.quantity,
    });
    if let Some(department) = &purchase.department {
        properties["department"] = Value::from(department.as_str());
    }
    json!({
        "event_id": format!("{}-{}", purchase.basket, purchase.product),
        "name": "purchase",
        "occurred_at": purchase.at.to_string(),
        "user_id": format!("household-{}", purchase.household),
        "money": { "amount": usd.format_minor(i128::from(purchase.cents)), "currency": usd.code() },
        "properties": properties,
    })
}

/// A damaged copy has an id of its own: if it were let in, the totals would show it.
fn damaged(original: &Purchase, kind: u8, usd: Currency) -> Value {
    let mut item = purchase(original, usd);
    item["event_id"] = format!("damaged-{}-{}-{kind}", original.basket, original.product).into();
    match kind {
        0 => item["money"]["amount"] = "NaN".into(),
        1 => item["money"]["amount"] = "1.005".into(),
        2 => item["money"]["currency"] = "DOLLARS".into(),
        3 => item["occurred_at"] = "2017-02-30T12:00:00Z".into(),
        4 => item["event_id"] = Value::from(7),
        _ => item["colour"] = "unknown field".into(),
    }
    item
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::plan::DAMAGES;
    use reckon_schemas::event::EventDraft;
    use reckon_schemas::time::EventTime;

    #[test]
    fn purchases_are_accepted_and_damaged_ones_are_not() {
        let usd: Currency = "USD".parse().expect("known");
        let purchases = [Purchase {
            basket: 1,
            product: 2,
            household: 3,
            store: 4,
            quantity: 5,
            cents: 678,
            at: EventTime(1_483_271_606_000_000),
            department: Some("GROCERY".to_owned()),
        }];
        let draft = EventDraft::from_native(&item(&purchases, Delivery::Purchase(0), usd).to_string()).expect("valid");
        assert_eq!((draft.id.as_str(), draft.money.map(|money| money.minor)), ("1-2", Some(678)));
        for kind in 0..DAMAGES {
            let text = item(&purchases, Delivery::Damaged(0, kind), usd).to_string();
            assert!(EventDraft::from_native(&text).is_err(), "{text}");
        }
    }
}
