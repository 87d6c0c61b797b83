//! The id of a partition's topic, beside its records, as Kafka keeps it.
//!
//! Why: the list of topics is one file. Whoever loses it learns here whose positions are those that
//! groups have committed, and up to where each partition was synced.
//!
//! ```text
//!   partition.metadata     version: 0\n
//!                          topic_id: AAAAAAAAAAAAAAAAAAAAAQ      22 digits of base 64, no newline behind
//! ```
//!
//! Invariants
//! * The list of topics proves itself and this file does not: where they differ, the list is right.
//! * A file that names another topic is left as it is: it may be its directory that is the wrong one.
//!
//! On crash: made with the partition, before the list names it. One that is missing or cut short is made
//! again by the next start.
//! Reference: Kafka `PartitionMetadataFile`, `Uuid`.

use std::path::Path;

use super::text_file;
use crate::error::{Error, Result};
use crate::ids::TopicId;
use crate::storage::Storage;

/// The name of the file.
pub(crate) const FILE_NAME: &str = "partition.metadata";

const FRONT: &str = "version: 0\ntopic_id: ";
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// 22 digits are 132 bits; the last four are padding.
const COUNT: usize = 22;
const PADDING: u32 = 4;

/// What a partition's file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    Missing,
    /// It is not what stands in such a file.
    Unreadable,
    Id(TopicId),
}

/// The text of the file.
pub(crate) fn to_text(id: TopicId) -> String {
    let number = u128::from_be_bytes(id.0);
    let digit = |index: usize| {
        let from_right = u32::try_from(COUNT - 1 - index).expect("22 digits") * 6;
        let bits = match from_right.checked_sub(PADDING) {
            Some(shift) => number >> shift,
            None => number << PADDING,
        };
        char::from(DIGITS[usize::try_from(bits & 0x3f).expect("six bits")])
    };
    FRONT.chars().chain((0..COUNT).map(digit)).collect()
}

/// The id in the text of a file.
pub(crate) fn parse(bytes: &[u8]) -> Option<TopicId> {
    let text = std::str::from_utf8(bytes).ok()?;
    let value = |key| text.lines().find_map(|line| line.strip_prefix(key));
    if value("version: ")? != "0" {
        return None;
    }
    let digits = value("topic_id: ")?.as_bytes();
    let (last, others) = digits.split_last().filter(|_| digits.len() == COUNT)?;
    let bits = |digit: &u8| DIGITS.iter().position(|known| known == digit)?.try_into().ok();
    let mut number: u128 = 0;
    for digit in others {
        let bits: u8 = bits(digit)?;
        number = number << 6 | u128::from(bits);
    }
    let bits = bits(last).filter(|bits| bits.trailing_zeros() >= PADDING)?;
    number = number << (6 - PADDING) | u128::from(bits >> PADDING);
    (number != 0).then(|| TopicId(number.to_be_bytes()))
}

/// Reads the file of the partition in `dir`.
pub(crate) fn read(storage: &dyn Storage, dir: &Path) -> Result<Stored> {
    let bytes = text_file::read_bytes(storage, &dir.join(FILE_NAME))?;
    Ok(match bytes {
        None => Stored::Missing,
        Some(bytes) => parse(&bytes).map_or(Stored::Unreadable, Stored::Id),
    })
}

/// Replaces the file of the partition in `dir`; durable when this returns.
pub(crate) fn write(storage: &dyn Storage, dir: &Path, id: TopicId) -> Result<()> {
    text_file::replace(storage, dir, FILE_NAME, to_text(id).as_bytes())
}

/// Makes a file again that is missing or no such text; answers the id in one that names another topic.
pub(crate) fn settle(storage: &dyn Storage, dir: &Path, id: TopicId) -> Result<Option<TopicId>> {
    match read(storage, dir)? {
        Stored::Id(stored) => Ok((stored != id).then_some(stored)),
        // A directory that is gone must not be made again, or else nobody would miss what was in it.
        Stored::Missing if !storage.exists(dir).map_err(|e| Error::io(dir, "look for", e))? => {
            Ok(None)
        }
        Stored::Missing | Stored::Unreadable => write(storage, dir, id).map(|()| None),
    }
}

