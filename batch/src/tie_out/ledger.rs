//! A ledger's export as items: every row is read, left out for a reason, or stops the reading with its line.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;

use csv::StringRecord;
use jiff::civil::Date;
use jiff::fmt::strtime::BrokenDownTime;
use reckon_schemas::money::Currency;
use reckon_schemas::time::{EventTime, Zone};

use super::Item;
use super::amount::{NoAmount, read_minor};
use super::mapping::{Condition, CurrencySource, InvalidMapping, Mapping};

/// Everything that an export holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The payments.
    pub items: Vec<Item>,
    /// Rows that are there again, word for word.
    pub repeated: Vec<Item>,
    /// How many rows were left out, by the value that the mapping leaves out.
    pub ignored: BTreeMap<String, u64>,
    /// How many rows there are.
    pub rows: u64,
}

/// Why an export cannot be read. Nothing is matched then: half a ledger would show breaks that are none.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The mapping contradicts itself.
    #[error("the mapping is wrong: {0}")]
    Mapping(#[from] InvalidMapping),
    /// The file is no CSV file.
    #[error("the ledger is no CSV file with one header: {0}")]
    Csv(#[from] csv::Error),
    /// A column is not there.
    #[error("the ledger has no column {column:?} that the mapping names; it has {found}")]
    NoColumn {
        /// The column.
        column: String,
        /// The columns that are there.
        found: String,
    },
    /// A field does not say what it should.
    #[error("line {line}, column {column:?}: {problem}")]
    Field {
        /// The line in the file, counted from 1.
        line: u64,
        /// The column.
        column: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Ledger {
    /// Reads an export. Days are those of `basis` where the ledger knows the time of day, its own where it does not.
    ///
    /// # Errors
    /// [`LedgerError`] with the line and column.
    pub fn read(source: impl Read, mapping: &Mapping, basis: &Zone) -> Result<Self, LedgerError> {
        mapping.check()?;
        let delimiter = u8::try_from(mapping.delimiter).map_err(|_| InvalidMapping::Delimiter(mapping.delimiter))?;
        let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).trim(csv::Trim::All).from_reader(source);
        let mut headers = reader.headers()?.clone();
        // Spreadsheets begin their files with a byte order mark.
        if let Some(first) = headers.get(0).and_then(|first| first.strip_prefix('\u{feff}').map(str::to_owned)) {
            headers = std::iter::once(first.trim_matches('"')).chain(headers.iter().skip(1)).collect();
        }
        let columns = Columns { headers: &headers, mapping, basis };
        columns.check()?;
        let mut ledger = Self::default();
        let mut known: HashMap<String, StringRecord> = HashMap::new();
        for record in reader.records() {
            let record = record?;
            ledger.rows += 1;
            if let Some(reason) = columns.ignored(&record) {
                *ledger.ignored.entry(reason).or_default() += 1;
                continue;
            }
            let item = columns.item(&record)?;
            match mapping.row_id.as_deref().and_then(|column| columns.get(&record, column)) {
                Some(id) if known.get(id) == Some(&record) => ledger.repeated.push(item),
                Some(id) => {
                    known.insert(id.to_owned(), record);
                    ledger.items.push(item);
                }
                None => ledger.items.push(item),
            }
        }
        Ok(ledger)
    }
}

struct Columns<'a> {
    headers: &'a StringRecord,
    mapping: &'a Mapping,
    basis: &'a Zone,
}

impl Columns<'_> {
    /// A typing error in the mapping must not read as "every field is empty".
    fn check(&self) -> Result<(), LedgerError> {
        let mapping = self.mapping;
        let amount = [&mapping.amount.column, &mapping.amount.credit, &mapping.amount.debit];
        let conditions = mapping.ignore.iter().chain(&mapping.amount.negate).map(|condition| &condition.column);
        let currency = match &mapping.currency {
            CurrencySource::Column(column) => Some(column),
            CurrencySource::Fixed(_) => None,
        };
        let named = mapping.reference.columns.iter().chain([&mapping.date.column]);
        let named = named.chain(amount.into_iter().flatten()).chain(conditions).chain(currency).chain(&mapping.row_id);
        for column in named {
            if !self.headers.iter().any(|header| header == column) {
                let found = self.headers.iter().collect::<Vec<_>>().join(", ");
                return Err(LedgerError::NoColumn { column: column.clone(), found });
            }
        }
        Ok(())
    }

    /// The field of a column, if it is not empty.
    fn get<'a>(&self, record: &'a StringRecord, column: &str) -> Option<&'a str> {
        let index = self.headers.iter().position(|header| header == column)?;
        record.get(index).filter(|field| !field.is_empty())
    }

    fn meets(&self, record: &StringRecord, condition: &Condition) -> bool {
        let field = self.get(record, &condition.column).unwrap_or_default();
        condition.values.iter().any(|value| value.eq_ignore_ascii_case(field))
    }

    fn ignored(&self, record: &StringRecord) -> Option<String> {
        let met = self.mapping.ignore.iter().find(|condition| self.meets(record, condition))?;
        Some(format!("{} {}", met.column, self.get(record, &met.column).unwrap_or("(empty)")))
    }

    fn item(&self, record: &StringRecord) -> Result<Item, LedgerError> {
        let line = record.position().map_or(0, csv::Position::line);
        let currency = self.currency(record, line)?;
        let row_id = self.mapping.row_id.as_deref().and_then(|column| self.get(record, column));
        let name = row_id.map_or_else(|| format!("line {line}"), str::to_owned);
        let columns = &self.mapping.reference.columns;
        let reference = columns.iter().find_map(|column| self.reference_in(self.get(record, column)?));
        Ok(Item {
            // A payment without a reference belongs to nobody: it must not meet others like it.
            reference: reference.unwrap_or_else(|| format!("({name})")),
            currency,
            minor: self.minor(record, line, currency)?,
            day: self.day(record, line)?,
            name,
        })
    }

    fn reference_in(&self, field: &str) -> Option<String> {
        let Some(after) = &self.mapping.reference.after else { return Some(field.to_owned()) };
        let (_, rest) = field.split_once(after.as_str())?;
        let reference = rest.split_whitespace().next()?;
        Some(reference.trim_end_matches([',', ';', '.']).to_owned())
    }

    fn currency(&self, record: &StringRecord, line: u64) -> Result<Currency, LedgerError> {
        let column = match &self.mapping.currency {
            CurrencySource::Fixed(currency) => return Ok(*currency),
            CurrencySource::Column(column) => column,
        };
        let code = self.get(record, column).unwrap_or_default().to_ascii_uppercase();
        code.parse().map_err(|error: reckon_schemas::money::MoneyError| wrong(line, column, &error))
    }

    fn minor(&self, record: &StringRecord, line: u64, currency: Currency) -> Result<i64, LedgerError> {
        let amount = &self.mapping.amount;
        let read = |column: &str| match self.get(record, column) {
            None => Ok(None),
            Some(text) => {
                read_minor(text, amount, currency).map(Some).map_err(|error: NoAmount| wrong(line, column, &error))
            }
        };
        let (column, signed) = match (&amount.column, &amount.credit, &amount.debit) {
            (Some(column), _, _) => (column, read(column)?),
            (None, Some(credit), Some(debit)) => {
                let out = read(debit)?.map(i64::checked_neg);
                let out = out.map(|out| out.ok_or_else(|| wrong(line, debit, &"is too large"))).transpose()?;
                match (read(credit)?.filter(|minor| *minor != 0), out.filter(|minor| *minor != 0)) {
                    (Some(_), Some(_)) => return Err(wrong(line, credit, &format!("{debit:?} has an amount as well"))),
                    (came, went) => (credit, came.or(went).or(Some(0)).filter(|_| self.has_any(record, credit, debit))),
                }
            }
            _ => return Err(InvalidMapping::Amount.into()),
        };
        let signed = signed.ok_or_else(|| wrong(line, column, &"is empty, so that the row has no amount"))?;
        let negated = amount.negate.iter().any(|condition| self.meets(record, condition));
        if negated { signed.checked_neg().ok_or_else(|| wrong(line, column, &"is too large")) } else { Ok(signed) }
    }

    fn has_any(&self, record: &StringRecord, credit: &str, debit: &str) -> bool {
        self.get(record, credit).is_some() || self.get(record, debit).is_some()
    }

    fn day(&self, record: &StringRecord, line: u64) -> Result<Date, LedgerError> {
        let date = &self.mapping.date;
        let text = self.get(record, &date.column).unwrap_or_default();
        let refuse = |error: jiff::Error| wrong(line, &date.column, &error);
        let parsed = BrokenDownTime::parse(date.format.as_bytes(), text.as_bytes()).map_err(refuse)?;
        // With an offset or in seconds since 1970 it is an instant by itself; otherwise the ledger's zone makes it one.
        if let Ok(instant) = parsed.to_timestamp() {
            return Ok(self.basis.day_of(EventTime::from_timestamp(instant)));
        }
        if parsed.hour().is_none() {
            return parsed.to_date().map_err(refuse);
        }
        let local = parsed.to_datetime().map_err(refuse)?;
        Ok(self.basis.day_of(date.zone.instant_of(local)))
    }
}

fn wrong(line: u64, column: &str, problem: &dyn std::fmt::Display) -> LedgerError {
    LedgerError::Field { line, column: column.to_owned(), problem: problem.to_string() }
}
