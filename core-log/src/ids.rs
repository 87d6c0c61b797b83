//! Ids and names: one newtype per kind of id, validated names for everything that comes from outside.
//!
//! Why: a producer id must not be passed where an epoch is meant, and a name that a user typed must
//! not become a path or a key before somebody has looked at it. Offsets and timestamps are plain
//! aliases: arithmetic on them is everywhere.
//!
//! Invariants
//! * A `TopicName`, `GroupId` or `TransactionalId` that exists is valid; there is no unchecked way in.
//! * `LogId` and `TopicId` print and parse as hyphenated UUIDs.
//!
//! Reference: Kafka `Topic.validate`, `Uuid`; RFC 9562 for the printed form.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A record's number within its partition.
pub type Offset = i64;

/// Milliseconds since the Unix epoch; negative values lie before 1970.
pub type Timestamp = i64;

/// The longest name that a topic, a group or a transactional id may have, in bytes.
pub const NAME_BYTES_MAX: usize = 249;

/// What kind of name was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// A topic's name.
    Topic,
    /// A consumer group's id.
    Group,
    /// A transactional id.
    TransactionalId,
}

impl fmt::Display for NameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Topic => "topic name",
            Self::Group => "group id",
            Self::TransactionalId => "transactional id",
        })
    }
}

/// A name that does not follow the rules, with the rule that it breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a valid {kind}: {reason}")]
pub struct InvalidName {
    /// What the name was for.
    pub kind: NameKind,
    /// The name as it was given.
    pub name: String,
    /// The rule that it breaks.
    pub reason: &'static str,
}

/// A text that is not a hyphenated UUID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an id of the form 01234567-89ab-4def-8123-456789abcdef")]
pub struct InvalidId {
    /// The text as it was given.
    pub text: String,
}

fn check_name(kind: NameKind, name: &str) -> Result<(), InvalidName> {
    let refuse = |reason| Err(InvalidName { kind, name: name.to_owned(), reason });
    if name.is_empty() {
        return refuse("it is empty");
    }
    if name.len() > NAME_BYTES_MAX {
        return refuse("it is longer than 249 bytes");
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        return refuse("only the letters a-z and A-Z, digits, '.', '_' and '-' are allowed");
    }
    if kind == NameKind::Topic && (name == "." || name == "..") {
        return refuse("\".\" and \"..\" are directories");
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident, $kind:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks `name` and keeps it.
            ///
            /// # Errors
            ///
            /// [`InvalidName`]: the name breaks a rule. Recourse: another name.
            pub fn new(name: &str) -> Result<Self, InvalidName> {
                check_name($kind, name)?;
                Ok(Self(Arc::from(name)))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;

            fn from_str(name: &str) -> Result<Self, InvalidName> {
                Self::new(name)
            }
        }
    };
}

name_type! {
    /// A topic's name: 1 to 249 bytes of `[a-zA-Z0-9._-]`, neither `.` nor `..`.
    TopicName, NameKind::Topic
}
name_type! {
    /// A consumer group's id: 1 to 249 bytes of `[a-zA-Z0-9._-]`.
    GroupId, NameKind::Group
}
name_type! {
    /// The name under which a transactional producer is known across restarts: 1 to 249 bytes of
    /// `[a-zA-Z0-9._-]`.
    TransactionalId, NameKind::TransactionalId
}

macro_rules! uuid_type {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(pub [u8; 16]);

        impl $type {
            /// Makes a version 4 id of 16 random bytes.
            #[must_use]
            pub fn from_random(mut bytes: [u8; 16]) -> Self {
                bytes[6] = (bytes[6] & 0x0f) | 0x40;
                bytes[8] = (bytes[8] & 0x3f) | 0x80;
                Self(bytes)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_uuid(&self.0, f)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_uuid(&self.0, f)
            }
        }

        impl FromStr for $type {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse_uuid(text).map(Self).ok_or_else(|| InvalidId { text: text.to_owned() })
            }
        }
    };
}

uuid_type! {
    /// Identifies one log directory, for ever.
    LogId
}
uuid_type! {
    /// Identifies one life of a topic: a topic that is deleted and created again has another id.
    TopicId
}

/// Byte indexes in front of which the printed form has a hyphen.
const HYPHENS: [usize; 4] = [4, 6, 8, 10];

fn write_uuid(bytes: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, byte) in bytes.iter().enumerate() {
        if HYPHENS.contains(&index) {
            f.write_str("-")?;
        }
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let mut rest = text.as_bytes();
    let mut bytes = [0; 16];
    for (index, byte) in bytes.iter_mut().enumerate() {
        if HYPHENS.contains(&index) {
            rest = rest.strip_prefix(b"-")?;
        }
        let (digits, behind) = rest.split_first_chunk::<2>()?;
        *byte = hex_digit(digits[0])? << 4 | hex_digit(digits[1])?;
        rest = behind;
    }
    rest.is_empty().then_some(bytes)
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// One producer, for ever: never used twice in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId(pub i64);

impl ProducerId {
    /// What batches of a producer that is not idempotent carry.
    pub const NONE: Self = Self(-1);
}

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Which life of a producer id wrote a batch; a lower one is fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerEpoch(pub i16);

impl ProducerEpoch {
    /// What batches of a producer that is not idempotent carry.
    pub const NONE: Self = Self(-1);
}

impl fmt::Display for ProducerEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One partition of one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition's number, from 0.
    pub partition: u32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_kafka_topics() {
        let long = "x".repeat(249);
        for good in ["a", "orders.v2", "_x-Y.9", "...", long.as_str()] {
            assert_eq!(TopicName::new(good).map(|name| name.to_string()), Ok(good.to_owned()));
        }
        let too_long = "x".repeat(250);
        for bad in ["", ".", "..", "a/b", "a b", "caf\u{e9}", "a\0", "a:b", too_long.as_str()] {
            assert!(TopicName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_refused_name_says_what_it_is_and_why() {
        let refused = GroupId::new("my group").unwrap_err();
        assert_eq!(refused.kind, NameKind::Group);
        assert_eq!(refused.name, "my group");
        assert!(refused.to_string().starts_with("\"my group\" is not a valid group id: only"));
    }

    #[test]
    fn a_topic_id_prints_as_a_version_4_uuid_and_parses_back() {
        let id = TopicId::from_random([0xff; 16]);
        assert_eq!(id.to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn what_is_not_a_uuid_does_not_parse() {
        for bad in [
            "",
            "ffffffff-ffff-4fff-bfff-fffffffffff",
            "ffffffff-ffff-4fff-bfff-ffffffffffff0",
            "ffffffffffff4fffbfffffffffffffff",
            "gfffffff-ffff-4fff-bfff-ffffffffffff",
            "+1ffffff-ffff-4fff-bfff-ffffffffffff",
        ] {
            assert!(bad.parse::<LogId>().is_err(), "{bad:?}");
        }
    }
}
