//! What a formula's numbers are in. Money is never added to money of another currency, or to anything else.

use reckon_schemas::sums::Unit;

use crate::exact::{Operation, Style};

/// The unit of a part of a formula, in words.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct UnitText {
    /// Empty for a plain number.
    name: String,
    /// What tells it from others: a property may have the name of a currency.
    identity: String,
    /// Whether a currency is part of it.
    is_money: bool,
    /// For sums of money the currency's decimals; `None` for what is divided or has no unit.
    decimals: Option<usize>,
    is_counted: bool,
}

impl UnitText {
    /// A number without a unit.
    pub(super) fn plain() -> Self {
        Self { name: String::new(), identity: String::new(), is_money: false, decimals: None, is_counted: false }
    }

    /// Events or users.
    pub(super) fn counted(name: &str) -> Self {
        Self { name: name.to_owned(), identity: name.to_owned(), is_counted: true, ..Self::plain() }
    }

    /// Sums of this unit.
    pub(super) fn summed(unit: &Unit) -> Self {
        match unit {
            Unit::Currency(currency) => Self {
                name: currency.code().to_owned(),
                identity: format!("money.{}", currency.code()),
                is_money: true,
                decimals: Some(usize::from(currency.exponent())),
                is_counted: false,
            },
            Unit::Property(name) => Self { name: name.to_string(), identity: format!("{name:?}"), ..Self::plain() },
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn style(&self) -> Style {
        if self.is_counted { Style::Integer } else { Style::Decimal(self.decimals.unwrap_or(0)) }
    }

    fn is_plain(&self) -> bool {
        self.name.is_empty()
    }

    /// The unit of the result of an operation; `None` if both do not go together.
    pub(super) fn with(&self, operation: Operation, other: &Self) -> Option<Self> {
        let is_money = self.is_money || other.is_money;
        match operation {
            Operation::Add | Operation::Subtract => {
                if self.identity == other.identity || other.is_plain() {
                    // A constant may have decimals, so the sum is no count any more.
                    return Some(Self { is_counted: self.is_counted && other.is_counted, ..self.clone() });
                }
                if self.is_plain() {
                    return Some(Self { is_counted: false, ..other.clone() });
                }
                let is_counted = self.is_counted && other.is_counted;
                (!is_money).then(|| Self { is_counted, ..Self::plain() })
            }
            Operation::Multiply if other.is_plain() => Some(self.scaled()),
            Operation::Multiply if self.is_plain() => Some(other.scaled()),
            Operation::Multiply => Some(self.compound("*", other)),
            Operation::Divide if other.is_plain() => Some(self.scaled()),
            Operation::Divide if self.identity == other.identity => Some(Self::plain()),
            Operation::Divide if self.is_plain() => {
                let one = || "1".to_owned();
                Some(Self { name: one(), identity: one(), ..self.clone() }.compound("/", other))
            }
            Operation::Divide => Some(self.compound("/", other)),
        }
    }

    fn scaled(&self) -> Self {
        Self { is_counted: false, ..self.clone() }
    }

    fn compound(&self, sign: &str, other: &Self) -> Self {
        let part = |text: &str| if text.contains(['*', '/']) { format!("({text})") } else { text.to_owned() };
        let joined = |left: &str, right: &str| format!("{}{sign}{}", part(left), part(right));
        let (name, identity) = (joined(&self.name, &other.name), joined(&self.identity, &other.identity));
        Self { name, identity, is_money: self.is_money || other.is_money, ..Self::plain() }
    }
}
