//! Silent source partitions: when they are passed over, what that does to records that come later, and
//! that a job without input comes to rest.

use std::path::Path;

use core_log::{BatchBuilder, Durability, Log, TopicSettings};
use streams::prelude::*;

use crate::jobs::{CLICKS, COUNTS, MINUTE, PER_PAGE, click, clickstream, two_hops, written};

const AFTER: std::time::Duration = secs(10);

/// Far past every click of the suite.
const LATER: i64 = 1 << 40;

fn minute(key: &str, start: i64) -> Windowed<String> {
    Windowed { key: key.to_owned(), start, end: start + MINUTE }
}

/// The topic of raises: version, next offset and raised to, big-endian.
type Bytes8 = [u8; 8];
const CLOCK: Topic<(String, u32), (u8, Bytes8, Bytes8), Bincode> = topic("test-clock").bincode();

/// Topic, partition, next offset and raised to of each raise since the last look.
fn raises(d: &mut TestDriver) -> Vec<(String, u32, i64, i64)> {
    let raise = |((topic, partition), (version, next, to))| {
        assert_eq!(version, 1);
        (topic, partition, i64::from_be_bytes(next), i64::from_be_bytes(to))
    };
    d.read(CLOCK).into_iter().map(raise).collect()
}

/// Both partitions have a click in the first minute; then only partition 0 goes on, past its end.
fn one_falls_silent(d: &mut TestDriver) {
    d.send_to(CLICKS, 0, NoKey, click("ana", "/", 5_000));
    d.send_to(CLICKS, 1, NoKey, click("bob", "/", 6_000));
    d.run().unwrap();
    d.wall_clock(AFTER);
    d.send_to(CLICKS, 0, NoKey, click("ana", "/", 80_000));
}

#[test]
fn a_silent_partition_is_passed_over_and_its_old_records_are_late() {
    for seed in 0..8 {
        let mut d = TestDriver::new(clickstream).partitions(2).seed(seed).idle_after(AFTER);
        one_falls_silent(&mut d);
        assert_eq!(d.read(COUNTS), [(minute("/", 0), 2)], "seed {seed}");
        assert_eq!(raises(&mut d), [("clicks".to_owned(), 1, 1, 80_000)], "seed {seed}");
        d.send_to(CLICKS, 1, NoKey, click("bob", "/", 7_000));
        d.send_to(CLICKS, 1, NoKey, click("bob", "/", 70_000));
        assert_eq!(d.late(), 1, "by the clock of its own partition, which was raised");
        d.advance_to(LATER);
        assert_eq!(d.read(COUNTS), [(minute("/", MINUTE), 2)], "seed {seed}");
    }
}

#[test]
fn a_partition_that_is_silent_for_less_is_waited_for() {
    let mut d = TestDriver::new(clickstream).partitions(2).idle_after(AFTER + millis(1));
    one_falls_silent(&mut d);
    assert_eq!(d.read(COUNTS), []);
    d.send_to(CLICKS, 1, NoKey, click("bob", "/", 7_000));
    assert_eq!(d.late(), 0);
    assert_eq!(raises(&mut d), []);
}

#[test]
fn by_default_a_driver_waits_for_ever() {
    let mut d = TestDriver::new(clickstream).partitions(2);
    one_falls_silent(&mut d);
    d.wall_clock(days(365)).send_to(CLICKS, 0, NoKey, click("ana", "/", 90_000));
    assert_eq!(d.read(COUNTS), []);
}

#[test]
fn partitions_that_are_empty_from_the_start_are_passed_over_behind_every_repartition() {
    for seed in 0..8 {
        let mut d = TestDriver::new(two_hops).partitions(4).seed(seed).idle_after(AFTER);
        d.send_to(CLICKS, 2, NoKey, click("ana", "/", 5_000));
        d.run().unwrap();
        assert_eq!(d.read(PER_PAGE), [], "seed {seed}");
        d.wall_clock(AFTER);
        d.send_to(CLICKS, 2, NoKey, click("ana", "/", 500_000));
        assert_eq!(d.read(PER_PAGE), [(minute("/", 0), 1)], "seed {seed}");
        assert_eq!(d.late(), 0, "seed {seed}");
    }
}

#[test]
fn where_all_are_silent_nothing_moves_and_the_job_rests() {
    let mut d = TestDriver::new(clickstream).partitions(3).idle_after(AFTER);
    d.send_to(CLICKS, 0, NoKey, click("ana", "/", 90_000));
    d.send_to(CLICKS, 1, NoKey, click("bob", "/", 5_000));
    d.run().unwrap();
    let commits = d.commits();
    for _ in 0..5 {
        d.wall_clock(hours(1)).run().unwrap();
    }
    assert_eq!((d.commits(), d.read(COUNTS)), (commits, vec![]));
}

