//! Input from files: one JSON value per line.
//!
//! ```text
//!   {"user":"ana","page":"/home"}                           a value, for topics without a key
//!   {"key":"ana","value":{"page":"/home"},"timestamp":5}    a record: `value` and nothing beside these
//!                                                           names; what is missing is null, or now
//! ```
//!
//! Invariants
//! * a line is a record if it is an object with `value` whose names are all among `key`, `value` and
//!   `timestamp`; every other line is a value.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::TestDriver;
use crate::codec::{Codec, Data};
use crate::dsl::Topic;
use crate::key::RecordKey;
use crate::record::Headers;

/// Why a file of input cannot be sent.
#[derive(Debug)]
#[non_exhaustive]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1; 0: the file itself.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, reason } = self;
        match line {
            0 => write!(f, "{}: {reason}", path.display()),
            _ => write!(f, "{}:{line}: {reason}", path.display()),
        }
    }
}

impl std::error::Error for FileError {}

/// What a line says.
struct Line<K, V> {
    key: Option<K>,
    value: Option<V>,
    timestamp: Option<i64>,
}

impl TestDriver {
    /// Sends the records of a file, one JSON line each; empty lines are passed over. A line is a value, or
    /// `{"key": .., "value": .., "timestamp": ..}`, where a key that is missing is null, a timestamp that
    /// is missing is the driver's clock, and a value of `null` is a tombstone.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const VISITS: Topic<String, u64> = topic("visits");
    /// const SUMS: Topic<String, u64> = topic("sums");
    /// fn topology(t: &mut Topology) {
    ///     t.stream(VISITS).aggregate("sums", |sum: &mut u64, n| *sum += n).to(SUMS);
    /// }
    /// # let dir = tempfile::tempdir().unwrap();
    /// let path = dir.path().join("visits.jsonl");
    /// std::fs::write(&path, "{\"key\": \"ana\", \"value\": 3}\n{\"key\": \"ana\", \"value\": 4}\n").unwrap();
    /// let mut d = TestDriver::new(topology);
    /// d.send_file(VISITS, &path)?;
    /// assert_eq!(d.table(SUMS)["ana"], 7);
    /// std::fs::write(&path, "{\"key\": \"ana\", \"value\": \"x\"}").unwrap();
    /// let wrong = d.send_file(VISITS, &path).err().unwrap().to_string();
    /// assert!(wrong.ends_with("visits.jsonl:1: value: invalid type: string \"x\", expected u64"), "{wrong}");
    /// # Ok::<(), streams::testing::FileError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`FileError`]: the file cannot be read, or a line is not JSON or not of the topic's types. It names
    /// the file and the line; lines in front of it have been sent.
    ///
    /// # Panics
    ///
    /// As [`send`](Self::send).
    pub fn send_file<K: RecordKey, V: Data, C: Codec<V>>(
        &mut self,
        topic: Topic<K, V, C>,
        path: impl AsRef<Path>,
    ) -> Result<&mut Self, FileError> {
        let path = path.as_ref();
        let wrong = |line: usize, reason: String| FileError { path: path.to_owned(), line, reason };
        let io = |error: io::Error| error.to_string();
        let file = open(path).map_err(|error| wrong(0, io(error)))?;
        for (number, text) in (1..).zip(BufReader::new(file).lines()) {
            let text = text.map_err(|error| wrong(number, io(error)))?;
            if text.trim().is_empty() {
                continue;
            }
            let line = parse::<K, V>(&text).map_err(|reason| wrong(number, reason))?;
            let timestamp = line.timestamp.unwrap_or_else(|| self.engine.log.now_ms());
            self.send_record(topic, line.key, line.value, timestamp, Headers::none());
        }
        Ok(self)
    }
}

#[expect(clippy::disallowed_methods, reason = "a fixture of a test, which no crash concerns")]
fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

fn parse<K: RecordKey, V: Data>(text: &str) -> Result<Line<K, V>, String> {
    let document: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let names = ["key", "value", "timestamp"];
    let is_record = document.as_object().is_some_and(|fields| {
        fields.contains_key("value") && fields.keys().all(|name| names.contains(&name.as_str()))
    });
    if !is_record {
        let value = serde_json::from_value(document).map_err(|e| e.to_string())?;
        return Ok(Line { key: None, value: Some(value), timestamp: None });
    }
    let field = |name: &str| document.get(name).filter(|value| !value.is_null()).cloned();
    let typed = |name: &str, error: serde_json::Error| format!("{name}: {error}");
    let key = field("key").map(serde_json::from_value).transpose();
    let value = field("value").map(serde_json::from_value).transpose();
    let timestamp = field("timestamp").map(serde_json::from_value).transpose();
    Ok(Line {
        key: key.map_err(|e| typed("key", e))?,
        value: value.map_err(|e| typed("value", e))?,
        timestamp: timestamp.map_err(|e| typed("timestamp", e))?,
    })
}
