//! Jobs that run again over a stretch: what they write, what is compared, and what stays as it was.

use std::collections::BTreeMap;
use std::path::Path;

use core_log::{
    BatchBuilder, Durability, FetchBound, GroupId, NO_HEADERS, PartitionReader, TopicSettings,
};
use streams::prelude::*;
use streams::{Comparison, Difference};

use crate::jobs::{CLICKS, COUNTS, Click, MINUTE, clicks, clickstream, two_hops};

const LOG_TIME_MS: i64 = 1_700_000_000_000;
const PARTITIONS: u32 = 4;

pub(crate) fn write(dir: &Path, input: &[(u32, Click)]) {
    let log = core_log::Log::open(dir).unwrap();
    let topic = match log.topic("clicks") {
        Ok(topic) => topic,
        Err(_) => log.create_topic("clicks", TopicSettings::with_partitions(PARTITIONS)).unwrap(),
    };
    let mut producer = log.producer(Durability::Os).unwrap();
    for (partition, click) in input {
        let mut batch = BatchBuilder::new();
        let value = serde_json::to_vec(click).unwrap();
        let time = LOG_TIME_MS + click.at / 1_000;
        batch.push(time, None, Some(&value), NO_HEADERS).unwrap();
        producer.append(&topic, *partition, &mut batch).unwrap();
    }
    log.close().unwrap();
}

pub(crate) fn app(dir: &Path, topology: fn(&mut Topology)) -> App {
    App::new("job", topology).log(dir).commit_every(millis(20))
}

pub(crate) fn run(dir: &Path, topology: fn(&mut Topology)) {
    let handle = app(dir, topology).start().unwrap();
    wait_until_idle(&handle);
    handle.stop();
    handle.wait().unwrap();
}

pub(crate) fn wait_until_idle(handle: &Handle) {
    while !handle.is_idle_for(millis(100)) {
        assert!(!handle.wait_timeout(millis(5)), "the job ended by itself");
    }
}

/// A directory on which the job has run over some clicks.
fn directory(topology: fn(&mut Topology), each: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &clicks(5, PARTITIONS, each, 5_000));
    run(dir.path(), topology);
    dir
}

