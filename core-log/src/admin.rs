//! Topics: made, found, listed, shortened.
//!
//! Why apart from `log`: these are the calls of tools and of start-up, not of the data path.

use crate::config::TopicSettings;
use crate::error::Result;
use crate::ids::{GroupId, Offset, TopicId, TopicPartition};
use crate::log::{AdoptedTopic, Log};
use crate::topic::Topic;

impl Log {
    /// Makes a topic; it survives a power cut when this returns.
    ///
    /// # Errors
    ///
    /// * [`Error::TopicExists`](crate::Error::TopicExists),
    ///   [`Error::InvalidName`](crate::Error::InvalidName),
    ///   [`Error::InvalidSetting`](crate::Error::InvalidSetting): nothing was changed.
    /// * [`Error::NotALog`](crate::Error::NotALog): a directory of that name holds something else.
    /// * [`Error::LogCrashed`](crate::Error::LogCrashed) and what the disk says.
    pub fn create_topic(&self, name: &str, settings: TopicSettings) -> Result<Topic> {
        self.inner.engine()?.create_topic(name, settings)
    }

    /// Takes over a topic whose partitions another log wrote: Apache Kafka's, or one of ours that is
    /// not open any more. Copy or move their directories (`clicks-0`, `clicks-1`, ..) into the
    /// directory of this log, then call this; the files are used as they are from then on.
    ///
    /// Partitions are counted, `settings.partitions` is not looked at. The topic keeps the id that
    /// Kafka gave it (`partition.metadata`), its offsets, timestamps and leader epochs; every batch is
    /// verified. Transactions that are open there are aborted. A partition begins at its first segment:
    /// what Kafka's `log-start-offset-checkpoint` says lies outside of it, see
    /// [`delete_records`](Self::delete_records).
    ///
    /// ```
    /// use core_log::{BatchBuilder, Durability, Log, NO_HEADERS, TopicSettings};
    ///
    /// let (old, new) = (tempfile::tempdir()?, tempfile::tempdir()?);
    /// let log = Log::open(old.path())?;
    /// let clicks = log.create_topic("clicks", TopicSettings::default())?;
    /// let mut batch = BatchBuilder::new();
    /// batch.push(0, None, Some(b"page"), NO_HEADERS)?;
    /// log.producer(Durability::Sync)?.append(&clicks, 0, &mut batch)?;
    /// log.close()?;
    ///
    /// let log = Log::open(new.path())?;
    /// std::fs::rename(old.path().join("clicks-0"), new.path().join("clicks-0"))?;
    /// let adopted = log.adopt_topic("clicks", TopicSettings::default())?;
    /// assert_eq!(log.offsets(adopted.topic.id(), 0)?.log_end_offset, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// * [`Error::NotAPartition`](crate::Error::NotAPartition): a directory is missing, or is none.
    /// * [`Error::Damaged`](crate::Error::Damaged): a batch in it is; for instance one in a format older
    ///   than version 2.
    /// * As [`create_topic`](Self::create_topic). The log goes on without the topic.
    pub fn adopt_topic(&self, name: &str, settings: TopicSettings) -> Result<AdoptedTopic> {
        self.inner.engine()?.adopt_topic(name, settings)
    }

    /// The topic of this name.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTopic`](crate::Error::UnknownTopic), with the names that there are.
    pub fn topic(&self, name: &str) -> Result<Topic> {
        self.inner.engine()?.topic(name)
    }

    /// Changes the settings of a topic, for example by Kafka's names; the change survives a power cut
    /// when this returns. A [`Topic`] that was asked for before says what it said.
    ///
    /// ```
    /// # use core_log::{Log, TopicSettings};
    /// # let dir = tempfile::tempdir()?;
    /// # let log = Log::open(dir.path())?;
    /// # log.create_topic("clicks", TopicSettings::default())?;
    /// let clicks = log.alter_topic("clicks", |settings| settings.set("retention.ms", "3600000"))?;
    /// assert_eq!(clicks.settings().retention_ms, Some(3_600_000));
    /// assert_eq!(log.topic("clicks")?, clicks);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// * [`Error::UnknownTopic`](crate::Error::UnknownTopic),
    ///   [`Error::InvalidSetting`](crate::Error::InvalidSetting), also for another number of partitions,
    ///   and what `change` answers: nothing was changed.
    /// * [`Error::LogCrashed`](crate::Error::LogCrashed) and what the disk says: the topic has either
    ///   its old settings or its new ones.
    pub fn alter_topic(
        &self,
        name: &str,
        change: impl FnOnce(&mut TopicSettings) -> Result<()>,
    ) -> Result<Topic> {
        self.inner.engine()?.alter_topic(name, change)
    }

