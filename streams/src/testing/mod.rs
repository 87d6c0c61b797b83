//! `TestDriver`: the real runtime on a log in memory, with partitions, seeds, crashes and a clock that
//! is moved by hand.
//!
//! ```text
//!   send ----> source topics          (partition by key, or in turn)
//!   run:       one task and a few records at a time, as the seed decides;
//!              commits and crashes in between, as the seed decides
//!   read  <--- output topics, read committed
//! ```
//!
//! Why the real runtime: a test that passes here has run the code that runs in production, including
//! the commit protocol, recovery and restore.
//!
//! Invariants
//! * the same seed and the same calls take the same steps.
//! * event time moves by records and by [`TestDriver::advance_to`] only.

mod check;
#[cfg(test)]
mod cleaned;
#[cfg(test)]
#[cfg(feature = "rocksdb")]
mod disk_tests;
mod engine;
mod files;
#[cfg(test)]
mod join_stores;
mod limits;
mod random;
mod record;
mod results;
mod snapshot;
mod stores;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use engine::Engine;

use crate::broker::Durability;
use crate::codec::{Codec, Data};
use crate::dsl::{Topic, Topology};
use crate::error::Result;
use crate::key::RecordKey;
use crate::on_error::OnError;
use crate::record::Headers;
use crate::runtime::Build;
pub use crate::settings::{Limits, Mistake};
use crate::time::duration_ms;
pub use check::{Cause, Check, Checked, Inputs, NotExactlyOnce, check_exactly_once};
pub use files::FileError;
pub use record::TestRecord;

/// Runs a topology inside a test.
///
/// ```
/// use streams::prelude::*;
/// const WORDS: Topic<NoKey, String> = topic("words");
/// const COUNTS: Topic<String, u64> = topic("counts");
/// fn topology(t: &mut Topology) {
///     t.stream(WORDS).key_by(|word| word.clone()).count("counts-by-word").to(COUNTS);
/// }
/// let mut d = TestDriver::new(topology).partitions(4).seed(7).crash_every(5);
/// d.send(WORDS, NoKey, "sea".into()).send(WORDS, NoKey, "sea".into());
/// assert_eq!(d.read(COUNTS).last(), Some(&("sea".to_string(), 2)));
/// ```
pub struct TestDriver {
    engine: Engine,
    turn: u32,
    read: BTreeMap<&'static str, Vec<i64>>,
}

impl TestDriver {
    /// A driver for a topology: one partition per topic, seed 0, no crashes.
    #[must_use]
    pub fn new(topology: impl Fn(&mut Topology) + Send + Sync + 'static) -> Self {
        Self::of(Arc::new(topology))
    }

    fn of(build: Build) -> Self {
        Self { engine: Engine::new(build), turn: 0, read: BTreeMap::new() }
    }

