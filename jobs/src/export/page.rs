//! Pages to print: self-contained, no script, nothing fetched; every text from outside is escaped by its template.

use anyhow::Context;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Value};
use serde::Serialize;

const STYLE: &str = include_str!("templates/style.css");
const PICTURE: &str = include_str!("templates/picture.html");
const RECONCILIATION: &str = include_str!("templates/reconciliation.html");
const TIE_OUT: &str = include_str!("templates/tie_out.html");

/// Renders one of the templates.
pub(super) fn render(template: &str, content: &impl Serialize) -> anyhow::Result<Vec<u8>> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    let templates = [
        ("style.css", STYLE),
        ("picture.html", PICTURE),
        ("reconciliation.html", RECONCILIATION),
        ("tie_out.html", TIE_OUT),
    ];
    for (name, source) in templates {
        environment.add_template(name, source).context(name)?;
    }
    let page = environment.get_template(template)?.render(Value::from(Serde(content))).context(template.to_owned())?;
    Ok(page.into_bytes())
}

/// A number with thin spaces between groups of three digits, as people read it: `1 469 307`, `-12 345.60`.
pub(super) fn grouped(number: &str) -> String {
    let (sign, rest) = number.strip_prefix('-').map_or(("", number), |rest| ("\u{2212}", rest));
    let (whole, fraction) = rest.split_once('.').map_or((rest, ""), |(whole, fraction)| (whole, fraction));
    let mut text = String::from(sign);
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    if !fraction.is_empty() {
        text.push('.');
        text.push_str(fraction);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn numbers_are_grouped_for_the_eye() {
        for (number, shown) in [
            ("0", "0"),
            ("999", "999"),
            ("1000", "1\u{202f}000"),
            ("-12345.60", "\u{2212}12\u{202f}345.60"),
            ("4596039.58", "4\u{202f}596\u{202f}039.58"),
        ] {
            assert_eq!(grouped(number), shown);
        }
    }
}
