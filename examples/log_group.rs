//! Four members share the partitions of a topic. One leaves, one dies, one hangs; nothing is lost, and
//! nothing that was committed is read again.
//!
//! ```text
//!   orders, 8 partitions --> group "billing" --> member 1   stays
//!                                                member 2   leaves in order: hands its positions over
//!                                                member 3   dies in the middle of its work
//!                                                member 4   hangs for too long, and comes back
//! ```
//!
//! Each member is a thread that polls, works, and commits. What each of them was handed out is written
//! down, with what it had committed; in the end everything is compared with what was written.
//!
//! ```console
//! $ cargo run --example log_group             # verifies itself; target/demo/log_group
//! $ cargo run --example log_group -- DIR      # the same in another directory
//! ```

#[path = "support/log_demo.rs"]
mod log_demo;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use core_log::{
    BatchBuilder, Consumer, ConsumerSettings, Durability, Error, Group, GroupError, Log,
    NO_HEADERS, Topic, TopicSettings,
};
use log_demo::{Outcome, say};

const PARTITIONS: u32 = 8;
const BEFORE: i64 = 4_000;
const AFTER: i64 = 4_000;
/// A wait for what must happen soon ends after so many polls.
const POLLS_MAX: u32 = 500;
/// A member that does not poll for so long is taken for dead.
const PATIENCE_MS: &str = "2000";

fn main() -> ExitCode {
    log_demo::main("log_group", demo)
}

/// One record that a member was handed out: partition and offset.
type Place = (u32, i64);

/// What a member did.
#[derive(Debug, Default)]
struct Diary {
    read: Vec<Place>,
    /// What it was handed out last before it died or hung, and did not commit.
    in_doubt: BTreeSet<Place>,
}

/// How a member ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Stays,
    Leaves,
    Dies,
    Hangs,
}

fn settings() -> Outcome<ConsumerSettings> {
    Ok(ConsumerSettings::from_kafka([
        ("auto.offset.reset", "earliest"),
        ("enable.auto.commit", "false"),
        ("max.poll.records", "100"),
        ("max.poll.interval.ms", PATIENCE_MS),
    ])?)
}

fn write(log: &Log, orders: &Topic, numbers: std::ops::Range<i64>) -> Outcome<()> {
    let mut producer = log.producer(Durability::Os)?;
    let mut batches: Vec<_> = (0..PARTITIONS).map(|_| BatchBuilder::new()).collect();
    for number in numbers {
        let text = format!("order-{number}");
        let partition = core_log::partition_for(text.as_bytes(), PARTITIONS);
        let batch = &mut batches[usize::try_from(partition)?];
        batch.push(number, Some(text.as_bytes()), Some(b"1 coffee"), NO_HEADERS)?;
    }
    for (partition, mut batch) in (0..).zip(batches) {
        producer.append(orders, partition, &mut batch)?;
    }
    Ok(())
}

/// Polls once and writes down what it was handed out; answers how much that was.
fn work(consumer: &mut Consumer, diary: &mut Diary) -> Outcome<usize> {
    let polled = consumer.poll(Duration::from_millis(100))?;
    for record in polled.records() {
        let record = record?;
        diary.read.push((record.partition, record.offset));
    }
    Ok(polled.count())
}

/// Polls until there is something, and leaves it uncommitted.
fn leave_in_doubt(consumer: &mut Consumer, diary: &mut Diary) -> Outcome<()> {
    let before = diary.read.len();
    while work(consumer, diary)? == 0 {}
    diary.in_doubt = diary.read[before..].iter().copied().collect();
    Ok(())
}

