//! Which events may have been delivered on a date: the first 48 bits of the keys of all that were, sorted.
//!
//! They never decide that two deliveries are of one event, only where the lake has to be asked: a match by chance costs
//! a look at a date and changes nothing. They are kept in blocks by their first bits, each with a checksum, so that
//! whoever looks for a few keys reads a few blocks.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use super::IndexError;
use super::files::Files;

const MARK_BITS: u32 = 48;
const MARK_BYTES: usize = 6;
/// What a block has at the head of the file: the number of its marks and their checksum.
const HEAD_BYTES: usize = 12;
const BLOCK_MARKS: usize = 512;
const BLOCK_BITS_MAX: u32 = 16;

/// The mark of an event, by the high half of its key.
pub(super) const fn mark(key_high: u64) -> u64 {
    key_high >> (u64::BITS - MARK_BITS)
}

/// A file of marks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MarksFile {
    pub(super) name: String,
    marks: usize,
    head_checksum: u64,
}

impl MarksFile {
    /// Writes marks, which must be sorted and each there once.
    ///
    /// # Errors
    /// [`IndexError::Unusable`].
    pub(super) async fn write(files: &Files, marks: &[u64]) -> Result<Self, IndexError> {
        let (head, body) = encode(marks);
        let name = format!("{}.marks", Uuid::new_v4().simple());
        let head_checksum = xxh3_64(&head);
        files.write(&name, [head, body].concat()).await?;
        Ok(Self { name, marks: marks.len(), head_checksum })
    }

    /// Every mark, in order.
    ///
    /// # Errors
    /// [`IndexError::Unusable`].
    pub(super) async fn all(&self, files: &Files) -> Result<Vec<u64>, IndexError> {
        let mut found = Vec::with_capacity(self.marks);
        self.read(files, |_| true, |mark| found.push(mark)).await?;
        Ok(found)
    }

    /// Those of `wanted`, which are sorted, that are here. Reads no more than the blocks that they would be in.
    ///
    /// # Errors
    /// [`IndexError::Unusable`].
    pub(super) async fn find(&self, files: &Files, wanted: &[u64]) -> Result<Vec<u64>, IndexError> {
        let mut found = Vec::new();
        let mut next = wanted.iter().copied().peekable();
        let is_wanted = |block: Range<u64>| {
            let first = wanted.partition_point(|mark| *mark < block.start);
            wanted.get(first).is_some_and(|mark| *mark < block.end)
        };
        let receive = |mark| {
            while next.next_if(|wanted| *wanted < mark).is_some() {}
            if next.peek() == Some(&mark) {
                found.push(mark);
            }
        };
        self.read(files, is_wanted, receive).await?;
        Ok(found)
    }

    /// Hands over the marks of the blocks that are wanted, by the range of marks they may hold, in order.
    async fn read(
        &self,
        files: &Files,
        is_wanted: impl Fn(Range<u64>) -> bool,
        mut receive: impl FnMut(u64),
    ) -> Result<(), IndexError> {
        let damaged = || files.unusable(&self.name, "it is damaged");
        let bits = block_bits(self.marks);
        let head_bytes = HEAD_BYTES << bits;
        let head = files
            .read_parts(&self.name, std::slice::from_ref(&(0..head_bytes as u64)))
            .await?
            .pop()
            .ok_or_else(damaged)?;
        if xxh3_64(&head) != self.head_checksum {
            return Err(damaged());
        }
        let mut start = head_bytes as u64;
        let (mut parts, mut checksums) = (Vec::new(), Vec::new());
        for (block, entry) in (0_u64..).zip(head.chunks_exact(HEAD_BYTES)) {
            let (marks, checksum) = entry.split_at(4);
            let marks = u32::from_le_bytes(marks.try_into().expect("4 bytes"));
            let end = start + u64::from(marks) * MARK_BYTES as u64;
            let span = MARK_BITS - bits;
            if marks > 0 && is_wanted(block << span..(block + 1) << span) {
                parts.push(start..end);
                checksums.push(u64::from_le_bytes(checksum.try_into().expect("8 bytes")));
            }
            start = end;
        }
        let blocks = if parts.is_empty() { Vec::new() } else { files.read_parts(&self.name, &parts).await? };
        for (block, checksum) in blocks.iter().zip(checksums) {
            if xxh3_64(block) != checksum {
                return Err(damaged());
            }
            for bytes in block.chunks_exact(MARK_BYTES) {
                receive(bytes.iter().fold(0, |mark, byte| mark << 8 | u64::from(*byte)));
            }
        }
        Ok(())
    }
}

/// How many of the first bits tell the block of so many marks.
fn block_bits(marks: usize) -> u32 {
    (marks / BLOCK_MARKS).max(1).ilog2().min(BLOCK_BITS_MAX)
}

fn encode(marks: &[u64]) -> (Vec<u8>, Vec<u8>) {
    let bits = block_bits(marks.len());
    let mut head = Vec::with_capacity(HEAD_BYTES << bits);
    let mut body = Vec::with_capacity(marks.len() * MARK_BYTES);
    let mut rest = marks;
    for block in 1..=1_u64 << bits {
        let (own, after) = rest.split_at(rest.partition_point(|mark| *mark < block << (MARK_BITS - bits)));
        let start = body.len();
        for mark in own {
            body.extend_from_slice(&mark.to_be_bytes()[8 - MARK_BYTES..]);
        }
        let count = u32::try_from(own.len()).expect("a block of a date has far fewer than 2^32 keys");
        head.extend_from_slice(&count.to_le_bytes());
        head.extend_from_slice(&xxh3_64(&body[start..]).to_le_bytes());
        rest = after;
    }
    (head, body)
}
