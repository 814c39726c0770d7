//! From the text to a formula. What is not on the list is refused, with its position and with what is allowed.

use std::collections::BTreeSet;

use reckon_schemas::catalog::{Measure, Metric};
use reckon_schemas::sums::Unit;
use sqlparser::ast::{
    BinaryOperator, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident,
    ObjectNamePart, Spanned, UnaryOperator, Value,
};
use sqlparser::dialect::Dialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use super::units::UnitText;
use super::{AGGREGATES_MAX, Aggregate, DEPTH_MAX, Formula, Node, TEXT_BYTES_MAX};
use crate::exact::{self, Operation};
use crate::problem::Problem;
use crate::query::filter::{self, Filter, Test};

const ALLOWED: &str = "allowed are count(*), sum(money.CODE), sum(property) and uniq(user), each with \
                       `filter (where …)` if needed, numbers, + - * /, parentheses, and one `where …` for all at the end";
const CONDITIONS: &str = "conditions are `dimension = 'value'`, `<>`, `in (…)`, `not in (…)`, `like 'prefix%'` and \
                          `event = 'name'`, joined by `and`";
/// How deep the parser may descend: some of its levels are none of ours.
const RECURSION_MAX: usize = 4 * DEPTH_MAX;

/// The little of SQL that is understood: nothing that a database would add to the standard.
#[derive(Debug)]
struct PlainSql;

impl Dialect for PlainSql {
    fn is_identifier_start(&self, c: char) -> bool {
        c.is_ascii_alphabetic() || c == '_'
    }

    fn is_identifier_part(&self, c: char) -> bool {
        c.is_ascii_alphanumeric() || c == '_'
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }
}

/// What is not allowed, and where.
struct Refusal {
    at: Location,
    detail: String,
}

type Refused<T> = Result<T, Refusal>;

/// Aggregates found on the way.
#[derive(Default)]
struct Compiler {
    aggregates: Vec<Aggregate>,
    filters: usize,
}

/// Conditions on events: their name, and their dimensions.
#[derive(Default)]
struct Conditions {
    event: Option<String>,
    filters: Vec<Filter>,
}

/// Reads a text.
///
/// # Errors
/// 400 with the position.
pub(super) fn compile(text: &str) -> Result<Formula, Problem> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(problem(None, format!("longer than {TEXT_BYTES_MAX} bytes")));
    }
    let formula = formula(text).map_err(|Refusal { at, detail }| problem(position(text, at), detail))?;
    for aggregate in &formula.aggregates {
        filter::bounded(aggregate.filters.iter().cloned())?;
    }
    Ok(formula)
}

fn formula(text: &str) -> Refused<Formula> {
    let dialect = PlainSql;
    let tokens = Tokenizer::new(&dialect, text).tokenize_with_location();
    let tokens = tokens.map_err(|error| refuse(error.location, error.message))?;
    let filters_written = tokens.iter().filter(|token| is_keyword(token, Keyword::FILTER)).count();
    let mut parser = Parser::new(&dialect).with_recursion_limit(RECURSION_MAX).with_tokens_with_locations(tokens);
    let expression = parser.parse_expr().map_err(|error| unparsed(&error))?;
    let condition = match parser.parse_keyword(Keyword::WHERE) {
        true => Some(parser.parse_expr().map_err(|error| unparsed(&error))?),
        false => None,
    };
    let rest = parser.peek_token();
    if rest.token != Token::EOF {
        return Err(refuse(rest.span.start, format!("{} is not expected here; {ALLOWED}", shown(&rest))));
    }
    let mut compiler = Compiler::default();
    let (root, unit) = compiler.node(&expression, 0)?;
    if compiler.filters != filters_written {
        let detail = format!("`filter` is written `filter (where …)` after an aggregate; {ALLOWED}");
        return Err(refuse(expression.span().start, detail));
    }
    if compiler.aggregates.is_empty() {
        return Err(refuse(expression.span().start, format!("there is nothing to count in this; {ALLOWED}")));
    }
    let mut common = Conditions::default();
    if let Some(condition) = &condition {
        common.read(condition, 0)?;
    }
    for aggregate in &mut compiler.aggregates {
        aggregate.filters.extend(common.filters.iter().cloned());
        match &common.event {
            Some(event) if aggregate.event == Metric::ANY_EVENT => aggregate.event.clone_from(event),
            Some(event) if aggregate.event != *event => {
                let at = condition.as_ref().map_or(Location { line: 0, column: 0 }, |condition| condition.span().start);
                return Err(refuse(at, "an event has one name, and an aggregate here asks for another one".to_owned()));
            }
            _ => {}
        }
    }
    Ok(Formula { aggregates: compiler.aggregates, root, unit })
}

