//! A replay that is killed, again and again, goes on: it writes what it writes undisturbed, and the live
//! log is as it was.
//!
//! ```text
//!   live job runs, stops        its log is looked at: every batch, every position
//!   replay A                    undisturbed
//!   replay B, killed            after so many clicks; asked for again, killed, ..
//!   B equals A, and the live log what it was
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use core_log::{FetchBound, GroupId, PartitionReader};
use streams::prelude::*;

use crate::child::{Child, Spec, number, say};
use crate::directory::{create, open, read};
use crate::jobs::{Click, Clicks, Job, last_clicks, ponder};
use crate::random::Random;

const KILLS: u64 = 6;
const CLICKS: usize = 40_000;
const PATIENCE: Duration = Duration::from_millis(2);

/// What a child does that is to replay.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReplaySpec {
    pub(crate) name: String,
    pub(crate) from: i64,
    /// Of the clickstream job, in seconds, where it is another one than that of the live job.
    pub(crate) grace: Option<u64>,
}

/// Clicks that the child's job has looked at.
static SEEN: AtomicU64 = AtomicU64::new(0);

/// Takes its time, as `ponder` does, and counts.
pub(crate) fn counted(click: &Click) -> bool {
    SEEN.fetch_add(1, Ordering::Relaxed);
    ponder(click)
}

/// The child's side: says how many clicks it has seen, all the time, and at the end what came of it.
pub(crate) fn replay(app: App, spec: &ReplaySpec) -> streams::Result<()> {
    say("replaying");
    let replay = app.replay(At::Offset(spec.from), At::End).name(&spec.name).compare();
    let (tell, ended) = channel();
    std::thread::spawn(move || tell.send(replay.run()).unwrap());
    let report = loop {
        match ended.recv_timeout(PATIENCE) {
            Ok(report) => break report?,
            Err(_still_running) => say(&format!("seen={}", SEEN.load(Ordering::Relaxed))),
        }
    };
    let differ = u8::from(report.has_differences());
    say(&format!("in={} resumed={} differ={differ}", report.records, u8::from(report.resumed)));
    say(&format!("compared: {:?}", report.compared));
    say("done");
    Ok(())
}

/// Every batch of every topic, and where the job goes on.
fn visible(dir: &Path, job: Job) -> Vec<String> {
    let log = open(dir);
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
    let log = open(dir);
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

/// Lets it go on until it has seen so many clicks.
fn let_see(child: &mut Child, clicks: u64) {
    let seen = child.wait_for(|line| number(line, "seen").is_some_and(|seen| seen >= clicks));
    assert!(seen, "it was over before: {:?}", child.lines);
}

fn killed_and_asked_for_again(job: Job, from: i64) {
    let dir = tempfile::tempdir().unwrap();
    let mut input = Clicks::of_seed(77).more(CLICKS);
    input.extend(last_clicks(&input));
    create(dir.path(), job, &input, true);
    Spec::busy(dir.path(), job, 5).spawn().succeed();
    let before = visible(dir.path(), job);
    let spec = |name: &str| {
        let replay = ReplaySpec { name: name.to_owned(), from, grace: None };
        Spec { replay: Some(replay), ..Spec::busy(dir.path(), job, 2) }
    };
    let scratch = |name: &str| dir.path().join("replay").join(name);
    let undisturbed = spec("whole").spawn().succeed();
    let all = undisturbed.iter().find_map(|line| number(line, "in")).unwrap();
    // All kills together are not enough to come to the end.
    let share = all / (KILLS + 2);
    assert!(undisturbed.iter().any(|line| number(line, "differ") == Some(0)), "{undisturbed:?}");

    let mut random = Random::new(7);
    for _ in 0..KILLS {
        let mut child = spec("killed").spawn();
        let_see(&mut child, share / 2 + random.below(share / 2));
        child.kill();
    }
    let last = spec("killed").spawn().succeed();
    let line = last.iter().find(|line| number(line, "resumed").is_some()).unwrap();
    assert_eq!((number(line, "resumed"), number(line, "differ")), (Some(1), Some(0)), "{last:?}");
    let left = number(line, "in").unwrap();
    assert!(left < all, "{left} of {all}: it began anew");
    assert_eq!(output(&scratch("killed"), job), output(&scratch("whole"), job));
    assert!(visible(dir.path(), job) == before, "the live log has changed");

    let mut child = spec("killed").spawn();
    let_see(&mut child, share);
    child.kill();
    let other = ReplaySpec { name: "killed".to_owned(), from: from + 1, grace: None };
    let other = Spec { replay: Some(other), ..Spec::busy(dir.path(), job, 2) }.spawn().succeed();
    let line = other.iter().find(|line| number(line, "resumed").is_some()).unwrap();
    assert_eq!((number(line, "resumed"), number(line, "differ")), (Some(0), Some(0)), "{other:?}");
}

fn compared(lines: &[String]) -> &String {
    lines.iter().find(|line| line.starts_with("compared: ")).unwrap()
}

/// What it says of late records is counted commit by commit: none is counted twice, and none forgotten.
#[test]
fn a_replay_with_another_grace_killed_at_random_gives_the_reasons_that_it_gives_undisturbed() {
    let dir = tempfile::tempdir().unwrap();
    let mut input = Clicks::of_seed(78).more(CLICKS);
    input.extend(last_clicks(&input));
    create(dir.path(), Job::Clickstream, &input, true);
    Spec::busy(dir.path(), Job::Clickstream, 5).spawn().succeed();
    let spec = |name: &str| {
        let replay = ReplaySpec { name: name.to_owned(), from: 0, grace: Some(0) };
        Spec { replay: Some(replay), ..Spec::busy(dir.path(), Job::Clickstream, 2) }
    };
    let undisturbed = spec("whole").spawn().succeed();
    let all = undisturbed.iter().find_map(|line| number(line, "in")).unwrap();
    let reasons = compared(&undisturbed).matches("late now: grace 0 s").count();
    assert!(reasons > 3, "{undisturbed:?}");
    assert_eq!(compared(&undisturbed).matches("reason: None").count(), 0, "{undisturbed:?}");
    let (share, mut random) = (all / (KILLS + 2), Random::new(9));
    for _ in 0..KILLS {
        let mut child = spec("killed").spawn();
        let_see(&mut child, share / 2 + random.below(share / 2));
        child.kill();
    }
    let last = spec("killed").spawn().succeed();
    assert!(last.iter().any(|line| number(line, "resumed") == Some(1)), "{last:?}");
    assert_eq!(compared(&last), compared(&undisturbed));
}

#[test]
fn a_replay_of_everything_killed_at_random_writes_what_it_writes_undisturbed() {
    killed_and_asked_for_again(Job::TwoHops, 0);
}

#[test]
fn a_replay_from_the_middle_killed_at_random_writes_what_it_writes_undisturbed() {
    killed_and_asked_for_again(Job::Clickstream, 2_500);
}
