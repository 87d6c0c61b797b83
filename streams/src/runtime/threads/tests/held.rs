//! A commit that takes as long as the test likes: what goes on beside it, and what waits for it.

use parking_lot::{Condvar, Mutex};

use super::*;
use crate::broker::{
    Batch, Bounds, EmbeddedBroker, End, Position, Producer, Reader, Scope, TopicKind, TopicRef,
};

/// Where commits are held back.
#[derive(Default)]
struct Gate {
    state: Mutex<(bool, u64)>,
    moved: Condvar,
}

impl Gate {
    fn set(&self, is_shut: bool) {
        self.state.lock().0 = is_shut;
        self.moved.notify_all();
    }

    fn waiting(&self) -> u64 {
        self.state.lock().1
    }

    fn pass(&self) {
        let mut state = self.state.lock();
        state.1 += 1;
        while state.0 {
            self.moved.wait(&mut state);
        }
        state.1 -= 1;
    }
}

/// The log in memory, with a gate in front of each commit.
struct Held(EmbeddedBroker, Arc<Gate>);

struct HeldProducer(Box<dyn Producer>, Arc<Gate>);

struct HeldTransaction(Arc<dyn Transaction>, Arc<Gate>);

impl Producer for HeldProducer {
    fn begin(&mut self) -> Result<Arc<dyn Transaction>> {
        Ok(Arc::new(HeldTransaction(self.0.begin()?, Arc::clone(&self.1))))
    }
}

impl Transaction for HeldTransaction {
    fn append(&self, topic: &TopicRef, partition: u32, batch: &mut dyn Batch) -> Result<()> {
        self.0.append(topic, partition, batch)
    }
    fn end(&self, topic: &TopicRef, partition: u32) -> Result<Option<End>> {
        self.0.end(topic, partition)
    }
    fn commit(&self, group: &str, positions: &[Position]) -> Result<()> {
        self.1.pass();
        self.0.commit(group, positions)
    }
    fn abort(&self) -> Result<()> {
        self.0.abort()
    }
}

impl Broker for Held {
    fn now_ms(&self) -> i64 {
        self.0.now_ms()
    }
    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }
    fn describe(&self) -> String {
        self.0.describe()
    }
    fn log_id(&self) -> [u8; 16] {
        self.0.log_id()
    }
    fn topics(&self) -> Result<Vec<TopicRef>> {
        self.0.topics()
    }
    fn create_topic(&self, name: &str, partitions: u32, kind: TopicKind) -> Result<TopicRef> {
        self.0.create_topic(name, partitions, kind)
    }
    fn create_topic_kept_as(&self, name: &str, others: &[TopicRef]) -> Result<TopicRef> {
        self.0.create_topic_kept_as(name, others)
    }
    fn committed(&self, group: &str) -> Result<Vec<Position>> {
        self.0.committed(group)
    }
    fn producer(&self, id: &str) -> Result<Box<dyn Producer>> {
        Ok(Box::new(HeldProducer(self.0.producer(id)?, Arc::clone(&self.1))))
    }
    fn batch(&self) -> Box<dyn Batch> {
        self.0.batch()
    }
    fn reader(&self, t: &TopicRef, p: u32, offset: i64, scope: Scope) -> Result<Box<dyn Reader>> {
        self.0.reader(t, p, offset, scope)
    }
    fn bounds(&self, topic: &TopicRef, partition: u32) -> Result<Bounds> {
        self.0.bounds(topic, partition)
    }
    fn leader_epoch_at(&self, topic: &TopicRef, p: u32, offset: i64) -> Result<Option<i32>> {
        self.0.leader_epoch_at(topic, p, offset)
    }
    fn purge(&self, topic: &TopicRef, partition: u32, offset: i64) -> Result<()> {
        self.0.purge(topic, partition, offset)
    }
    fn hold(&self, topic: &TopicRef, p: u32, holder: &str, offset: i64) -> Result<()> {
        self.0.hold(topic, p, holder, offset)
    }
    fn release(&self, topic: &TopicRef, holder: &str) -> Result<()> {
        self.0.release(topic, holder)
    }
    fn compacted_below(&self, topic: &TopicRef, partition: u32) -> Result<i64> {
        self.0.compacted_below(topic, partition)
    }
    fn close(&self) -> Result<()> {
        self.0.close()
    }
    fn watch(&self, seen: u64, timeout: Duration) -> u64 {
        self.0.watch(seen, timeout)
    }
}

