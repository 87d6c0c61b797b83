//! Scenarios that were recorded from Kafka's own log, replayed on the partition layer step by step.
//!
//! ```text
//!   log-scenario/1   operations, what each answers, and the state of the log behind it
//!   log-files/1      operations, and the bytes of the directory after a clean close
//!   log-compaction/1 operations with passes of compaction, and what each leaves
//! ```
//!
//! Why the partition layer: the scenarios name producer ids, epochs, sequences and high watermarks,
//! which the public API settles by itself.
//!
//! Invariants
//! * The high watermark is what the scenario says: the layer above decides what is durable.
//! * What differs on purpose is a [`Difference`] with its rule; the rule holds for any case.

mod compaction;
mod files;
mod rules;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use core_log::conformance::{BatchClaim, KnownProducer, MarkerOutcome, MarkerRule, PartitionLayer};
use core_log::format::{ControlType, EndTransactionMarker};
use core_log::storage::Storage;
use core_log::storage::memory::MemoryStorage;
use core_log::{
    Appended, BatchBuilder, Clock, FetchBound, ManualClock, NO_HEADERS, Offset, ProducerEpoch,
    ProducerId, RecordBatch, Timestamp,
};
use serde_json::{Value, json};

use self::rules::{Difference, check_config, options, refused, stopped};
use crate::json;
use crate::report::{Outcome, Stop, failed, same, unsupported};

const START_MS: Timestamp = 1_700_000_000_000;
const DIR: &str = "/t-0";
/// No scenario needs more; a number from outside sizes nothing.
const RECORDS_MAX: i64 = 100_000;

struct Replay<'a> {
    config: &'a Value,
    memory: MemoryStorage,
    clock: Arc<ManualClock>,
    layer: PartitionLayer,
    has_started_again: bool,
    /// First offset and marker of each transaction that was ended since the last start.
    decided: Vec<(Offset, Offset)>,
    differences: BTreeSet<Difference>,
}

/// One case of log-scenario/1.
pub(crate) fn scenario(case: &Value) -> Outcome {
    replay(case)?.finish()
}

/// One case of log-files/1.
pub(crate) fn directory(case: &Value) -> Outcome {
    let replay = replay(case)?;
    replay.layer.close().map_err(stopped)?;
    files::compare(&replay, Path::new(DIR), &case["files_after_close"])?;
    replay.finish()
}

fn replay(case: &Value) -> Outcome<Replay<'_>> {
    check_config(&case["config"])?;
    let mut replay = Replay::new(&case["config"])?;
    for (index, op) in json::list(case, "ops")?.iter().enumerate() {
        let name = op["op"].as_str().unwrap_or("?");
        replay.step(op).map_err(|stop| match stop {
            Stop::Failed(reason) => failed(format!("step {index} ({name}): {reason}")),
            other => other,
        })?;
    }
    Ok(replay)
}

impl<'a> Replay<'a> {
    fn new(config: &'a Value) -> Outcome<Self> {
        let (memory, clock) = (MemoryStorage::new(1), Arc::new(ManualClock::new(START_MS)));
        let layer = open(&memory, &clock, config, 0)?;
        Ok(Self {
            config,
            memory,
            clock,
            layer,
            has_started_again: false,
            decided: Vec::new(),
            differences: BTreeSet::new(),
        })
    }

    fn finish(self) -> Outcome {
        if self.differences.is_empty() {
            return Ok(());
        }
        let reasons: Vec<_> = self.differences.iter().map(|d| d.reason()).collect();
        Err(Stop::Differs(reasons.join("; ")))
    }

    fn truncate(&mut self, op: &Value) -> Outcome {
        let to = json::number(op, "to")?;
        let high_watermark = self.layer.offsets().high_watermark.min(to);
        self.layer.truncate(to).map_err(stopped)?;
        self.decided.retain(|(_, marker)| *marker < to);
        self.raise(high_watermark);
        Ok(())
    }

    fn step(&mut self, op: &Value) -> Outcome {
        match json::text(op, "op")? {
            "append" => self.append(op)?,
            "marker" => self.marker(op)?,
            "read" => self.read(op)?,
            "sleep" => {
                let ms: u32 = json::narrow(op, "ms")?;
                self.clock.advance(Duration::from_millis(ms.into()));
            }
            "hw" => {
                let end = self.layer.offsets().log_end_offset;
                let to = json::optional_number(op, "to").unwrap_or(end);
                self.raise(to);
            }
            "roll" => self.layer.roll().map_err(stopped)?,
            "expire_producers" => {
                let kept_ms = json::optional_number(self.config, "producer.id.expiration.ms");
                self.layer.expire_producers(self.now() - kept_ms.unwrap_or(86_400_000));
            }
            "delete_records" => self.delete_records(op)?,
            "delete_old_segments" => self.delete_old_segments(op)?,
            "offset_for_timestamp" => self.offset_for_timestamp(op)?,
            "reopen" => self.reopen(op)?,
            "clean" => compaction::clean(self, op)?,
            "truncate" => self.truncate(op)?,
            other => return Err(unsupported(format!("operation {other}"))),
        }
        match op.get("state") {
            Some(state) => self.compare(state, op["expect"]["error"].is_string()),
            None => Ok(()),
        }
    }