/// Raises are committed, and their watermarks; neither may cause the next.
#[test]
fn a_job_whose_silent_partitions_were_passed_over_comes_to_rest() {
    for seed in 0..8 {
        let mut d = TestDriver::new(two_hops).partitions(3).seed(seed).idle_after(AFTER);
        one_falls_silent(&mut d);
        d.run().unwrap();
        assert!(!raises(&mut d).is_empty());
        let commits = d.commits();
        for _ in 0..3 {
            d.wall_clock(AFTER).run().unwrap();
        }
        d.crash();
        for _ in 0..3 {
            d.wall_clock(AFTER).run().unwrap();
        }
        assert_eq!(d.commits(), commits, "seed {seed}");
        assert_eq!(raises(&mut d), [], "seed {seed}");
    }
}

#[test]
fn a_date_that_jumps_a_year_passes_nothing_over() {
    let mut d = TestDriver::new(clickstream).partitions(2).idle_after(AFTER);
    let (now, year) = (1_767_225_600_000, 365 * 86_400_000);
    d.send_to(CLICKS, 1, NoKey, click("bob", "/", 6_000));
    d.run().unwrap();
    for date in [now + year, now - year, now] {
        d.set_wall_clock(date).send_to(CLICKS, 0, NoKey, click("ana", "/", 80_000));
        assert_eq!(d.read(COUNTS), []);
    }
    d.set_wall_clock(now - year).wall_clock(AFTER);
    d.send_to(CLICKS, 0, NoKey, click("ana", "/", 80_000));
    assert_eq!(d.read(COUNTS).len(), 1, "time that has passed counts, whatever the date says");
}

/// The raise is committed or it is not: no window closes twice, and none is forgotten.
#[test]
fn a_crash_between_silence_and_its_commit_changes_nothing_but_when_it_is_seen() {
    let mut crashes = 0;
    for seed in 0..40 {
        let mut d = TestDriver::new(clickstream).partitions(2).seed(seed).crash_every(5);
        d = d.idle_after(AFTER);
        one_falls_silent(&mut d);
        let mut closed = d.read(COUNTS);
        for _ in 0..40 {
            d.wall_clock(AFTER);
            d.send_to(CLICKS, 0, NoKey, click("ana", "/", 80_000));
            closed.extend(d.read(COUNTS));
        }
        assert_eq!(closed, [(minute("/", 0), 2)], "seed {seed}");
        d.crash();
        d.send_to(CLICKS, 1, NoKey, click("bob", "/", 7_000));
        assert_eq!(d.late(), 1, "seed {seed}: the raised clock outlives the crash");
        crashes += d.crashes();
    }
    assert!(crashes > 80, "{crashes}");
}

/// Every click is in a window or late, whatever falls silent and comes back.
#[test]
fn nothing_is_lost_by_partitions_that_come_and_go() {
    let mut raised = 0;
    for seed in 0..12_u64 {
        let mut d = TestDriver::new(clickstream).partitions(3).seed(seed).crash_every(60);
        d = d.idle_after(AFTER);
        let (mut silent, mut sent) = (0, 0);
        for (i, (partition, click)) in crate::jobs::clicks(seed, 3, 80, 0).iter().enumerate() {
            if i % 40 == 39 {
                silent = (silent + 1) % 3;
                d.run().unwrap();
                d.wall_clock(AFTER);
            }
            if *partition != silent {
                sent += u64::from(!click.user.starts_with("bot-"));
                d.send_to(CLICKS, *partition, NoKey, click.clone());
            }
        }
        raised += raises(&mut d).len();
        d.advance_to(LATER);
        let counted: u64 = written(&d.read_records(COUNTS)).values().map(|(n, _)| n).sum();
        assert_eq!(counted + d.late(), sent, "seed {seed}, {} late", d.late());
    }
    assert!(raised > 12, "{raised} raises");
}

/// With no patience at all it is Kafka's rule: whatever is read to its end is as far as the furthest.
#[test]
fn without_patience_a_silent_partition_is_as_far_as_the_furthest() {
    let mut d = TestDriver::new(clickstream).partitions(3).idle_after(secs(0));
    d.send_to(CLICKS, 0, NoKey, click("ana", "/", 5_000));
    assert_eq!(d.read(COUNTS), []);
    d.send_to(CLICKS, 1, NoKey, click("bob", "/", 80_000));
    assert_eq!(d.read(COUNTS), [(minute("/", 0), 1)]);
    d.send_to(CLICKS, 0, NoKey, click("ana", "/", 6_000));
    assert_eq!(d.late(), 1);
}

