//! The threads of a job on a log in memory, to which a test writes while they run.

mod held;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use super::worker::NAP;
use super::*;
use crate::broker::{Call, SimulatedLog};
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
    let backend = MemoryBackend::new(1);
    let control = Control::default();
    std::thread::scope(|scope| {
        let job =
            scope.spawn(|| run_until_stopped(&control, || run_once(&broker, &backend, &control)));
        let outcome = catch_unwind(AssertUnwindSafe(|| test(log, &control)));
        control.stop();
        let ended = job.join().unwrap();
        outcome.unwrap_or_else(|panic| resume_unwind(panic));
        ended.unwrap();
    });
}

fn run_once(broker: &Arc<dyn Broker>, backend: &MemoryBackend, control: &Control) -> Result<()> {
    run_with(broker, backend, control, Settings { threads: 3, ..Settings::new("job") }, topology)
}

fn run_with(
    broker: &Arc<dyn Broker>,
    backend: &MemoryBackend,
    control: &Control,
    settings: Settings,
    topology: impl Fn(&mut Topology) + Send + Sync + 'static,
) -> Result<()> {
    let mut plan = JobPlan::new(settings, Arc::new(topology), broker.as_ref())?;
    let committer = Committer::take_over(&mut plan, Arc::clone(broker))?;
    let names = plan.stores();
    let opened = backend.open(&names)?;
    let stores = OpenStores {
        by_name: names.into_iter().zip(opened).collect(),
        options: plan.settings.cache,
        flusher: Flusher::inline(),
    };
    run(&plan, broker, committer, &stores, control)
}

/// Waits for the job, whose clock moves meanwhile.
fn wait_until(log: &mut SimulatedLog, what: &str, mut done: impl FnMut(&mut SimulatedLog) -> bool) {
    let start = now();
    while !done(log) {
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
            wait_until(log, "idle", |_| progress.idle_for(Duration::MAX).is_some());
            let value = [b'0' + n % 10];
            log.append("in", u32::from(n % 2), 0, Some(b"k"), Some(&value), &Headers::none())
                .unwrap();
            wait_until(log, "committed", |_| progress.get().records_out > u64::from(n));
        }
    });
}

/// Another instance takes one of the two transactional ids: whichever it takes first, the job that had
/// them commits no more, and says which job it is.
#[test]
fn a_job_is_fenced_by_either_of_its_transactional_ids() {
    for id in ["job", "job.2"] {
        let mut log = SimulatedLog::new(1, 0);
        log.ensure_topic("in", 2).unwrap();
        let broker: Arc<dyn Broker> = Arc::new(log.broker(i64::MAX).unwrap());
        let (backend, control) = (MemoryBackend::new(1), Control::default());
        std::thread::scope(|scope| {
            let job = scope.spawn(|| run_once(&broker, &backend, &control));
            let progress = &control.progress;
            wait_until(&mut log, "idle", |_| progress.idle_for(Duration::MAX).is_some());
            let _other = broker.producer(id).unwrap();
            let mut sent = 0;
            wait_until(&mut log, "fenced", |log| {
                sent += 1;
                let value = if sent % 2 == 0 { b"0" } else { b"1" };
                log.append("in", 0, 0, Some(b"k"), Some(value), &Headers::none()).unwrap();
                job.is_finished()
            });
            let error = job.join().unwrap().unwrap_err();
            assert_eq!(error.code(), "S009", "{error}");
            assert!(error.to_string().starts_with("job `job` is fenced: producer "), "{error}");
        });
    }
}

/// The last count of each key, read committed.
fn counts(log: &mut SimulatedLog) -> BTreeMap<Vec<u8>, u64> {
    let records = log.read("out", &mut Vec::new()).unwrap_or_default();
    let count = |bytes: &[u8]| serde_json::from_slice(bytes).unwrap();
    records.into_iter().map(|r| (r.key.unwrap(), count(&r.value.unwrap()))).collect()
}

/// A failed write or sync is a crash of the log, wherever in a transaction it falls, and also where it
/// leaves open whether the transaction is committed: the job starts over and counts each record once.
#[test]
fn a_job_outlives_failed_writes_and_syncs_and_counts_each_record_once() {
    let faults = [
        (Call::Write, "job-counts-repartition-"),
        (Call::Write, "job-counts-changelog-"),
        (Call::Sync, "job-counts-changelog-"),
        (Call::Write, "out-"),
        (Call::Sync, "out-"),
        (Call::Write, "__commits-"),
        (Call::Sync, "__commits-"),
    ];
    let mut log = SimulatedLog::new(1, 0);
    beside(&mut log, |log, control| {
        let progress = &control.progress;
        for (round, (call, path)) in (1..).zip(faults) {
            wait_until(log, path, |_| progress.idle_for(Duration::MAX).is_some());
            for value in [b"0", b"1", b"2"] {
                log.append("in", 0, 0, Some(b"k"), Some(value), &Headers::none()).unwrap();
            }
            log.fail_next(call, path);
            for value in [b"0", b"1", b"2"] {
                let again = || log.append("in", 1, 0, Some(b"k"), Some(value), &Headers::none());
                std::iter::repeat_with(again).find(Result::is_ok);
            }
            wait_until(log, path, |_| progress.get().restarts >= round);
            let expected = ["k0", "k1", "k2"].map(|key| (key.as_bytes().to_vec(), 2 * round));
            wait_until(log, path, |log| counts(log) == BTreeMap::from(expected.clone()));
        }
    });
}
