//! Passes of compaction: what may be cleaned, where the pass ends, and every batch that is left.
//!
//! Invariants
//! * The high watermark is raised to the log end first, as the recording did.
//! * Every field that a batch is recorded with is compared, and no batch may be left out or added.

use core_log::format::{ControlType, EndTransactionMarker};
use core_log::{BatchView, FetchBound, Offset};
use serde_json::{Value, json};

use super::rules::stopped;
use super::{Replay, START_MS};
use crate::json;
use crate::report::{Outcome, failed, same};

pub(super) fn clean(replay: &mut Replay<'_>, op: &Value) -> Outcome {
    let expect = &op["expect"];
    let end = replay.layer.offsets().log_end_offset;
    replay.raise(end);
    let pass = replay.layer.compact(replay.now()).map_err(stopped)?;
    let first_dirty = pass.first_dirty_after.unwrap_or(pass.clean_from);
    let found = json!({
        "clean_from": pass.clean_from,
        "uncleanable_from": pass.uncleanable_from,
        "cleanable_bytes": pass.cleanable_bytes,
        "total_bytes": pass.total_bytes,
        "first_dirty_offset_after": first_dirty,
    });
    for (name, value) in found.as_object().into_iter().flatten() {
        same(name, &expect[name], value)?;
    }
    let skipped = expect["skipped_nothing_dirty"] == true;
    same("nothing dirty", &skipped, &(pass.clean_from >= pass.uncleanable_from))?;
    let left = left(replay, end)?;
    let expected = json::list(expect, "batches")?;
    for (expected, found) in expected.iter().zip(&left) {
        same("batch", expected, found)?;
    }
    same("number of batches", &expected.len(), &left.len())
}

/// Every batch of the log.
fn left(replay: &Replay<'_>, end: Offset) -> Outcome<Vec<Value>> {
    let segments = replay.layer.segments();
    let mut left = Vec::new();
    let mut offset = replay.layer.offsets().log_start_offset;
    while offset < end {
        let fetched = replay.layer.fetch(offset, 1 << 20, FetchBound::LogEnd).map_err(stopped)?;
        if fetched.batches.is_empty() {
            break;
        }
        let mut rest = &fetched.batches[..];
        while !rest.is_empty() {
            let batch = BatchView::parse(rest).map_err(|error| failed(error.to_string()))?;
            batch.verify_crc().map_err(|error| failed(error.to_string()))?;
            left.push(describe(&batch, &segments)?);
            offset = batch.header().next_offset();
            rest = &rest[batch.bytes().len()..];
        }
    }
    Ok(left)
}

fn describe(batch: &BatchView<'_>, segments: &[Offset]) -> Outcome<Value> {
    let header = batch.header();
    let mut found = json!({
        "segment": segments.iter().rfind(|base| **base <= header.base_offset),
        "base": header.base_offset,
        "last": header.last_offset(),
    });
    let mut records = Vec::new();
    for record in batch.records() {
        let record = record.map_err(|error| failed(error.to_string()))?;
        if header.is_control() {
            let marker = EndTransactionMarker::from_record(&record);
            let name = match marker.map(|marker| marker.control_type) {
                Ok(ControlType::Commit) => "COMMIT",
                Ok(ControlType::Abort) => "ABORT",
                Err(error) => return Err(failed(error.to_string())),
            };
            records.push(json!([record.offset, name]));
        } else {
            let text =
                |bytes: Option<&[u8]>| bytes.map(|b| String::from_utf8_lossy(b).into_owned());
            records.push(json!([record.offset, text(record.key), text(record.value)]));
        }
    }
    found["records"] = Value::Array(records);
    if header.has_producer_id() {
        found["pid"] = json!(header.producer_id.0);
        found["base_seq"] = json!(header.base_sequence);
        found["last_seq"] = json!(header.last_sequence());
    }
    if header.is_control() {
        found["control"] = json!(true);
    }
    if let Some(horizon) = header.delete_horizon() {
        found["delete_horizon_ms"] = json!(horizon - START_MS);
    }
    Ok(found)
}
