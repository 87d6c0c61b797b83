//! Replays the scenarios that were recorded from Kafka's own log, step by step.
//!
//! Why here: the scenarios name producer ids, epochs, sequences and high watermarks, which the public
//! API settles by itself.
//!
//! Invariants
//! * Every case is replayed or refused by name; the counts are asserted, so none can fall out.
//! * The high watermark is what the scenario says: the layer above decides what is durable.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;

use crate::clock::ManualClock;
use crate::error::Error;
use crate::format::{
    BatchBuilder, ControlType, EndTransactionMarker, NO_HEADERS, RecordBatch, oracle,
};
use crate::ids::{
    Offset, ProducerEpoch, ProducerId, Timestamp, TopicId, TopicName, TopicPartition,
};
use crate::partition::append::{Appended, refusal};
use crate::partition::changes::Changes;
use crate::partition::health::Health;
use crate::partition::open_transactions::{is_aborted, last_stable_offset};
use crate::partition::producer_state::{Claim, Verdict};
use crate::partition::recovery::{OpenRequest, open};
use crate::partition::reserve::Reserve;
use crate::partition::retention::RetentionPolicy;
use crate::partition::{FetchBound, Partition, PartitionOptions, Promise, Shared};
use crate::segment::{Place, SegmentOptions};
use crate::storage::Storage;
use crate::storage::memory::MemoryStorage;

const START_MS: Timestamp = 1_700_000_000_000;
const DIR: &str = "/t-0";

/// Cases of what this log does not have.
const UNSUPPORTED: [(&str, &str); 6] = [
    ("zombie fencing by marker epoch (TV0/TV1)", "markers always carry a raised epoch (KIP-890)"),
    ("coordinator epoch fencing", "there is one coordinator, in the process itself"),
    ("truncation drops transaction and producer state", "only recovery cuts, and no replica asks"),
    ("cleanup.policy compact ignores retention.ms", "no topic is compacted"),
    ("compacted topic rejects records without key", "no topic is compacted"),
    ("LogAppendTime overrides record timestamps", "timestamps are those of the records"),
];

/// Where the answers differ on purpose.
#[derive(Debug, Default, PartialEq, Eq)]
struct Differences {
    /// A start reads the batches of the last segment again and knows up to five of each producer;
    /// Kafka's snapshot knows one. So a late duplicate is answered, and not refused.
    duplicates_known_after_a_start: usize,
    /// Markers promise nothing: what they decide was synced before them, so it is stable as soon as the
    /// marker is there. Kafka waits until the marker is below the high watermark.
    stable_before_the_marker_is_durable: usize,
    /// An append that is refused leaves nothing behind; Kafka begins a new segment before it refuses.
    segments_of_refused_appends: usize,
}

struct Replay<'a> {
    config: &'a Value,
    memory: MemoryStorage,
    clock: Arc<ManualClock>,
    partition: Partition,
    has_started_again: bool,
    /// First offset and marker of each transaction that was ended.
    decided: Vec<(Offset, Offset)>,
    differences: Differences,
}

fn number(value: &Value, name: &str) -> Option<i64> {
    value[name].as_i64().or_else(|| value[name].as_str()?.parse().ok())
}

fn shared(memory: &MemoryStorage, clock: &Arc<ManualClock>) -> Shared {
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    Shared {
        storage: Arc::clone(&storage),
        clock: Arc::<ManualClock>::clone(clock),
        health: Arc::new(Health::default()),
        changes: Arc::new(Changes::default()),
        has_intervals: Arc::default(),
        reserve: Arc::new(Reserve::new(&storage, "/.reserve".into(), 0)),
    }
}

fn options(config: &Value) -> PartitionOptions {
    let bytes = |name: &str, or: u32| number(config, name).map_or(or, |n| n.try_into().unwrap());
    PartitionOptions {
        segment: SegmentOptions {
            segment_bytes: bytes("internal.segment.bytes", 1 << 30),
            segment_ms: number(config, "segment.ms").unwrap_or(i64::MAX),
            index_interval_bytes: bytes("index.interval.bytes", 4_096),
        },
        retention: RetentionPolicy {
            retention_ms: number(config, "retention.ms"),
            retention_bytes: None,
        },
        max_batch_bytes: 1_048_588,
        timestamp_before_max_ms: number(config, "message.timestamp.before.max.ms")
            .unwrap_or(i64::MAX),
        timestamp_after_max_ms: number(config, "message.timestamp.after.max.ms")
            .unwrap_or(i64::MAX),
    }
}

