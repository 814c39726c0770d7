//! The bytes of a snapshot: a mark, the version of the format, a checksum, then the compressed state.

use xxhash_rust::xxh3::xxh3_128;

use crate::worker::windows::{PartitionState, Unreadable};

const MARK: &[u8; 6] = b"RKSNAP";
/// Raised whenever the form of the state changes; older snapshots are then not read any more.
const VERSION: u16 = 2;
const CHECKSUM_AT: usize = MARK.len() + 2;
const STATE_AT: usize = CHECKSUM_AT + 16;
/// Most of a snapshot are keys, which do not get smaller by trying harder.
const COMPRESSION_LEVEL: i32 = 1;

/// Why bytes are not a snapshot.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("not a snapshot")]
    NotASnapshot,
    #[error("snapshot of format version {0}, this build reads {VERSION}")]
    Version(u16),
    #[error("checksum does not fit: cut off or changed")]
    Checksum,
    #[error("cannot be decompressed: {0}")]
    Compression(#[from] std::io::Error),
    #[error(transparent)]
    State(#[from] Unreadable),
}

pub(super) fn encode(state: &[u8]) -> Vec<u8> {
    let compressed = zstd::encode_all(state, COMPRESSION_LEVEL).expect("memory takes every write");
    let mut bytes = Vec::with_capacity(STATE_AT + compressed.len());
    bytes.extend(MARK);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(xxh3_128(&compressed).to_le_bytes());
    bytes.extend(compressed);
    bytes
}

pub(super) fn decode(bytes: &[u8]) -> Result<PartitionState, Problem> {
    let (header, compressed) = bytes.split_at_checked(STATE_AT).ok_or(Problem::NotASnapshot)?;
    let version = header.strip_prefix(MARK).and_then(|rest| rest.first_chunk::<2>()).ok_or(Problem::NotASnapshot)?;
    let version = u16::from_le_bytes(*version);
    if version != VERSION {
        return Err(Problem::Version(version));
    }
    if xxh3_128(compressed).to_le_bytes() != header[CHECKSUM_AT..] {
        return Err(Problem::Checksum);
    }
    Ok(PartitionState::from_bytes(&zstd::decode_all(compressed)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_or_missing_byte_is_noticed() {
        let bytes = encode(&PartitionState::starting_at(77).to_bytes());
        assert_eq!(decode(&bytes).expect("as written").next_offset(), 77);
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 4;
            assert!(decode(&changed).is_err(), "byte {index}");
            assert!(decode(&bytes[..index]).is_err(), "cut at {index}");
        }
    }
}
