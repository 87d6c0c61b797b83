//! Where the rows of a store begin, of which types they are, and which windows it had when: what is
//! committed for its changelog.
//!
//! ```text
//!   committed position of a changelog partition
//!     offset     everything below is void: the job was reset when the changelog ended there; else 0
//!     metadata   0         1         2
//!                +---------+---------+------------------+------------------------+
//!                | version | periods | period, 41 each  | key -> value, as UTF-8 |   partition 0
//!                +---------+---------+------------------+------------------------+
//!       period   kind, then a, b, grace, read to, time: i64 big-endian, see `InForce`
//!                kind 0 tumbling: a size    1 hopping: a size, b step    2 since: a start
//!                     3 sliding: a difference    4 session: a gap        b is 0 where nothing is said
//!       others   no text. Version 1 has no periods, and no number of them: the store has no windows.
//!                Version 2 has tumbling windows only, without kind and b
//! ```
//!
//! Why among the positions: they are written in the same commit record as the sources' positions, so a
//! reset has happened wholly or not at all; they belong to the topic's id, so another topic of the same
//! name has none; and they stay when the state directory is lost, as the rows do.
//!
//! Invariants
//! * no row that was written as another type is decoded: types are compared before the first task opens.
//! * a log that was written before types were kept has none; those of the first build are taken down.
//! * another grace is no other type: it is taken down before the first record is judged by it.

use std::collections::BTreeMap;

use super::plan::JobPlan;
use crate::broker::{Broker, Position, Producer, TopicRef};
use crate::error::{Error, Result};
use crate::ids::StoreName;
use crate::time::{InForce, Period, Shape, Windows};
use crate::topology::changelog_topic;

const VERSION_TYPES: u8 = 1;
const VERSION_TUMBLING: u8 = 2;
const VERSION: u8 = 3;
/// A longer text is cut, and told apart by a number at its end.
const TYPES_BYTES_MAX: usize = 4_096;

/// What the metadata of a changelog's position says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Origin {
    types: Option<String>,
    in_force: InForce,
}

impl Origin {
    fn encode(&self) -> Vec<u8> {
        let periods = self.in_force.periods();
        let mut bytes = match u8::try_from(periods.len()).expect("they are a few") {
            0 => vec![VERSION_TYPES],
            count => vec![VERSION, count],
        };
        for Period { window, read_to, time } in periods {
            let (kind, a, b) = numbers_of(window.shape());
            bytes.push(kind);
            for number in [a, b, window.grace_ms(), *read_to, *time] {
                bytes.extend_from_slice(&number.to_be_bytes());
            }
        }
        bytes.extend_from_slice(self.types.as_deref().unwrap_or_default().as_bytes());
        bytes
    }

    /// `None`: not what `encode` wrote.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&version, rest) = bytes.split_first()?;
        let (count, mut rest) = match version {
            VERSION_TYPES => (0, rest),
            VERSION_TUMBLING | VERSION => rest.split_first().map(|(&count, rest)| (count, rest))?,
            _ => return None,
        };
        let mut periods = Vec::new();
        for _ in 0..count {
            let (kind, after) = match version {
                VERSION => rest.split_first()?,
                _ => (&0, rest),
            };
            rest = after;
            let mut number = || {
                let (number, after) = rest.split_first_chunk::<8>()?;
                rest = after;
                Some(i64::from_be_bytes(*number))
            };
            let (a, b) = (number()?, if version == VERSION { number()? } else { 0 });
            let window = Windows::of(shape_of(*kind, a, b)?, number()?)?;
            periods.push(Period { window, read_to: number()?, time: number()? });
        }
        let types = std::str::from_utf8(rest).ok()?;
        let types = Some(types.to_owned()).filter(|types| !types.is_empty());
        Some(Self { types, in_force: InForce::of(periods)? })
    }

    fn position(&self, topic: &TopicRef, partition: u32, offset: i64) -> Position {
        Position { topic: topic.id, partition, offset, metadata: self.encode() }
    }
}