fn start(
    memory: &MemoryStorage,
    clock: &Arc<ManualClock>,
    config: &Value,
    witness: Offset,
) -> Partition {
    let topic = TopicName::new("t").unwrap();
    let request = OpenRequest {
        id: TopicPartition { topic: TopicId([1; 16]), partition: 0 },
        place: Arc::new(Place { dir: DIR.into(), topic, partition: 0 }),
        options: options(config),
        witness,
        may_have_lost: false,
        is_new: true,
    };
    open(&shared(memory, clock), request).unwrap().partition
}

/// The variant that stands for one of Kafka's exceptions.
fn exception(error: &Error) -> &'static str {
    match error {
        Error::OutOfOrderSequence { .. } => "OutOfOrderSequenceException",
        Error::ProducerFenced { .. } => "InvalidProducerEpochException",
        Error::InvalidTxnState { .. } => "InvalidTxnStateException",
        Error::TimestampTooFarAhead { .. } => "RecordValidationException",
        Error::OffsetOutOfRange { .. } => "OffsetOutOfRangeException",
        other => panic!("no exception stands for {other}"),
    }
}

impl<'a> Replay<'a> {
    fn new(config: &'a Value, differences: Differences) -> Self {
        let (memory, clock) = (MemoryStorage::new(1), Arc::new(ManualClock::new(START_MS)));
        let partition = start(&memory, &clock, config, 0);
        Self {
            config,
            memory,
            clock,
            partition,
            has_started_again: false,
            decided: Vec::new(),
            differences,
        }
    }

    fn step(&mut self, op: &Value, at: &str) {
        let p = &self.partition;
        match op["op"].as_str().unwrap() {
            "append" => self.append(op, at),
            "marker" => self.marker(op, at),
            "read" => self.read(op, at),
            "sleep" => {
                self.clock.advance(Duration::from_millis(op["ms"].as_u64().unwrap()));
            }
            "hw" => {}
            "roll" => {
                p.roll(&mut p.writer.lock()).unwrap();
            }
            "expire_producers" => {
                let kept_ms = number(self.config, "producer.id.expiration.ms").unwrap();
                p.expire_producers(self.clock_ms() - kept_ms);
            }
            "delete_old_segments" => {
                p.retain(self.clock_ms()).unwrap();
            }
            "reopen" => self.reopen(op),
            other => panic!("{at}: {other} is not an operation"),
        }
        if let Some(state) = op.get("state") {
            self.compare(state, op["expect"]["error"].is_string(), at);
        }
    }

    fn clock_ms(&self) -> Timestamp {
        crate::Clock::now_ms(self.clock.as_ref())
    }

    fn batch(&self, op: &Value) -> BatchBuilder {
        let mut batch = BatchBuilder::new();
        let mut push = |time: Timestamp, key: Option<&str>, value: Option<&str>| {
            batch.push(time, key.map(str::as_bytes), value.map(str::as_bytes), NO_HEADERS).unwrap();
        };
        match op["records"].as_array() {
            Some(records) => {
                for record in records {
                    let time = number(record, "ts").map_or(self.clock_ms(), |ts| START_MS + ts);
                    push(time, record["k"].as_str(), record["v"].as_str());
                }
            }
            None => {
                for n in 0..op["count"].as_i64().unwrap() {
                    let (key, value) = (format!("k{n}"), format!("v{n}"));
                    push(self.clock_ms(), Some(&key), Some(&value));
                }
            }
        }
        batch
    }

