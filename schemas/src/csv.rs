//! Comma-separated values as this system writes them: RFC 4180, with a header, and nothing in them that a spreadsheet would
//! run.

use csv::{Error, Terminator, WriterBuilder};

/// A document of a header and lines of as many cells.
///
/// # Errors
/// A line has more cells than the header, or fewer.
pub fn document<Line>(header: &[&str], lines: impl IntoIterator<Item = Line>) -> Result<Vec<u8>, Error>
where
    Line: IntoIterator<Item: AsRef<str>>,
{
    let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(header.iter().map(|name| harmless(name)))?;
    for line in lines {
        for cell in line {
            writer.write_field(harmless(cell.as_ref()))?;
        }
        writer.write_record(None::<&[u8]>)?;
    }
    writer.into_inner().map_err(|error| Error::from(error.into_error()))
}

/// Whatever a spreadsheet would take for a formula gets a quote before it, because names and values come from outside.
/// Negative numbers begin like formulas, and are none.
fn harmless(text: &str) -> String {
    let begins_a_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']);
    if begins_a_formula && !is_number(text) { format!("'{text}") } else { text.to_owned() }
}

/// Digits with at most one point between them, perhaps negative.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    [whole, fraction].iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_rfc_4180_and_harmless() {
        let lines = [["-2.50", "=1+1, \"DELI\""], ["-2+3", "a\nb"], ["12", "@SUM(A1)"], ["-", "\t=1"], ["+5", "-.5"]];
        let text = String::from_utf8(document(&["drift", "+name"], lines).expect("written")).expect("UTF-8");
        let expected = "drift,'+name\r\n-2.50,\"'=1+1, \"\"DELI\"\"\"\r\n'-2+3,\"a\nb\"\r\n12,'@SUM(A1)\r\n\
                        '-,'\t=1\r\n'+5,'-.5\r\n";
        assert_eq!(text, expected);
        assert!(document(&["one"], [["1", "2"]]).is_err());
        assert_eq!(document(&["one"], Vec::<[&str; 1]>::new()).expect("written"), b"one\r\n");
    }
}
