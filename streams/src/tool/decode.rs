//! One record as a line: typed where the job knows the topic, else text, else hexadecimal.
//!
//! ```text
//!   0@17  2026-01-05T10:00:07.250Z  null   {"at":1767607207250,"page":"/home","user":"ana"}
//!   2@44  2026-01-05T10:00:59.986Z  /home [2026-01-05T10:00:00Z, 2026-01-05T10:01:00Z)  2443
//!   partition@offset  timestamp     key    value
//! ```

use std::fmt::Write as _;

use core_log::{Offset, Timestamp};
use serde_json::{Value, json};

use crate::dsl::TopicTypes;
use crate::record::{Headers, RawRecord};
use crate::time::Instant;

/// What the end of a windowed key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// The first moment behind the window.
    Behind,
    /// The last moment in it: sliding windows and sessions.
    Inside,
}

impl Ends {
    pub(super) fn inside_if(inside: bool) -> Self {
        if inside { Self::Inside } else { Self::Behind }
    }
}

/// A record, decoded for a person or a script.
#[derive(Debug, PartialEq)]
pub(super) struct Shown {
    pub(super) partition: u32,
    pub(super) offset: Offset,
    pub(super) timestamp: Timestamp,
    key: Value,
    value: Value,
    headers: Vec<(String, Value)>,
    ends: Ends,
}

impl Shown {
    /// Decodes a record by the types of its topic, where the job knows them.
    pub(super) fn new(
        partition: u32,
        record: &RawRecord<'_>,
        types: Option<&TopicTypes>,
        ends: Ends,
    ) -> Self {
        let key = match types {
            Some(types) => (types.key)(record.key),
            None => plain(record.key),
        };
        let value = match types.map(|types| (types.value)(record.value)) {
            Some(Ok(value)) => value,
            Some(Err(_)) | None => plain(record.value),
        };
        let headers = record.headers.into_iter().flat_map(Headers::iter);
        Self {
            partition,
            offset: record.offset,
            timestamp: record.timestamp,
            key,
            value,
            headers: headers.map(|h| (h.key.clone(), plain(h.value.as_deref()))).collect(),
            ends,
        }
    }

    /// One JSON object, without a line end.
    pub(super) fn to_json(&self) -> String {
        let headers: Vec<Value> = self
            .headers
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        // By hand, because a map would sort the fields.
        format!(
            "{{\"partition\":{},\"offset\":{},\"timestamp\":{},\"key\":{},\"value\":{},\"headers\":{}}}",
            self.partition,
            self.offset,
            self.timestamp,
            self.key,
            self.value,
            Value::from(headers),
        )
    }

    /// One line for a person, without a line end.
    pub(super) fn to_text(&self) -> String {
        let mut line = format!("{}@{}  {}", self.partition, self.offset, time(self.timestamp));
        for text in [key_text(&self.key, self.ends), text(&self.value)] {
            // Writing to a string cannot fail.
            let _written = write!(line, "  {text}");
        }
        for (name, value) in &self.headers {
            let _written = write!(line, "  {name}={value}");
        }
        line
    }
}

/// A row of a store as one line, without a line end.
pub(super) fn row_text(key: &Value, value: &Value, ends: Ends) -> String {
    format!("{}  {}", key_text(key, ends), text(value))
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A windowed key as `key [start, end)`, or `key [start, end]` where the end lies in the window; any
/// other as it is.
fn key_text(key: &Value, ends: Ends) -> String {
    let part = |name| key.get(name);
    let bound = |name| part(name).and_then(Value::as_i64).map(|ms| Instant(ms).to_string());
    match (part("key"), bound("start"), bound("end")) {
        (Some(inner), Some(start), Some(end)) => {
            let close = if ends == Ends::Inside { ']' } else { ')' };
            format!("{} [{start}, {end}{close}", text(inner))
        }
        _ => text(key),
    }
}

fn time(timestamp: Timestamp) -> String {
    match jiff::Timestamp::from_millisecond(timestamp) {
        Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        Err(_) => timestamp.to_string(),
    }
}

/// Bytes of an unknown type: text if that is what they are, else hexadecimal.
fn plain(bytes: Option<&[u8]>) -> Value {
    let Some(bytes) = bytes else { return Value::Null };
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(|c| c.is_control() && !c.is_whitespace()) => text.into(),
        _ => {
            let mut hex = String::from("0x");
            for byte in bytes {
                // Writing to a string cannot fail.
                let _written = write!(hex, "{byte:02x}");
            }
            hex.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown() -> Shown {
        Shown {
            partition: 1,
            offset: 7,
            timestamp: 1_767_607_207_250,
            key: json!({"key": "/home", "start": 0, "end": 60_000}),
            value: json!(3),
            headers: vec![("trace".into(), Value::Null), ("trace".into(), "a".into())],
            ends: Ends::Behind,
        }
    }

    #[test]
    fn a_record_is_one_line_of_text() {
        assert_eq!(
            shown().to_text(),
            "1@7  2026-01-05T10:00:07.250Z  /home [1970-01-01T00:00:00Z, 1970-01-01T00:01:00Z)  3  \
             trace=null  trace=\"a\""
        );
    }

    #[test]
    fn an_end_that_lies_in_the_window_is_shown_so() {
        let session = Shown { ends: Ends::Inside, ..shown() };
        assert!(session.to_text().contains("T00:00:00Z, 1970-01-01T00:01:00Z]  3"));
    }

    #[test]
    fn a_record_is_one_json_object_with_all_its_headers() {
        let parsed: Value = serde_json::from_str(&shown().to_json()).unwrap();
        assert!(shown().to_json().starts_with("{\"partition\":1,\"offset\":7,"), "{parsed}");
        assert_eq!(parsed["headers"][1]["value"], "a");
        assert_eq!(parsed["headers"][0]["value"], Value::Null);
        assert_eq!(parsed["timestamp"], 1_767_607_207_250_i64);
        assert_eq!(parsed["key"]["key"], "/home");
    }

    #[test]
    fn bytes_of_an_unknown_type_are_text_or_hexadecimal() {
        assert_eq!(plain(Some(b"a b")), json!("a b"));
        assert_eq!(plain(Some(&[0, 255])), json!("0x00ff"));
        assert_eq!(plain(Some(b"\x00a")), json!("0x0061"));
        assert_eq!(plain(None), Value::Null);
    }

    #[test]
    fn a_timestamp_that_is_no_date_is_a_number() {
        assert_eq!(time(i64::MIN), i64::MIN.to_string());
    }
}
