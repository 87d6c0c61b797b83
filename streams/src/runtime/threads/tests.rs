//! The threads of a job on a log in memory, to which a test writes while they run.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Instant;

use super::*;
use crate::broker::SimulatedLog;
use crate::dsl::{Topology, topic};
use crate::record::Headers;
use crate::settings::Settings;
use crate::store::{Backend, Flusher, MemoryBackend};

fn topology(t: &mut Topology) {
    t.stream(topic::<String, u64>("in"))
        .key_by(|n| format!("k{}", n % 3))
        .count("counts")
        .to(topic("out"));
}

#[expect(clippy::disallowed_methods, reason = "how long threads really take is what is tested")]
fn now() -> Instant {
    Instant::now()
}

/// Runs the job beside `test`, which is given its control, and stops it afterwards.
fn beside(log: &mut SimulatedLog, test: impl FnOnce(&mut SimulatedLog, &Control)) {
    log.ensure_topic("in", 2).unwrap();
    let broker: Arc<dyn Broker> = Arc::new(log.broker(i64::MAX).unwrap());
    let settings = Settings { threads: 3, ..Settings::new("job") };
    let mut plan = JobPlan::new(settings, Arc::new(topology), broker.as_ref()).unwrap();
    let producer = broker.producer("job").unwrap();
    plan.load_positions(broker.as_ref()).unwrap();
    let names = plan.stores();
    let opened = MemoryBackend::new(1).open(&names).unwrap();
    let stores = OpenStores {
        by_name: names.into_iter().zip(opened).collect(),
        options: plan.settings.cache,
        flusher: Flusher::inline(),
    };
    let committer = Committer::new(&plan, Arc::clone(&broker), producer).unwrap();
    let control = Control::default();
    std::thread::scope(|scope| {
        let job = scope.spawn(|| run(&plan, &broker, committer, &stores, &control));
        let outcome = catch_unwind(AssertUnwindSafe(|| test(log, &control)));
        control.stop();
        job.join().unwrap().unwrap();
        outcome.unwrap_or_else(|panic| resume_unwind(panic));
    });
}

/// Waits for the job, whose clock moves meanwhile.
fn wait_until(log: &SimulatedLog, what: &str, done: impl Fn() -> bool) {
    let start = now();
    while !done() {
        assert!(now() - start < NAP / 2, "nobody was woken: {what}");
        log.advance_clock(Duration::from_millis(1));
        std::thread::yield_now();
    }
}

/// An idle worker sleeps until it is called, so that a job costs nothing while nothing comes: then
/// every record must call it, through all hops.
#[test]
fn a_record_wakes_an_idle_job_and_is_committed() {
    let mut log = SimulatedLog::new(1, 0);
    beside(&mut log, |log, control| {
        let progress = &control.progress;
        for n in 0..20_u8 {
            wait_until(log, "idle", || progress.idle_for(Duration::MAX).is_some());
            let value = [b'0' + n % 10];
            log.append("in", u32::from(n % 2), 0, Some(b"k"), Some(&value), &Headers::none())
                .unwrap();
            wait_until(log, "committed", || progress.get().records_out > u64::from(n));
        }
    });
}