    fn now(&self) -> Timestamp {
        self.clock.now_ms()
    }

    fn batch(&self, op: &Value) -> Outcome<BatchBuilder> {
        let mut batch = BatchBuilder::new();
        let mut push = |time: Timestamp, key: Option<&str>, value: Option<&str>| {
            let (key, value) = (key.map(str::as_bytes), value.map(str::as_bytes));
            batch.push(time, key, value, NO_HEADERS).map_err(|error| failed(format!("{error}")))
        };
        if let Some(records) = op["records"].as_array() {
            for record in records {
                let unknown = |name: &&String| !["k", "v", "ts"].contains(&name.as_str());
                if let Some(name) = record.as_object().and_then(|map| map.keys().find(unknown)) {
                    return Err(unsupported(format!("records with `{name}`")));
                }
                let time = json::optional_number(record, "ts").map_or(self.now(), |t| START_MS + t);
                push(time, record["k"].as_str(), record["v"].as_str())?;
            }
        } else {
            for n in 0..json::number(op, "count")?.min(RECORDS_MAX) {
                push(self.now(), Some(&format!("k{n}")), Some(&format!("v{n}")))?;
            }
        }
        Ok(batch)
    }

    fn append(&mut self, op: &Value) -> Outcome {
        if let Some(epoch) = json::optional_number(op, "leader_epoch") {
            let epoch = i32::try_from(epoch).map_err(|_bad| unsupported("such a leader epoch"))?;
            self.layer.set_leader_epoch(epoch).map_err(stopped)?;
        }
        let mut batch = self.batch(op)?;
        let claim = BatchClaim {
            producer_id: json::optional_number(op, "pid").map_or(ProducerId::NONE, ProducerId),
            producer_epoch: ProducerEpoch(json::optional_narrow(op, "epoch", -1)?),
            first_sequence: json::optional_narrow(op, "seq", -1)?,
            is_transactional: op["txn"].as_bool().unwrap_or(false),
        };
        let expect = &op["expect"];
        match self.layer.append(&mut batch, &claim) {
            Ok(Appended::Duplicate { .. })
                if self.has_started_again && expect["error"] == "OutOfOrderSequenceException" =>
            {
                self.differences.insert(Difference::DuplicatesKnownAfterAStart);
                Ok(())
            }
            Err(error) => refused(&error, expect),
            Ok(appended) => {
                let is_duplicate = matches!(appended, Appended::Duplicate { .. });
                let mut found = json!({
                    "first_offset": appended.first_offset(),
                    "last_offset": appended.last_offset(),
                });
                if is_duplicate {
                    found["duplicate"] = json!(true);
                }
                same("appended", expect, &found)
            }
        }
    }

    fn marker(&mut self, op: &Value) -> Outcome {
        let control_type = match json::text(op, "type")? {
            "commit" => ControlType::Commit,
            "abort" => ControlType::Abort,
            other => return Err(unsupported(format!("marker {other}"))),
        };
        let marker = EndTransactionMarker {
            control_type,
            coordinator_epoch: json::narrow(op, "coord_epoch")?,
        };
        let id = ProducerId(json::number(op, "pid")?);
        let epoch = ProducerEpoch(json::narrow(op, "epoch")?);
        let rule = match json::optional_number(op, "tv") {
            Some(2) => MarkerRule::Raised,
            _ => MarkerRule::Current,
        };
        let open = self.known(id).and_then(|producer| producer.open_from);
        match self.layer.write_marker(id, epoch, marker, rule) {
            Ok(MarkerOutcome::CoordinatorFenced { .. }) => {
                let expected = op["expect"]["error"].as_str();
                same("refused", &expected, &Some("TransactionCoordinatorFencedException"))
            }
            Ok(MarkerOutcome::At(offset)) => {
                same("marker", &op["expect"]["offset"].as_i64(), &Some(offset))?;
                self.decided.extend(open.map(|first| (first, offset)));
                Ok(())
            }
            Err(error) => refused(&error, &op["expect"]),
        }
    }

