//! Where the rows of a store begin, and of which types they are: what is committed for its changelog.
//!
//! ```text
//!   committed position of a changelog partition
//!     offset     everything below is void: the job was reset when the changelog ended there; else 0
//!     metadata   0         1
//!                +---------+-----------------------------------------+
//!                | version | key -> value, as UTF-8 (partition 0)    |   nothing in other partitions
//!                +---------+-----------------------------------------+
//! ```
//!
//! Why among the positions: they are written in the same commit record as the sources' positions, so a
//! reset has happened wholly or not at all; they belong to the topic's id, so another topic of the same
//! name has none; and they stay when the state directory is lost, as the rows do.
//!
//! Invariants
//! * no row that was written as another type is decoded: types are compared before the first task opens.
//! * a log that was written before types were kept has none; those of the first build are taken down.

use std::collections::BTreeMap;

use super::plan::JobPlan;
use crate::broker::{Broker, Position, Producer, TopicRef};
use crate::error::{Error, Result};
use crate::ids::StoreName;
use crate::topology::changelog_topic;

const VERSION: u8 = 1;
/// A longer text is cut, and told apart by a number at its end.
const TYPES_BYTES_MAX: usize = 4_096;

/// The metadata of a changelog's position.
fn encode(types: Option<&str>) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(types.unwrap_or_default().as_bytes());
    bytes
}

/// The types in it; `None`: not what `encode` wrote.
fn decode(bytes: &[u8]) -> Option<Option<&str>> {
    let (&version, text) = bytes.split_first()?;
    let text = std::str::from_utf8(text).ok()?;
    (version == VERSION).then_some(Some(text).filter(|text| !text.is_empty()))
}

/// The types of keys and values as they are kept.
fn types_text((key, value): &(String, String)) -> String {
    let mut text = format!("{key} -> {value}");
    if text.len() > TYPES_BYTES_MAX {
        let number = fnv(text.as_bytes());
        let mut end = TYPES_BYTES_MAX - 32;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(&format!(".. {number:016x}"));
    }
    text
}

