//! What the small examples share: a log of their own, and typed writing.
//!
//! Why not part of `streams`: a user's program has its input already.
//!
//! Invariants
//! * only `target/demo/NAME` below the repository is ever replaced; a directory in STREAMS_LOG must be
//!   empty, or new.

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use core_log::{BatchBuilder, Durability, NO_HEADERS, TopicSettings};
use streams::prelude::{App, Codec, Data, Key, RecordKey, Topic};

/// Partitions of every topic that an example writes.
pub(crate) const PARTITIONS: u32 = 4;
const BATCH_BYTES: usize = 64 << 10;

/// What went wrong in an example, for [`main`] to print.
pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// Without arguments the demo, which says whether its result was right; with arguments the job itself.
pub(crate) fn main(app: App, demo: fn() -> Outcome<bool>) -> ExitCode {
    let outcome = match std::env::args_os().len() {
        0 | 1 => demo(),
        _ => app.main().map(|()| true).map_err(Into::into),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            say(&format!("error: {e}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints one line.
pub(crate) fn say(line: &str) {
    #[expect(clippy::print_stdout, reason = "a demo talks to the person who runs it")]
    {
        println!("{line}");
    }
}

/// The directory of an example's log: the one in STREAMS_LOG, or `target/demo/NAME`.
pub(crate) fn dir_of(name: &str) -> PathBuf {
    match std::env::var_os("STREAMS_LOG") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => own_dirs().join(name),
    }
}

fn own_dirs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/demo")
}

/// A new log, in place of the one that an earlier run left.
pub(crate) fn new_log(dir: &Path) -> Outcome<core_log::Log> {
    let is_missing = |e: &io::Error| e.kind() == io::ErrorKind::NotFound;
    if dir.starts_with(own_dirs()) {
        match fs::remove_dir_all(dir) {
            Err(e) if !is_missing(&e) => return Err(e.into()),
            _ => {}
        }
    } else {
        match fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
            Ok(true) => {}
            Ok(false) => {
                let dir = dir.display();
                return Err(format!("{dir} is not empty: nothing in it was changed").into());
            }
            Err(e) if is_missing(&e) => {}
            Err(e) => return Err(e.into()),
        }
    }
    fs::create_dir_all(dir)?;
    Ok(core_log::LogOptions::new().open(dir)?)
}

/// Creates a topic and writes records with their timestamps; the key chooses the partition.
pub(crate) fn write<K: Key, V: Data, C: Codec<V>>(
    log: &core_log::Log,
    topic: Topic<K, V, C>,
    records: impl IntoIterator<Item = (K, V, i64)>,
) -> Outcome<()> {
    // Times are fixed, so that every run is the same: nothing may expire meanwhile.
    let kept = TopicSettings { partitions: PARTITIONS, retention_ms: None, ..Default::default() };
    let created = log.create_topic(topic.name(), kept)?;
    let mut producer = log.producer(Durability::Os)?;
    let mut batches: Vec<BatchBuilder> = (0..PARTITIONS).map(|_| BatchBuilder::new()).collect();
    for (key, value, timestamp) in records {
        let (mut key_bytes, mut value_bytes) = (Vec::new(), Vec::new());
        RecordKey::encode(&key, &mut key_bytes);
        C::encode(&value, &mut value_bytes)?;
        let partition = core_log::partition_for(&key_bytes, PARTITIONS);
        let batch = &mut batches[usize::try_from(partition)?];
        batch.push(timestamp, Some(&key_bytes), Some(&value_bytes), NO_HEADERS)?;
        if batch.len_bytes() >= BATCH_BYTES {
            producer.append(&created, partition, batch)?;
            batch.clear();
        }
    }
    for (partition, mut batch) in (0..).zip(batches) {
        if !batch.is_empty() {
            producer.append(&created, partition, &mut batch)?;
        }
    }
    Ok(())
}
