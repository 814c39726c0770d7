//! The published JSON Schema of an event and the code that checks events agree on every document.

use proptest::prelude::*;
use reckon_schemas::event::EventDraft;
use reckon_schemas::time::EventTime;
use serde_json::{Value, json};

const SCHEMA: &str = include_str!("../../../schemas/event.schema.json");
/// 2026-11-15: later than every generated instant that the schema accepts.
const NOW: EventTime = EventTime(1_794_700_800_000_000);

fn validator() -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
    jsonschema::options().should_validate_formats(true).build(&schema).expect("the schema is a schema")
}

fn code_accepts(document: &Value) -> Result<(), String> {
    let tenant = "t".parse().expect("a tenant");
    let draft = EventDraft::from_native(&document.to_string()).map_err(|rejection| rejection.to_string())?;
    draft.check(&tenant, NOW).map(|_| ()).map_err(|rejection| rejection.to_string())
}

fn text() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => "[a-zäß☕ ]{0,12}".prop_map(Value::from),
        1 => Just(Value::from("")),
        1 => Just(Value::from("a\u{1}b")),
        1 => Just(Value::from("a\u{0}b")),
        1 => (60_usize..1100).prop_map(|length| Value::from("é".repeat(length))),
        1 => any::<i64>().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => Just(json!({"nested": 1})),
        1 => Just(json!([1])),
        1 => any::<bool>().prop_map(Value::from),
    ]
}

fn instant() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => (0_i64..1_794_000_000).prop_map(|s| jiff::Timestamp::from_second(s).expect("in range").to_string().into()),
        1 => Just("2024-02-29T23:59:59.123456789+05:30".into()),
        1 => Just("2023-02-29T00:00:00Z".into()),
        1 => Just("2024-01-01 00:00:00Z".into()),
        1 => Just("2024-01-01T00:00Z".into()),
        1 => Just("2024-01-01T00:00:00".into()),
        1 => Just("2024-01-01t00:00:00z".into()),
        1 => Just("2024-01-01T25:00:00Z".into()),
        1 => Just("yesterday".into()),
        1 => Just(Value::from(1_700_000_000)),
    ]
}

fn money() -> impl Strategy<Value = Value> {
    let amount = prop_oneof![
        3 => (-1_000_000_i64..1_000_000).prop_map(|cents| format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100).into()),
        1 => (-1_000_000_i64..1_000_000).prop_map(Value::from),
        1 => Just("NaN".into()),
        1 => Just("1e2".into()),
        1 => Just(".5".into()),
        1 => Just("1,5".into()),
        1 => Just(Value::Null),
    ];
    // Codes that match the pattern but are in no list of currencies are judged by the code alone, so they are left out.
    let currency = prop_oneof![3 => Just("EUR".into()), 1 => Just("usd".into()), 1 => Just("EURO".into()), 1 => Just(Value::from(1))];
    (amount, currency, any::<bool>()).prop_map(|(amount, currency, extra)| {
        let mut money = json!({ "amount": amount.clone(), "currency": currency });
        if extra && money["currency"] == "EURO" {
            money = json!([amount, "EUR"]);
        } else if extra && amount_is_small(&money) {
            money["tax"] = 1.into();
        }
        money
    })
}

fn amount_is_small(money: &Value) -> bool {
    money["amount"].as_i64().is_some_and(|amount| amount % 7 == 0)
}

fn document() -> impl Strategy<Value = Value> {
    let properties = proptest::collection::btree_map("[a-z\u{2}]{0,9}", text(), 0..70);
    let parts = (
        proptest::option::weighted(0.95, prop_oneof![3 => "[a-z0-9-]{1,20}".prop_map(Value::from), 1 => text()]),
        proptest::option::weighted(0.95, prop_oneof![3 => "[a-z_]{1,20}".prop_map(Value::from), 1 => text()]),
        proptest::option::weighted(0.95, instant()),
        proptest::option::weighted(0.5, prop_oneof![3 => "[a-z]{0,20}".prop_map(Value::from), 1 => text()]),
        proptest::option::weighted(0.5, money()),
        proptest::option::weighted(
            0.5,
            prop_oneof![
                5 => properties.prop_map(|map| Value::Object(map.into_iter().collect())),
                1 => text(),
            ],
        ),
        proptest::option::weighted(0.05, text()),
    );
    parts.prop_map(|(event_id, name, occurred_at, user_id, money, properties, unknown)| {
        let fields = [
            ("event_id", event_id),
            ("name", name),
            ("occurred_at", occurred_at),
            ("user_id", user_id),
            ("money", money),
            ("properties", properties),
            ("unknown", unknown),
        ];
        fields
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn schema_and_code_agree(document in document()) {
        let schema = validator().is_valid(&document);
        let code = code_accepts(&document);
        prop_assert_eq!(schema, code.is_ok(), "{} -> schema {}, code {:?}", document, schema, code);
    }
}

#[test]
fn both_answers_occur_and_the_bounds_are_the_same() {
    let validator = validator();
    let base = json!({"event_id": "1", "name": "n", "occurred_at": "2026-01-01T00:00:00Z"});
    let with = |field: &str, value: Value| {
        let mut document = base.clone();
        document[field] = value;
        document
    };
    for (document, valid) in [
        (base.clone(), true),
        (with("event_id", "x".repeat(256).into()), true),
        (with("event_id", "x".repeat(257).into()), false),
        (with("name", "é".repeat(128).into()), true),
        (with("name", "é".repeat(129).into()), false),
        (with("properties", json!({"a": "é".repeat(1024)})), true),
        (with("properties", json!({"a": "é".repeat(1025)})), false),
        (with("properties", json!({"": "1"})), false),
        (
            with("properties", (0..64).map(|n| (n.to_string(), json!(n))).collect::<serde_json::Map<_, _>>().into()),
            true,
        ),
        (
            with("properties", (0..65).map(|n| (n.to_string(), json!(n))).collect::<serde_json::Map<_, _>>().into()),
            false,
        ),
        (with("user_id", "".into()), true),
        (with("user_id", Value::Null), true),
        (with("money", Value::Null), true),
        (with("properties", Value::Null), true),
        (with("event_id", Value::Null), false),
    ] {
        assert_eq!(validator.is_valid(&document), valid, "schema: {document}");
        assert_eq!(code_accepts(&document).is_ok(), valid, "code: {document}");
    }
}
