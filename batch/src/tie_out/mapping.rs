//! The mapping file: where a ledger's export has its references, amounts and dates, and how it writes them.

use reckon_schemas::money::Currency;
use reckon_schemas::time::Zone;
use serde::{Deserialize, Serialize};

/// How to read one kind of export. A TOML file; an unknown key is refused by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// The ledger's name. Breaks are kept under it, so that two ledgers of a tenant do not resolve each other's.
    pub name: String,
    /// What stands between the fields.
    #[serde(default = "comma")]
    pub delimiter: char,
    /// The names of the events that the ledger should know.
    pub events: Vec<String>,
    /// A column that is unique for every row. Rows that are there again, word for word, count once.
    #[serde(default)]
    pub row_id: Option<String>,
    /// What both sides know a payment by.
    pub reference: Reference,
    /// How much.
    pub amount: Amount,
    /// Of which currency.
    pub currency: CurrencySource,
    /// When.
    pub date: DateSource,
    /// Rows that are no payments: fees, payouts, balances.
    #[serde(default)]
    pub ignore: Vec<Condition>,
}

/// What both sides know a payment by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// The ledger's columns; the first one that is not empty is taken.
    pub columns: Vec<String>,
    /// A text that the reference follows in the column, such as `order `; the reference ends at the next space.
    #[serde(default)]
    pub after: Option<String>,
    /// What it is on this side: `event_id`, or `property:NAME`.
    #[serde(default)]
    pub matches: Matches,
}

/// What a reference is on this side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Matches {
    /// The event's id.
    #[default]
    EventId,
    /// The value of a property.
    Property(String),
}

/// How much.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amount {
    /// The column of a signed amount. Either this, or `credit` and `debit`.
    #[serde(default)]
    pub column: Option<String>,
    /// The column of what came in.
    #[serde(default)]
    pub credit: Option<String>,
    /// The column of what went out, written without a sign.
    #[serde(default)]
    pub debit: Option<String>,
    /// Whether `1234` are minor units, or a decimal number.
    #[serde(default)]
    pub unit: AmountUnit,
    /// What stands before the decimals.
    #[serde(default = "point")]
    pub decimal_separator: char,
    /// What stands between groups of digits.
    #[serde(default)]
    pub thousands_separator: Option<char>,
    /// Rows whose amount is written without a sign and went out, such as refunds.
    #[serde(default)]
    pub negate: Vec<Condition>,
}

/// What a number of the ledger means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AmountUnit {
    /// `12.34` is twelve and a third, roughly.
    #[default]
    Decimal,
    /// `1234` is the same, in cents.
    Minor,
}

/// Of which currency a row is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CurrencySource {
    /// A column has its code, in upper or lower case.
    Column(String),
    /// All rows are of one.
    Fixed(Currency),
}

/// When a row happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DateSource {
    /// The column.
    pub column: String,
    /// How it is written, as `strftime` says it: `%Y-%m-%d %H:%M:%S`, `%d.%m.%Y`, `%s`.
    pub format: String,
    /// The time zone that it is written in.
    pub zone: Zone,
}

/// Rows of which a column has one of these values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// The column.
    pub column: String,
    /// The values, in upper or lower case.
    pub values: Vec<String>,
}

/// What is wrong with a mapping that can be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMapping {
    /// The name cannot be stored and shown.
    #[error("name = {0:?}: give the ledger a name of 1 to 64 characters")]
    Name(String),
    /// Nothing to match with.
    #[error("events = []: name the events that the ledger should know, such as \"purchase\"")]
    NoEvents,
    /// Nothing to match by.
    #[error("reference.columns = []: name the column that has the event's id")]
    NoReference,
    /// No amount, or two.
    #[error("[amount]: give either `column`, or `credit` and `debit`")]
    Amount,
    /// The separators cannot be told apart.
    #[error("[amount]: decimal_separator and thousands_separator are both {0:?}")]
    Separators(char),
    /// The file could not be cut into fields.
    #[error("delimiter = {0:?}: give one ASCII character")]
    Delimiter(char),
}

impl Mapping {
    /// Checks what the format of the file cannot say.
    ///
    /// # Errors
    /// [`InvalidMapping`] that names the key.
    pub fn check(&self) -> Result<(), InvalidMapping> {
        let amount = &self.amount;
        if self.name.is_empty() || self.name.chars().count() > 64 {
            return Err(InvalidMapping::Name(self.name.clone()));
        }
        if self.events.is_empty() {
            return Err(InvalidMapping::NoEvents);
        }
        if self.reference.columns.is_empty() {
            return Err(InvalidMapping::NoReference);
        }
        match (&amount.column, &amount.credit, &amount.debit) {
            (Some(_), None, None) | (None, Some(_), Some(_)) => {}
            _ => return Err(InvalidMapping::Amount),
        }
        if amount.thousands_separator == Some(amount.decimal_separator) {
            return Err(InvalidMapping::Separators(amount.decimal_separator));
        }
        if self.delimiter.is_ascii() { Ok(()) } else { Err(InvalidMapping::Delimiter(self.delimiter)) }
    }

    /// The zone whose calendar days both sides are counted in: the tenant's where the ledger knows the time of day. A
    /// ledger that has dates only has decided already, so the events follow it.
    #[must_use]
    pub fn basis(&self, tenant: &Zone) -> Zone {
        const TIMES: [&str; 9] = ["%H", "%I", "%k", "%l", "%s", "%T", "%R", "%c", "%r"];
        let has_time = TIMES.iter().any(|directive| self.date.format.contains(directive));
        if has_time { tenant.clone() } else { self.date.zone.clone() }
    }
}

impl TryFrom<String> for Matches {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.strip_prefix("property:") {
            Some(name) if !name.is_empty() => Ok(Self::Property(name.to_owned())),
            None if text == "event_id" => Ok(Self::EventId),
            _ => Err(format!("{text:?}: one of \"event_id\" and \"property:NAME\"")),
        }
    }
}

impl From<Matches> for String {
    fn from(matches: Matches) -> Self {
        match matches {
            Matches::EventId => "event_id".to_owned(),
            Matches::Property(name) => format!("property:{name}"),
        }
    }
}

const fn comma() -> char {
    ','
}

const fn point() -> char {
    '.'
}