/// Counts of the only topic that was compared, and its differences.
pub(crate) fn counted(report: &Report) -> ([u64; 4], &[Difference]) {
    let [compared] = &report.compared[..] else { panic!("{report:?}") };
    match &compared.comparison {
        Comparison::Counted { same, differ, only_then, only_now, differences } => {
            ([*same, *differ, *only_then, *only_now], differences)
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) fn results(dir: &Path, name: &'static str) -> BTreeMap<(String, i64), u64> {
    let topic: Topic<Windowed<String>, u64> = topic(name);
    let mut results = BTreeMap::new();
    for record in Log::open(dir).unwrap().read(topic) {
        let record = record.unwrap();
        let key = record.key.unwrap();
        let twice = results.insert((key.key, key.start), record.value.unwrap());
        assert!(twice.is_none(), "a window closed twice");
    }
    results
}

/// All that a user can see of a log: records with their offsets, ends, positions.
fn visible(dir: &Path, group: &str) -> Vec<String> {
    let log = core_log::Log::open(dir).unwrap();
    let mut seen = Vec::new();
    for topic in log.topics().unwrap() {
        for partition in 0..topic.partitions() {
            let offsets = log.offsets(topic.id(), partition).unwrap();
            seen.push(format!("{}-{partition} {offsets:?}", topic.name()));
            let bound = FetchBound::LogEnd;
            let mut reader = PartitionReader::new(log.clone(), &topic, partition, 0, bound);
            reader.seek(offsets.log_start_offset);
            while let Some(batch) = reader.next_batch(1 << 20).unwrap() {
                seen.push(format!("{:?}", batch.bytes()));
            }
        }
    }
    let group = GroupId::new(group).unwrap();
    seen.push(format!("{:?}", log.committed(&group).unwrap()));
    log.close().unwrap();
    seen
}

#[test]
fn all_of_it_again_is_the_same_and_the_live_log_stays_as_it_was() {
    let dir = directory(clickstream, 300);
    let before = visible(dir.path(), "job");
    let report = app(dir.path(), clickstream).replay(At::Start, At::End).compare().run().unwrap();
    assert_eq!((report.records, report.resumed), (1_200, false));
    assert_eq!(report.topics, ["page-counts-replay"]);
    assert_eq!(report.dir, dir.path().join("replay/job"));
    assert_eq!(visible(dir.path(), "job"), before);
    let live = results(dir.path(), "page-counts");
    assert!(live.len() > 20);
    assert_eq!(results(&report.dir, "page-counts-replay"), live);
    assert_eq!(counted(&report), ([live.len() as u64, 0, 0, 0], &[][..]));
    assert!(!report.has_differences());
    // The live job goes on where it was.
    run(dir.path(), clickstream);
    assert_eq!(results(dir.path(), "page-counts"), live);
}

/// Wherever the stretch lies, what is compared does not depend on what lies outside.
#[test]
fn the_same_job_has_no_differences_wherever_its_stretch_begins_and_ends() {
    for topology in [clickstream as fn(&mut Topology), two_hops] {
        let dir = directory(topology, 300);
        let mut windows = Vec::new();
        for (from, until) in [(0, 300), (0, 120), (17, 290), (150, 300), (200, 210)] {
            let replay = app(dir.path(), topology).replay(At::Offset(from), At::Offset(until));
            let report = replay.compare().run().unwrap();
            assert_eq!(report.records, u64::try_from(until - from).unwrap() * 4);
            let ([same, rest @ ..], differences) = counted(&report);
            assert_eq!((rest, differences), ([0, 0, 0], &[][..]), "{from}..{until}");
            windows.push(same);
        }
        assert!(windows[0] > windows[1] && windows[1] > 0, "{windows:?}");
        assert!(windows[2..4].iter().all(|&same| same > 0), "{windows:?}");
    }
}

fn without_bots_or_u1(t: &mut Topology) {
    t.stream(CLICKS)
        .event_time(|c| c.at)
        .filter(|c| !c.user.starts_with("bot-") && (c.user != "u1" || c.page != "/2"))
        .key_by(|c| c.page.clone())
        .window(tumbling(mins(1)).grace(secs(10)))
        .count("clicks-per-page")
        .on_close()
        .to(COUNTS);
}

#[test]
fn a_changed_job_differs_where_the_change_shows() {
    let dir = directory(clickstream, 300);
    let replay = app(dir.path(), without_bots_or_u1).replay(At::Offset(40), At::End);
    let report = replay.compare().run().unwrap();
    let ([same, differ, only_then, only_now], differences) = counted(&report);
    assert!(report.has_differences() && same > 0 && differ > 0, "{report:?}");
    assert_eq!((only_then, only_now), (0, 0));
    assert_eq!(differences.len() as u64, differ);
    let live = results(dir.path(), "page-counts");
    let now = results(&report.dir, "page-counts-replay");
    for difference in differences {
        let (start, end) = difference.window.unwrap();
        assert_eq!((&*difference.key, end - start), ("/2", MINUTE));
        let key = (difference.key.clone(), start);
        let (then, now) = (live[&key].to_string(), now[&key].to_string());
        assert_eq!((difference.then.clone(), difference.now.clone()), (Some(then), Some(now)));
    }
}

#[test]
fn a_replay_reads_beside_the_job_that_owns_the_log() {
    let dir = directory(clickstream, 200);
    let handle = app(dir.path(), clickstream).start().unwrap();
    wait_until_idle(&handle);
    let report = app(dir.path(), clickstream).replay(At::Start, At::End).compare().run().unwrap();
    let ([same, rest @ ..], _) = counted(&report);
    assert_eq!((report.records, rest), (800, [0, 0, 0]));
    assert!(same > 10);
    handle.stop();
    assert_eq!(handle.wait().unwrap().records_in, 0, "nothing came back to the live job");
}

#[test]
fn a_finished_replay_starts_over_and_names_keep_replays_apart() {
    let dir = directory(clickstream, 200);
    let first = app(dir.path(), clickstream).replay(At::Start, At::End).run().unwrap();
    let live = results(dir.path(), "page-counts");
    let other = app(dir.path(), clickstream).replay(At::Start, At::Offset(50)).name("short");
    let other = other.into_topics_with_suffix(".again").run().unwrap();
    assert_eq!(other.dir, dir.path().join("replay/short"));
    assert!(results(&other.dir, "page-counts.again").len() < live.len());
    assert_eq!(results(&first.dir, "page-counts-replay"), live);
    let again = app(dir.path(), clickstream).replay(At::Start, At::End).run().unwrap();
    assert_eq!((again.records, again.resumed), (800, false));
    assert_eq!(results(&again.dir, "page-counts-replay"), live, "and nothing of the first is left");
}

fn large(t: &mut Topology) {
    let big: Topic<NoKey, Click> = topic("big");
    let totals: Topic<String, u64> = topic("totals");
    t.stream(CLICKS).filter(|c| c.page != "/0").to(big);
    t.stream(CLICKS).key_by(|c| c.page.clone()).count("totals").to(totals);
}

fn comparison<'a>(report: &'a Report, then: &str) -> &'a Comparison {
    &report.compared.iter().find(|compared| compared.then == then).unwrap().comparison
}

