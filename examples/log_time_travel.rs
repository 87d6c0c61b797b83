//! Back in time on the log alone: which offset was it at noon, what came between two times, how far is a
//! group behind, and once more from there.
//!
//! ```text
//!   readings, 3 partitions, one a second for six hours, each partition at its own pace
//!
//!   06:00 -------- 09:00 ======== 10:00 -------- 12:00
//!                   seek_to_time   stops here      end
//! ```
//!
//! A group has read everything. Then an hour must be looked at again: a consumer without a group seeks to
//! its beginning in every partition and reads up to its end, twice, and gets the same. The group itself is
//! sent back to ten o'clock, shows its lag, and catches up. Everything is compared with the readings, which
//! are computed anew.
//!
//! ```console
//! $ cargo run --example log_time_travel             # verifies itself; target/demo/log_time_travel
//! $ cargo run --example log_time_travel -- DIR      # the same in another directory
//! ```

#[path = "support/log_demo.rs"]
mod log_demo;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use core_log::{
    BatchBuilder, Consumer, ConsumerSettings, Durability, IsolationLevel, Log, NO_HEADERS, Topic,
    TopicSettings,
};
use log_demo::{Outcome, say};

const PARTITIONS: u32 = 3;
/// 2026-01-05 06:00 UTC.
const START_MS: i64 = 1_767_592_800_000;
const HOUR_MS: i64 = 3_600_000;
const SECOND_MS: i64 = 1_000;
const SECONDS: i64 = 6 * 3_600;
const NINE: i64 = START_MS + 3 * HOUR_MS;
const TEN: i64 = START_MS + 4 * HOUR_MS;

fn main() -> ExitCode {
    log_demo::main("log_time_travel", demo)
}

/// A reading: where it went, when, and what it said.
type Reading = (u32, i64, i64);

/// All readings in the order in which they were written. Partition 1 has one every three seconds, partition
/// 2 none in the hour from nine to ten.
fn readings() -> impl Iterator<Item = Reading> {
    (0..SECONDS).flat_map(|second| {
        let time = START_MS + second * SECOND_MS;
        let value = second * 37 % 1_000;
        let in_the_hour = (NINE..TEN).contains(&time);
        let partitions = (0..PARTITIONS)
            .filter(move |p| !(*p == 1 && second % 3 != 0 || *p == 2 && in_the_hour));
        partitions.map(move |partition| (partition, time, value))
    })
}

fn write(log: &Log, topic: &Topic) -> Outcome<()> {
    let mut producer = log.producer(Durability::Os)?;
    let mut batches: Vec<_> = (0..PARTITIONS).map(|_| BatchBuilder::new()).collect();
    for (partition, time, value) in readings() {
        let batch = &mut batches[usize::try_from(partition)?];
        batch.push(time, None, Some(value.to_string().as_bytes()), NO_HEADERS)?;
        if batch.len_bytes() > 8 << 10 {
            producer.append(topic, partition, batch)?;
            batch.clear();
        }
    }
    for (partition, mut batch) in (0..).zip(batches) {
        if !batch.is_empty() {
            producer.append(topic, partition, &mut batch)?;
        }
    }
    Ok(())
}

/// Reads on in all partitions, each up to the first record at or behind `until`.
fn read_until(consumer: &mut Consumer, until: i64) -> Outcome<Vec<Reading>> {
    let mut found = Vec::new();
    loop {
        let polled = consumer.poll(Duration::ZERO)?;
        if polled.is_empty() {
            found.sort_unstable();
            return Ok(found);
        }
        for record in polled.records() {
            let record = record?;
            if record.timestamp >= until {
                consumer.pause("readings", record.partition)?;
                continue;
            }
            let text = std::str::from_utf8(record.value.unwrap_or_default())?;
            found.push((record.partition, record.timestamp, text.parse()?));
        }
    }
}

fn resume_all(consumer: &mut Consumer) -> Outcome<()> {
    for name in consumer.paused() {
        consumer.resume(name.topic.as_str(), name.partition)?;
    }
    Ok(())
}

fn between(from: i64, until: i64) -> Vec<Reading> {
    let mut expected: Vec<_> =
        readings().filter(|(_, time, _)| (from..until).contains(time)).collect();
    expected.sort_unstable();
    expected
}

fn clock(time: i64) -> String {
    let seconds = time.rem_euclid(24 * HOUR_MS) / SECOND_MS;
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

fn demo(log: &Log) -> Outcome<bool> {
    // Times are fixed, so that every run is the same: nothing may expire meanwhile.
    let kept = TopicSettings { retention_ms: None, ..TopicSettings::with_partitions(PARTITIONS) };
    let topic = log.create_topic("readings", kept)?;
    write(log, &topic)?;
    let settings = ConsumerSettings::from_kafka([
        ("auto.offset.reset", "earliest"),
        ("isolation.level", "read_committed"),
        ("enable.auto.commit", "false"),
    ])?;
    let mut group = log.group("dashboard")?.consumer(settings.clone());
    group.subscribe(&["readings"])?;
    let all = read_until(&mut group, i64::MAX)?;
    group.commit()?;
    say(&format!("  {} readings read and committed by group dashboard", all.len()));
    let mut is_right = all == between(i64::MIN, i64::MAX);

    let mut reader = log.consumer(settings);
    reader.subscribe(&["readings"])?;
    let mut hours = Vec::new();
    for _ in 0..2 {
        for partition in 0..PARTITIONS {
            let found = reader.seek_to_time("readings", partition, NINE)?;
            let (offset, time) = found.ok_or("there are readings behind nine o'clock")?;
            let text =
                format!("  partition {partition}: the first from 09:00 on is offset {offset} at");
            say(&format!("{text} {}", clock(time)));
            let first = readings().find(|(p, time, _)| *p == partition && *time >= NINE);
            is_right &= first.is_some_and(|(_, expected, _)| expected == time);
        }
        hours.push(read_until(&mut reader, TEN)?);
        resume_all(&mut reader)?;
    }
    say(&format!("  09:00 to 10:00: {} readings, read twice", hours[0].len()));
    is_right &= hours.iter().all(|hour| *hour == between(NINE, TEN));
    is_right &= reader.seek_to_time("readings", 0, START_MS + 24 * HOUR_MS)?.is_none();

    for partition in 0..PARTITIONS {
        group.seek_to_time("readings", partition, TEN)?;
    }
    group.commit()?;
    let lags = log.group("dashboard")?.lag(IsolationLevel::ReadCommitted)?;
    let behind: BTreeMap<_, _> =
        lags.iter().map(|(name, lag)| (name.to_string(), lag.offsets())).collect();
    say(&format!("  sent back to 10:00, the group is behind by {behind:?}"));
    let missing = between(TEN, i64::MAX);
    is_right &=
        lags.values().map(|lag| lag.offsets()).sum::<i64>() == i64::try_from(missing.len())?;
    is_right &= read_until(&mut group, i64::MAX)? == missing;
    group.commit()?;
    let lags = log.group("dashboard")?.lag(IsolationLevel::ReadCommitted)?;
    is_right &= lags.values().all(|lag| lag.offsets() == 0);
    let verdict = if is_right { "verified" } else { "WRONG" };
    say(&format!(
        "{verdict}: every reading of each stretch once, in both replays, and no lag is left"
    ));
    Ok(is_right)
}