/// The life of a member: it commits after each poll but the last one of those who leave, die or hang.
fn live(group: &Group, end: End, started: &Sender<()>, go_on: &Receiver<()>) -> Outcome<Diary> {
    let mut diary = Diary::default();
    let mut consumer = group.consumer(settings()?);
    consumer.subscribe(&["orders"])?;
    // First everybody has its share: two partitions.
    for polls in 0.. {
        work(&mut consumer, &mut diary)?;
        consumer.commit()?;
        match consumer.assignment().len() {
            2 => break,
            share if polls > POLLS_MAX => return Err(format!("it has {share} partitions").into()),
            _ => {}
        }
    }
    started.send(())?;
    for _ in 0..2 {
        work(&mut consumer, &mut diary)?;
        consumer.commit()?;
    }
    let mut is_told = false;
    match end {
        End::Leaves => {
            // Read and done with, but not committed: the positions go over all the same.
            work(&mut consumer, &mut diary)?;
            consumer.close()?;
            return Ok(diary);
        }
        End::Dies => {
            leave_in_doubt(&mut consumer, &mut diary)?;
            drop(consumer);
            return Ok(diary);
        }
        End::Hangs => {
            leave_in_doubt(&mut consumer, &mut diary)?;
            // Told once the others have taken its partitions.
            go_on.recv()?;
            is_told = true;
            match consumer.commit() {
                Err(Error::Group(refused @ GroupError::Fenced { .. })) => {
                    say(&format!("  fenced: {refused}"));
                }
                other => return Err(format!("it could commit what it had lost: {other:?}").into()),
            }
        }
        End::Stays => {}
    }
    loop {
        work(&mut consumer, &mut diary)?;
        consumer.commit()?;
        // Also when nobody is there any more who could tell it.
        is_told |= go_on.try_recv() != Err(TryRecvError::Empty);
        let lag = group.lag(consumer.settings().isolation_level)?;
        if is_told && lag.values().all(|lag| lag.offsets() == 0) {
            break;
        }
    }
    consumer.close()?;
    Ok(diary)
}

fn demo(log: &Log) -> Outcome<bool> {
    let kept = TopicSettings { retention_ms: None, ..TopicSettings::with_partitions(PARTITIONS) };
    let orders = log.create_topic("orders", kept)?;
    write(log, &orders, 0..BEFORE)?;
    let group = log.group("billing")?;
    let ends = [End::Stays, End::Leaves, End::Dies, End::Hangs];
    let (started, is_started) = channel();
    let diaries = thread::scope(|scope| -> Outcome<Vec<Diary>> {
        let mut members = Vec::new();
        let mut tell = Vec::new();
        for end in ends {
            let (group, started) = (group.clone(), started.clone());
            let (go_on, is_told) = channel();
            tell.push(go_on);
            members.push(scope.spawn(move || {
                live(&group, end, &started, &is_told).map_err(|error| error.to_string())
            }));
        }
        for _ in ends {
            is_started.recv_timeout(Duration::from_secs(10))?;
        }
        say(&format!("  four members, two partitions each: generation {}", group.generation()));
        write(log, &orders, BEFORE..BEFORE + AFTER)?;
        // Two have gone, and the one that hangs is taken for dead: the first has everything.
        let mut seen = log.changes();
        let has_all = |group: &Group| group.members().iter().any(|m| m.partitions.len() == 8);
        for waits in 0.. {
            if has_all(&group) {
                break;
            }
            if waits > POLLS_MAX {
                return Err(format!("nobody took over: {:?}", group.members()).into());
            }
            seen = log.wait_for_change(seen, Duration::from_millis(50));
        }
        say(&format!("  one left, one died, one hangs: generation {}", group.generation()));
        // Two of them have ended, and hear nothing any more.
        let told = tell.into_iter().filter(|go_on| go_on.send(()).is_ok()).count();
        if told != 2 {
            return Err(format!("{told} members are left, not 2").into());
        }
        let ended = members
            .into_iter()
            .map(|member| member.join().map_err(|_panic| "a member panicked")?);
        Ok(ended.collect::<Result<Vec<_>, String>>()?)
    })?;
    judge(log, &orders, &diaries)
}

/// Everything was read; what was read twice was read by the two that did not commit it.
fn judge(log: &Log, orders: &Topic, diaries: &[Diary]) -> Outcome<bool> {
    let mut times: BTreeMap<Place, u32> = BTreeMap::new();
    for place in diaries.iter().flat_map(|diary| &diary.read) {
        *times.entry(*place).or_default() += 1;
    }
    let mut written = BTreeSet::new();
    for partition in 0..PARTITIONS {
        let end = log.offsets(orders.id(), partition)?.log_end_offset;
        written.extend((0..end).map(|offset| (partition, offset)));
    }
    let lost = written.iter().filter(|place| !times.contains_key(place)).count();
    let in_doubt: BTreeSet<Place> =
        diaries.iter().flat_map(|diary| diary.in_doubt.iter().copied()).collect();
    let twice: BTreeSet<Place> =
        times.iter().filter(|(_, times)| **times > 1).map(|(place, _)| *place).collect();
    let unexpected = twice.difference(&in_doubt).count();
    say(&format!(
        "  {} records written, {} lost, {} read again as they were not committed, {unexpected} without need",
        written.len(),
        lost,
        twice.len(),
    ));
    let is_right = lost == 0 && unexpected == 0 && !twice.is_empty();
    let verdict = if is_right { "verified" } else { "WRONG" };
    say(&format!("{verdict}: nothing lost, and nothing that was committed was read again"));
    Ok(is_right)
}
