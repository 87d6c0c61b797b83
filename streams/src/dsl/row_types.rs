//! The types of keys and values, kept where only their topic's name is known.
//!
//! Why: a store is asked for by its name, from code that knows the types and from a command line that
//! does not. The first must be refused when its types are others, the second must have its text turned
//! into the bytes of a key.
//!
//! Invariants
//! * text is first taken for a text key as it stands; what is no text key is read as JSON.

use std::any::TypeId;
use std::marker::PhantomData;

use serde_json::Value;

use crate::codec::Data;
use crate::key::{RecordKey, split_windowed};
use crate::shape::shape_of;

/// What shows that a key is one of a window.
const WINDOWED: &str = "Windowed{";

/// What shows that a value lists sessions.
const SESSIONS: &str = "OpenSessions{";

/// Functions that know the types of a topic's keys and values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowTypes {
    ids: fn() -> (TypeId, TypeId),
    shape: fn() -> (String, String),
    key: fn(&str) -> Result<Vec<u8>, String>,
    inner_key: fn(&str) -> Result<Vec<u8>, String>,
}

impl RowTypes {
    pub(crate) fn of<K: RecordKey, V: Data>() -> Self {
        Self {
            ids: || (TypeId::of::<K>(), TypeId::of::<V>()),
            shape: || (shape_of::<K>(), shape_of::<V>()),
            key: parse_key::<K>,
            inner_key: parse_inner_key::<K>,
        }
    }

    /// The rows of one side of a join: several of a key, each with what the join must know of it.
    pub(crate) fn of_join<K: RecordKey, V: Data>() -> Self {
        let no_key = |_: &str| {
            Err("its rows are those of a join, found by no key: state range without --from, --to"
                .to_owned())
        };
        Self {
            ids: || (TypeId::of::<JoinRowOf<K>>(), TypeId::of::<JoinRowOf<V>>()),
            shape: || (shape_of::<K>() + " and slice or time", shape_of::<V>()),
            key: no_key,
            inner_key: no_key,
        }
    }

    /// The timers of a processor: by kind and time, and only then by key.
    pub(crate) fn of_timers<K: RecordKey>() -> Self {
        let no_key = |_: &str| {
            Err("its rows are timers, found by no key: state range without --from, --to".to_owned())
        };
        Self {
            ids: || (TypeId::of::<TimerOf<K>>(), TypeId::of::<i64>()),
            shape: || (shape_of::<K>() + " and time", shape_of::<i64>()),
            key: no_key,
            inner_key: no_key,
        }
    }

    /// Rows with more in their keys than a key of the user.
    pub(super) fn of_listed<K: RecordKey, V: Data>(shape: fn() -> (String, String)) -> Self {
        let no_key = |_: &str| {
            Err("its rows are found by no key: state range without --from, --to".to_owned())
        };
        Self {
            ids: || (TypeId::of::<JoinRowOf<K>>(), TypeId::of::<JoinRowOf<V>>()),
            shape,
            key: no_key,
            inner_key: no_key,
        }
    }

    /// Whether these are the types.
    pub(crate) fn are<K: RecordKey, V: Data>(&self) -> bool {
        (self.ids)() == (TypeId::of::<K>(), TypeId::of::<V>())
    }

    /// What the types of key and value look like.
    pub(crate) fn shape(&self) -> (String, String) {
        (self.shape)()
    }

    /// The bytes of the key that a text says, or what is wanted instead.
    pub(crate) fn key(&self, text: &str) -> Result<Vec<u8>, String> {
        (self.key)(text)
    }

    /// The same for the key inside a windowed key.
    pub(crate) fn inner_key(&self, text: &str) -> Result<Vec<u8>, String> {
        (self.inner_key)(text)
    }

    pub(crate) fn is_windowed(&self) -> bool {
        (self.shape)().0.starts_with(WINDOWED)
    }

    /// Whether a row lists the open sessions of its key.
    pub(crate) fn lists_sessions(&self) -> bool {
        (self.shape)().1.starts_with(SESSIONS)
    }

    /// The type of the values, as a list shows it.
    pub(crate) fn told_value(&self) -> String {
        if self.lists_sessions() { "the key's open sessions".to_owned() } else { (self.shape)().1 }
    }

    /// The type of the key that a person types: of a windowed key, the one inside.
    pub(crate) fn typed_key(&self) -> String {
        let shape = (self.shape)().0;
        let inner = shape.strip_prefix(WINDOWED).and_then(|rest| rest.strip_prefix("key:"));
        let inner = inner.and_then(|rest| rest.rsplit_once(", start:i64"));
        inner.map_or(shape.clone(), |(inner, _)| inner.to_owned())
    }

    /// Whether the keys that a person types are all of one size.
    pub(crate) fn has_keys_of_one_size(&self) -> bool {
        matches!(self.typed_key().as_str(), "u64" | "u32" | "i64" | "i32")
    }

