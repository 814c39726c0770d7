//! Nested properties, as Segment's and CloudEvents' libraries send them, as flat ones, and the money among them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use reckon_schemas::event::{Properties, Rejection, limits};
use reckon_schemas::money::{Currency, Money, MoneyError};
use serde::Deserialize;
use serde_json::value::RawValue;

/// How deep properties may be nested; each level reads its text again.
const DEPTH_MAX: usize = 8;

/// The property that counts what had to be left out.
const LEFT_OUT: &str = "properties_left_out";

/// Flat properties: `{"cart": {"size": 3}}` is `cart.size` = `3`, a list is its JSON text.
///
/// Libraries send what they know, without knowing the bounds of a property. An event is not refused for that: what is
/// too long, too deep or too much is left out, and `properties_left_out` says how many there were.
#[derive(Debug, Default)]
pub(crate) struct Flat {
    properties: Properties<'static>,
    left_out: usize,
}

impl Flat {
    /// Adds the members of an object, their names behind a prefix. `field` is how an error calls the object.
    pub(crate) fn add_object(&mut self, field: &str, prefix: &str, raw: &RawValue) -> Result<(), Rejection> {
        match raw.get().as_bytes().first() {
            Some(b'{') => self.add_members(prefix, raw, DEPTH_MAX),
            Some(b'n') => Ok(()),
            _ => Err(Rejection::new(field, "is not an object")),
        }
    }

    /// Adds one value, which may be an object.
    pub(crate) fn add(&mut self, name: &str, raw: &RawValue) -> Result<(), Rejection> {
        self.add_value(name.to_owned(), raw, DEPTH_MAX)
    }

    /// The properties, with the number of those that are missing.
    pub(crate) fn into_properties(mut self) -> Properties<'static> {
        if self.left_out > 0 {
            self.properties.insert(LEFT_OUT, self.left_out.to_string());
        }
        self.properties
    }

    fn add_members(&mut self, prefix: &str, raw: &RawValue, depth: usize) -> Result<(), Rejection> {
        let unreadable = |_| Rejection::new(if prefix.is_empty() { "properties" } else { prefix }, "is not readable");
        let members: BTreeMap<String, &RawValue> = serde_json::from_str(raw.get()).map_err(unreadable)?;
        for (name, value) in members {
            let name = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
            self.add_value(name, value, depth)?;
        }
        Ok(())
    }

    fn add_value(&mut self, name: String, raw: &RawValue, depth: usize) -> Result<(), Rejection> {
        match raw.get().as_bytes().first() {
            Some(b'{') if depth > 0 => return self.add_members(&name, raw, depth - 1),
            Some(b'{') => self.left_out += 1,
            Some(b'n') => {}
            Some(b'"') => {
                let text = serde_json::from_str(raw.get());
                let text: String = text.map_err(|_| Rejection::new(name.clone(), "is not a readable text"))?;
                self.insert(name, text);
            }
            _ => self.insert(name, raw.get().to_owned()),
        }
        Ok(())
    }

    fn insert(&mut self, name: String, value: String) {
        let fits = !name.is_empty()
            && name.chars().count() <= limits::PROPERTY_NAME_CHARS_MAX
            && !name.chars().any(char::is_control)
            && value.chars().count() <= limits::PROPERTY_CHARS_MAX
            && !value.contains('\0')
            // One place is for the number of those that are left out.
            && self.properties.len() < limits::PROPERTIES_MAX - 1;
        if fits {
            self.properties.insert(name, value);
        } else {
            self.left_out += 1;
        }
    }
}

/// The members of `properties` that say what an event is worth, unread.
#[derive(Deserialize)]
struct Worth<'a> {
    #[serde(borrow)]
    revenue: Option<&'a RawValue>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    #[serde(borrow)]
    currency: Option<Cow<'a, str>>,
}