    fn known(&self, id: ProducerId) -> Option<KnownProducer> {
        self.layer.producers().into_iter().find(|producer| producer.producer_id == id)
    }

    fn raise(&self, high_watermark: Offset) {
        let stable = self.stable_of_kafka(high_watermark);
        self.layer.set_readable(high_watermark, stable);
    }

    /// Kafka's last stable offset: a transaction is decided once its marker is durable.
    fn stable_of_kafka(&self, high_watermark: Offset) -> Offset {
        let waiting = self.decided.iter().filter(|(_, marker)| *marker >= high_watermark);
        let stable = self.layer.stable_below(high_watermark);
        waiting.map(|(first, _)| *first).fold(stable, Offset::min)
    }

    fn delete_records(&mut self, op: &Value) -> Outcome {
        match self.layer.delete_records(json::number(op, "before")?) {
            Ok(_) => same("refused", &None, &op["expect"]["error"].as_str()),
            Err(error) => refused(&error, &op["expect"]),
        }
    }

    fn delete_old_segments(&mut self, op: &Value) -> Outcome {
        let before = self.layer.segments();
        self.layer.retain(self.now()).map_err(stopped)?;
        let after = self.layer.segments();
        let deleted = before.iter().filter(|base| !after.contains(base)).count();
        match op["expect"]["deleted"].as_u64() {
            Some(expected) => same("deleted", &expected.to_string(), &deleted.to_string()),
            None => Ok(()),
        }
    }

    fn offset_for_timestamp(&mut self, op: &Value) -> Outcome {
        let (ts, offsets) = (json::number(op, "ts")?, self.layer.offsets());
        let expected = (op["expect"]["offset"].as_i64(), op["expect"]["ts"].as_i64());
        match ts {
            -1 => return same("offset", &expected.0, &Some(offsets.log_end_offset)),
            -2 => return same("offset", &expected.0, &Some(offsets.log_start_offset)),
            _ => {}
        }
        let found = |layer: &PartitionLayer| -> Outcome<_> {
            let found = match ts {
                -3 => layer.offset_of_largest_time(),
                _ => layer.offset_for_time(START_MS + ts),
            };
            let found = found.map_err(stopped)?;
            Ok((found.map(|(offset, _)| offset), found.map(|(_, time)| time - START_MS)))
        };
        let durable = found(&self.layer)?;
        self.layer.set_readable(offsets.log_end_offset, offsets.last_stable_offset);
        let all = found(&self.layer)?;
        self.layer.set_readable(offsets.high_watermark, offsets.last_stable_offset);
        same("offset and time", &expected, &all)?;
        if durable != all {
            self.differences.insert(Difference::LookupBelowTheHighWatermark);
        }
        Ok(())
    }

    fn reopen(&mut self, op: &Value) -> Outcome {
        let end = self.layer.offsets().log_end_offset;
        let is_clean = op["clean"] == true;
        let closed = if is_clean { self.layer.close() } else { self.layer.sync() };
        closed.map_err(stopped)?;
        if op["drop_snapshots"] == true {
            let names = self.memory.list(self.layer.dir()).map_err(|e| failed(format!("{e}")))?;
            for name in names.iter().filter(|name| name.ends_with(".snapshot")) {
                let removed = self.memory.remove_file(&self.layer.dir().join(name));
                removed.map_err(|e| failed(format!("{e}")))?;
            }
        }
        self.layer = open(&self.memory, &self.clock, self.config, if is_clean { end } else { 0 })?;
        self.has_started_again = true;
        // A start forgets them, in Kafka too.
        self.decided.clear();
        if op.get("state").is_none() {
            self.raise(end);
        }
        Ok(())
    }

