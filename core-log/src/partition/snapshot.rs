//! The file that remembers producers from one segment to the next.
//!
//! Why: which batches are duplicates must be known without reading all segments; a snapshot at a
//! segment's base offset says what was known before its first batch.
//!
//! `<base offset>.snapshot`, big-endian:
//!
//! ```text
//!   version i16 (1) | crc32c u32 of all behind it | count i32 | entries
//!   entry (46 bytes): producer id i64 | producer epoch i16 | last sequence i32 | last offset i64
//!     | offset delta i32 | timestamp i64 | coordinator epoch i32 | first offset of open txn i64
//! ```
//!
//! Invariants
//! * Only the last batch of each producer is kept; a producer without batches has sequence -1.
//! * The data of an open transaction ends behind its producer's last batch.
//! * Entries stand in the order in which Kafka's hash map yields them; readers do not rely on it.
//!
//! On crash: a snapshot that is missing or does not fit its checksum is not used; the segments before
//! it are replayed instead.
//! Reference: Kafka `ProducerStateManager.writeSnapshot`.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut};

use super::producer_state::{BatchSpan, OpenSpan, ProducerEntry, ProducerState};
use super::text_file;
use crate::error::{Error, Result};
use crate::ids::{Offset, ProducerEpoch, ProducerId};
use crate::storage::Storage;

const VERSION: i16 = 1;
const CHECKED_FROM: usize = 6;
const ENTRY_LEN: usize = 46;
pub(crate) const SUFFIX: &str = ".snapshot";

/// The file for a segment's base offset.
pub(crate) fn path(dir: &Path, base_offset: Offset) -> PathBuf {
    dir.join(format!("{base_offset:020}{SUFFIX}"))
}

/// The base offsets of all snapshot files in `dir`, ascending.
pub(crate) fn list(storage: &dyn Storage, dir: &Path) -> Result<Vec<Offset>> {
    let names = storage.list(dir).map_err(|e| Error::io(dir, "list", e))?;
    Ok(names.iter().filter_map(|name| text_file::numbered(name, SUFFIX)).collect())
}

/// Writes what is known at `base_offset`.
pub(crate) fn write(
    storage: &dyn Storage,
    dir: &Path,
    base_offset: Offset,
    state: &ProducerState,
) -> Result<()> {
    text_file::replace(storage, dir, &format!("{base_offset:020}{SUFFIX}"), &encode(state))
}

/// Reads what was known at `base_offset`; `None` when no snapshot proves it.
pub(crate) fn read(
    storage: &dyn Storage,
    dir: &Path,
    base_offset: Offset,
) -> Result<Option<ProducerState>> {
    Ok(text_file::read_bytes(storage, &path(dir, base_offset))?.and_then(|bytes| decode(&bytes)))
}

/// Writes what is known at `base_offset`, unless a snapshot there proves itself.
pub(crate) fn write_if_lost(
    storage: &dyn Storage,
    dir: &Path,
    base_offset: Offset,
    state: &ProducerState,
) -> Result<()> {
    match read(storage, dir, base_offset)? {
        Some(_proven) => Ok(()),
        None => write(storage, dir, base_offset, state),
    }
}

/// Leaves what is known at the end of a partition that is closed, for who reads closed logs. It is not
/// synced: the next start reads the batches, and removes it.
pub(crate) fn leave(
    storage: &dyn Storage,
    dir: &Path,
    end: Offset,
    state: &ProducerState,
) -> Result<()> {
    let path = path(dir, end);
    let is_there = storage.exists(&path).map_err(|e| Error::io(&path, "look for", e))?;
    if is_there {
        return Ok(());
    }
    let file = storage.create(&path).map_err(|e| Error::io(&path, "create", e))?;
    file.write_all_at(&encode(state), 0).map_err(|e| Error::io(&path, "write", e))
}

/// Removes a snapshot.
pub(crate) fn remove(storage: &dyn Storage, dir: &Path, base_offset: Offset) -> Result<()> {
    let path = path(dir, base_offset);
    storage.remove_file(&path).map_err(|e| Error::io(&path, "remove", e))
}

/// The producers in the order of a Java `HashMap` of as many `Long` keys.
fn in_order_of_kafka(state: &ProducerState) -> Vec<(ProducerId, &ProducerEntry)> {
    let mut entries: Vec<_> = state.iter().collect();
    // The table doubles when it is fuller than three quarters.
    let mut buckets = 16;
    while entries.len() > buckets / 4 * 3 {
        buckets *= 2;
    }
    let last_bucket = u32::try_from(buckets - 1).unwrap_or(u32::MAX);
    let bucket = |id: ProducerId| {
        let [a, b, c, d, e, f, g, h] = id.0.to_be_bytes();
        let hash = u32::from_be_bytes([a, b, c, d]) ^ u32::from_be_bytes([e, f, g, h]);
        (hash ^ (hash >> 16)) & last_bucket
    };
    entries.sort_by_key(|(id, _)| (bucket(*id), *id));
    entries
}

