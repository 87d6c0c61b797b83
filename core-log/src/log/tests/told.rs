//! Of a commit without sync a power cut may leave a part: that is said at the next start.
//!
//! The workload and its cuts are those of `power_cut`. Its producer `idle` commits one record and one
//! position without sync: what is torn shows as the record without the position.

use super::power_cut::{Model, keeps, open, operations, pull_plug, read};
use crate::ids::GroupId;
use crate::log::Log;
use crate::storage::memory::MemoryStorage;

/// How many transactions are torn, and how many of them the report names one by one.
fn torn_and_told(log: &Log, model: &Model) -> (usize, u64) {
    let Ok(out) = log.topic("out") else { return (0, 0) };
    let values = read(log, &out, 1).unwrap().0;
    let group = log.committed(&GroupId::new("idle").unwrap()).unwrap();
    let position = group.first().map_or(0, |commit| commit.offset);
    let is_torn = |(value, end): &&(String, i64)| {
        *end > position && values.values().any(|visible| visible == value)
    };
    let torn = model.idle_tried.iter().filter(is_torn).count();
    let report = log.recovery();
    let told = report.unrecorded.iter().map(|commit| {
        let place = (commit.topic.as_str(), commit.partition);
        assert_eq!((place, commit.producer_id), (("out", 1), model.producer_ids[3]), "{report}");
        1 + commit.others
    });
    let told = told.sum();
    // Those that were rolled back have a line of their own.
    if report.rolled_back.is_empty() {
        assert_eq!(torn as u64, told, "{report}");
    }
    (torn, told)
}

#[test]
fn a_power_cut_never_tears_a_commit_without_sync_in_silence() {
    let mut named = 0;
    for cut in (0..=operations()).step_by(2) {
        let (storage, model) = pull_plug(cut, None);
        let told = |image: &MemoryStorage| {
            open(image, None).map_or((0, 0), |log| torn_and_told(&log, &model))
        };
        for keep in keeps(cut) {
            named += told(&storage.crash_image(keep)).1;
        }
        assert_eq!(told(&storage.kill_image()), (0, 0), "killed after operation {cut}");
    }
    assert!(named > 0, "no power cut has torn a commit");
}
