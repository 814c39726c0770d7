//! The groups of an answer: most of it, and what stays as it is while the answer is kept. So they are shared, and written
//! as JSON once, however often they are sent.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use super::Group;

/// See the module. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups(Arc<Written>);

#[derive(Debug, Default)]
struct Written {
    groups: Vec<Group>,
    json: OnceLock<Box<RawValue>>,
}

impl Deref for Groups {
    type Target = [Group];

    fn deref(&self) -> &[Group] {
        &self.0.groups
    }
}

impl From<Vec<Group>> for Groups {
    fn from(groups: Vec<Group>) -> Self {
        Self(Arc::new(Written { groups, json: OnceLock::new() }))
    }
}

impl PartialEq for Groups {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl Serialize for Groups {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(json) = self.0.json.get() {
            return json.serialize(serializer);
        }
        let json = to_raw_value(&self.0.groups).map_err(serde::ser::Error::custom)?;
        self.0.json.get_or_init(|| json).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Groups {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use crate::live::change::tests::answer;

    #[test]
    fn an_answer_is_the_same_text_however_often_it_is_sent() {
        let answer = answer(&[("a", &[(0, 1), (60, -2)]), ("b", &[])], 5);
        let first = serde_json::to_string(&answer).expect("plain data");
        assert!(first.contains("\"department\":\"a\""), "{first}");
        let again = answer.clone();
        assert_eq!(serde_json::to_string(&again).expect("plain data"), first);
        let read: crate::answer::Answer = serde_json::from_str(&first).expect("its own text");
        assert_eq!(read, answer);
        let value = serde_json::to_value(&answer).expect("plain data");
        assert_eq!(value["groups"].as_array().map(Vec::len), Some(2));
    }
}