impl Compiler {
    fn node(&mut self, expression: &Expr, depth: usize) -> Refused<(Node, UnitText)> {
        let at = expression.span().start;
        if depth > DEPTH_MAX * 4 {
            return Err(refuse(at, format!("nested deeper than {DEPTH_MAX}")));
        }
        match expression {
            Expr::Nested(inner) => self.node(inner, depth + 1),
            Expr::Value(value) => match &value.value {
                Value::Number(digits, false) => {
                    let number = exact::parse(digits);
                    let number = number.ok_or_else(|| refuse(at, "a number has at most 30 digits".to_owned()))?;
                    Ok((Node::Constant(number), UnitText::plain()))
                }
                _ => Err(refuse(at, format!("this value cannot be computed with; {ALLOWED}"))),
            },
            Expr::UnaryOp { op: UnaryOperator::Plus, expr } => self.node(expr, depth + 1),
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => {
                let (node, unit) = self.node(expr, depth + 1)?;
                Ok((Node::Negated(Box::new(node)), unit))
            }
            Expr::BinaryOp { left, op, right } => {
                let operation = match op {
                    BinaryOperator::Plus => Operation::Add,
                    BinaryOperator::Minus => Operation::Subtract,
                    BinaryOperator::Multiply => Operation::Multiply,
                    BinaryOperator::Divide => Operation::Divide,
                    _ => return Err(refuse(at, format!("the operator {op} is not allowed; {ALLOWED}"))),
                };
                let (left_node, left_unit) = self.node(left, depth + 1)?;
                let (right_node, right_unit) = self.node(right, depth + 1)?;
                let unit = left_unit.with(operation, &right_unit).ok_or_else(|| {
                    let detail = "money is never added to another currency or to anything else than money";
                    refuse(right.span().start, detail.to_owned())
                })?;
                Ok((Node::Operation(operation, Box::new(left_node), Box::new(right_node)), unit))
            }
            Expr::Function(function) => self.aggregate(function, at),
            _ => Err(refuse(at, format!("this is not allowed here; {ALLOWED}"))),
        }
    }

    fn aggregate(&mut self, function: &Function, at: Location) -> Refused<(Node, UnitText)> {
        let refused = || refuse(at, format!("this aggregate is not allowed; {ALLOWED}"));
        let is_plain = !function.uses_odbc_syntax
            && function.parameters == FunctionArguments::None
            && function.null_treatment.is_none()
            && function.over.is_none()
            && function.within_group.is_empty();
        let (
            [ObjectNamePart::Identifier(Ident { value: name, quote_style: None, .. })],
            true,
            FunctionArguments::List(list),
        ) = (function.name.0.as_slice(), is_plain, &function.args)
        else {
            return Err(refused());
        };
        let ([FunctionArg::Unnamed(argument)], []) = (list.args.as_slice(), list.clauses.as_slice()) else {
            return Err(refused());
        };
        let name = name.to_ascii_lowercase();
        let (measure, unit) = match (name.as_str(), list.duplicate_treatment, argument) {
            ("count", None, FunctionArgExpr::Wildcard) => (Measure::Count, None),
            ("uniq", None, FunctionArgExpr::Expr(of))
            | ("count", Some(DuplicateTreatment::Distinct), FunctionArgExpr::Expr(of)) => match of {
                Expr::Identifier(column) if column.value == "user" => (Measure::Users, None),
                _ => return Err(refuse(of.span().start, format!("only users are told apart; {ALLOWED}"))),
            },
            ("sum", None, FunctionArgExpr::Expr(of)) => summed(of)?,
            _ => return Err(refused()),
        };
        let mut conditions = Conditions::default();
        if let Some(condition) = &function.filter {
            self.filters += 1;
            conditions.read(condition, 0)?;
        }
        let text = match &unit {
            Some(unit) => UnitText::summed(unit),
            None => UnitText::counted(if measure == Measure::Users { "users" } else { "events" }),
        };
        let event = conditions.event.unwrap_or_else(|| Metric::ANY_EVENT.to_owned());
        let filters: BTreeSet<Filter> = conditions.filters.into_iter().collect();
        let aggregate = Aggregate { measure, unit, event, filters };
        let index = self.aggregates.iter().position(|known| *known == aggregate).unwrap_or_else(|| {
            self.aggregates.push(aggregate);
            self.aggregates.len() - 1
        });
        if self.aggregates.len() > AGGREGATES_MAX {
            return Err(refuse(at, format!("more than {AGGREGATES_MAX} different aggregates")));
        }
        Ok((Node::Aggregate(index), text))
    }
}

/// What is summed: `money.CODE` or a property.
fn summed(of: &Expr) -> Refused<(Measure, Option<Unit>)> {
    let at = of.span().start;
    match of {
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [money, code] if money.value == "money" => {
                let currency = code.value.parse().map_err(|error| refuse(code.span.start, format!("{error}")))?;
                Ok((Measure::Money, Some(Unit::Currency(currency))))
            }
            _ => Err(refuse(at, "a property with a dot in its name is written in double quotes".to_owned())),
        },
        Expr::Identifier(property) => {
            let unit = Unit::property(&property.value).map_err(|error| refuse(at, format!("{error}")))?;
            Ok((Measure::Sum, Some(unit)))
        }
        _ => Err(refuse(at, format!("only money and properties are summed; {ALLOWED}"))),
    }
}