#[test]
fn a_job_without_windows_keeps_no_clocks() {
    fn counts(t: &mut Topology) {
        t.stream(CLICKS).key_by(|c| c.page.clone()).count("n").to(topic::<String, u64>("n"));
    }
    let mut d = TestDriver::new(counts).partitions(2).idle_after(AFTER);
    one_falls_silent(&mut d);
    let commits = d.commits();
    assert_eq!(raises(&mut d), []);
    d.wall_clock(AFTER).run().unwrap();
    assert_eq!(d.commits() - commits, 2, "the click, and the watermark that came of it");
}

fn write(dir: &Path, partitions: u32, clicks: &[(u32, i64)]) {
    let log = Log::open(dir).unwrap();
    let settings = TopicSettings { partitions, ..TopicSettings::default() };
    let topic = log.topic("clicks").or_else(|_| log.create_topic("clicks", settings)).unwrap();
    let mut producer = log.producer(Durability::Os).unwrap();
    for &(partition, at) in clicks {
        let mut batch = BatchBuilder::new();
        let value = serde_json::to_vec(&click("ana", "/", at)).unwrap();
        let none: &[(&str, Option<&[u8]>)] = &[];
        batch.push(1_700_000_000_000, None, Some(&value), none).unwrap();
        producer.append(&topic, partition, &mut batch).unwrap();
    }
    log.close().unwrap();
}

/// On threads and in real time: the handle says who is waited for; the window closes without another
/// record, by the last raise of a job that is idle by then; and the job rests.
#[test]
fn a_running_job_says_who_holds_windows_open_and_passes_over() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 3, &[(0, 5_000), (2, 6_000), (0, 90_000), (2, 80_000)]);
    let app = || App::new("clickstream", clickstream).log(dir.path());
    let handle = app().idle_after(hours(1)).start().unwrap();
    while !handle.is_idle_for(millis(20)) {
        assert!(!handle.wait_timeout(millis(1)), "the job ended by itself");
    }
    let held = handle.holding_back();
    let names: Vec<_> = held.iter().map(|by| (by.topic.as_str(), by.partition)).collect();
    assert_eq!(names, [("clicks", 1)]);
    assert_eq!((held[0].clock, held[0].position, held[0].is_at_end), (None, 0, true));
    assert!(held[0].silent_for >= millis(20));
    handle.stop();
    assert_eq!(handle.wait().unwrap().records_out, 0);

    write(dir.path(), 3, &[(0, 91_000), (2, 81_000)]);
    let handle = app().idle_after(millis(300)).start().unwrap();
    while handle.progress().records_out == 0 {
        assert!(!handle.wait_timeout(millis(1)), "the job ended by itself");
    }
    while !handle.is_idle_for(millis(400)) {
        assert!(!handle.wait_timeout(millis(1)), "the job ended by itself");
    }
    let held = handle.holding_back();
    assert_eq!(held.iter().map(|by| by.clock).collect::<Vec<_>>(), [Some(81_000); 2], "{held:?}");
    handle.stop();
    assert_eq!(handle.wait().unwrap().records_out, 1);
}

/// At the same offsets the history after a reset may raise nothing, and a replay must not do so either.
#[test]
fn a_reset_makes_the_raises_before_it_void() {
    for seed in 0..6 {
        let mut d = TestDriver::new(clickstream).partitions(2).seed(seed).idle_after(AFTER);
        one_falls_silent(&mut d);
        assert_eq!(d.read_records(COUNTS).len(), 1, "partition 1 was passed over");
        d.reset_to(0).unwrap();
        // In time for the first minute, now that the job has not been there yet.
        d.send_to(CLICKS, 1, NoKey, click("bob", "/", 7_000));
        d.send_to(CLICKS, 1, NoKey, click("bob", "/", 81_000));
        assert_eq!(d.read(COUNTS), [(minute("/", 0), 3)], "seed {seed}");
        assert_eq!(d.late(), 0, "seed {seed}");
        let all = d.read_records(CLOCK).into_iter();
        let all: Vec<_> = all.map(|r| (r.key.unwrap().1, r.value.is_some())).collect();
        assert_eq!(all, [(1, true), (0, false), (1, false)], "seed {seed}");
    }
}
