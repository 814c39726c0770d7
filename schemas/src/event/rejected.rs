//! What could not become an event, kept with its reason.

use serde::{Deserialize, Serialize};

use super::{Rejection, Source};
use crate::ids::TenantId;
use crate::time::EventTime;

/// One message of the topic `events.rejected`: an item that was refused, why, and what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// The version of the format.
    #[serde(rename = "v")]
    pub version: u16,
    /// Whose key it came with.
    pub tenant: TenantId,
    /// When the collector received it.
    pub received_at: EventTime,
    /// The door it came in through.
    pub source: Source,
    /// Its place in the request's batch, from 0.
    pub index: usize,
    /// What was wrong with it.
    #[serde(flatten)]
    pub rejection: Rejection,
    /// The W3C trace context of the request.
    pub traceparent: String,
    /// The item as it was received, cut after 32 KB; what is not UTF-8 is replaced.
    pub raw: String,
}

impl Rejected {
    /// How many bytes of the item are kept.
    pub const RAW_BYTES_MAX: usize = 32 * 1024;

    /// The item's text as it is kept: valid UTF-8, cut to [`Self::RAW_BYTES_MAX`].
    #[must_use]
    pub fn keep_raw(item: &[u8]) -> String {
        String::from_utf8_lossy(&item[..item.len().min(Self::RAW_BYTES_MAX)]).into_owned()
    }

    /// Writes the message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("only text keys and finite numbers")
    }

    /// Reads the message.
    ///
    /// # Errors
    /// What is wrong with its JSON.
    pub fn decode(message: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(message)
    }
}