    fn append(&mut self, op: &Value, at: &str) {
        let mut batch = self.batch(op);
        let claim = Claim {
            producer_id: number(op, "pid").map_or(ProducerId::NONE, ProducerId),
            producer_epoch: ProducerEpoch(number(op, "epoch").unwrap_or(-1).try_into().unwrap()),
            first_sequence: number(op, "seq").unwrap_or(-1).try_into().unwrap(),
            record_count: batch.count(),
            is_transactional: op["txn"].as_bool().unwrap_or(false),
        };
        let appended = self.partition.validate(&batch).and_then(|()| {
            let mut writer = self.partition.writer.lock();
            let is_anonymous = claim.producer_id == ProducerId::NONE;
            let verdict =
                if is_anonymous { Verdict::Append } else { writer.producers.check(&claim) };
            match verdict {
                Verdict::Append => {
                    let promise = Promise::Nothing;
                    let written =
                        self.partition.write_batch(&mut writer, &mut batch, &claim, promise);
                    if is_anonymous {
                        writer.producers.forget(ProducerId::NONE);
                    }
                    written
                }
                Verdict::Duplicate { first_offset, last_offset } => {
                    Ok(Appended::Duplicate { first_offset, last_offset })
                }
                refused => Err(refusal(&claim, refused)),
            }
        });
        let expect = &op["expect"];
        match (&appended, expect["error"].as_str()) {
            (Ok(Appended::Duplicate { .. }), Some("OutOfOrderSequenceException"))
                if self.has_started_again =>
            {
                self.differences.duplicates_known_after_a_start += 1;
            }
            (Err(error), expected) => assert_eq!(Some(exception(error)), expected, "{at}"),
            (Ok(appended), _) => {
                let is_duplicate = matches!(appended, Appended::Duplicate { .. });
                let found = (appended.first_offset(), appended.last_offset());
                let expected = ["first_offset", "last_offset"].map(|name| expect[name].as_i64());
                assert_eq!([Some(found.0), Some(found.1)], expected, "{at}");
                assert_eq!(is_duplicate, expect["duplicate"].as_bool().unwrap_or(false), "{at}");
            }
        }
    }

    /// The scenarios end transactions with the epoch that wrote them, as protocols before KIP-890 do;
    /// that is written here without the check that asks for a raised one.
    fn marker(&mut self, op: &Value, at: &str) {
        let is_commit = op["type"] == "commit";
        let marker = EndTransactionMarker {
            control_type: if is_commit { ControlType::Commit } else { ControlType::Abort },
            coordinator_epoch: number(op, "coord_epoch").unwrap().try_into().unwrap(),
        };
        let id = ProducerId(number(op, "pid").unwrap());
        let epoch = ProducerEpoch(number(op, "epoch").unwrap().try_into().unwrap());
        let mut writer = self.partition.writer.lock();
        let open = writer.producers.get(id).and_then(|entry| entry.open);
        let offset = self.partition.write_marker(&mut writer, id, epoch, marker).unwrap();
        assert_eq!(Some(offset), op["expect"]["offset"].as_i64(), "{at}");
        self.decided.extend(open.map(|span| (span.first_offset, offset)));
    }

    fn reopen(&mut self, op: &Value) {
        let end = self.partition.log_end();
        let witness = if op["clean"] == true { end } else { 0 };
        if op["drop_snapshots"] == true {
            let dir = Path::new(DIR);
            let names = self.memory.list(dir).unwrap();
            for name in names.iter().filter(|name| name.ends_with(".snapshot")) {
                self.memory.remove_file(&dir.join(name)).unwrap();
            }
        }
        self.partition.sync_to(end).unwrap();
        self.partition = start(&self.memory, &self.clock, self.config, witness);
        self.has_started_again = true;
        // A start forgets them, in Kafka too.
        self.decided.clear();
    }

    fn read(&self, op: &Value, at: &str) {
        let bound = match op["isolation"].as_str().unwrap() {
            "read_committed" => FetchBound::LastStable,
            "read_uncommitted" => FetchBound::HighWatermark,
            _ => FetchBound::LogEnd,
        };
        let from = number(op, "from").unwrap();
        let max_bytes = number(op, "max_bytes").map_or(1 << 20, |n| usize::try_from(n).unwrap());
        let expect = &op["expect"];
        let mut fetched = match self.partition.fetch(from, max_bytes, bound) {
            Ok(fetched) => fetched,
            Err(error) => {
                return assert_eq!(Some(exception(&error)), expect["error"].as_str(), "{at}");
            }
        };
        let mut found = Vec::new();
        let mut visible = Vec::new();
        while let Some(batch) = RecordBatch::split_from(&mut fetched.batches).unwrap() {
            let header = batch.header();
            let kind = match (header.is_control(), header.is_transactional()) {
                (true, _) => "control",
                (false, true) => "txn",
                (false, false) => "plain",
            };
            let (base, last) = (header.base_offset, header.last_offset());
            found.push(serde_json::json!([base, last, kind, header.producer_id.0]));
            if !header.is_control() && !is_aborted(header, &fetched.aborted) {
                let offsets = batch.records().map(|record| record.unwrap().offset);
                visible.extend(offsets.filter(|offset| *offset >= from));
            }
        }
        if op["min_one"] == false && expect["batches"].as_array().is_some_and(Vec::is_empty) {
            // A fetch always answers one batch, or its reader would be stuck.
            assert!(found.len() <= 1, "{at}");
            return;
        }
        assert_eq!(Value::Array(found), expect["batches"], "{at}");
        if let Some(expected) = expect["visible_offsets"].as_array() {
            let expected: Vec<_> = expected.iter().filter_map(Value::as_i64).collect();
            assert_eq!(visible, expected, "{at}");
        }
        // Kafka may name transactions behind the range that it answers, which change nothing.
        for aborted in &fetched.aborted {
            let entry = serde_json::json!([aborted.producer_id.0, aborted.first_offset]);
            let expected = expect["aborted"].as_array();
            assert!(expected.is_none_or(|list| list.contains(&entry)), "{at}: {entry}");
        }
    }

