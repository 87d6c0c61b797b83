//! The one encoding of keys: the same bytes in topics, changelogs and stores, in the keys' order.
//!
//! Why: a store iterates in byte order and a partitioner hashes bytes, so both need one form that
//! never changes with the codec of the values.
//!
//! ```text
//!   String, Vec<u8>   the bytes as they are
//!   u64, u32          big-endian, 8 or 4 bytes
//!   i64, i32          big-endian with the sign bit flipped
//!   (A, B), (A, B, C) every member but the last in its member form, the last one plain
//!   Windowed<K>       +-----------+----------------+--------------+
//!                     | inner key | start (8, i64) | end (8, i64) |   inner key: plain
//!                     +-----------+----------------+--------------+
//!   NoKey             a null key, no bytes at all
//! ```
//!
//! The member form ends by itself: integers as above; `String` and `Vec<u8>` with 0x00
//! written as 0x00 0xff and closed by 0x00 0x00; tuples as all of their members in member form; a window as
//! its inner key in member form, then start and end.
//!
//! Invariants
//! * bytes compare as the keys do, for every key but a window of a `String` or `Vec<u8>`. There
//!   the windows of one key come in the order of time, but rows of a longer key may lie between them:
//!   the inner key is plain so that it hashes as it does in the topic it came from.
//! * a window's last 16 bytes are its start and end, whatever the inner key is.
//! * no two keys of one type share their bytes, and decoding takes back every key that was encoded.
//! * bytes from outside never panic.

use std::hash::Hash;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

const TERMINATOR: [u8; 2] = [0x00, 0x00];
const ESCAPED_ZERO: [u8; 2] = [0x00, 0xff];
/// The start and the end of a window, behind its key.
pub(crate) const WINDOW_BYTES: usize = 16;

/// No key. Records without one can be filtered, mapped and sent on, but not grouped or joined.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct NoKey;

/// A key together with one window of time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Windowed<K> {
    /// The key that was counted or aggregated.
    pub key: K,
    /// The first millisecond of the window; of a session, the time of its first record.
    pub start: i64,
    /// The first millisecond after a tumbling or hopping window. The last millisecond of a sliding one, and
    /// the time of a session's last record: both are in it. `i64::MAX` for a window since a moment.
    pub end: i64,
}

/// Why bytes are not a key of the wanted type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A fixed-size key of another size.
    #[error("a key of type {kind} takes {expected} bytes, here are {actual}")]
    Length {
        /// The type that was wanted.
        kind: &'static str,
        /// Its size in bytes.
        expected: usize,
        /// The bytes that were there.
        actual: usize,
    },
    /// A String key that is not UTF-8.
    #[error("the key is not UTF-8 from byte {valid_up_to} on")]
    NotUtf8 {
        /// How many bytes are good.
        valid_up_to: usize,
    },
    /// A member of a tuple that never ends.
    #[error("a member of the tuple has no end within {actual} bytes")]
    Unterminated {
        /// The bytes that were there.
        actual: usize,
    },
    /// A zero byte in a member that is followed by neither of the two bytes that may follow.
    #[error("byte {at} of the member follows a zero and is {found:#04x}, not 0x00 or 0xff")]
    BadEscape {
        /// Where, counted from the member's first byte.
        at: usize,
        /// What is there.
        found: u8,
    },
}

/// What can stand in a topic's key: [`NoKey`] or any [`Key`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the key of a topic",
    label = "not a key type",
    note = "keys are String, u64, u32, i64, i32, Vec<u8>, tuples of two or three of them, Windowed<K>, or NoKey"
)]
pub trait RecordKey: Serialize + DeserializeOwned + Clone + Send + 'static {
    /// Appends the key's bytes to `out`; `false`, with nothing appended, means a null key.
    fn encode(&self, out: &mut Vec<u8>) -> bool;

    /// The key of a record; `None` when the record's key is null and this type needs one.
    ///
    /// # Errors
    ///
    /// [`KeyError`]: the bytes are not a key of this type.
    fn decode(bytes: Option<&[u8]>) -> Result<Option<Self>, KeyError>;

    /// The part of the encoded key that decides the partition: all of it, or a window's inner key.
    #[must_use]
    fn partition_bytes(encoded: &[u8]) -> &[u8] {
        encoded
    }
}

/// A key that records can be grouped, windowed and joined by.
#[diagnostic::on_unimplemented(
    message = "this stream has no key, so it cannot be grouped, windowed or joined",
    label = "needs a key",
    note = "choose one first: `.key_by(|click| click.user.clone())`",
    note = "keys are String, u64, u32, i64, i32, Vec<u8>, tuples of two or three of them, and Windowed<K>"
)]
pub trait Key: RecordKey + Ord + Hash {
    /// Appends the form that ends by itself, for a member of a tuple that is not the last.
    fn encode_member(&self, out: &mut Vec<u8>);