/// FNV-1a: a number that does not change between builds.
fn fnv(bytes: &[u8]) -> u64 {
    let step = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

impl JobPlan {
    /// Below this offset a changelog partition has nothing that counts.
    pub(crate) fn origin(&self, changelog: &TopicRef, partition: u32) -> i64 {
        self.position(changelog, partition).map_or(0, |position| position.offset)
    }

    /// Reads the committed positions and compares the types of the stores with those of their rows.
    ///
    /// # Errors
    ///
    /// S005: a store holds rows of other types.
    pub(crate) fn check_types(&mut self, broker: &dyn Broker) -> Result<()> {
        self.load_positions(broker)?;
        self.types_to_take_down().map(drop)
    }

    /// As [`check_types`](Self::check_types), for positions that are read; takes down the types of stores
    /// that have none yet.
    pub(super) fn agree_on_types(&mut self, producer: &mut dyn Producer) -> Result<()> {
        let missing = self.types_to_take_down()?;
        if missing.is_empty() {
            return Ok(());
        }
        producer.begin()?.commit(&self.settings.id, &missing)?;
        self.take_positions(missing);
        Ok(())
    }

    /// Positions with the types of stores that have none yet.
    fn types_to_take_down(&self) -> Result<Vec<Position>> {
        let mut missing = Vec::new();
        for (store, (changelog, wanted)) in self.types_of_stores()? {
            let known = self.position(&changelog, 0);
            let held = match known {
                None => None,
                Some(position) => decode(&position.metadata).ok_or_else(|| Error::Internal {
                    topic: changelog.name.to_string(),
                    partition: 0,
                    offset: position.offset,
                    reason: "its committed position carries nothing that this version can read",
                })?,
            };
            match held {
                Some(held) if held != wanted => return Err(other_types(&store, held, &wanted)),
                Some(_) => {}
                None => {
                    let offset = known.map_or(0, |position| position.offset);
                    missing.push(position_of(&changelog, 0, offset, Some(&wanted)));
                }
            }
        }
        Ok(missing)
    }

    /// The stores whose changelogs exist, with the types that this build has.
    fn types_of_stores(&self) -> Result<BTreeMap<StoreName, (TopicRef, String)>> {
        let types = self.assemble()?.types;
        let mut all = BTreeMap::new();
        for store in self.stores() {
            let name = changelog_topic(&self.settings.id, &store);
            let found = self.topics.get(&name).zip(types.get(&name));
            if let Some((changelog, types)) = found {
                let types = types_text(&types.rows.shape());
                all.insert(store, (changelog.clone(), types));
            }
        }
        Ok(all)
    }

    /// Positions that make everything void that the changelogs hold now, with the types of this build.
    pub(super) fn fresh_origins(&self, broker: &dyn Broker) -> Result<Vec<Position>> {
        let mut positions = Vec::new();
        for (changelog, types) in self.types_of_stores()?.into_values() {
            for partition in 0..changelog.partitions {
                let end = broker.bounds(&changelog, partition)?.end;
                let types = Some(types.as_str()).filter(|_| partition == 0);
                positions.push(position_of(&changelog, partition, end, types));
            }
        }
        Ok(positions)
    }

    /// Gives up what lies below the origins of changelogs, and below the positions in repartition topics.
    pub(super) fn purge_void(&self, broker: &dyn Broker) -> Result<()> {
        let changelogs = self.stores().into_iter().map(|s| changelog_topic(&self.settings.id, &s));
        let sources = self.parts.iter().flat_map(|part| &part.sources);
        let internal = sources.filter(|source| source.upstream.is_some());
        let names = changelogs.chain(internal.map(|source| source.topic.clone()));
        for topic in names.filter_map(|name| self.topics.get(&name)) {
            for partition in 0..topic.partitions {
                let below = self.origin(topic, partition);
                if below > 0 {
                    broker.purge(topic, partition, below)?;
                }
            }
        }
        Ok(())
    }
}

fn position_of(topic: &TopicRef, partition: u32, offset: i64, types: Option<&str>) -> Position {
    Position { topic: topic.id, partition, offset, metadata: encode(types) }
}

fn other_types(store: &StoreName, held: &str, wanted: &str) -> Error {
    // Keys that are the same in both are not worth telling.
    let (held, wanted) = match (held.split_once(" -> "), wanted.split_once(" -> ")) {
        (Some((k1, v1)), Some((k2, v2))) if k1 == k2 => (v1, v2),
        _ => (held, wanted),
    };
    Error::StoreVersion {
        store: store.to_string(),
        held: held.to_owned(),
        wanted: wanted.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_bytes_of_an_origin() {
        assert_eq!(encode(Some("u32 -> u64")), b"\x01u32 -> u64");
        assert_eq!(encode(None), [1]);
        assert_eq!(decode(b"\x01u32 -> u64"), Some(Some("u32 -> u64")));
        assert_eq!(decode(&[1]), Some(None));
        assert_eq!(decode(&[2, b'a']), None);
        assert_eq!(decode(&[]), None);
    }

    #[test]
    fn types_that_are_too_long_are_cut_and_still_told_apart() {
        let pair = |last: &str| ("\u{e9}".repeat(3_000) + last, "u64".to_owned());
        let (a, b) = (types_text(&pair("a")), types_text(&pair("b")));
        assert!(a.len() <= TYPES_BYTES_MAX && a != b);
        assert_eq!(types_text(&("a".to_owned(), "b".to_owned())), "a -> b");
    }

    #[test]
    fn only_what_differs_is_told() {
        let store = StoreName::new("users").unwrap();
        let error = other_types(&store, "u64 -> User{name:String}", "u64 -> User{name:u8}");
        let said = "store `users` holds User{name:String}; this build has User{name:u8}";
        assert_eq!((error.to_string().as_str(), error.code()), (said, "S005"));
        let error = other_types(&store, "u64 -> u8", "u32 -> u8");
        let said = "store `users` holds u64 -> u8; this build has u32 -> u8";
        assert_eq!(error.to_string(), said);
    }

    proptest! {
        #[test]
        fn arbitrary_metadata_never_panics(bytes: Vec<u8>) {
            let _types = decode(&bytes);
        }
    }
}
