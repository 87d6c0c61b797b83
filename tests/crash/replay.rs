//! A replay that is killed, again and again, goes on: it writes what it writes undisturbed, and the live
//! log is as it was.
//!
//! ```text
//!   live job runs, stops        its log is looked at: every batch, every position
//!   replay A                    undisturbed
//!   replay B, killed            after so many bytes of changelogs, and a moment; asked for again, ..
//!   B equals A, and the live log what it was
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use core_log::{FetchBound, GroupId, Log, PartitionReader};
use streams::prelude::*;

use crate::child::{Child, Spec, number, say};
use crate::directory::{create, read};
use crate::jobs::{Clicks, Job, last_clicks};
use crate::random::Random;

const KILLS: u64 = 6;
const CLICKS: usize = 40_000;
const PATIENCE: Duration = Duration::from_millis(2);

/// What a child does that is to replay.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReplaySpec {
    pub(crate) name: String,
    pub(crate) from: i64,
}

/// The child's side.
pub(crate) fn replay(app: App, spec: &ReplaySpec) -> streams::Result<()> {
    say("replaying");
    let replay = app.replay(At::Offset(spec.from), At::End).name(&spec.name);
    let report = replay.compare().run()?;
    let differ = u8::from(report.has_differences());
    say(&format!("in={} resumed={} differ={differ}", report.records, u8::from(report.resumed)));
    say(&format!("compared: {:?}", report.compared));
    say("done");
    Ok(())
}

/// Every batch of every topic, and where the job goes on.
fn visible(dir: &Path, job: Job) -> Vec<String> {
    let log = Log::open(dir).unwrap();
    let mut seen = Vec::new();
    for topic in log.topics().unwrap() {
        for partition in 0..topic.partitions() {
            let offsets = log.offsets(topic.id(), partition).unwrap();
            seen.push(format!("{}-{partition} {offsets:?}", topic.name()));
            let (start, bound) = (offsets.log_start_offset, FetchBound::LogEnd);
            let mut reader = PartitionReader::new(log.clone(), &topic, partition, start, bound);
            while let Some(batch) = reader.next_batch(1 << 20).unwrap() {
                seen.push(format!("{:?}", batch.header()));
            }
        }
    }
    let committed = log.committed(&GroupId::new(job.id()).unwrap()).unwrap();
    seen.push(format!("{committed:?}"));
    log.close().unwrap();
    seen
}

/// By topic and key, what "Equal" compares: a sequence, or the last value where each change is told.
type Output = BTreeMap<(String, Option<Vec<u8>>), Vec<(Option<Vec<u8>>, i64)>>;

fn output(dir: &Path, job: Job) -> Output {
    let log = Log::open(dir).unwrap();
    let mut output = Output::new();
    for &name in job.final_outputs() {
        for record in read(&log, &format!("{name}-replay")) {
            let said = output.entry((name.to_owned(), record.key)).or_default();
            said.push((record.value, record.timestamp));
        }
    }
    for &name in job.updated_outputs() {
        for record in read(&log, &format!("{name}-replay")) {
            // Which change was the last to be told also has its time.
            let last = vec![(record.value, record.timestamp)];
            output.insert((name.to_owned(), record.key), last);
        }
    }
    log.close().unwrap();
    output
}

/// Bytes of changelogs in a scratch log: they only grow.
fn changelog_bytes(dir: &Path) -> u64 {
    let names = |dir: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let is_changelog = |dir: &PathBuf| dir.to_string_lossy().contains("-changelog-");
    let files = names(dir).into_iter().filter(is_changelog).flat_map(|dir| names(&dir));
    let logs = files.filter(|file| file.extension().is_some_and(|e| e == "log"));
    logs.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// Lets it go on until its changelogs have so many bytes; false when it ended before.
fn let_write(child: &mut Child, dir: &Path, bytes: u64) -> bool {
    child.wait_for(|line| line.ends_with("replaying"));
    while changelog_bytes(dir) < bytes {
        child.let_run(PATIENCE);
        if child.lines.iter().any(|line| line == "done") {
            return false;
        }
    }
    true
}

fn killed_and_asked_for_again(job: Job, from: i64) {
    let dir = tempfile::tempdir().unwrap();
    let mut input = Clicks::of_seed(77).more(CLICKS);
    input.extend(last_clicks(&input));
    create(dir.path(), job, &input, true);
    Spec::busy(dir.path(), job, 5).spawn().succeed();
    let before = visible(dir.path(), job);
    let spec = |name: &str| {
        let replay = ReplaySpec { name: name.to_owned(), from };
        Spec { replay: Some(replay), ..Spec::busy(dir.path(), job, 2) }
    };
    let scratch = |name: &str| dir.path().join("replay").join(name);
    let undisturbed = spec("whole").spawn().succeed();
    let all = undisturbed.iter().find_map(|line| number(line, "in")).unwrap();
    let most = changelog_bytes(&scratch("whole"));
    assert!(most > 100_000, "{most}");
    assert!(undisturbed.iter().any(|line| number(line, "differ") == Some(0)), "{undisturbed:?}");

    let mut random = Random::new(7);
    let mut kills = 0;
    let mut begun = 0;
    while kills < KILLS {
        let mut child = spec("killed").spawn();
        // Each run a little further than the one before, and the first ones hardly begun.
        let bytes = begun + random.below(most / (KILLS + 2));
        let in_time = let_write(&mut child, &scratch("killed"), bytes);
        child.let_run(Duration::from_micros(random.below(20_000)));
        child.kill();
        assert!(in_time || !child.is_done(), "it was over after {kills} kills: {:?}", child.lines);
        kills += 1;
        begun = changelog_bytes(&scratch("killed"));
    }
    let last = spec("killed").spawn().succeed();
    let line = last.iter().find(|line| number(line, "resumed").is_some()).unwrap();
    assert_eq!((number(line, "resumed"), number(line, "differ")), (Some(1), Some(0)), "{last:?}");
    let left = number(line, "in").unwrap();
    assert!(left < all, "{left} of {all}: it began anew");
    assert_eq!(output(&scratch("killed"), job), output(&scratch("whole"), job));
    assert!(visible(dir.path(), job) == before, "the live log has changed");

    let mut child = spec("killed").spawn();
    assert!(let_write(&mut child, &scratch("killed"), most / 4), "{:?}", child.lines);
    child.kill();
    let other = ReplaySpec { name: "killed".to_owned(), from: from + 1 };
    let other = Spec { replay: Some(other), ..Spec::busy(dir.path(), job, 2) }.spawn().succeed();
    let line = other.iter().find(|line| number(line, "resumed").is_some()).unwrap();
    assert_eq!((number(line, "resumed"), number(line, "differ")), (Some(0), Some(0)), "{other:?}");
}

#[test]
fn a_replay_of_everything_killed_at_random_writes_what_it_writes_undisturbed() {
    killed_and_asked_for_again(Job::TwoHops, 0);
}

#[test]
fn a_replay_from_the_middle_killed_at_random_writes_what_it_writes_undisturbed() {
    killed_and_asked_for_again(Job::Clickstream, 2_500);
}
