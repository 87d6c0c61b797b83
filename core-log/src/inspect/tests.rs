//! Directories that are whole have no problems; every changed byte of one is noticed, and none is a
//! panic.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::clock::ManualClock;
use crate::config::{Durability, TopicSettings};
use crate::format::{BatchBuilder, Compression, NO_HEADERS};
use crate::owner::LogOptions;
use crate::storage::memory::MemoryStorage;

const KAFKA: &str = include_str!("../../testdata/kafka_partitions.json");

/// Partition directories that Kafka wrote: name, then file names and bytes.
pub(crate) fn of_kafka() -> Vec<(String, BTreeMap<String, Vec<u8>>)> {
    let file: serde_json::Value = serde_json::from_str(KAFKA).unwrap();
    let bytes = |text: &str| match text.strip_prefix("text:") {
        Some(text) => text.as_bytes().to_vec(),
        None => crate::format::hex::from_hex(text),
    };
    let partition = |case: &serde_json::Value| {
        let files = case["files"].as_object().unwrap().iter();
        let files = files.map(|(name, text)| (name.clone(), bytes(text.as_str().unwrap())));
        (case["name"].as_str().unwrap().to_owned(), files.collect())
    };
    file["partitions"].as_array().unwrap().iter().map(partition).collect()
}

/// Puts files into a directory of a storage.
pub(crate) fn put(storage: &MemoryStorage, dir: &Path, files: &BTreeMap<String, Vec<u8>>) {
    storage.create_dir_all(dir).unwrap();
    for (name, bytes) in files {
        storage.create(&dir.join(name)).unwrap().write_all_at(bytes, 0).unwrap();
    }
}

/// Problems, each with the file that it is in, and the rest as text.
fn look(storage: &MemoryStorage, dir: &str) -> (Vec<String>, Vec<String>, Summary) {
    let (mut problems, mut items, mut file) = (Vec::new(), Vec::new(), String::new());
    let summary = directory_on(storage, Path::new(dir), &mut |item| {
        match item {
            Item::File { name, .. } => file = (*name).to_owned(),
            Item::Problem { what, .. } => problems.push(format!("{file}: {what}")),
            _ => {}
        }
        items.push(format!("{item:?}"));
    });
    let summary = summary.unwrap();
    assert_eq!(summary.problems, problems.len() as u64);
    (problems, items, summary)
}

/// A log with sealed segments, all indexes, a transaction that was aborted and one that was not.
fn whole_log() -> MemoryStorage {
    let storage = MemoryStorage::new(1);
    let log = LogOptions::new()
        .storage(Arc::new(storage.clone()))
        .clock(Arc::new(ManualClock::new(1_000_000)))
        .background(false)
        .open("/log")
        .unwrap();
    let small = TopicSettings {
        segment_bytes: 600,
        index_interval_bytes: 64,
        ..TopicSettings::with_partitions(2)
    };
    let topic = log.create_topic("t", small).unwrap();
    let mut producer = log.transactional_producer("id", Durability::Sync).unwrap();
    for n in 0..12 {
        let codec = Compression::ALL[n % 5];
        let mut batch = BatchBuilder::with_compression(codec);
        for value in ["some value", "and some other"] {
            batch.push(1_000_000, Some(b"k"), Some(value.as_bytes()), NO_HEADERS).unwrap();
        }
        let transaction = producer.begin().unwrap();
        transaction.append(&topic, 0, &mut batch).unwrap();
        if n % 3 == 0 {
            transaction.abort().unwrap();
        } else {
            transaction.commit(&[]).unwrap();
        }
    }
    log.delete_records(topic.id(), 0, 5).unwrap();
    log.close().unwrap();
    storage
}

#[test]
fn what_kafka_wrote_has_no_problems() {
    for (name, files) in of_kafka() {
        let storage = MemoryStorage::new(1);
        put(&storage, Path::new("/k"), &files);
        let (problems, items, summary) = look(&storage, "/k");
        assert_eq!(problems, [""; 0], "{name}: {items:#?}");
        assert_eq!(summary.files, files.len() as u64);
        assert!(summary.records >= 4 && summary.batches >= 4, "{name}: {summary:?}");
    }
}