#[test]
fn records_without_state_are_compared_one_by_one_and_state_without_windows_from_the_start() {
    let dir = directory(large, 100);
    let report = app(dir.path(), large).replay(At::Start, At::End).compare().run().unwrap();
    for (then, keys) in [("big", 1), ("totals", 3)] {
        let Comparison::Counted { same, .. } = comparison(&report, then) else {
            panic!("{report:?}")
        };
        assert_eq!((*same, report.has_differences()), (keys, false), "{then}");
    }
    let report = app(dir.path(), large).replay(At::Offset(50), At::End).compare().run().unwrap();
    let missing = "its state before --from is missing".to_owned();
    assert_eq!(comparison(&report, "totals"), &Comparison::Left { reason: missing });
    assert!(!report.has_differences(), "{report:?}");
    assert!(
        matches!(comparison(&report, "big"), Comparison::Counted { same: 1, .. }),
        "{report:?}"
    );
}

fn code(replay: Replay) -> (&'static str, String) {
    let error = replay.run().unwrap_err();
    assert!(!error.help().is_empty(), "{error}");
    (error.code(), error.to_string())
}

#[test]
fn what_cannot_be_replayed_is_told_and_nothing_is_made() {
    let dir = directory(clickstream, 50);
    let replay = |from, until| app(dir.path(), clickstream).replay(from, until);
    let (said, text) = code(replay(At::Offset(51), At::End));
    assert!(said == "S032" && text.contains("0: 50, 1: 50, 2: 50, 3: 50"), "{text}");
    let (said, text) = code(replay(At::Time("2030-01-01T00:00Z".into()), At::End));
    assert!(said == "S032" && text.contains("its newest record is of 2023-11-14T"), "{text}");
    assert_eq!(code(replay(At::End, At::End)).0, "S032");
    assert_eq!(code(replay(At::Offset(20), At::Offset(10))).0, "S032");
    assert_eq!(code(replay(At::Time("x".into()), At::End)).0, "S032");
    assert_eq!(code(replay(At::Start, At::End).name("../job")).0, "S024");
    assert_eq!(code(replay(At::Start, At::End).into_topics_with_suffix("")).0, "S018");
    assert_eq!(code(replay(At::Start, At::End).into_topics_with_suffix("/x")).0, "S024");
    let log = core_log::Log::open(dir.path()).unwrap();
    log.delete_records(log.topic("clicks").unwrap().id(), 2, 10).unwrap();
    log.close().unwrap();
    let (said, text) = code(replay(At::Offset(9), At::End));
    assert!(said == "S007" && text.contains("clicks-2") && text.contains("10 to 50"), "{text}");
    assert!(!dir.path().join("replay").exists());
}

/// Two processes at the same replay would write into each other's topics.
#[test]
fn a_replay_that_is_under_way_is_not_begun_again() {
    let dir = directory(clickstream, 50);
    let replay = || app(dir.path(), clickstream).replay(At::Start, At::End);
    let first = replay().run().unwrap();
    let theirs = core_log::Log::open(&first.dir).unwrap();
    let (said, text) = code(replay());
    assert!(said == "S006" && text.contains(&std::process::id().to_string()), "{text}");
    theirs.close().unwrap();
    assert_eq!(replay().run().unwrap().records, 200);
}