    fn read(&mut self, op: &Value) -> Outcome {
        let bound = match json::text(op, "isolation")? {
            "read_committed" => FetchBound::LastStable,
            "read_uncommitted" => FetchBound::HighWatermark,
            "log_end" => FetchBound::LogEnd,
            other => return Err(unsupported(format!("isolation {other}"))),
        };
        let from = json::number(op, "from")?;
        let max_bytes = match json::optional_number(op, "max_bytes") {
            Some(bytes) => usize::try_from(bytes).unwrap_or(0).min(64 << 20),
            None => 1 << 20,
        };
        let expect = &op["expect"];
        let mut fetched = match self.layer.fetch(from, max_bytes, bound) {
            Ok(fetched) => fetched,
            Err(error) => return refused(&error, expect),
        };
        let (mut found, mut visible) = (Vec::new(), Vec::new());
        let mut aborted = fetched.aborted.clone();
        while let Some(batch) =
            RecordBatch::split_from(&mut fetched.batches).map_err(|e| failed(format!("{e}")))?
        {
            let header = batch.header();
            let kind = match (header.is_control(), header.is_transactional()) {
                (true, _) => "control",
                (false, true) => "txn",
                (false, false) => "plain",
            };
            let (base, last) = (header.base_offset, header.last_offset());
            found.push(json!([base, last, kind, header.producer_id.0]));
            let is_aborted = header.is_transactional()
                && aborted.iter().any(|entry| {
                    entry.producer_id == header.producer_id
                        && (entry.first_offset..=entry.last_offset).contains(&base)
                });
            if !header.is_control() && !is_aborted {
                visible.extend((base..=last).filter(|offset| *offset >= from));
            }
        }
        if op["min_one"] == false && expect["batches"] == json!([]) {
            if !found.is_empty() {
                self.differences.insert(Difference::OneBatchAtLeast);
            }
            return Ok(());
        }
        same("batches", &expect["batches"], &Value::Array(found))?;
        if !expect["visible_offsets"].is_null() {
            same("visible offsets", &expect["visible_offsets"], &json!(visible))?;
        }
        let Some(expected) = expect["aborted"].as_array() else { return Ok(()) };
        aborted.sort_by_key(|entry| entry.first_offset);
        for entry in &aborted {
            let entry = json!([entry.producer_id.0, entry.first_offset]);
            if !expected.contains(&entry) {
                return Err(failed(format!("aborted: {entry} is not in {}", expect["aborted"])));
            }
        }
        if expected.len() > aborted.len() {
            self.differences.insert(Difference::AbortedBehindTheRange);
        }
        Ok(())
    }

    fn compare(&mut self, state: &Value, is_refused: bool) -> Outcome {
        let (hw, lso) = (json::number(state, "hw")?, json::number(state, "lso")?);
        same("last stable offset", &lso, &self.stable_of_kafka(hw))?;
        if self.layer.stable_below(hw) != lso {
            self.differences.insert(Difference::StableBeforeTheMarkerIsDurable);
        }
        self.layer.set_readable(hw, lso);
        let offsets = self.layer.offsets();
        same("log end", &json::number(state, "leo")?, &offsets.log_end_offset)?;
        same("log start", &json::number(state, "log_start")?, &offsets.log_start_offset)?;
        let expected_segments = json::list(state, "segments")?;
        if is_refused && expected_segments.len() == self.layer.segments().len() + 1 {
            self.layer.roll().map_err(stopped)?;
            self.differences.insert(Difference::SegmentsOfRefusedAppends);
        }
        same("segments", &state["segments"], &json!(self.layer.segments()))?;
        self.compare_producers(json::list(state, "producers")?)
    }

    fn compare_producers(&mut self, expected: &[Value]) -> Outcome {
        let producers = self.layer.producers();
        let ids = |ids: &mut dyn Iterator<Item = Option<i64>>| ids.collect::<BTreeSet<_>>();
        same(
            "producers",
            &ids(&mut expected.iter().map(|e| e["pid"].as_i64())),
            &ids(&mut producers.iter().map(|p| Some(p.producer_id.0))),
        )?;
        for found in producers {
            let id = found.producer_id.0;
            let Some(expected) = expected.iter().find(|e| e["pid"] == id) else { continue };
            let what = |part: &str| format!("{part} of producer {id}");
            let epoch = found.producer_epoch.0.into();
            same(&what("epoch"), &json::number(expected, "epoch")?, &epoch)?;
            let coordinator = found.coordinator_epoch.into();
            same(
                &what("coordinator epoch"),
                &json::number(expected, "coord_epoch")?,
                &coordinator,
            )?;
            let open = json::optional_number(expected, "txn_first_offset");
            same(&what("open transaction"), &open, &found.open_from)?;
            let known = json::list(expected, "batches")?;
            let batches: Vec<Value> = found.batches.iter().map(|batch| json!(batch)).collect();
            if self.has_started_again && batches.len() > known.len() && batches.ends_with(known) {
                self.differences.insert(Difference::DuplicatesKnownAfterAStart);
            } else {
                same(&what("batches"), &known.to_vec(), &batches)?;
            }
        }
        Ok(())
    }
}

fn open(
    memory: &MemoryStorage,
    clock: &Arc<ManualClock>,
    config: &Value,
    witness: Offset,
) -> Outcome<PartitionLayer> {
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let clock = Arc::<ManualClock>::clone(clock);
    PartitionLayer::open(&storage, clock, Path::new(DIR), &options(config)?, witness)
        .map_err(stopped)
}
