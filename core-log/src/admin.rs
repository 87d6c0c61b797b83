//! Topics: made, found, listed, shortened.
//!
//! Why apart from `log`: these are the calls of tools and of start-up, not of the data path.

use crate::config::TopicSettings;
use crate::error::Result;
use crate::ids::{Offset, TopicId, TopicPartition};
use crate::log::Log;
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

    /// Deletes the records below `before`, durably; answers the new log start.
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