/// A directory that nobody marked as a replay's is somebody's.
#[test]
fn a_directory_that_is_no_replay_is_left_as_it_is() {
    let dir = directory(clickstream, 50);
    let theirs = dir.path().join("replay/job");
    std::fs::create_dir_all(&theirs).unwrap();
    std::fs::write(theirs.join("letter.txt"), "dear").unwrap();
    let replay = || app(dir.path(), clickstream).replay(At::Start, At::End);
    let (said, text) = code(replay());
    assert!(said == "S015" && text.contains("letter.txt"), "{text}");
    assert_eq!(std::fs::read(theirs.join("letter.txt")).unwrap(), b"dear");
    std::fs::remove_file(theirs.join("letter.txt")).unwrap();
    let log = core_log::Log::open(&theirs).unwrap();
    log.create_topic("theirs", TopicSettings::default()).unwrap();
    log.close().unwrap();
    assert_eq!(code(replay()).0, "S015");
    assert!(theirs.join("theirs-0").exists());
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Seen {
    page: u64,
    country: Option<String>,
}

const VISITS: Topic<String, u64> = topic("visits");
const USERS: Topic<String, String> = topic("users");
const SEEN: Topic<String, Seen> = topic("seen");

fn countries(t: &mut Topology) {
    let users = t.table(USERS, "users");
    t.stream(VISITS).left_join(&users, |page, country| Seen { page, country }).to(SEEN);
}

fn everywhere(t: &mut Topology) {
    let users = t.global_table(USERS, "users");
    t.stream(VISITS)
        .left_join_global(&users, |_| "u3".to_owned(), |page, country| Seen { page, country })
        .to(SEEN);
}

/// A timestamp, a key and a value.
type Timed = (i64, String, String);

/// Two partitions of visits, one a second; every ten seconds each user moves to another country.
fn write_visits(dir: &Path, records_per_batch: usize) {
    let log = core_log::Log::open(dir).unwrap();
    let topics = ["visits", "users"]
        .map(|name| log.create_topic(name, TopicSettings::with_partitions(2)).unwrap());
    let mut records: BTreeMap<(usize, u32), Vec<Timed>> = BTreeMap::new();
    let mut push = |topic: usize, second: i64, user: u64, value: String| {
        let key = format!("u{user}");
        let partition = core_log::partition_for(key.as_bytes(), 2);
        let time = LOG_TIME_MS + second * 1_000;
        records.entry((topic, partition)).or_default().push((time, key, value));
    };
    for second in 0..200_u64 {
        let at = i64::try_from(second).unwrap();
        if second % 10 == 5 {
            for user in 0..4 {
                push(1, at, user, format!("\"country {}\"", second / 10));
            }
        }
        push(0, at, second % 4, second.to_string());
    }
    let mut producer = log.producer(Durability::Os).unwrap();
    for ((topic, partition), records) in records {
        for records in records.chunks(records_per_batch) {
            let mut batch = BatchBuilder::new();
            for (time, key, value) in records {
                let (key, value) = (key.as_bytes(), value.as_bytes());
                batch.push(*time, Some(key), Some(value), NO_HEADERS).unwrap();
            }
            producer.append(&topics[topic], partition, &mut batch).unwrap();
        }
    }
    log.close().unwrap();
}

fn seen(dir: &Path, name: &'static str) -> BTreeMap<u64, Option<String>> {
    let topic: Topic<String, Seen> = topic(name);
    let records = Log::open(dir).unwrap().read(topic).into_iter();
    let values = records.map(|record| record.unwrap().value.unwrap());
    values.map(|seen| (seen.page, seen.country)).collect()
}

/// What the table was when the stretch began lies in front of it: also where it begins inside of a
/// batch, of which the rest once was never read.
#[test]
fn a_table_is_brought_to_where_it_was_before_the_stretch_is_read() {
    for records_per_batch in [1, 7, 1_000] {
        a_table_is_brought_to_where_it_was(records_per_batch);
    }
}

fn a_table_is_brought_to_where_it_was(records_per_batch: usize) {
    let dir = tempfile::tempdir().unwrap();
    write_visits(dir.path(), records_per_batch);
    run(dir.path(), countries);
    let live = seen(dir.path(), "seen");
    assert_eq!((live.len(), &live[&4], &live[&5]), (200, &None, &Some("country 0".to_owned())));
    let second = |second: i64| At::Time((LOG_TIME_MS + second * 1_000).into());
    for (from, until, range) in [
        (second(103), At::End, 103..200),
        (second(109), second(157), 109..157),
        (At::Start, second(20), 0..20),
    ] {
        let report = app(dir.path(), countries).replay(from, until).compare().run().unwrap();
        let then: BTreeMap<_, _> =
            live.range(range.clone()).map(|(k, v)| (*k, v.clone())).collect();
        assert_eq!(seen(&report.dir, "seen-replay"), then, "{range:?}");
        let ([same, rest @ ..], _) = counted(&report);
        assert_eq!((same, rest), (4, [0, 0, 0]), "{report:?}");
    }
    // An offset is one of the streams; the table is at the time of the record there.
    let report = app(dir.path(), countries).replay(At::Offset(60), At::End).run().unwrap();
    for (page, country) in seen(&report.dir, "seen-replay") {
        assert_eq!(live[&page], country, "{page}");
    }
}

#[test]
fn a_global_table_is_whole_before_a_replay_looks_anything_up() {
    let dir = tempfile::tempdir().unwrap();
    write_visits(dir.path(), 1);
    let replay = app(dir.path(), everywhere).replay(At::Offset(80), At::End);
    let report = replay.compare().run().unwrap();
    let now = seen(&report.dir, "seen-replay");
    assert!(now.len() > 20 && now.values().all(Option::is_some), "{now:?}");
    let not_written = Comparison::Left { reason: "the job has not written it".to_owned() };
    assert_eq!(report.compared[0].comparison, not_written);
}

/// A partition that is silent is passed over by the clock on the wall; a replay does so at the same
/// records, however fast it is, and not otherwise.
#[test]
fn a_replay_repeats_where_a_silent_partition_was_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let input = clicks(5, PARTITIONS, 200, 5_000);
    let (first, rest) = input.split_at(400);
    write(dir.path(), first);
    // Its silence counts from the next start on: however fast that reads, the others go on behind it.
    run(dir.path(), clickstream);
    let speaking: Vec<_> = rest.iter().filter(|(partition, _)| *partition != 2).cloned().collect();
    write(dir.path(), &speaking);
    let handle = app(dir.path(), clickstream).idle_after(millis(50)).start().unwrap();
    // Its windows close although one partition has stopped in the middle.
    let last = speaking.iter().map(|(_, click)| click.at).max().unwrap();
    let closed = |dir: &Path| results(dir, "page-counts").keys().map(|key| key.1).max();
    for looks in 0.. {
        if closed(dir.path()).is_some_and(|start| start >= last - 4 * MINUTE) {
            break;
        }
        assert!(looks < 600, "nothing closes: {:?} of {last}", closed(dir.path()));
        assert!(!handle.wait_timeout(millis(50)), "the job ended by itself");
    }
    wait_until_idle(&handle);
    handle.stop();
    handle.wait().unwrap();
    let live = results(dir.path(), "page-counts");
    for (from, least) in
        [(At::Start, live.len() as u64), (At::Offset(60), 10), (At::Offset(150), 1)]
    {
        let report = app(dir.path(), clickstream).replay(from, At::End).compare().run().unwrap();
        let ([same, rest @ ..], _) = counted(&report);
        assert!(same >= least && rest == [0, 0, 0], "{report:?}");
    }
}

