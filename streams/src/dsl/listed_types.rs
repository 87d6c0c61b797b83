//! How rows are shown and told apart that have more in their keys than a user's key: what waits for its
//! time, and what was.
//!
//! Invariants
//! * such rows are found by no key that a person types; they are shown one after the other.

use serde_json::{Value, json};

use super::RowTypes;
use super::assembly::{TopicTypes, show_key, show_value};
use crate::codec::{Bincode, Data};
use crate::key::RecordKey;
use crate::operator::{Held, Waiting, split_held, split_waiting};
use crate::shape::shape_of;
use crate::store::split_version;

impl TopicTypes {
    /// Changes of a table that wait for the end of their periods.
    pub(super) fn of_waiting<K: RecordKey, V: Data>() -> Self {
        Self {
            key: |bytes| match bytes.and_then(split_waiting) {
                Some((Some(due), key)) => json!({ "due": due, "key": show_key::<K>(Some(key)) }),
                Some((None, key)) => show_key::<K>(Some(key)),
                None => show_key::<K>(bytes),
            },
            value: show_value::<Option<Waiting<V>>, Bincode>,
            rows: RowTypes::of_listed::<K, Option<Waiting<V>>>(|| {
                (shape_of::<K>() + " and due time", shape_of::<V>())
            }),
        }
    }

    /// Records of a stream that wait until a table has heard of everything up to their time.
    pub(super) fn of_held<K: RecordKey, V: Data>() -> Self {
        Self {
            key: |bytes| match bytes.and_then(split_held) {
                Some((timestamp, key)) => {
                    json!({ "timestamp": timestamp, "key": show_key::<K>(Some(key)) })
                }
                None => show_key::<K>(bytes),
            },
            value: show_value::<Held<V>, Bincode>,
            rows: RowTypes::of_listed::<K, Held<V>>(|| {
                (String::from("time and ") + &shape_of::<K>(), shape_of::<V>())
            }),
        }
    }

    /// The versions of a table's rows.
    pub(super) fn of_versions<K: RecordKey, V: Data>() -> Self {
        Self {
            key: |bytes| match bytes.and_then(split_version) {
                Some((key, timestamp)) => {
                    json!({ "key": show_key::<K>(Some(key)), "timestamp": timestamp })
                }
                None => bytes.map_or(Value::Null, |bytes| bytes.escape_ascii().to_string().into()),
            },
            value: show_value::<Option<V>, Bincode>,
            rows: RowTypes::of_listed::<K, Option<V>>(|| {
                (shape_of::<K>() + " and version", shape_of::<V>())
            }),
        }
    }
}