/// Whether these bytes are the front of such a file, of any topic, or all of it.
pub(crate) fn is_front(bytes: &[u8]) -> bool {
    let (front, digits) = bytes.split_at(bytes.len().min(FRONT.len()));
    FRONT.as_bytes().starts_with(front)
        && digits.len() <= COUNT
        && digits.iter().all(|digit| DIGITS.contains(digit))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::storage::memory::MemoryStorage;

    #[test]
    fn an_id_is_written_as_kafka_writes_it() {
        for (id, digits) in [
            (1, "AAAAAAAAAAAAAAAAAAAAAQ"),
            (u128::MAX, "_____________________w"),
            (0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f, "AAECAwQFBgcICQoLDA0ODw"),
            (0xfb_u128 << 120, "-wAAAAAAAAAAAAAAAAAAAA"),
        ] {
            let text = format!("version: 0\ntopic_id: {digits}");
            let id = TopicId(u128::to_be_bytes(id));
            assert_eq!((to_text(id), parse(text.as_bytes())), (text, Some(id)));
        }
    }

    #[test]
    fn what_is_no_such_text_is_no_id() {
        let text = to_text(TopicId([7; 16]));
        for end in 0..text.len() {
            assert_eq!(parse(&text.as_bytes()[..end]), None, "{end}");
            assert!(is_front(&text.as_bytes()[..end]), "{end}");
        }
        assert!(is_front(text.as_bytes()));
        for (from, to) in
            [(": 0", ": 1"), ("topic", "Topic"), ("BwcH", "B+cH"), ("BwcH", "\0\0\0\0")]
        {
            assert_eq!(parse(text.replacen(from, to, 1).as_bytes()), None, "{to}");
            assert!(!is_front(text.replacen(from, to, 1).as_bytes()), "{to}");
        }
        let padded = |last: &str| format!("{FRONT}AAAAAAAAAAAAAAAAAAAAA{last}");
        assert_eq!(parse(padded("B").as_bytes()), None, "the padding is not empty");
        assert_eq!(parse(padded("A").as_bytes()), None, "the id of no topic");
        assert_eq!(parse(padded("QQ").as_bytes()), None, "a digit more");
        assert!(!is_front(padded("QQ").as_bytes()));
        // What Kafka's own reader takes as well.
        assert!(parse(format!("{text}\n").as_bytes()).is_some());
    }

    #[test]
    fn a_file_is_made_again_unless_it_names_another_topic() {
        let (storage, dir) = (MemoryStorage::new(1), Path::new("/t-0"));
        let [ours, other] = [TopicId([1; 16]), TopicId([2; 16])];
        assert_eq!(settle(&storage, dir, ours).unwrap(), None);
        assert!(!storage.exists(dir).unwrap());
        storage.create_dir_all(dir).unwrap();
        assert_eq!(settle(&storage, dir, ours).unwrap(), None);
        assert_eq!(read(&storage, dir).unwrap(), Stored::Id(ours));
        storage.open(&dir.join(FILE_NAME)).unwrap().set_len(9).unwrap();
        assert_eq!(read(&storage, dir).unwrap(), Stored::Unreadable);
        assert_eq!(settle(&storage, dir, ours).unwrap(), None);
        assert_eq!(settle(&storage, dir, other).unwrap(), Some(ours));
        assert_eq!(read(&storage, dir).unwrap(), Stored::Id(ours));
    }

    proptest! {
        #[test]
        fn an_id_reads_back(bytes in proptest::array::uniform16(1_u8..)) {
            prop_assert_eq!(parse(to_text(TopicId(bytes)).as_bytes()), Some(TopicId(bytes)));
        }
    }
}
