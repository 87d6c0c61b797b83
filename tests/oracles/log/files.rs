//! The bytes of a partition's directory after a clean close, file by file.
//!
//! Invariants
//! * Every file of Kafka's is there with Kafka's bytes, or the case fails.
//! * Files of ours that Kafka does not have (`.seal`, `log-start-offset`) are ours alone and not compared.

use std::path::Path;

use core_log::storage::Storage;
use serde_json::Value;

use super::Replay;
use crate::json;
use crate::report::{Outcome, failed, same, unsupported};

pub(super) fn compare(replay: &Replay<'_>, dir: &Path, expected: &Value) -> Outcome {
    let Some(files) = expected.as_object() else {
        return Err(unsupported("format: `files_after_close` is missing"));
    };
    let there = replay.memory.list(dir).map_err(|error| failed(format!("{error}")))?;
    for (name, content) in files {
        let content = content.as_str().unwrap_or("");
        let bytes = match content.strip_prefix("text:") {
            Some(text) => text.as_bytes().to_vec(),
            None => json::bytes(content)?,
        };
        let is_there = there.iter().any(|other| other == name);
        let extension = Path::new(name).extension().and_then(|e| e.to_str()).unwrap_or("");
        match (extension, is_there) {
            ("txnindex" | "index" | "timeindex", false) if bytes.is_empty() => continue,
            ("log" | "index" | "timeindex" | "txnindex" | "snapshot" | "", true) => {}
            (_, false) => return Err(failed(format!("{name} is missing; there are {there:?}"))),
            (other, true) => return Err(unsupported(format!("files of the kind {other}"))),
        }
        let found =
            replay.memory.read_file(&dir.join(name)).map_err(|error| failed(format!("{error}")))?;
        same(name, &json::hex(&bytes), &json::hex(&found))?;
    }
    Ok(())
}