    /// Whether keys begin with the text that a person sees.
    pub(crate) fn begins_with_text(&self) -> bool {
        let key = self.typed_key();
        key.starts_with("String") || key.starts_with("(String")
    }
}

/// No type that a user could ask for.
struct JoinRowOf<T>(PhantomData<T>);
struct TimerOf<T>(PhantomData<T>);

/// What a text says, as a text key and as JSON.
fn readings(text: &str) -> impl Iterator<Item = Value> {
    let as_json = serde_json::from_str(text).ok();
    std::iter::once(Value::String(text.to_owned())).chain(as_json)
}

fn encoded<K: RecordKey>(value: Value) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let key: K = serde_json::from_value(value).ok()?;
    key.encode(&mut bytes).then_some(bytes)
}

fn parse_key<K: RecordKey>(text: &str) -> Result<Vec<u8>, String> {
    readings(text).find_map(encoded::<K>).ok_or_else(|| wanted(text, &shape_of::<K>()))
}

fn parse_inner_key<K: RecordKey>(text: &str) -> Result<Vec<u8>, String> {
    let windowed = |key: Value| {
        let bytes = encoded::<K>(serde_json::json!({ "key": key, "start": 0, "end": 0 }))?;
        split_windowed(&bytes).map(|(inner, _, _)| inner.to_vec())
    };
    let types = RowTypes::of::<K, ()>();
    readings(text).find_map(windowed).ok_or_else(|| wanted(text, &types.typed_key()))
}

fn wanted(text: &str, shape: &str) -> String {
    let mut shown: String = text.chars().take(80).collect();
    if shown.len() < text.len() {
        shown.push_str("..");
    }
    let example = match shape {
        "u64" | "u32" => "a whole number: 17",
        "i64" | "i32" => "a whole number: -17",
        "[u8]" => "a JSON list of bytes: [1,255]",
        _ if shape.starts_with('(') => "a JSON list of its parts: [\"a\",17]",
        _ => "JSON of that type",
    };
    format!("`{shown}` is no key of type {shape}: wanted is {example}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{NoKey, Windowed};

    fn bytes_of<K: RecordKey>(key: &K) -> Vec<u8> {
        let mut bytes = Vec::new();
        key.encode(&mut bytes);
        bytes
    }

    fn parsed<K: RecordKey>(text: &str) -> Result<Vec<u8>, String> {
        RowTypes::of::<K, u64>().key(text)
    }

    #[test]
    fn text_becomes_the_key_that_a_person_meant() {
        assert_eq!(parsed::<String>("/home"), Ok(b"/home".to_vec()));
        assert_eq!(parsed::<String>("17"), Ok(b"17".to_vec()));
        assert_eq!(parsed::<String>("\"a\""), Ok(b"\"a\"".to_vec()));
        assert_eq!(parsed::<u64>("17"), Ok(bytes_of(&17_u64)));
        assert_eq!(parsed::<i32>("-17"), Ok(bytes_of(&-17_i32)));
        let pair = ("a".to_owned(), 5_u32);
        assert_eq!(parsed::<(String, u32)>("[\"a\", 5]"), Ok(bytes_of(&pair)));
        assert_eq!(parsed::<Vec<u8>>("[1, 255]"), Ok(vec![1, 255]));
    }

    #[test]
    fn what_is_no_key_says_what_is_wanted() {
        let said = parsed::<u64>("/home").unwrap_err();
        assert_eq!(said, "`/home` is no key of type u64: wanted is a whole number: 17");
        for nonsense in ["", "-1", "1.5", "99999999999999999999", "{", "null"] {
            assert!(parsed::<u64>(nonsense).is_err(), "{nonsense}");
        }
        assert!(parsed::<(String, u32)>("a").unwrap_err().contains("(String, u32)"));
        assert!(parsed::<NoKey>("null").is_err(), "there is no row without a key");
    }

    #[test]
    fn the_key_inside_a_window_is_parsed_alone() {
        let types = RowTypes::of::<Windowed<String>, u64>();
        assert_eq!(types.inner_key("/home"), Ok(b"/home".to_vec()));
        assert!(types.is_windowed() && types.begins_with_text());
        let numbers = RowTypes::of::<Windowed<(u64, i64)>, u64>();
        assert_eq!(numbers.inner_key("[1,2]"), Ok(bytes_of(&(1_u64, 2_i64))));
        let said = numbers.inner_key("1").unwrap_err();
        assert!(said.contains("(u64, i64)"), "{said}");
        assert!(!numbers.begins_with_text());
    }

    #[test]
    fn types_are_told_apart() {
        let types = RowTypes::of::<String, u64>();
        assert!(types.are::<String, u64>() && !types.are::<String, i64>());
        assert!(!types.is_windowed() && types.begins_with_text());
        assert_eq!(types.shape(), ("String".to_owned(), "u64".to_owned()));
    }
}