fn doubled(t: &mut Topology) {
    const NUMBERS: Topic<String, u64> = topic("numbers");
    const DOUBLED: Topic<String, u64> = topic("doubled");
    t.stream(NUMBERS).map(|n| 2 * n).to(DOUBLED);
}

/// What a replay sets aside can be looked at like its results; it once lay under the live topic's name.
#[test]
fn dead_letters_of_a_replay_go_to_a_topic_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let log = core_log::Log::open(dir.path()).unwrap();
    let numbers = log.create_topic("numbers", TopicSettings::with_partitions(1)).unwrap();
    let mut producer = log.producer(Durability::Os).unwrap();
    for value in ["1", "{broken", "3"] {
        let mut batch = BatchBuilder::new();
        batch.push(LOG_TIME_MS, Some(b"k"), Some(value.as_bytes()), NO_HEADERS).unwrap();
        producer.append(&numbers, 0, &mut batch).unwrap();
    }
    log.close().unwrap();
    let app = app(dir.path(), doubled).on_error(OnError::DeadLetter);
    let report = app.replay(At::Start, At::End).run().unwrap();
    assert_eq!(report.progress.dead_letters, 1);
    assert_eq!(report.topics, ["doubled-replay", "job-dlq-replay"]);
    let log = core_log::Log::open(&report.dir).unwrap();
    assert!(log.topic("job-dlq").is_err());
    let letters = log.topic("job-dlq-replay").unwrap();
    let mut reader = PartitionReader::new(log, &letters, 0, 0, FetchBound::LastStable);
    let batch = reader.next_batch(1 << 20).unwrap().unwrap();
    let values: Vec<_> =
        batch.records().map(|record| record.unwrap().value.unwrap().to_vec()).collect();
    assert_eq!(values, [b"{broken".to_vec()]);
}