impl Conditions {
    fn read(&mut self, condition: &Expr, depth: usize) -> Refused<()> {
        let at = condition.span().start;
        let refused = || refuse(at, format!("this condition is not allowed; {CONDITIONS}"));
        if depth > DEPTH_MAX * 4 {
            return Err(refuse(at, format!("nested deeper than {DEPTH_MAX}")));
        }
        let test = match condition {
            Expr::Nested(inner) => return self.read(inner, depth + 1),
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
                self.read(left, depth + 1)?;
                return self.read(right, depth + 1);
            }
            Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
                Some((left, Test::In(BTreeSet::from([string(right)?]))))
            }
            Expr::BinaryOp { left, op: BinaryOperator::NotEq, right } => {
                Some((left, Test::NotIn(BTreeSet::from([string(right)?]))))
            }
            Expr::InList { expr, list, negated } => {
                let values = list.iter().map(string).collect::<Refused<_>>()?;
                Some((expr, if *negated { Test::NotIn(values) } else { Test::In(values) }))
            }
            Expr::Like { negated: false, any: false, expr, pattern, escape_char: None } => {
                Some((expr, Test::Prefix(BTreeSet::from([prefix(pattern)?]))))
            }
            _ => None,
        };
        let Some((column, test)) = test else { return Err(refused()) };
        let Expr::Identifier(column) = &**column else {
            let detail = format!("a dimension with a dot in its name is written in double quotes; {CONDITIONS}");
            return Err(refuse(at, detail));
        };
        self.add(column, test)
    }

    fn add(&mut self, column: &Ident, test: Test) -> Refused<()> {
        let at = column.span.start;
        if column.value != "event" {
            let is_usable = (1..=64).contains(&column.value.chars().count());
            if !is_usable {
                return Err(refuse(at, "a dimension's name has 1 to 64 characters".to_owned()));
            }
            self.filters.push(Filter { dimension: column.value.clone(), test });
            return Ok(());
        }
        let name = match test {
            Test::In(names) if names.len() == 1 => names.into_iter().next(),
            _ => None,
        };
        let name = name.filter(|name| name != Metric::ANY_EVENT);
        let name = name.ok_or_else(|| refuse(at, "an aggregate takes one event: `event = 'name'`".to_owned()))?;
        match &self.event {
            Some(known) if *known != name => Err(refuse(at, "an event has one name, and two are asked for".to_owned())),
            _ => {
                self.event = Some(name);
                Ok(())
            }
        }
    }
}

fn string(value: &Expr) -> Refused<String> {
    match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Ok(text.clone()),
            _ => Err(refuse(value.span.start, format!("values are written as 'text'; {CONDITIONS}"))),
        },
        _ => Err(refuse(value.span().start, format!("values are written as 'text'; {CONDITIONS}"))),
    }
}

/// The part of a pattern before its one `%`, which is at its end.
fn prefix(pattern: &Expr) -> Refused<String> {
    let text = string(pattern)?;
    match text.strip_suffix('%') {
        Some(prefix) if !prefix.contains(['%', '_', '\\']) => Ok(prefix.to_owned()),
        _ => Err(refuse(pattern.span().start, "a pattern is some text and one % at its end".to_owned())),
    }
}

fn is_keyword(token: &TokenWithSpan, keyword: Keyword) -> bool {
    matches!(&token.token, Token::Word(word) if word.keyword == keyword)
}

fn shown(token: &TokenWithSpan) -> String {
    format!("{:?}", token.token.to_string().chars().take(40).collect::<String>())
}

fn refuse(at: Location, detail: String) -> Refusal {
    Refusal { at, detail }
}

/// The parser's own words; their end says where.
fn unparsed(error: &ParserError) -> Refusal {
    let nowhere = Location { line: 0, column: 0 };
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
        ParserError::RecursionLimitExceeded => return refuse(nowhere, format!("nested deeper than {DEPTH_MAX}")),
    };
    let (words, place) = text.rsplit_once(" at Line: ").unwrap_or((text, ""));
    let (line, column) = place.split_once(", Column: ").unwrap_or_default();
    let at = Location { line: line.parse().unwrap_or(0), column: column.parse().unwrap_or(0) };
    let words: String = words.chars().take(200).collect();
    refuse(at, format!("{words}; {ALLOWED}"))
}

/// Where it is, as the number of the character, from 1.
fn position(text: &str, at: Location) -> Option<u64> {
    if at.line == 0 {
        return None;
    }
    let before = text.split('\n').take(usize::try_from(at.line - 1).ok()?).map(|line| line.chars().count() + 1);
    Some(u64::try_from(before.sum::<usize>()).ok()? + at.column)
}

fn problem(position: Option<u64>, detail: String) -> Problem {
    let detail = match position {
        Some(position) => format!("at character {position}: {detail}"),
        None => detail,
    };
    Problem { position, ..Problem::invalid_parameter("metric_text", detail) }
}