fn encode(state: &ProducerState) -> Vec<u8> {
    let entries = in_order_of_kafka(state);
    let mut out = Vec::new();
    out.put_i16(VERSION);
    out.put_u32(0);
    out.put_i32(i32::try_from(entries.len()).expect("producers fit into memory"));
    for (id, entry) in entries {
        let last = entry.batches.back();
        let delta = last.map_or(0, |batch| batch.last_offset - batch.first_offset);
        out.put_i64(id.0);
        out.put_i16(entry.producer_epoch.0);
        out.put_i32(last.map_or(-1, |batch| batch.last_sequence));
        out.put_i64(last.map_or(-1, |batch| batch.last_offset));
        out.put_i32(i32::try_from(delta).expect("a batch has fewer than 2^31 records"));
        out.put_i64(entry.last_seen);
        out.put_i32(entry.coordinator_epoch);
        out.put_i64(entry.open.map_or(-1, |span| span.first_offset));
    }
    let crc = crc32c::crc32c(&out[CHECKED_FROM..]);
    out[2..CHECKED_FROM].copy_from_slice(&crc.to_be_bytes());
    out
}

/// The producers, or `None` when the bytes are no snapshot.
pub(crate) fn decode(bytes: &[u8]) -> Option<ProducerState> {
    let (mut head, mut body) = bytes.split_at_checked(CHECKED_FROM)?;
    if head.get_i16() != VERSION || head.get_u32() != crc32c::crc32c(body) || body.len() < 4 {
        return None;
    }
    let count = usize::try_from(body.get_i32()).ok()?;
    if body.len() != count.checked_mul(ENTRY_LEN)? {
        return None;
    }
    let mut state = ProducerState::default();
    for mut fields in body.chunks_exact(ENTRY_LEN) {
        let (id, entry) = decode_entry(&mut fields)?;
        if state.get(id).is_some() {
            return None;
        }
        state.insert(id, entry);
    }
    Some(state)
}

/// One producer; `None` when its numbers are none that a log can have.
fn decode_entry(fields: &mut &[u8]) -> Option<(ProducerId, ProducerEntry)> {
    let id = ProducerId(fields.get_i64());
    let producer_epoch = ProducerEpoch(fields.get_i16());
    let last_sequence = fields.get_i32();
    let last_offset = fields.get_i64();
    let delta = fields.get_i32();
    let last_seen = fields.get_i64();
    let coordinator_epoch = fields.get_i32();
    let open_from = fields.get_i64();
    let first_offset = last_offset.checked_sub(delta.into())?;
    let end_offset = last_offset.checked_add(1)?;
    if delta < 0 || (last_sequence >= 0 && first_offset < 0) {
        return None;
    }
    let mut batches = VecDeque::with_capacity(1);
    if last_sequence >= 0 {
        batches.push_back(BatchSpan {
            first_sequence: last_sequence.wrapping_sub(delta) & i32::MAX,
            last_sequence,
            first_offset,
            last_offset,
        });
    }
    let open = (open_from >= 0).then_some(OpenSpan { first_offset: open_from, end_offset });
    Some((id, ProducerEntry { producer_epoch, batches, coordinator_epoch, last_seen, open }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by Kafka: producer 2000 has a transaction open from offset 7 on, producer 1000 wrote
    /// sequences 0 to 2.
    const OF_KAFKA: &str = "000188ca20360000000200000000000007d00000000000010000000000000005000000\
        000000018bcfe5680000000007ffffffffffffffff00000000000003e8000100000001000000000000000200000\
        0010000018bcfe56800ffffffffffffffffffffffff";

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<char> = text.chars().filter(char::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap())
            .collect()
    }

    #[test]
    fn a_snapshot_of_kafka_reads_and_writes_back() {
        let bytes = hex(OF_KAFKA);
        let state = decode(&bytes).unwrap();
        let plain = state.get(ProducerId(1_000)).unwrap();
        assert_eq!(plain.producer_epoch, ProducerEpoch(1));
        assert_eq!(
            plain.batches[0],
            BatchSpan { first_sequence: 0, last_sequence: 1, first_offset: 1, last_offset: 2 }
        );
        assert_eq!(encode(&state), bytes);
        let mut again = decode(&encode(&state)).unwrap();
        assert_eq!(again, state);
        again.insert(
            ProducerId(5),
            ProducerEntry {
                producer_epoch: ProducerEpoch(3),
                batches: VecDeque::new(),
                coordinator_epoch: 0,
                last_seen: 1,
                open: None,
            },
        );
        assert_eq!(decode(&encode(&again)).as_ref(), Some(&again));
    }

    /// The checksum fits, so the numbers are what somebody wrote; no log did.
    #[test]
    fn a_snapshot_with_impossible_numbers_is_not_used() {
        for (field, bytes) in [
            (14, i64::MIN.to_be_bytes().to_vec()),
            (14, i64::MAX.to_be_bytes().to_vec()),
            (22, i32::MIN.to_be_bytes().to_vec()),
            (22, i32::MAX.to_be_bytes().to_vec()),
        ] {
            let mut crafted = hex(OF_KAFKA);
            let at = CHECKED_FROM + 4 + field;
            crafted[at..at + bytes.len()].copy_from_slice(&bytes);
            let crc = crc32c::crc32c(&crafted[CHECKED_FROM..]);
            crafted[2..CHECKED_FROM].copy_from_slice(&crc.to_be_bytes());
            assert_eq!(decode(&crafted), None, "{field}: {bytes:?}");
        }
    }

    #[test]
    fn a_changed_or_cut_snapshot_is_not_used() {
        let bytes = hex(OF_KAFKA);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            assert_eq!(decode(&changed), None, "byte {at}");
            assert_eq!(decode(&bytes[..at]), None);
        }
    }
}