    fn compare(&mut self, state: &Value, is_refused: bool, at: &str) {
        let p = &self.partition;
        let (hw, lso) = (number(state, "hw").unwrap(), number(state, "lso").unwrap());
        let mut writer = p.writer.lock();
        let stable = last_stable_offset(writer.producers.first_open_offset(), hw);
        let waiting = self.decided.iter().filter(|(_, marker)| *marker >= hw);
        let of_kafka = waiting.map(|(first, _)| *first).fold(stable, Offset::min);
        assert_eq!(of_kafka, lso, "{at}: it would be {stable}");
        if stable != lso {
            self.differences.stable_before_the_marker_is_durable += 1;
        }
        // The layer above says what is durable.
        p.high_watermark.store(hw, Ordering::Release);
        p.last_stable.store(lso, Ordering::Release);
        assert_eq!(Some(p.log_end()), number(state, "leo"), "{at}");
        assert_eq!(Some(p.log_start()), number(state, "log_start"), "{at}");
        let bases = || -> Vec<_> { p.summaries().iter().map(|s| s.base_offset).collect() };
        let expected_bases = state["segments"].as_array().unwrap();
        if is_refused && expected_bases.len() == bases().len() + 1 {
            p.roll(&mut writer).unwrap();
            self.differences.segments_of_refused_appends += 1;
        }
        assert_eq!(&serde_json::json!(bases()), &state["segments"], "{at}");
        let mut expected: BTreeMap<i64, &Value> = BTreeMap::new();
        for producer in state["producers"].as_array().unwrap() {
            expected.insert(number(producer, "pid").unwrap(), producer);
        }
        assert_eq!(writer.producers.iter().count(), expected.len(), "{at}");
        for (id, entry) in writer.producers.iter() {
            let expected = expected[&id.0];
            assert_eq!(Some(entry.producer_epoch.0.into()), number(expected, "epoch"), "{at} {id}");
            let coordinator = Some(entry.coordinator_epoch.into());
            assert_eq!(coordinator, number(expected, "coord_epoch"), "{at} {id}");
            let open = entry.open.map(|span| span.first_offset);
            assert_eq!(open, number(expected, "txn_first_offset"), "{at} {id}");
            let batches: Vec<Value> = entry
                .batches
                .iter()
                .map(|b| {
                    let sequences = (b.first_sequence, b.last_sequence);
                    serde_json::json!([sequences.0, sequences.1, b.first_offset, b.last_offset])
                })
                .collect();
            let known = expected["batches"].as_array().unwrap();
            let is_known =
                if self.has_started_again { batches.ends_with(known) } else { batches == *known };
            assert!(is_known, "{at} {id}: {batches:?}, not {known:?}");
        }
    }
}

#[test]
fn scenarios_recorded_from_kafka_have_the_same_answers() {
    let file = oracle::load("log_scenarios.json");
    let (mut replayed, mut steps, mut refused) = (0, 0, 0);
    let mut differences = Differences::default();
    for case in file["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        if UNSUPPORTED.iter().any(|(unsupported, _)| *unsupported == name) {
            refused += 1;
            continue;
        }
        let mut replay = Replay::new(&case["config"], differences);
        for (index, op) in case["ops"].as_array().unwrap().iter().enumerate() {
            replay.step(op, &format!("{name}, step {index}"));
            steps += 1;
        }
        differences = replay.differences;
        replayed += 1;
    }
    assert_eq!((replayed, refused), (25, UNSUPPORTED.len()));
    assert_eq!(steps, 714);
    let expected = Differences {
        duplicates_known_after_a_start: 1,
        stable_before_the_marker_is_durable: 104,
        segments_of_refused_appends: 4,
    };
    assert_eq!(differences, expected);
}