/// The money of an event: `revenue`, in US dollars if no currency is given, as Segment specifies; otherwise `value`,
/// which is money only if a currency is given. It is read from the members themselves: unlike a property it is never
/// left out. `field` is how an error calls the object.
pub(crate) fn money(field: &str, properties: &RawValue) -> Result<Option<Money>, Rejection> {
    if !properties.get().starts_with('{') {
        return Ok(None);
    }
    let unreadable = |error: serde_json::Error| Rejection::new(field, error.to_string());
    let Worth { revenue, value, currency } = serde_json::from_str(properties.get()).map_err(unreadable)?;
    let currency = currency.filter(|code| !code.is_empty()).map(|code| code.to_ascii_uppercase());
    let (name, amount, currency) = match (revenue, value, currency) {
        (Some(revenue), _, currency) => ("revenue", revenue, currency.unwrap_or_else(|| "USD".to_owned())),
        (None, Some(value), Some(currency)) => ("value", value, currency),
        (None, _, _) => return Ok(None),
    };
    let wrong = |name: &str, reason: String| Rejection::new(format!("{field}.{name}"), reason);
    let amount: Cow<'_, str> = match amount.get() {
        quoted if quoted.starts_with('"') => {
            Cow::Owned(serde_json::from_str(quoted).map_err(|error| wrong(name, error.to_string()))?)
        }
        number => Cow::Borrowed(number),
    };
    let currency: Currency = currency.parse().map_err(|error: MoneyError| wrong("currency", error.to_string()))?;
    let minor = currency.parse_minor(&amount).map_err(|error| wrong(name, error.to_string()))?;
    Ok(Some(Money { currency, minor }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(text: &str) -> Flat {
        let mut flat = Flat::default();
        flat.add_object("properties", "", serde_json::from_str(text).expect("JSON")).expect("readable");
        flat
    }

    #[test]
    fn nested_objects_are_flattened_and_lists_stay_text() {
        let properties = flat(r#"{"a":{"b":{"c":1.50}},"list":[1,{"x":2}],"none":null,"yes":true}"#).into_properties();
        let pairs: Vec<_> = properties.iter().collect();
        assert_eq!(pairs, [("a.b.c", "1.50"), ("list", r#"[1,{"x":2}]"#), ("yes", "true")]);
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_counted() {
        let long = "x".repeat(1025);
        let deep = format!("{}1{}", r#"{"a":"#.repeat(5000), "}".repeat(5000));
        let text = format!(r#"{{"long":"{long}","nul":"\u0000","deep":{deep},"good":1,"{}":1}}"#, "n".repeat(65));
        let properties = flat(&text).into_properties();
        assert_eq!((properties.get("good"), properties.get(LEFT_OUT), properties.len()), (Some("1"), Some("4"), 2));
        let many: Vec<String> = (0..100).map(|n| format!(r#""p{n}":1"#)).collect();
        let properties = flat(&format!("{{{}}}", many.join(","))).into_properties();
        assert_eq!((properties.len(), properties.get(LEFT_OUT)), (64, Some("37")));
    }

    #[test]
    fn money_is_read_from_the_numbers_own_text() {
        let text_of = |text: &str| {
            money("properties", serde_json::from_str(text).expect("JSON"))
                .map(|money| money.map(|money| money.to_string()))
        };
        for (text, expected) in [
            (r#"{"revenue":0.1}"#, Some("0.10 USD")),
            (r#"{"revenue":"19.90","currency":"eur"}"#, Some("19.90 EUR")),
            (r#"{"revenue":-5,"currency":"JPY"}"#, Some("-5 JPY")),
            (r#"{"value":3,"currency":"KWD"}"#, Some("3.000 KWD")),
            (r#"{"revenue":1,"value":2,"currency":"EUR"}"#, Some("1.00 EUR")),
            (r#"{"revenue":92233720368547758.07}"#, Some("92233720368547758.07 USD")),
            (r#"{"value":3}"#, None),
            (r#"{"revenue":null,"currency":"EUR"}"#, None),
        ] {
            assert_eq!(text_of(text), Ok(expected.map(str::to_owned)), "{text}");
        }
        let many: Vec<String> = (0..100).map(|n| format!(r#""p{n}":1"#)).collect();
        assert_eq!(text_of(&format!(r#"{{{},"revenue":7}}"#, many.join(","))), Ok(Some("7.00 USD".to_owned())));
        for (text, field) in [
            (r#"{"revenue":1,"revenue":2}"#, "properties"),
            (r#"{"revenue":19.990000000000002}"#, "properties.revenue"),
            (r#"{"revenue":"Infinity"}"#, "properties.revenue"),
            (r#"{"revenue":true}"#, "properties.revenue"),
            (r#"{"revenue":92233720368547758.08}"#, "properties.revenue"),
            (r#"{"value":1,"currency":"EURO"}"#, "properties.currency"),
        ] {
            assert_eq!(text_of(text).expect_err(text).field, field, "{text}");
        }
    }
}
