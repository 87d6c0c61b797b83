//! The one path between typed values and bytes: JSON and bincode behind one trait.
//!
//! Why: a codec belongs to a topic or a store, so the compiler refuses a sink or a join of another
//! type; and a layout that is decided in one place can be limited in one place. Ordered keys do
//! not come from here (see `key.rs`), and neither does the framing of the log.
//!
//! Invariants
//! * a value that fails to encode leaves `out` as it was.
//! * decoding reads every byte: what is left over is an error, not padding.
//! * a length that bytes claim never sizes an allocation beyond [`BINCODE_BYTES_MAX`].
//! * what [`Bincode`] encodes it can decode again: values above the limit are refused at encoding.
//!
//! It is the only file that names the `bincode` crate, which writes; `decoder.rs` reads the same layout.

mod decoder;

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::error::EncodeError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest value, in bytes, that [`Bincode`] encodes or decodes: 16 MiB.
const BINCODE_BYTES_MAX: usize = 16 * 1024 * 1024;

const BINCODE: Configuration<LittleEndian, Varint, Limit<BINCODE_BYTES_MAX>> =
    bincode::config::standard().with_limit::<BINCODE_BYTES_MAX>();

/// What can be a value of a topic or of a store: any type with serde's two derives and `Clone`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be stored in a topic or a state store",
    label = "not a record type",
    note = "add `#[derive(Serialize, Deserialize, Clone)]` to it"
)]
pub trait Data: Serialize + DeserializeOwned + Clone + Send + 'static {}

impl<T: Serialize + DeserializeOwned + Clone + Send + 'static> Data for T {}

/// Why a value did not encode, or bytes did not decode.
///
/// Displays serde's own words: the field that is missing, and for JSON the line and the column.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct CodecError {
    reason: String,
}

impl CodecError {
    /// An error of a codec from outside this crate.
    pub fn new(reason: impl Into<String>) -> Self {
        CodecError { reason: reason.into() }
    }

    /// The reason in serde's words.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// How values of `T` become bytes. A codec is a type without state, named in the topic's type.
///
/// ```
/// use streams::{Bincode, Codec, Json};
///
/// let mut bytes = Vec::new();
/// <Json as Codec<u64>>::encode(&300, &mut bytes)?;
/// assert_eq!(bytes, b"300");
/// bytes.clear();
/// <Bincode as Codec<u64>>::encode(&300, &mut bytes)?;
/// assert_eq!(bytes, [251, 44, 1]);
/// assert_eq!(<Bincode as Codec<u64>>::decode(&bytes)?, 300);
/// # Ok::<(), streams::CodecError>(())
/// ```
pub trait Codec<T>: Copy + Default + Send + Sync + 'static {
    /// The name that descriptions and messages use, in lower case.
    const NAME: &'static str;

    /// Appends the encoded value to `out`.
    ///
    /// # Errors
    ///
    /// The value has no form in this codec, or is above its limit; `out` is as it was.
    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// Decodes one value from exactly these bytes.
    ///
    /// # Errors
    ///
    /// The bytes are not one whole value of `T` and nothing else.
    fn decode(bytes: &[u8]) -> Result<T, CodecError>;
}

/// JSON, as serde writes it without spaces. What a user's topics hold unless they say otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json;

/// bincode's standard layout (little-endian, variable-length integers). What stores, changelogs and
/// repartition topics hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bincode;

impl<T: Data> Codec<T> for Json {
    const NAME: &'static str = "json";

    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let start = out.len();
        serde_json::to_writer(&mut *out, value).map_err(|error| {
            out.truncate(start);
            CodecError::new(error.to_string())
        })
    }

    fn decode(bytes: &[u8]) -> Result<T, CodecError> {
        serde_json::from_slice(bytes).map_err(|error| CodecError::new(error.to_string()))
    }
}