#[test]
fn a_whole_log_has_no_problems_and_shows_all_its_files() {
    let storage = whole_log();
    let (problems, items, summary) = look(&storage, "/log");
    assert_eq!(problems, [""; 0], "{items:#?}");
    assert!(summary.files > 20 && summary.records > 24, "{summary:?}");
    for part in ["Seal {", "Aborted(", "Time {", "Offset {", "Producer {", "commits ", "t partit"] {
        assert!(items.iter().any(|item| item.contains(part)), "{part}: {items:#?}");
    }
    assert!(items.iter().any(|item| item.starts_with("Commit {") && item.contains("snapshot")));
}

#[test]
fn room_that_kafka_set_aside_is_no_problem() {
    for (_, mut files) in of_kafka() {
        for (name, bytes) in &mut files {
            if name.ends_with("index") && !name.ends_with("txnindex") {
                bytes.resize(bytes.len() + 24 * 1000, 0);
            }
        }
        let storage = MemoryStorage::new(1);
        put(&storage, Path::new("/k"), &files);
        let (problems, items, _) = look(&storage, "/k");
        assert_eq!(problems, [""; 0]);
        assert!(items.iter().any(|item| item.contains("is set aside")), "{items:#?}");
    }
}

/// Whether a change of this byte must be noticed. The leader epoch of a batch only has to be a number,
/// and digits of a checksum may be written otherwise.
fn is_covered(path: &Path, bytes: &[u8], at: usize) -> bool {
    match path.extension().and_then(|e| e.to_str()).unwrap_or("") {
        "log" => {
            let mut start = 0;
            while let Ok(batch) = crate::BatchView::parse(&bytes[start..]) {
                if at < start + batch.bytes().len() {
                    break;
                }
                start += batch.bytes().len();
            }
            !(start + 12..start + 16).contains(&at)
        }
        "seal" | "snapshot" => true,
        _ => {
            let is_text = path.file_name().is_some_and(|name| {
                ["meta.properties", "topics.checkpoint", "clean-shutdown", "log-start-offset"]
                    .iter()
                    .any(|covered| name == *covered)
            });
            is_text && at + "crc32c 12345678\n".len() < bytes.len()
        }
    }
}

fn all_files(storage: &MemoryStorage, dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for name in storage.list(dir).unwrap() {
        let path = dir.join(&name);
        if storage.list(&path).is_ok() {
            files.extend(all_files(storage, &path));
        } else {
            files.push(path);
        }
    }
    files
}

#[test]
fn every_changed_byte_is_noticed_and_none_is_a_panic() {
    let whole = whole_log();
    let (mut changed, mut noticed) = (0, 0);
    for path in all_files(&whole, Path::new("/log")) {
        let bytes = whole.read_file(&path).unwrap();
        if path.ends_with("reserve") {
            continue;
        }
        for at in 0..bytes.len() {
            let storage = whole.kill_image();
            let mask = 1 << (at % 8);
            storage.rot(&path, at, mask).unwrap();
            let (problems, ..) = look(&storage, "/log");
            changed += 1;
            if problems.is_empty() {
                let is_covered = is_covered(&path, &bytes, at);
                assert!(!is_covered, "byte {at} of {} is not noticed", path.display());
            } else {
                noticed += 1;
            }
        }
    }
    assert!(noticed > changed * 9 / 10, "{noticed} of {changed}");
}

#[test]
fn every_shortened_or_missing_file_is_a_problem_or_named() {
    let whole = whole_log();
    for path in all_files(&whole, Path::new("/log")) {
        let bytes = whole.read_file(&path).unwrap();
        if bytes.is_empty() || path.ends_with("reserve") {
            continue;
        }
        for len in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            let storage = whole.kill_image();
            storage.open(&path).unwrap().set_len(len as u64).unwrap();
            look(&storage, "/log");
        }
        let storage = whole.kill_image();
        storage.remove_file(&path).unwrap();
        let (problems, ..) = look(&storage, "/log");
        let is_needed = path.extension().is_some_and(|e| e == "log")
            || path.ends_with("meta.properties")
            || path.ends_with("topics.checkpoint");
        assert!(!is_needed || !problems.is_empty(), "{}", path.display());
    }
}

#[test]
fn what_is_neither_a_log_nor_a_partition_is_refused() {
    let storage = MemoryStorage::new(1);
    storage.create_dir_all(Path::new("/x/y")).unwrap();
    let at = |dir: &str| directory_on(&storage, Path::new(dir), &mut |_| ());
    assert!(matches!(at("/x"), Err(Error::NotALog { found, .. }) if found == "y"));
    assert!(matches!(at("/x/y"), Err(Error::DirectoryMissing { .. })));
    assert!(matches!(at("/z"), Err(Error::DirectoryMissing { .. })));
}
