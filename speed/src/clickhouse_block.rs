//! Blocks in ClickHouse's Native format, column after column: taking them costs the server a quarter of what taking rows
//! does. Numbers are little endian; the server turns plain texts into those of low cardinality.

use bytes::Bytes;

/// Names and types of the columns of a block.
pub(crate) type Layout = [(&'static str, &'static str)];

/// The statement that takes blocks of a layout.
pub(crate) fn insert_statement(table: &str, layout: &Layout) -> String {
    let names: Vec<&str> = layout.iter().map(|(name, _)| *name).collect();
    format!("INSERT INTO {table} ({}) FORMAT Native", names.join(", "))
}

/// A block, in pieces that can be sent again and again without being copied. A column is what its type has one after
/// the other: an array's are the ends of its rows and then its elements.
pub(crate) fn block<const N: usize>(layout: &[(&str, &str); N], rows: u64, columns: [Vec<Vec<u8>>; N]) -> Vec<Bytes> {
    let mut head = Vec::new();
    push_number(&mut head, N as u64);
    push_number(&mut head, rows);
    let mut pieces = Vec::with_capacity(2 * N + 4);
    for ((name, kind), parts) in layout.iter().zip(columns) {
        push_bytes(&mut head, name.as_bytes());
        push_bytes(&mut head, kind.as_bytes());
        pieces.push(Bytes::from(std::mem::take(&mut head)));
        pieces.extend(parts.into_iter().map(Bytes::from));
    }
    pieces
}

/// A column of texts, or of bytes, each after its length.
#[derive(Debug, Default)]
pub(crate) struct Texts(pub(crate) Vec<u8>);

impl Texts {
    pub(crate) fn push(&mut self, text: &str) {
        push_bytes(&mut self.0, text.as_bytes());
    }

    pub(crate) fn push_bytes(&mut self, bytes: &[u8]) {
        push_bytes(&mut self.0, bytes);
    }
}

/// Of lists: how many elements there are up to the end of each row.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    elements: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Ends {
    /// Adds a row of so many elements.
    pub(crate) fn push(&mut self, elements: usize) {
        self.elements += elements as u64;
        self.bytes.extend(self.elements.to_le_bytes());
    }
}

fn push_bytes(column: &mut Vec<u8>, bytes: &[u8]) {
    push_number(column, bytes.len() as u64);
    column.extend_from_slice(bytes);
}

/// Seven bits a byte, the lowest first, the eighth bit says that more follow.
fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    let low = |number: u64| number.to_le_bytes()[0];
    while number >= 0x80 {
        bytes.push(low(number) | 0x80);
        number >>= 7;
    }
    bytes.push(low(number));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_seven_bits_a_byte() {
        let mut bytes = Vec::new();
        for number in [0, 127, 128, 300, 16_384] {
            push_number(&mut bytes, number);
        }
        assert_eq!(bytes, [0, 127, 0x80, 1, 0xac, 2, 0x80, 0x80, 1]);
    }

    #[test]
    fn a_block_names_its_columns_and_has_one_after_the_other() {
        let (mut names, mut ends) = (Texts::default(), Ends::default());
        ["a", "bc"].iter().for_each(|name| names.push(name));
        [2, 0].iter().for_each(|elements| ends.push(*elements));
        let layout = [("n", "String"), ("l", "Array(UInt8)")];
        let pieces = block(&layout, 2, [vec![names.0], vec![ends.bytes, vec![7, 8]]]);
        let expected = [
            b"\x02\x02\x01n\x06String\x01a\x02bc".as_slice(),
            b"\x01l\x0cArray(UInt8)",
            &[2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7, 8],
        ];
        assert_eq!(pieces.concat(), expected.concat());
    }
}