impl<T: Data> Codec<T> for Bincode {
    const NAME: &'static str = "bincode";

    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let start = out.len();
        let written = bincode::serde::encode_into_std_write(value, out, BINCODE);
        match written {
            Ok(length) if length <= BINCODE_BYTES_MAX => Ok(()),
            Ok(length) => {
                out.truncate(start);
                Err(CodecError::new(format!(
                    "{length} bytes are above the limit of {BINCODE_BYTES_MAX}"
                )))
            }
            Err(error) => {
                out.truncate(start);
                Err(encode_reason(&error))
            }
        }
    }

    fn decode(bytes: &[u8]) -> Result<T, CodecError> {
        decoder::decode(bytes)
    }
}

fn encode_reason(error: &EncodeError) -> CodecError {
    match error {
        EncodeError::OtherString(reason) => CodecError::new(reason.clone()),
        other => CodecError::new(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Click {
        user: String,
        page: String,
        at: i64,
    }

    fn encoded<C: Codec<T>, T: Data>(value: &T) -> Vec<u8> {
        let mut out = Vec::new();
        C::encode(value, &mut out).expect("encodes");
        out
    }

    #[test]
    fn a_missing_field_is_named_with_its_column() {
        let error = <Json as Codec<Click>>::decode(br#"{"user":"ana","page":"/home"}"#);
        let reason = error.expect_err("at is missing").to_string();
        assert_eq!(reason, "missing field `at` at line 1 column 29");
    }

    #[test]
    fn golden_bytes_of_a_count_and_of_a_record() {
        assert_eq!(encoded::<Bincode, u64>(&250), [250]);
        assert_eq!(encoded::<Bincode, u64>(&251), [251, 251, 0]);
        assert_eq!(encoded::<Bincode, u64>(&65_536), [252, 0, 0, 1, 0]);
        let click = Click { user: "a".into(), page: "/".into(), at: -1 };
        assert_eq!(encoded::<Bincode, Click>(&click), [1, b'a', 1, b'/', 1]);
        assert_eq!(encoded::<Json, Click>(&click), br#"{"user":"a","page":"/","at":-1}"#);
    }

    #[test]
    fn bytes_behind_the_value_are_refused() {
        let mut bytes = encoded::<Bincode, u64>(&7);
        bytes.push(0);
        let error = <Bincode as Codec<u64>>::decode(&bytes).expect_err("one byte too many");
        assert_eq!(error.reason(), "1 bytes follow the value, which ends at byte 1");
        assert!(<Json as Codec<u64>>::decode(b"7 8").is_err());
    }

    #[test]
    fn a_claimed_length_does_not_size_an_allocation() {
        let claim = [253, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert!(<Bincode as Codec<Vec<u64>>>::decode(&claim).is_err());
        assert!(<Bincode as Codec<String>>::decode(&claim).is_err());
    }

    #[test]
    fn a_value_above_the_limit_is_refused_at_encoding_and_leaves_nothing() {
        let mut out = vec![1, 2, 3];
        let large = "x".repeat(BINCODE_BYTES_MAX);
        assert!(<Bincode as Codec<String>>::encode(&large, &mut out).is_err());
        assert_eq!(out, [1, 2, 3]);
        let keyed_by_a_tuple = BTreeMap::from([((1u8, 2u8), 3u8)]);
        assert!(<Json as Codec<_>>::encode(&keyed_by_a_tuple, &mut out).is_err());
        assert_eq!(out, [1, 2, 3]);
    }

    proptest! {
        #[test]
        fn values_survive_both_codecs(user in ".*", page in ".*", at: i64) {
            let click = Click { user, page, at };
            let json = encoded::<Json, Click>(&click);
            prop_assert_eq!(&<Json as Codec<Click>>::decode(&json).expect("own bytes"), &click);
            let binary = encoded::<Bincode, Click>(&click);
            prop_assert_eq!(&<Bincode as Codec<Click>>::decode(&binary).expect("own bytes"), &click);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _json: Result<Click, _> = <Json as Codec<Click>>::decode(&bytes);
            let _binary: Result<Click, _> = <Bincode as Codec<Click>>::decode(&bytes);
            let _list: Result<Vec<Click>, _> = <Bincode as Codec<Vec<Click>>>::decode(&bytes);
        }
    }
}
