//! The layout of the topic `<id>-clock`: which silent partition was passed over, where, and up to when; and
//! what processors have read from the clock on the wall.
//!
//! Why a topic: both come from the clock on the wall, not from the records, so a run that repeats the job
//! could not find them again by itself.
//!
//! ```text
//!   key    topic (ordered text), partition u32      as the key (String, u32) of a user's topic
//!   value  0         1              9              17
//!          +---------+--------------+--------------+
//!          | version | next offset  | raised to    |    i64 big-endian; version 1
//!          +---------+--------------+--------------+
//!          | version | next offset  | read         |    version 2
//!          +---------+--------------+--------------+
//! ```
//!
//! A record says: the clock of this partition was raised to that time before the record at the next
//! offset was processed; or: that was the time on the wall then. It is part of the transaction that commits the raised clock. A record without a
//! value says that the job was reset: what was said before of this partition is void.
//!
//! Invariants
//! * for one partition neither number goes back, except by a reset.

use crate::key::RecordKey;

const VERSION: u8 = 1;
const VERSION_READING: u8 = 2;
const VALUE_BYTES: usize = 17;

/// One raise of one source partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RaiseRecord {
    pub(crate) topic: String,
    pub(crate) partition: u32,
    pub(crate) next_offset: i64,
    pub(crate) raised_to: i64,
}

impl RaiseRecord {
    /// The key of all records of a partition.
    pub(crate) fn key(topic: &str, partition: u32) -> Vec<u8> {
        let mut key = Vec::new();
        (topic.to_owned(), partition).encode(&mut key);
        key
    }

    /// The topic and partition of a key.
    pub(crate) fn split_key(key: &[u8]) -> Option<(String, u32)> {
        <(String, u32)>::decode(Some(key)).ok()?
    }

    /// Key and value.
    pub(crate) fn encode(&self) -> (Vec<u8>, [u8; VALUE_BYTES]) {
        let key = Self::key(&self.topic, self.partition);
        (key, value_of(VERSION, self.next_offset, self.raised_to))
    }

    /// `None`: not what `encode` wrote.
    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let (topic, partition) = Self::split_key(key)?;
        let (next_offset, raised_to) = split_value(VERSION, value)?;
        Some(Self { topic, partition, next_offset, raised_to })
    }
}

/// The time on the wall as processors have read it, before a record of a source partition or at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadingRecord {
    pub(crate) topic: String,
    pub(crate) partition: u32,
    pub(crate) next_offset: i64,
    pub(crate) now_ms: i64,
}

impl ReadingRecord {
    /// Key and value.
    pub(crate) fn encode(&self) -> (Vec<u8>, [u8; VALUE_BYTES]) {
        let key = RaiseRecord::key(&self.topic, self.partition);
        (key, value_of(VERSION_READING, self.next_offset, self.now_ms))
    }

    /// `None`: not what `encode` wrote.
    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let (topic, partition) = RaiseRecord::split_key(key)?;
        let (next_offset, now_ms) = split_value(VERSION_READING, value)?;
        Some(Self { topic, partition, next_offset, now_ms })
    }
}

fn value_of(version: u8, next_offset: i64, time: i64) -> [u8; VALUE_BYTES] {
    let mut value = [version; VALUE_BYTES];
    value[1..9].copy_from_slice(&next_offset.to_be_bytes());
    value[9..].copy_from_slice(&time.to_be_bytes());
    value
}

fn split_value(version: u8, value: &[u8]) -> Option<(i64, i64)> {
    let (&[found], rest) = value.split_first_chunk::<1>()?;
    let (next_offset, rest) = rest.split_first_chunk::<8>()?;
    let time = <[u8; 8]>::try_from(rest).ok()?;
    let times = (i64::from_be_bytes(*next_offset), i64::from_be_bytes(time));
    (found == version).then_some(times)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_bytes_of_a_raise() {
        let raise = RaiseRecord {
            topic: "clicks".to_owned(),
            partition: 3,
            next_offset: 0x0102,
            raised_to: -2,
        };
        let (key, value) = raise.encode();
        assert_eq!(key, b"clicks\0\0\0\0\0\x03");
        assert_eq!(value, *b"\x01\0\0\0\0\0\0\x01\x02\xff\xff\xff\xff\xff\xff\xff\xfe");
        assert_eq!(RaiseRecord::decode(&key, &value), Some(raise));
        assert_eq!(RaiseRecord::decode(&key, &value[..16]), None);
        assert_eq!(RaiseRecord::decode(&key[..9], &value), None);
        assert_eq!(RaiseRecord::decode(&key, &[&[2], &value[1..]].concat()), None);
    }

    #[test]
    fn a_reading_is_no_raise_and_a_raise_no_reading() {
        let topic = "clicks".to_owned();
        let reading = ReadingRecord { topic, partition: 3, next_offset: 0x0102, now_ms: -2 };
        let (key, value) = reading.encode();
        assert_eq!(value, *b"\x02\0\0\0\0\0\0\x01\x02\xff\xff\xff\xff\xff\xff\xff\xfe");
        assert_eq!(RaiseRecord::decode(&key, &value), None);
        assert_eq!(ReadingRecord::decode(&key, &value), Some(reading));
        assert_eq!(ReadingRecord::decode(&key, &[&[1], &value[1..]].concat()), None);
    }

    proptest! {
        #[test]
        fn every_raise_survives(topic: String, partition: u32, next_offset: i64, raised_to: i64) {
            let raise = RaiseRecord { topic, partition, next_offset, raised_to };
            let (key, value) = raise.encode();
            prop_assert_eq!(RaiseRecord::decode(&key, &value), Some(raise));
        }

        #[test]
        fn arbitrary_bytes_never_panic(key: Vec<u8>, value: Vec<u8>) {
            if let Some(raise) = RaiseRecord::decode(&key, &value) {
                prop_assert!(raise.topic.len() <= key.len());
            }
        }
    }
}
