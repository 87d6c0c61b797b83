//! The layout of the topic `<id>-late-then` of a replay: which windows have records that the live job has
//! judged otherwise, how many.
//!
//! Why a topic: a replay that was killed goes on from its last commit, and the counts must be those of
//! all that it has read, once. So each commit has its own in the same transaction, and they are added up
//! when the replay is over.
//!
//! ```text
//!   key    store (UTF-8), 0x00, the window's key as in the changelog
//!   value  0         1               9               17
//!          +---------+---------------+---------------+
//!          | version | late then     | late now      |    u64 big-endian, of this commit alone
//!          +---------+---------------+---------------+
//! ```
//!
//! Invariants
//! * the name of a store has no 0x00.

use crate::broker::{Batch, Broker, TopicRef, Transaction};
use crate::error::Result;
use crate::ids::StoreName;
use crate::processor::{Changelog, Judged, JudgedRows};

const VERSION: u8 = 1;
const VALUE_BYTES: usize = 17;

/// Key and value of a record.
fn encode(store: &StoreName, window: &[u8], judged: Judged) -> (Vec<u8>, [u8; VALUE_BYTES]) {
    let mut key = store.as_str().as_bytes().to_vec();
    key.push(0);
    key.extend_from_slice(window);
    let mut value = [VERSION; VALUE_BYTES];
    value[1..9].copy_from_slice(&judged.late_then.to_be_bytes());
    value[9..].copy_from_slice(&judged.late_now.to_be_bytes());
    (key, value)
}

/// The store, the window's key and the counts; `None`: not what `encode` wrote.
pub(crate) fn decode_judged(key: &[u8], value: &[u8]) -> Option<(StoreName, Vec<u8>, Judged)> {
    let end = key.iter().position(|&byte| byte == 0)?;
    let store = StoreName::new(std::str::from_utf8(&key[..end]).ok()?).ok()?;
    let (&[VERSION], rest) = value.split_first_chunk::<1>()? else { return None };
    let (late_then, rest) = rest.split_first_chunk::<8>()?;
    let (late_then, late_now) =
        (u64::from_be_bytes(*late_then), u64::from_be_bytes(<[u8; 8]>::try_from(rest).ok()?));
    Some((store, key[end + 1..].to_vec(), Judged { late_then, late_now }))
}

/// Where a task writes its counts.
pub(super) struct LateLog {
    topic: TopicRef,
    batch: Box<dyn Batch>,
}

impl LateLog {
    pub(super) fn new(topic: TopicRef, broker: &dyn Broker) -> Self {
        Self { topic, batch: broker.batch() }
    }

    /// Puts the counts of the running transaction into it.
    pub(super) fn write(&mut self, rows: JudgedRows, transaction: &dyn Transaction) -> Result<()> {
        let mut log = Changelog::new(&self.topic, 0, self.batch.as_mut(), transaction, false);
        for ((store, window), judged) in rows {
            let (key, value) = encode(&store, &window, judged);
            // Nobody looks for it by its time.
            log.push(0, &key, Some(&value))?;
        }
        log.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_bytes_of_a_count() {
        let store = StoreName::new("clicks").unwrap();
        let judged = Judged { late_then: 0x0102, late_now: 3 };
        let (key, value) = encode(&store, b"/a\0b", judged);
        assert_eq!(key, b"clicks\0/a\0b");
        assert_eq!(value, *b"\x01\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\0\x03");
        assert_eq!(decode_judged(&key, &value), Some((store, b"/a\0b".to_vec(), judged)));
        assert_eq!(decode_judged(&key, &value[..16]), None);
        assert_eq!(decode_judged(&key, &[&[2], &value[1..]].concat()), None);
        assert_eq!(decode_judged(b"clicks", &value), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(key: Vec<u8>, value: Vec<u8>) {
            if let Some((_, window, _)) = decode_judged(&key, &value) {
                prop_assert!(window.len() < key.len());
            }
        }
    }
}
