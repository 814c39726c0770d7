//! Messages exactly as [`Event::encode`] writes them, which nearly all in the log are: their shape is known, so reading
//! one is a walk from one known text to the next, and costs less than parsing it. What differs in any way (other
//! order, blanks, escapes, another version, an odd number) is left to the JSON parser.

use super::{EVENT_VERSION, Event, Properties, Source};
use crate::money::Money;
use crate::time::EventTime;

/// Room for the properties of most events.
const PROPERTIES: usize = 8;

/// No number of so many digits leaves 64 bits.
const DIGITS_MAX: usize = 18;

/// The event of a canonical message; `None` if it is not one.
pub(super) fn read(message: &[u8]) -> Option<Event<'_>> {
    if !is_plain(message) {
        return None;
    }
    let mut walk = Walk(std::str::from_utf8(message).ok()?);
    walk.pass("{\"v\":2,\"tenant\":\"")?;
    let tenant = walk.text()?.into();
    walk.pass(",\"id\":\"")?;
    let id = walk.text()?.into();
    walk.pass(",\"name\":\"")?;
    let name = walk.text()?.into();
    walk.pass(",\"occurred_at\":")?;
    let occurred_at = EventTime(walk.integer()?);
    walk.pass(",\"received_at\":")?;
    let received_at = EventTime(walk.integer()?);
    let user = if walk.pass(",\"user\":\"").is_some() { walk.text()?.into() } else { "".into() };
    let money = if walk.pass(",\"money\":").is_some() { Some(walk.money()?) } else { None };
    let properties = if walk.pass(",\"properties\":{").is_some() { walk.properties()? } else { Properties::new() };
    walk.pass(",\"source\":\"")?;
    let source = Source::ALL.into_iter().find(|source| walk.pass(source.name()).is_some())?;
    walk.pass("\"}")?;
    let version = EVENT_VERSION;
    let event = Event { version, tenant, id, name, occurred_at, received_at, user, money, properties, source };
    walk.0.is_empty().then_some(event)
}

/// Without escapes and control characters, a text ends at the next quote and reads as it is written.
fn is_plain(message: &[u8]) -> bool {
    // Not `any`, which looks at one byte after the other.
    !message.iter().fold(false, |odd, byte| odd | (*byte < 0x20) | (*byte == b'\\'))
}

/// What is left to be read.
struct Walk<'a>(&'a str);

impl<'a> Walk<'a> {
    #[inline]
    fn pass(&mut self, known: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(known)?;
        Some(())
    }

    /// The rest of a text, and its end.
    #[inline]
    fn text(&mut self) -> Option<&'a str> {
        let end = self.0.bytes().position(|byte| byte == b'"')?;
        let text = &self.0[..end];
        self.0 = &self.0[end + 1..];
        Some(text)
    }

    /// A number of up to [`DIGITS_MAX`] digits.
    #[inline]
    fn integer(&mut self) -> Option<i64> {
        let is_negative = self.pass("-").is_some();
        let (mut number, mut digits) = (0, 0);
        for byte in self.0.bytes().take_while(u8::is_ascii_digit).take(DIGITS_MAX) {
            number = number * 10 + i64::from(byte - b'0');
            digits += 1;
        }
        // In JSON, only 0 itself begins with a 0; and what follows must not be a digit left over, which no caller passes.
        if digits == 0 || (self.0.starts_with('0') && (digits > 1 || is_negative)) {
            return None;
        }
        self.0 = &self.0[digits..];
        Some(if is_negative { -number } else { number })
    }

    fn money(&mut self) -> Option<Money> {
        self.pass("{\"currency\":\"")?;
        let currency = self.text()?.parse().ok()?;
        self.pass(",\"minor\":")?;
        let minor = self.integer()?;
        self.pass("}")?;
        Some(Money { currency, minor })
    }

    fn properties(&mut self) -> Option<Properties<'a>> {
        let mut properties = Vec::with_capacity(PROPERTIES);
        loop {
            self.pass("\"")?;
            let name = self.text()?;
            self.pass(":\"")?;
            properties.push((name.into(), self.text()?.into()));
            if self.pass("}").is_some() {
                return Properties::read(properties);
            }
            self.pass(",")?;
        }
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    const PROPERTIES_FULL: &str = r#"{"v":2,"tenant":"acme","id":"31-7","name":"purchase","occurred_at":1483271606000000,"received_at":-7,"user":"Zoë","money":{"currency":"USD","minor":-50},"properties":{"department":"GROCERY","store":""},"source":"segment"}"#;
    const BARE: &str = r#"{"v":2,"tenant":"a","id":"1","name":"n","occurred_at":0,"received_at":1,"source":"native"}"#;

    fn agree(message: &[u8]) -> bool {
        let walked = read(message);
        if let Some(event) = &walked {
            assert_eq!(Event::parse(message).ok().as_ref(), Some(event), "{}", String::from_utf8_lossy(message));
        }
        walked.is_some()
    }

    #[test]
    fn what_is_written_here_is_read_here() {
        for text in [PROPERTIES_FULL, BARE] {
            assert!(agree(text.as_bytes()));
            assert!(agree(&Event::parse(text.as_bytes()).expect("an event").encode()));
        }
        assert!(agree(include_bytes!("../../fixtures/event.v2.json").trim_ascii_end()));
        assert!(!agree(include_bytes!("../../fixtures/event.v1.json")), "left to the parser");
    }

    /// Every byte replaced by every other one, left out, or said twice: either it is left to the parser, or both read the
    /// same.
    #[test]
    fn whatever_is_changed_both_read_the_same_or_this_reads_nothing() {
        let mut read_too = 0;
        for text in [PROPERTIES_FULL, BARE] {
            for place in 0..text.len() {
                let (before, after) = (&text.as_bytes()[..place], &text.as_bytes()[place + 1..]);
                let changed = (0..=u8::MAX).map(|byte| [before, &[byte], after].concat());
                let twice = [before, &[text.as_bytes()[place]; 2], after].concat();
                for message in changed.chain([[before, after].concat(), twice]) {
                    read_too += usize::from(agree(&message));
                }
            }
        }
        assert!(read_too > 1000, "most other letters in a text make another canonical message: {read_too}");
    }

    #[test]
    fn numbers_are_those_of_json() {
        let with = |number: &str| BARE.replace("\"received_at\":1", &format!("\"received_at\":{number}"));
        for (number, walked) in [
            ("0", true),
            ("-1", true),
            ("999999999999999999", true),
            ("01", false),
            ("-0", false),
            ("+1", false),
            ("", false),
            ("9223372036854775807", false),
            ("1.0", false),
            ("1e3", false),
            ("-", false),
            ("0x1", false),
        ] {
            assert_eq!(agree(with(number).as_bytes()), walked, "{number}");
        }
    }
}