    /// All topics, by name.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`](crate::Error::Closed), or what keeps a crashed log from reopening.
    pub fn topics(&self) -> Result<Vec<Topic>> {
        Ok(self.inner.engine()?.topics())
    }

    /// Keeps everything from `offset` on: `holder` reflects what lies below, and must see each tombstone
    /// and record that follows. Neither retention nor compaction passes the smallest offset that is
    /// held; [`delete_records`](Self::delete_records) and [`purge`](Self::purge) do. Held until it is
    /// moved by the same call or [released](Self::release), also when the log is closed meanwhile.
    ///
    /// ```
    /// use core_log::{Cleanup, CleanupPolicy, GroupId, Log, TopicSettings};
    ///
    /// let dir = tempfile::tempdir()?;
    /// let log = Log::open(dir.path())?;
    /// let cleanup = Cleanup::with_policy(CleanupPolicy::Compact);
    /// let rows = log.create_topic("rows", TopicSettings { cleanup, ..Default::default() })?;
    /// let store = GroupId::new("store-on-disk")?;
    /// log.hold(rows.id(), 0, &store, 0)?;
    /// // ... once the store reflects everything below offset 10:
    /// log.hold(rows.id(), 0, &store, 10)?;
    /// log.release(rows.id(), 0, &store)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::UnknownPartition`](crate::Error::UnknownPartition),
    /// [`Error::LogCrashed`](crate::Error::LogCrashed) and what the disk says.
    pub fn hold(
        &self,
        topic: TopicId,
        partition: u32,
        holder: &GroupId,
        offset: Offset,
    ) -> Result<()> {
        let engine = self.inner.engine()?;
        engine.require(TopicPartition { topic, partition })?.hold(holder, offset)
    }

    /// Keeps nothing for `holder` any more.
    ///
    /// # Errors
    ///
    /// As [`hold`](Self::hold).
    pub fn release(&self, topic: TopicId, partition: u32, holder: &GroupId) -> Result<()> {
        self.inner.engine()?.require(TopicPartition { topic, partition })?.release(holder)
    }

    /// Below this offset compaction may have taken records out, tombstones too; 0 where it never ran. Once
    /// somebody [holds](Self::hold) the partition nothing more is taken out behind what is held, so whoever
    /// goes on reading from an earlier position holds first and asks then.
    ///
    /// ```
    /// use core_log::{Log, TopicSettings};
    ///
    /// let dir = tempfile::tempdir()?;
    /// let log = Log::open(dir.path())?;
    /// let rows = log.create_topic("rows", TopicSettings::default())?;
    /// assert_eq!(log.compacted_below(rows.id(), 0)?, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::UnknownPartition`](crate::Error::UnknownPartition).
    pub fn compacted_below(&self, topic: TopicId, partition: u32) -> Result<Offset> {
        let engine = self.inner.engine()?;
        Ok(engine.require(TopicPartition { topic, partition })?.compacted_below())
    }

    /// Deletes the records below `before`, durably; answers the new log start. The space comes back
    /// when the log is maintained next.
    ///
    /// # Errors
    ///
    /// [`Error::OffsetOutOfRange`](crate::Error::OffsetOutOfRange): beyond the high watermark.
    pub fn delete_records(&self, topic: TopicId, partition: u32, before: Offset) -> Result<Offset> {
        self.inner.engine()?.require(TopicPartition { topic, partition })?.delete_records(before)
    }

    /// Gives back the space of segments that lie wholly below `before`, and costs nothing when there
    /// are none; answers the log start. For records that nobody needs any more.
    ///
    /// # Errors
    ///
    /// [`Error::LogCrashed`](crate::Error::LogCrashed) and what the disk says.
    pub fn purge(&self, topic: TopicId, partition: u32, before: Offset) -> Result<Offset> {
        let engine = self.inner.engine()?;
        let partition = engine.require(TopicPartition { topic, partition })?;
        if partition.can_purge(before)
            && let Ok(commits) = engine.commits()
        {
            // Must be BEFORE the records go, or else a power cut could send a group back to them.
            commits.settle(engine.as_ref())?;
        }
        partition.purge(before)
    }
}