/// A kind of windows as numbers.
fn numbers_of(shape: Shape) -> (u8, i64, i64) {
    match shape {
        Shape::Tumbling { size } => (0, size, 0),
        Shape::Hopping { size, step } => (1, size, step),
        Shape::Since { start } => (2, start, 0),
        Shape::Sliding { difference } => (3, difference, 0),
        Shape::Session { gap } => (4, gap, 0),
    }
}

fn shape_of(kind: u8, a: i64, b: i64) -> Option<Shape> {
    match kind {
        0 => Some(Shape::Tumbling { size: a }),
        1 => Some(Shape::Hopping { size: a, step: b }),
        2 => Some(Shape::Since { start: a }),
        3 => Some(Shape::Sliding { difference: a }),
        4 => Some(Shape::Session { gap: a }),
        _ => None,
    }
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
        self.origins_to_take_down().map(drop)
    }

    /// As [`check_types`](Self::check_types), for positions that are read; takes down the types of stores
    /// that have none yet, and windows that are other than before.
    pub(super) fn agree_on_types(&mut self, producer: &mut dyn Producer) -> Result<()> {
        let missing = self.origins_to_take_down()?;
        if missing.is_empty() {
            return Ok(());
        }
        producer.begin()?.commit(&self.settings.id, &missing)?;
        self.take_positions(missing);
        Ok(())
    }

    /// What is committed for a changelog.
    fn held_origin(&self, changelog: &TopicRef) -> Result<Origin> {
        let Some(position) = self.position(changelog, 0) else { return Ok(Origin::default()) };
        Origin::decode(&position.metadata).ok_or_else(|| Error::Internal {
            topic: changelog.name.to_string(),
            partition: 0,
            offset: position.offset,
            reason: "its committed position carries nothing that this version can read",
        })
    }

    /// Positions of stores without types, and of those whose windows have changed.
    fn origins_to_take_down(&self) -> Result<Vec<Position>> {
        let mut missing = Vec::new();
        let windows = self.window_times()?;
        for (store, (changelog, wanted)) in self.types_of_stores() {
            let mut origin = self.held_origin(&changelog)?;
            let begins = windows.get(&store).filter(|period| {
                let latest = origin.in_force.latest();
                latest != Some(period.window)
            });
            match &origin.types {
                Some(held) if *held != wanted => return Err(other_types(&store, held, &wanted)),
                Some(_) if begins.is_none() => continue,
                _ => origin.types = Some(wanted),
            }
            if let Some(period) = begins {
                origin.in_force.begin(*period);
            }
            missing.push(origin.position(&changelog, 0, self.origin(&changelog, 0)));
        }
        Ok(missing)
    }

    /// The windows that each store of this build has had where the job ran, and its time there.
    pub(crate) fn windows_then(&self) -> Result<BTreeMap<StoreName, (InForce, i64)>> {
        let mut all = BTreeMap::new();
        for (store, Period { time, .. }) in self.window_times()? {
            let name = changelog_topic(&self.settings.id, &store);
            if let Some(changelog) = self.topics.get(&name) {
                all.insert(store, (self.held_origin(changelog)?.in_force, time));
            }
        }
        Ok(all)
    }

    /// The stores whose changelogs exist, with the types that this build has.
    fn types_of_stores(&self) -> BTreeMap<StoreName, (TopicRef, String)> {
        let mut all = BTreeMap::new();
        for store in self.stores() {
            let name = changelog_topic(&self.settings.id, &store);
            let found = self.topics.get(&name).zip(self.types.get(&name));
            if let Some((changelog, types)) = found {
                let types = types_text(&types.rows.shape());
                all.insert(store, (changelog.clone(), types));
            }
        }
        all
    }

    /// Positions that make everything void that the changelogs hold now, with the types of this build.
    pub(super) fn fresh_origins(&self, broker: &dyn Broker) -> Result<Vec<Position>> {
        let mut positions = Vec::new();
        let windows = self.window_times()?;
        for (store, (changelog, types)) in self.types_of_stores() {
            let held = self.held_origin(&changelog)?.in_force;
            let in_force = windows.get(&store).map(|period| {
                // Where the clocks will be is not known yet.
                held.reset(Period { time: i64::MIN, ..*period })
            });
            let in_force = in_force.unwrap_or_default();
            let first = Origin { types: Some(types), in_force };
            for partition in 0..changelog.partitions {
                let end = broker.bounds(&changelog, partition)?.end;
                let other = Origin::default();
                let origin = if partition == 0 { &first } else { &other };
                positions.push(origin.position(&changelog, partition, end));
            }
        }
        Ok(positions)
    }

    /// Lets go of changelogs of stores that the job has no more. Rows of them that are still on the disk
    /// count again, should a store come back, unless its changelog was compacted meanwhile.
    pub(super) fn release_others(&self, broker: &dyn Broker) -> Result<()> {
        let id = &self.settings.id;
        let own: Vec<String> = self.stores().iter().map(|s| changelog_topic(id, s)).collect();
        let is_ours = |name: &str| {
            let store = name.strip_prefix(id.as_str()).and_then(|rest| rest.strip_prefix('-'));
            store.is_some_and(|rest| rest.ends_with("-changelog"))
        };
        let others = self.topics.iter().filter(|(name, _)| is_ours(name) && !own.contains(name));
        for (_, changelog) in others {
            broker.release(changelog, id)?;
        }
        Ok(())
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
        let types = Some("u32 -> u64".to_owned());
        let mut origin = Origin { types, in_force: InForce::default() };
        assert_eq!(origin.encode(), b"\x01u32 -> u64");
        assert_eq!(Origin::decode(b"\x01u32 -> u64").as_ref(), Some(&origin));
        let window = Windows::of(Shape::Tumbling { size: 60_000 }, 10_000).unwrap();
        origin.in_force.begin(Period { window, read_to: 0x0102, time: -2 });
        let old = b"\x02\x01\0\0\0\0\0\0\xea\x60\0\0\0\0\0\0\x27\x10\0\0\0\0\0\0\x01\x02\
                    \xff\xff\xff\xff\xff\xff\xff\xfeu32 -> u64";
        let bytes = b"\x03\x01\0\0\0\0\0\0\0\xea\x60\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x27\x10\
                      \0\0\0\0\0\0\x01\x02\xff\xff\xff\xff\xff\xff\xff\xfeu32 -> u64";
        assert_eq!(origin.encode(), bytes);
        assert_eq!(Origin::decode(old).as_ref(), Some(&origin), "as it was before other kinds");
        assert_eq!(Origin::decode(bytes), Some(origin));
        for (kind, a, b) in [(1, 60_000, 5_000), (2, -7, 0), (3, 60_000, 0), (4, 60_000, 0)] {
            let shape = shape_of(kind, a, b).unwrap();
            assert_eq!(numbers_of(shape), (kind, a, b));
            let mut in_force = InForce::default();
            let window = Windows::of(shape, 1).unwrap();
            in_force.begin(Period { window, read_to: 1, time: 2 });
            let origin = Origin { types: None, in_force };
            assert_eq!(Origin::decode(&origin.encode()), Some(origin));
        }
        assert_eq!(Origin::default().encode(), [1]);
        assert_eq!(Origin::decode(&[1]), Some(Origin::default()));
        for wrong in [&[][..], &[2], &[4, 0], &[2, 9, 0], &bytes[..41], &[1, 255]] {
            assert_eq!(Origin::decode(wrong), None, "{wrong:?}");
        }
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
            let _origin = Origin::decode(&bytes);
        }
    }
}
