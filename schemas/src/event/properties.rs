//! What else is known about an event: names and values, both text.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

use super::{Rejection, limits};

/// The properties of an event in the order given; values are text, numbers keep the text they were written in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Properties<'a> {
    /// No properties.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The value of a property, if the event has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_ref())
    }

    /// Adds a property unless one of that name is there already: the first value given stays.
    pub fn insert(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) {
        let name = name.into();
        if self.get(&name).is_none() {
            self.0.push((name, value.into()));
        }
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The properties without borrowed text.
    #[must_use]
    pub fn into_owned(self) -> Properties<'static> {
        Properties(
            self.0.into_iter().map(|(name, value)| (name.into_owned().into(), value.into_owned().into())).collect(),
        )
    }

    /// These properties, unless they are more than any event may have.
    pub(super) fn read(properties: Vec<(Cow<'a, str>, Cow<'a, str>)>) -> Option<Self> {
        (properties.len() <= limits::PROPERTIES_MAX).then_some(Self(properties))
    }

    pub(super) fn check(&self) -> Result<(), Rejection> {
        if self.0.len() > limits::PROPERTIES_MAX {
            return Err(Rejection::new("properties", format!("has more than {} entries", limits::PROPERTIES_MAX)));
        }
        for (name, value) in &self.0 {
            super::draft::check_text("properties", name, limits::PROPERTY_NAME_CHARS_MAX)?;
            let field = || format!("properties.{name}");
            if value.len() > limits::PROPERTY_CHARS_MAX && value.chars().count() > limits::PROPERTY_CHARS_MAX {
                return Err(Rejection::new(
                    field(),
                    format!("is longer than {} characters", limits::PROPERTY_CHARS_MAX),
                ));
            }
            if value.contains('\0') {
                return Err(Rejection::new(field(), "contains a NUL character"));
            }
        }
        Ok(())
    }
}

impl Serialize for Properties<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Serde copies a `Cow` inside of a collection; this wrapper keeps it borrowed.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Properties<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PropertiesVisitor;

        impl<'de> Visitor<'de> for PropertiesVisitor {
            type Value = Properties<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut properties = Vec::with_capacity(map.size_hint().unwrap_or(8).min(limits::PROPERTIES_MAX));
                while let Some((Text(name), Text(value))) = map.next_entry()? {
                    if properties.len() > limits::PROPERTIES_MAX {
                        return Err(serde::de::Error::custom("too many properties"));
                    }
                    properties.push((name, value));
                }
                Ok(Properties(properties))
            }
        }

        deserializer.deserialize_map(PropertiesVisitor)
    }
}
