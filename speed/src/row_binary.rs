//! Rows in ClickHouse's format `RowBinary`: values one after another, numbers little endian, texts and lists led by
//! their length. Written by hand because rows go out by the hundred thousand a second, straight from borrowed parts.

/// Rows that are being written.
#[derive(Debug, Default)]
pub(crate) struct RowBinary(Vec<u8>);

impl RowBinary {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The rows so far; none are left.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let capacity = self.0.capacity();
        std::mem::replace(&mut self.0, Vec::with_capacity(capacity))
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn i128(&mut self, value: i128) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// A length as a varint of seven bits a byte.
    pub(crate) fn length(&mut self, length: usize) {
        let mut rest = length;
        while rest >= 0x80 {
            self.0.push(rest.to_le_bytes()[0] | 0x80);
            rest >>= 7;
        }
        self.0.push(rest.to_le_bytes()[0]);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_varints() {
        let mut rows = RowBinary::default();
        for length in [0, 127, 128, 300, 16_384] {
            rows.length(length);
        }
        assert_eq!(rows.take(), [0, 127, 0x80, 1, 0xac, 2, 0x80, 0x80, 1]);
        rows.text("ab");
        rows.i32(-1);
        assert_eq!((rows.len(), rows.take()), (7, vec![2, b'a', b'b', 255, 255, 255, 255]));
    }
}
