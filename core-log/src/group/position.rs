//! Where a consumer is, and where it goes on: seek, pause, position, lag.
//!
//! Why by topic and partition: these calls are made by people who look at one partition.
//!
//! Invariants
//! * What is not assigned is refused with an error that says so.

use std::collections::BTreeMap;

use super::commit::{OffsetAndMetadata, committed_positions};
use super::consumer::Consumer;
use crate::error::{GroupError, Result};
use crate::ids::{Offset, Timestamp};
use crate::log::Log;
use crate::members::PartitionName;
use crate::partition::FetchBound;

use super::settings::OffsetReset;

/// How far a reader is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// The next offset that it reads, or has committed.
    pub position: Offset,
    /// The end of what it may see, exclusive.
    pub end: Offset,
}

impl Lag {
    /// How many offsets lie between: records, markers, and what compaction has left out.
    #[must_use]
    pub fn offsets(&self) -> i64 {
        self.end.saturating_sub(self.position).max(0)
    }
}

impl Consumer {
    /// Goes on from `offset`. One that the partition does not hold is dealt with at the next poll, as
    /// `auto.offset.reset` says.
    ///
    /// # Errors
    ///
    /// [`GroupError::NotAssigned`]; in a group, partitions come with the first poll.
    pub fn seek(&mut self, topic: &str, partition: u32, offset: Offset) -> Result<()> {
        self.lane(topic, partition)?.seek(offset.max(0));
        Ok(())
    }

    /// Goes on from the first record whose timestamp is at or behind `timestamp`; answers its offset and
    /// timestamp. Without one it goes on from the end.
    ///
    /// # Errors
    ///
    /// [`GroupError::NotAssigned`], and those of a read.
    pub fn seek_to_time(
        &mut self,
        topic: &str,
        partition: u32,
        timestamp: Timestamp,
    ) -> Result<Option<(Offset, Timestamp)>> {
        self.lane(topic, partition)?.seek_to_time(timestamp)
    }

    /// Goes on from the first record that there is.
    ///
    /// # Errors
    ///
    /// [`GroupError::NotAssigned`].
    pub fn seek_to_beginning(&mut self, topic: &str, partition: u32) -> Result<()> {
        self.go_to(topic, partition, OffsetReset::Earliest)
    }

    /// Goes on behind the last record that it may see now.
    ///
    /// # Errors
    ///
    /// [`GroupError::NotAssigned`].
    pub fn seek_to_end(&mut self, topic: &str, partition: u32) -> Result<()> {
        self.go_to(topic, partition, OffsetReset::Latest)
    }

    fn go_to(&mut self, topic: &str, partition: u32, place: OffsetReset) -> Result<()> {
        let lane = self.lane(topic, partition)?;
        lane.unset();
        lane.resolve(place).map(drop)
    }

    /// Goes back, or ahead, to the group's committed offset; without one `auto.offset.reset` decides.
    ///
    /// # Errors
    ///
    /// [`GroupError::NotAssigned`], [`GroupError::NoGroup`], [`GroupError::NoOffset`].
    pub fn seek_to_committed(&mut self, topic: &str, partition: u32) -> Result<()> {
        let Some(seat) = &self.seat else { return Err(GroupError::NoGroup.into()) };
        let committed = committed_positions(&self.log, &seat.group.id)?;
        let reset = self.settings.auto_offset_reset;
        let lane = self.lane(topic, partition)?;
        match committed.get(&lane.id()) {
            Some(committed) => lane.seek(committed.offset),
            None => {
                lane.unset();
                lane.resolve(reset)?;
            }
        }
        Ok(())
    }

    /// The next offset that it hands out.
    ///
    /// # Errors
    ///
    /// [`GroupError::NotAssigned`]; [`GroupError::NoOffset`]: `auto.offset.reset` is `none`.
    pub fn position(&mut self, topic: &str, partition: u32) -> Result<Offset> {
        let reset = self.settings.auto_offset_reset;
        self.lane(topic, partition)?.resolve(reset)
    }

    /// Hands out nothing of this partition until it is resumed; it stays this consumer's. A partition
    /// that is lost and comes again is not paused.
    ///
    /// # Errors
    ///
    /// [`GroupError::NotAssigned`].
    pub fn pause(&mut self, topic: &str, partition: u32) -> Result<()> {
        self.lane(topic, partition)?.is_paused = true;
        Ok(())
    }

    /// Hands out records of this partition again.
    ///
    /// # Errors
    ///
    /// [`GroupError::NotAssigned`].
    pub fn resume(&mut self, topic: &str, partition: u32) -> Result<()> {
        self.lane(topic, partition)?.is_paused = false;
        Ok(())
    }

    /// The partitions that are paused.
    #[must_use]
    pub fn paused(&self) -> Vec<PartitionName> {
        let paused = self.lanes.iter().filter(|(_, lane)| lane.is_paused);
        paused.map(|(name, _)| name.clone()).collect()
    }

    /// How far it is behind in each of its partitions.
    ///
    /// # Errors
    ///
    /// [`GroupError::NoOffset`]: `auto.offset.reset` is `none`.
    pub fn lag(&mut self) -> Result<BTreeMap<PartitionName, Lag>> {
        let reset = self.settings.auto_offset_reset;
        let mut lags = BTreeMap::new();
        for (name, lane) in &mut self.lanes {
            let lag = Lag { position: lane.resolve(reset)?, end: lane.end()? };
            lags.insert(name.clone(), lag);
        }
        Ok(lags)
    }
}

/// How far committed offsets are behind.
pub(super) fn group_lag(
    log: &Log,
    committed: &BTreeMap<PartitionName, OffsetAndMetadata>,
    bound: FetchBound,
) -> Result<BTreeMap<PartitionName, Lag>> {
    let mut lags = BTreeMap::new();
    for (name, committed) in committed {
        let topic = log.topic(name.topic.as_str())?;
        let end = log.offsets(topic.id(), name.partition)?.end(bound);
        lags.insert(name.clone(), Lag { position: committed.offset, end });
    }
    Ok(lags)
}
