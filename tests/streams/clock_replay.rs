//! Clock timers that run again: a replay reads from the clock on the wall what the live job has read.

use std::collections::BTreeMap;
use std::path::Path;

use core_log::{BatchBuilder, Durability, NO_HEADERS, TopicSettings};
use streams::prelude::*;

use crate::replay::{app, wait_until_idle};

const CALLS: Topic<String, u64> = topic("calls");
const BACK: Topic<String, i64> = topic("called-back");
const AGAIN: Topic<String, i64> = topic("called-back-replay");
const PARTITIONS: u32 = 3;

/// Calls back after a while by the clock, and says when it was asked to.
struct CallBack {
    asked: KeyValueStore<String, i64>,
}

impl Processor<String, u64> for CallBack {
    type Key = String;
    type Out = i64;

    fn stores(&self) -> Vec<&dyn StateStore> {
        vec![&self.asked]
    }

    fn timers(&self) -> Timers {
        Timers::per_key()
    }

    fn record(&mut self, ctx: &mut Ctx<'_, String, i64>, record: Record<String, u64>) -> Processed {
        let (Some(who), Some(after)) = (record.key, record.value) else { return Ok(()) };
        self.asked.put(&who, ctx.clock())?;
        ctx.timer_clock(millis(after))?;
        Ok(())
    }

    fn timer(&mut self, ctx: &mut Ctx<'_, String, i64>, timer: Timer<String>) -> Processed {
        let asked = self.asked.get(&timer.key)?.unwrap_or(0);
        ctx.forward(timer.key, asked)?;
        Ok(())
    }
}

fn call_back(t: &mut Topology) {
    let asked = t.store("asked");
    t.stream(CALLS).process("call-back", CallBack { asked }).to(BACK);
}

fn write(dir: &Path, from: u64, count: u64) {
    let log = core_log::Log::open(dir).unwrap();
    let topic = match log.topic("calls") {
        Ok(topic) => topic,
        Err(_) => log.create_topic("calls", TopicSettings::with_partitions(PARTITIONS)).unwrap(),
    };
    let mut producer = log.producer(Durability::Os).unwrap();
    for n in from..from + count {
        let (who, mut batch) = (format!("who-{}", n % 40), BatchBuilder::new());
        let after = (n % 7 * 9).to_string();
        batch
            .push(1_700_000_000_000, Some(who.as_bytes()), Some(after.as_bytes()), NO_HEADERS)
            .unwrap();
        producer
            .append(&topic, core_log::partition_for(who.as_bytes(), PARTITIONS), &mut batch)
            .unwrap();
    }
    log.close().unwrap();
}

/// What was said to whom, in order: when it was due, and when it was asked for.
fn said(dir: &Path, topic: Topic<String, i64>) -> BTreeMap<String, Vec<(i64, i64)>> {
    let mut said: BTreeMap<String, Vec<(i64, i64)>> = BTreeMap::new();
    for record in Log::open(dir).unwrap().read(topic) {
        let record = record.unwrap();
        let call = (record.timestamp, record.value.unwrap());
        said.entry(record.key.unwrap()).or_default().push(call);
    }
    said
}

#[test]
fn a_replay_reads_the_clock_as_the_live_job_has_read_it() {
    let dir = tempfile::tempdir().unwrap();
    // Several runs: timers that one has left are fired by the next.
    for run in 0..3 {
        write(dir.path(), 1_000 * run, 1_000);
        let handle = app(dir.path(), call_back).start().unwrap();
        wait_until_idle(&handle);
        handle.stop();
        handle.wait().unwrap();
    }
    let live = said(dir.path(), BACK);
    assert_eq!(live.len(), 40);
    let report = app(dir.path(), call_back).replay(At::Start, At::End).run().unwrap();
    assert_eq!(report.topics, ["called-back-replay"]);
    assert_eq!(said(&report.dir, AGAIN), live);
}