    /// Source topics get this many partitions. Say it before the first `send`.
    #[must_use]
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.engine.partitions = partitions.max(1);
        self
    }

    /// One source topic gets another number of partitions. Say it before the first `send`.
    #[must_use]
    pub fn partitions_of<K, V, C>(mut self, topic: Topic<K, V, C>, partitions: u32) -> Self {
        self.engine.partitions_of.insert(topic.name(), partitions.max(1));
        self
    }

    /// Decides how tasks interleave, where commits fall and what a crash leaves. Say it before the
    /// first `send`.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.engine.seed(seed);
        self
    }

    /// Crashes at a random point about every so many records: power off, everything in memory gone.
    #[must_use]
    pub fn crash_every(mut self, records: u64) -> Self {
        self.engine.crash_every(records);
        self
    }

    /// Crashes at one step of the run, counted from 1: between two steps of the tasks, or in front of, inside
    /// or behind a commit. With the same seed, a run takes the same steps up to there; so a test can
    /// crash a job wherever it can crash:
    ///
    /// ```
    /// use streams::prelude::*;
    /// const WORDS: Topic<NoKey, String> = topic("words");
    /// const COUNTS: Topic<String, u64> = topic("counts");
    /// fn topology(t: &mut Topology) {
    ///     t.stream(WORDS).key_by(|word| word.clone()).count("counts-by-word").to(COUNTS);
    /// }
    /// let run = |mut d: TestDriver| {
    ///     d.send(WORDS, NoKey, "sea".into()).send(WORDS, NoKey, "sea".into());
    ///     assert_eq!(d.read(COUNTS).last(), Some(&("sea".to_string(), 2)));
    ///     (d.steps(), d.crashes())
    /// };
    /// let (steps, _) = run(TestDriver::new(topology));
    /// for step in 1..=steps {
    ///     let (_, crashes) = run(TestDriver::new(topology).crash_at(step));
    ///     assert_eq!(crashes, 1);
    /// }
    /// ```
    #[must_use]
    pub fn crash_at(mut self, step: u64) -> Self {
        self.engine.crash_at = Some(step);
        self
    }

    /// Passes over source partitions that have been silent that long by the driver's clock while others
    /// moved; a driver waits for them for ever by default. With zero, silent partitions are at once as far
    /// as the furthest, which is Kafka's rule.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const WORDS: Topic<NoKey, String> = topic("words");
    /// const COUNTS: Topic<Windowed<String>, u64> = topic("counts");
    /// fn topology(t: &mut Topology) {
    ///     let words = t.stream(WORDS).key_by(|word| word.clone());
    ///     words.window(tumbling(secs(60))).count("counts-by-word").on_close().to(COUNTS);
    /// }
    /// let mut d = TestDriver::new(topology).partitions(2).idle_after(secs(10));
    /// d.send_to(WORDS, 0, NoKey, "sea".into()).run()?;
    /// d.wall_clock(secs(90)).send_to(WORDS, 0, NoKey, "sea".into());
    /// // Partition 1 never had a record: without `idle_after` it would hold the window open.
    /// assert_eq!(d.read(COUNTS).len(), 1);
    /// # Ok::<(), streams::Error>(())
    /// ```
    #[must_use]
    pub fn idle_after(mut self, silence: Duration) -> Self {
        self.engine.settings.idle_after = silence;
        self
    }

    /// The limit for event times ahead of their records' timestamps; a driver has none by default.
    #[must_use]
    pub fn event_time_ahead_max(mut self, limit: Duration) -> Self {
        self.engine.settings.event_time_ahead_max_ms = duration_ms(limit);
        self
    }

    /// What the job does with records that a step cannot take; see [`App::on_error`](crate::App::on_error).
    #[must_use]
    pub fn on_error(mut self, policy: OnError) -> Self {
        self.engine.settings.on_error = policy;
        self
    }

    /// Keeps the stores in a RocksDB below this directory instead of in memory, so that a test runs on what
    /// production runs on. A crash drops what RocksDB has not written by itself, as a killed process would:
    /// nothing is flushed on the way out. The driver works in a directory of its own inside and
    /// removes it when it is dropped.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const WORDS: Topic<NoKey, String> = topic("words");
    /// const COUNTS: Topic<String, u64> = topic("counts");
    /// fn topology(t: &mut Topology) {
    ///     t.stream(WORDS).key_by(|word| word.clone()).count("counts-by-word").to(COUNTS);
    /// }
    /// let mut d = TestDriver::new(topology).stores_on_disk(std::env::temp_dir());
    /// d.send(WORDS, NoKey, "sea".into()).run()?;
    /// d.crash().send(WORDS, NoKey, "sea".into());
    /// assert_eq!(d.read(COUNTS).last(), Some(&("sea".to_string(), 2)));
    /// # Ok::<(), streams::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If nothing can be written in the directory.
    #[cfg(feature = "rocksdb")]
    #[must_use]
    pub fn stores_on_disk(mut self, dir: impl AsRef<std::path::Path>) -> Self {
        let opened = self.engine.stores.move_to_disk(dir.as_ref());
        opened.expect("a RocksDB can be made in the directory");
        self
    }

    /// Runs a deliberately broken variant of the runtime: a checker must catch it.
    #[cfg(feature = "test-util")]
    #[must_use]
    pub fn mistake(mut self, mistake: Mistake) -> Self {
        self.engine.settings.mistake = Some(mistake);
        self
    }

    /// Runs on a deliberately broken variant of the log: a checker must catch it.
    #[cfg(feature = "test-util")]
    #[must_use]
    pub fn broken_log(mut self, broken: crate::broker::Broken) -> Self {
        self.engine.log.broken = Some(broken);
        self
    }

    /// From now on the log acknowledges what is sent before it is synced.
    #[must_use]
    pub fn unsynced_sends(mut self) -> Self {
        self.engine.log.durability = Durability::Os;
        self
    }

    /// Sends a record, stamped with the driver's clock.
    ///
    /// A key chooses the partition; records without one take partitions in turn.
    ///
    /// # Panics
    ///
    /// If the record cannot be encoded or the log refuses it.
    pub fn send<K: RecordKey, V: Data, C: Codec<V>>(
        &mut self,
        topic: Topic<K, V, C>,
        key: K,
        value: V,
    ) -> &mut Self {
        let now = self.engine.log.now_ms();
        self.send_record(topic, Some(key), Some(value), now, Headers::none())
    }

    /// Sends a record with a timestamp of its own.
    ///
    /// # Panics
    ///
    /// As [`send`](Self::send).
    pub fn send_at<K: RecordKey, V: Data, C: Codec<V>>(
        &mut self,
        topic: Topic<K, V, C>,
        key: K,
        value: V,
        timestamp: i64,
    ) -> &mut Self {
        self.send_record(topic, Some(key), Some(value), timestamp, Headers::none())
    }

    /// Sends a record with everything that a record can have: null keys and values, headers.
    ///
    /// # Panics
    ///
    /// As [`send`](Self::send).
    pub fn send_record<K: RecordKey, V: Data, C: Codec<V>>(
        &mut self,
        topic: Topic<K, V, C>,
        key: Option<K>,
        value: Option<V>,
        timestamp: i64,
        headers: Headers,
    ) -> &mut Self {
        let mut encoded_key = Vec::new();
        let keyed = key.is_some_and(|key| key.encode(&mut encoded_key));
        let partitions = self.engine.partitions_for(topic.name());
        let partition = if keyed {
            crate::broker::partition_for(K::partition_bytes(&encoded_key), partitions)
        } else {
            self.next_turn(topic.name())
        };
        let bytes = value.map(|value| {
            let mut bytes = Vec::new();
            C::encode(&value, &mut bytes).expect("a test sends values that its codec can write");
            bytes
        });
        let key = keyed.then_some(&*encoded_key);
        self.put(topic.name(), partition, timestamp, key, bytes.as_deref(), &headers)
    }

    /// Sends to a partition of the test's choice.
    ///
    /// # Panics
    ///
    /// As [`send`](Self::send).
    pub fn send_to<K: RecordKey, V: Data, C: Codec<V>>(
        &mut self,
        topic: Topic<K, V, C>,
        partition: u32,
        key: K,
        value: V,
    ) -> &mut Self {
        let mut encoded_key = Vec::new();
        let keyed = key.encode(&mut encoded_key);
        let mut bytes = Vec::new();
        C::encode(&value, &mut bytes).expect("a test sends values that its codec can write");
        let (key, now) = (keyed.then_some(&*encoded_key), self.engine.log.now_ms());
        self.put(topic.name(), partition, now, key, Some(&bytes), &Headers::none())
    }

    /// Sends a value without a key, or none, to a partition of the test's choice, with a timestamp.
    ///
    /// # Panics
    ///
    /// As [`send`](Self::send).
    pub fn send_record_to<K: RecordKey, V: Data, C: Codec<V>>(
        &mut self,
        topic: Topic<K, V, C>,
        partition: u32,
        value: Option<V>,
        timestamp: i64,
    ) -> &mut Self {
        let bytes = value.map(|value| {
            let mut bytes = Vec::new();
            C::encode(&value, &mut bytes).expect("a test sends values that its codec can write");
            bytes
        });
        let none = Headers::none();
        self.put(topic.name(), partition, timestamp, None, bytes.as_deref(), &none)
    }

    /// Sends bytes that need not decode.
    ///
    /// # Panics
    ///
    /// If the log refuses them.
    pub fn send_bytes(&mut self, topic: &'static str, partition: u32, value: &[u8]) -> &mut Self {
        let now = self.engine.log.now_ms();
        self.put(topic, partition, now, None, Some(value), &Headers::none())
    }

    /// Where the next record without a key goes.
    fn next_turn(&mut self, topic: &str) -> u32 {
        self.turn = (self.turn + 1) % self.engine.partitions_for(topic);
        self.turn
    }

    fn put(
        &mut self,
        topic: &'static str,
        partition: u32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers,
    ) -> &mut Self {
        let done =
            self.engine.log.ensure_topic(topic, self.engine.partitions_for(topic)).and_then(|n| {
                let partition = partition % n;
                self.engine.log.append(topic, partition, timestamp, key, value, headers)
            });
        done.expect("the log in memory takes what a test sends");
        self
    }

    /// The driver's wall clock moves on.
    pub fn wall_clock(&mut self, by: Duration) -> &mut Self {
        self.engine.log.advance_clock(by);
        self
    }

    /// The driver's wall clock is set, as an administrator would: it jumps, and no time passes.
    pub fn set_wall_clock(&mut self, now_ms: i64) -> &mut Self {
        self.engine.log.set_clock(now_ms);
        self
    }

    /// Processes everything sent so far and commits it.
    ///
    /// # Errors
    ///
    /// What stopped the job. The next call starts it again from its last commit.
    pub fn run(&mut self) -> Result<()> {
        self.engine.drive(None)
    }

    /// Processes everything, then raises the clock of every source partition to `to` (milliseconds
    /// since 1970), so that windows close as if later records had come everywhere.
    ///
    /// # Panics
    ///
    /// If the job fails; see [`run`](Self::run).
    pub fn advance_to(&mut self, to: i64) -> &mut Self {
        let outcome = self.engine.drive(None).and_then(|()| self.engine.drive(Some(to)));
        outcome.expect("the job failed");
        self
    }

    /// Steps taken so far, as [`crash_at`](Self::crash_at) counts them.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.engine.steps
    }

    /// How often the job has crashed.
    #[must_use]
    pub fn crashes(&self) -> u64 {
        self.engine.crashes
    }

    /// Transactions committed.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.engine.commits
    }

    /// Changelog records that stores were restored from, over all starts.
    #[must_use]
    pub fn restored(&self) -> u64 {
        self.engine.restored
    }

    /// Power off: what was not synced is gone, or a part of it; the next call starts again.
    ///
    /// # Panics
    ///
    /// If stores on disk ([`stores_on_disk`](Self::stores_on_disk)) cannot be opened again.
    pub fn crash(&mut self) -> &mut Self {
        self.engine.crash().expect("what a crash leaves can be opened");
        self
    }

    /// Stops the job and moves it to this offset in each source partition, as `reset --to OFFSET --yes`
    /// does: the next call starts it there, with empty stores.
    ///
    /// # Errors
    ///
    /// S032: a source partition has no such offset.
    pub fn reset_to(&mut self, offset: i64) -> Result<()> {
        self.engine.reset(offset)
    }

    /// A clean stop, as Ctrl-C does it: what was processed is committed, stores go to the disk.
    ///
    /// # Panics
    ///
    /// If the job fails; see [`run`](Self::run).
    pub fn stop(&mut self) -> &mut Self {
        self.engine.stop().expect("the job failed");
        self
    }
}

#[cfg(test)]
mod tests;