    /// Takes one member off the front of `bytes`.
    ///
    /// # Errors
    ///
    /// [`KeyError`]: `bytes` do not start with a member of this type; they may be partly consumed.
    fn decode_member(bytes: &mut &[u8]) -> Result<Self, KeyError>;
}

impl RecordKey for NoKey {
    fn encode(&self, _out: &mut Vec<u8>) -> bool {
        false
    }

    fn decode(_bytes: Option<&[u8]>) -> Result<Option<Self>, KeyError> {
        Ok(Some(NoKey))
    }
}

/// A signed number in eight bytes that compare as the numbers do.
#[must_use]
pub(crate) fn encode_i64(value: i64) -> [u8; 8] {
    let mut bytes = value.to_be_bytes();
    bytes[0] ^= 0x80;
    bytes
}

/// The number that [`encode_i64`] wrote.
#[must_use]
pub(crate) fn decode_i64(mut bytes: [u8; 8]) -> i64 {
    bytes[0] ^= 0x80;
    i64::from_be_bytes(bytes)
}

/// Appends the encoded form of `Windowed` for an inner key that is encoded already.
pub(crate) fn windowed_key(inner: &[u8], start: i64, end: i64, out: &mut Vec<u8>) {
    out.reserve(inner.len() + WINDOW_BYTES);
    out.extend_from_slice(inner);
    out.extend_from_slice(&encode_i64(start));
    out.extend_from_slice(&encode_i64(end));
}

/// The inner key, the start and the end of an encoded `Windowed`; `None` if it is too short.
#[must_use]
pub(crate) fn split_windowed(encoded: &[u8]) -> Option<(&[u8], i64, i64)> {
    let (rest, end) = encoded.split_last_chunk::<8>()?;
    let (inner, start) = rest.split_last_chunk::<8>()?;
    Some((inner, decode_i64(*start), decode_i64(*end)))
}

fn take_fixed<const N: usize>(bytes: &mut &[u8], kind: &'static str) -> Result<[u8; N], KeyError> {
    let Some((head, rest)) = bytes.split_first_chunk::<N>() else {
        return Err(KeyError::Length { kind, expected: N, actual: bytes.len() });
    };
    *bytes = rest;
    Ok(*head)
}

fn whole_fixed<const N: usize>(bytes: &[u8], kind: &'static str) -> Result<[u8; N], KeyError> {
    <[u8; N]>::try_from(bytes).ok().ok_or(KeyError::Length {
        kind,
        expected: N,
        actual: bytes.len(),
    })
}

fn encode_escaped(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        if byte == 0 {
            out.extend_from_slice(&ESCAPED_ZERO);
        } else {
            out.push(byte);
        }
    }
    out.extend_from_slice(&TERMINATOR);
}

fn take_escaped(bytes: &mut &[u8]) -> Result<Vec<u8>, KeyError> {
    let mut member = Vec::new();
    let mut at = 0;
    loop {
        let tail = bytes.get(at..).unwrap_or_default();
        let Some(zero) = tail.iter().position(|&byte| byte == 0) else {
            return Err(KeyError::Unterminated { actual: bytes.len() });
        };
        member.extend_from_slice(&tail[..zero]);
        match tail.get(zero + 1) {
            None => {
                return Err(KeyError::Unterminated { actual: bytes.len() });
            }
            Some(0x00) => {
                *bytes = &tail[zero + 2..];
                return Ok(member);
            }
            Some(0xff) => member.push(0),
            Some(&found) => {
                return Err(KeyError::BadEscape { at: at + zero + 1, found });
            }
        }
        at += zero + 2;
    }
}

fn utf8(bytes: Vec<u8>) -> Result<String, KeyError> {
    String::from_utf8(bytes)
        .map_err(|error| KeyError::NotUtf8 { valid_up_to: error.utf8_error().valid_up_to() })
}

impl RecordKey for String {
    fn encode(&self, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(self.as_bytes());
        true
    }

    fn decode(bytes: Option<&[u8]>) -> Result<Option<Self>, KeyError> {
        bytes.map(|bytes| utf8(bytes.to_vec())).transpose()
    }
}

impl Key for String {
    fn encode_member(&self, out: &mut Vec<u8>) {
        encode_escaped(self.as_bytes(), out);
    }

    fn decode_member(bytes: &mut &[u8]) -> Result<Self, KeyError> {
        take_escaped(bytes).and_then(utf8)
    }
}

impl RecordKey for Vec<u8> {
    fn encode(&self, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(self);
        true
    }

    fn decode(bytes: Option<&[u8]>) -> Result<Option<Self>, KeyError> {
        Ok(bytes.map(<[u8]>::to_vec))
    }
}

impl Key for Vec<u8> {
    fn encode_member(&self, out: &mut Vec<u8>) {
        encode_escaped(self, out);
    }

    fn decode_member(bytes: &mut &[u8]) -> Result<Self, KeyError> {
        take_escaped(bytes)
    }
}

