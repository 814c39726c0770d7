//! Reading a value back.

use std::fmt;

use serde::{Deserialize, Deserializer};

use super::Value;

impl<'de> Deserialize<'de> for Value {
    /// An integer beyond 64 bits is refused: JSON readers make a float of it.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer or a decimal string")
            }

            fn visit_u64<E>(self, integer: u64) -> Result<Value, E> {
                Ok(Value::Integer(integer.into()))
            }

            fn visit_i64<E>(self, integer: i64) -> Result<Value, E> {
                Ok(Value::Integer(integer.into()))
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Undefined)
            }

            fn visit_str<E>(self, decimal: &str) -> Result<Value, E> {
                Ok(Value::Decimal(decimal.to_owned()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