fn append(log: &mut SimulatedLog, records: u64) {
    for n in 0..records {
        let value = n.to_string();
        let partition = u32::from(n % 2 == 0);
        log.append("in", partition, 0, Some(b"k"), Some(value.as_bytes()), &Headers::none())
            .unwrap();
    }
}

/// Waiting for the disk does not stop the job; it is not idle meanwhile, the next transaction does not
/// commit first, and an error or a stop waits for the one that is on its way.
#[test]
fn the_next_transaction_is_processed_while_the_last_one_waits_for_the_disk() {
    let mut log = SimulatedLog::new(1, 0);
    log.ensure_topic("in", 2).unwrap();
    let gate = Arc::new(Gate::default());
    let held = Held(log.broker(i64::MAX).unwrap(), Arc::clone(&gate));
    let broker: Arc<dyn Broker> = Arc::new(held);
    let (backend, control) = (MemoryBackend::new(1), Control::default());
    std::thread::scope(|scope| {
        let job = scope.spawn(|| run_once(&broker, &backend, &control));
        let progress = &control.progress;
        let idle = || progress.idle_for(Duration::MAX).is_some();
        wait_until(&mut log, "idle", |_| idle());
        let before = progress.get();
        gate.set(true);
        append(&mut log, 1);
        wait_until(&mut log, "a commit on its way", |_| gate.waiting() == 1);
        append(&mut log, 30);
        wait_until(&mut log, "read beside it", |_| progress.get().records_read == 31);
        // Longer than the interval after which the next one is due.
        log.advance_clock(Duration::from_secs(1));
        assert!(!idle() && gate.waiting() == 1);
        assert_eq!(progress.get().commits, before.commits);
        control.stop();
        assert!(!job.is_finished());
        gate.set(false);
        job.join().unwrap().unwrap();
        assert_eq!(progress.get().records_in, 31);
    });
    // A stop leaves what lies between its two steps to the next start.
    let control = Control::default();
    std::thread::scope(|scope| {
        let job = scope.spawn(|| run_once(&broker, &backend, &control));
        let progress = &control.progress;
        wait_until(&mut log, "idle", |_| progress.idle_for(Duration::MAX).is_some());
        control.stop();
        job.join().unwrap().unwrap();
    });
    assert_eq!(counts(&mut log).values().sum::<u64>(), 31);
}

/// Rows in memory do not grow without bound behind a slow disk or a long interval.
#[test]
fn a_worker_with_as_many_changed_rows_as_may_be_waits_for_its_commit() {
    let mut log = SimulatedLog::new(1, 0);
    log.ensure_topic("in", 2).unwrap();
    append(&mut log, 6_000);
    let broker: Arc<dyn Broker> = Arc::new(log.broker(i64::MAX).unwrap());
    let (backend, control) = (MemoryBackend::new(1), Control::default());
    let hour = Settings {
        threads: 1,
        commit_every_ms: 3_600_000,
        changed_rows_max: 1,
        ..Settings::new("job")
    };
    let by_number = |t: &mut Topology| {
        t.stream(topic::<String, u64>("in")).key_by(|n| *n).count("counts").to(topic("out"));
    };
    std::thread::scope(|scope| {
        let job = scope.spawn(|| run_with(&broker, &backend, &control, hour, by_number));
        let progress = &control.progress;
        wait_until(&mut log, "all is counted", |_| progress.get().records_out == 6_000);
        control.stop();
        job.join().unwrap().unwrap();
        assert!(progress.get().commits >= 5, "{} commits", progress.get().commits);
    });
}