macro_rules! integer_keys {
    ($($kind:ty, $flip:literal;)*) => { $(
        impl RecordKey for $kind {
            fn encode(&self, out: &mut Vec<u8>) -> bool {
                self.encode_member(out);
                true
            }

            fn decode(bytes: Option<&[u8]>) -> Result<Option<Self>, KeyError> {
                let Some(bytes) = bytes else { return Ok(None) };
                let mut fixed = whole_fixed(bytes, stringify!($kind))?;
                fixed[0] ^= $flip;
                Ok(Some(<$kind>::from_be_bytes(fixed)))
            }
        }

        impl Key for $kind {
            fn encode_member(&self, out: &mut Vec<u8>) {
                let mut fixed = self.to_be_bytes();
                fixed[0] ^= $flip;
                out.extend_from_slice(&fixed);
            }

            fn decode_member(bytes: &mut &[u8]) -> Result<Self, KeyError> {
                let mut fixed = take_fixed(bytes, stringify!($kind))?;
                fixed[0] ^= $flip;
                Ok(<$kind>::from_be_bytes(fixed))
            }
        }
    )* };
}

integer_keys! {
    u64, 0x00;
    u32, 0x00;
    i64, 0x80;
    i32, 0x80;
}

/// The last member of a tuple, which has no end of its own.
fn decode_last<K: Key>(bytes: &[u8]) -> Result<K, KeyError> {
    K::decode(Some(bytes))?.ok_or(KeyError::Unterminated { actual: bytes.len() })
}

impl<A: Key, B: Key> RecordKey for (A, B) {
    fn encode(&self, out: &mut Vec<u8>) -> bool {
        self.0.encode_member(out);
        self.1.encode(out)
    }

    fn decode(bytes: Option<&[u8]>) -> Result<Option<Self>, KeyError> {
        let Some(mut bytes) = bytes else {
            return Ok(None);
        };
        let first = A::decode_member(&mut bytes)?;
        Ok(Some((first, decode_last(bytes)?)))
    }
}

impl<A: Key, B: Key> Key for (A, B) {
    fn encode_member(&self, out: &mut Vec<u8>) {
        self.0.encode_member(out);
        self.1.encode_member(out);
    }

    fn decode_member(bytes: &mut &[u8]) -> Result<Self, KeyError> {
        Ok((A::decode_member(bytes)?, B::decode_member(bytes)?))
    }
}

impl<A: Key, B: Key, C: Key> RecordKey for (A, B, C) {
    fn encode(&self, out: &mut Vec<u8>) -> bool {
        self.0.encode_member(out);
        self.1.encode_member(out);
        self.2.encode(out)
    }

    fn decode(bytes: Option<&[u8]>) -> Result<Option<Self>, KeyError> {
        let Some(mut bytes) = bytes else {
            return Ok(None);
        };
        let first = A::decode_member(&mut bytes)?;
        let second = B::decode_member(&mut bytes)?;
        Ok(Some((first, second, decode_last(bytes)?)))
    }
}

impl<A: Key, B: Key, C: Key> Key for (A, B, C) {
    fn encode_member(&self, out: &mut Vec<u8>) {
        self.0.encode_member(out);
        self.1.encode_member(out);
        self.2.encode_member(out);
    }

    fn decode_member(bytes: &mut &[u8]) -> Result<Self, KeyError> {
        Ok((A::decode_member(bytes)?, B::decode_member(bytes)?, C::decode_member(bytes)?))
    }
}

impl<K: Key> RecordKey for Windowed<K> {
    fn encode(&self, out: &mut Vec<u8>) -> bool {
        self.key.encode(out);
        windowed_key(&[], self.start, self.end, out);
        true
    }

    fn decode(bytes: Option<&[u8]>) -> Result<Option<Self>, KeyError> {
        let Some(bytes) = bytes else { return Ok(None) };
        let Some((inner, start, end)) = split_windowed(bytes) else {
            let (kind, expected) = ("Windowed", WINDOW_BYTES);
            return Err(KeyError::Length { kind, expected, actual: bytes.len() });
        };
        Ok(K::decode(Some(inner))?.map(|key| Windowed { key, start, end }))
    }

    fn partition_bytes(encoded: &[u8]) -> &[u8] {
        match split_windowed(encoded) {
            Some((inner, _, _)) => K::partition_bytes(inner),
            None => encoded,
        }
    }
}

impl<K: Key> Key for Windowed<K> {
    fn encode_member(&self, out: &mut Vec<u8>) {
        self.key.encode_member(out);
        windowed_key(&[], self.start, self.end, out);
    }

    fn decode_member(bytes: &mut &[u8]) -> Result<Self, KeyError> {
        let key = K::decode_member(bytes)?;
        let start = decode_i64(take_fixed(bytes, "Windowed")?);
        let end = decode_i64(take_fixed(bytes, "Windowed")?);
        Ok(Windowed { key, start, end })
    }
}

#[cfg(test)]
mod tests;
