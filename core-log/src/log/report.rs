//! What a start of the log found and did, for a person.
//!
//! Why: nothing is cut, aborted or rolled back in silence.

use std::fmt;
use std::path::PathBuf;

use crate::commit::recovery::RolledBack;
use crate::ids::{Offset, ProducerEpoch, ProducerId, TopicId, TopicName};
use crate::topic::Topic;

/// What was done to one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRecovery {
    /// Its topic.
    pub topic: TopicName,
    /// Its number.
    pub partition: u32,
    /// Where it ends now.
    pub log_end_offset: Offset,
    /// Bytes that were cut from its end because they were not whole.
    pub cut_bytes: u64,
    /// Bytes that were kept, written again and synced.
    pub rewritten_bytes: u64,
    /// Where the cut bytes went.
    pub quarantine_path: Option<PathBuf>,
    /// What is damaged: the partition can be read up to there and not be written.
    pub damage: Option<String>,
    /// Whether the file that says where the log starts is damaged: records that were deleted, and whose
    /// segment is still there, are back.
    pub log_start_lost: bool,
    /// Whether the batches of the last segment are good, and not those that its seal speaks of: they may
    /// be another partition's.
    pub differs_from_seal: bool,
    /// The id in its `partition.metadata`, where that is another topic's: the directory may be one of
    /// another log. The list of topics is believed, and the file left as it is.
    pub other_topic_id: Option<TopicId>,
}

/// A transaction that recovery ended in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedTransaction {
    /// The partition's topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: u32,
    /// Whose transaction.
    pub producer_id: ProducerId,
}

/// Commits in one partition that lost their commit record: they did not promise to survive a power cut
/// (`Os`, `Interval`), and the disk kept their markers here and not their records in `__commits`.
///
/// What they wrote to this partition stays committed. In other partitions it may have been lost or
/// rolled back, and the positions that they committed are not in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnrecordedCommit {
    /// The partition's topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: u32,
    /// Whose transaction the first one was.
    pub producer_id: ProducerId,
    /// The epoch of that transaction.
    pub producer_epoch: ProducerEpoch,
    /// Where its commit marker lies.
    pub marker_offset: Offset,
    /// How many more there are behind it.
    pub others: u64,
}

/// A topic whose partitions another log had written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptedTopic {
    /// The topic.
    pub topic: Topic,
    /// Partitions that were written again and synced, or of which a torn end was cut.
    pub partitions: Vec<PartitionRecovery>,
    /// Transactions that were open, and were aborted: their outcome is not in these files.
    pub aborted: Vec<EndedTransaction>,
}

/// What opening a log found and did. Its text has one line for each thing; a log that was closed
/// cleanly gives no line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Whether the log had been closed.
    pub was_closed: bool,
    /// Whether the machine was started again since the log was last open.
    pub was_rebooted: bool,
    /// Partitions that were cut, rewritten or found damaged.
    pub partitions: Vec<PartitionRecovery>,
    /// Bytes cut from the commit records.
    pub commits_cut_bytes: u64,
    /// Where they went.
    pub commits_quarantine_path: Option<PathBuf>,
    /// What is damaged in the commit records: no open transaction is decided.
    pub commits_damage: Option<String>,
    /// Commit markers that were missing and have been written.
    pub markers_written: Vec<EndedTransaction>,
    /// Transactions that were open and have been aborted.
    pub aborted: Vec<EndedTransaction>,
    /// Commits that did not promise to survive a power cut, and did not.
    pub rolled_back: Vec<RolledBack>,
    /// Commits of the same kind of which only a part has survived.
    pub unrecorded: Vec<UnrecordedCommit>,
}

impl RecoveryReport {
    /// Whether nothing had to be done.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.to_string().is_empty()
    }
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for partition in &self.partitions {
            let name = format!("{}-{}", partition.topic, partition.partition);
            if let Some(damage) = &partition.damage {
                writeln!(
                    f,
                    "{name}: DAMAGED, read-only up to offset {}: {damage}",
                    partition.log_end_offset
                )?;
            }
            if let Some(path) = &partition.quarantine_path {
                let (bytes, end) = (partition.cut_bytes, partition.log_end_offset);
                writeln!(
                    f,
                    "{name}: cut {bytes} bytes at offset {end}, kept in {}",
                    path.display()
                )?;
            }
            if partition.log_start_lost {
                writeln!(f, "{name}: its log start is lost, deleted records may be back")?;
            }
            if partition.differs_from_seal {
                writeln!(
                    f,
                    "{name}: its last segment is not the one that was sealed; it is taken as it is"
                )?;
            }
            if let Some(id) = partition.other_topic_id {
                writeln!(
                    f,
                    "{name}: its partition.metadata names another topic, {id}; it is taken as it is"
                )?;
            }
            if partition.rewritten_bytes > 0 {
                writeln!(f, "{name}: wrote {} bytes again", partition.rewritten_bytes)?;
            }
        }
        if let Some(damage) = &self.commits_damage {
            writeln!(f, "commit records: DAMAGED, no open transaction is decided: {damage}")?;
        }
        if let Some(path) = &self.commits_quarantine_path {
            let bytes = self.commits_cut_bytes;
            writeln!(f, "commit records: cut {bytes} bytes, kept in {}", path.display())?;
        }
        for ended in &self.markers_written {
            let EndedTransaction { topic, partition, producer_id } = ended;
            writeln!(f, "{topic}-{partition}: completed a commit of producer {producer_id}")?;
        }
        for ended in &self.aborted {
            let EndedTransaction { topic, partition, producer_id } = ended;
            writeln!(
                f,
                "{topic}-{partition}: rolled back an open transaction of producer {producer_id}"
            )?;
        }
        for commit in &self.rolled_back {
            let groups: Vec<_> = commit.groups.iter().map(ToString::to_string).collect();
            let groups = groups.join(", ");
            write!(
                f,
                "{}: a commit without sync did not survive the power cut",
                commit.transactional_id
            )?;
            if let Some((partition, end, expected)) = commit.short {
                write!(f, " ({partition} ends at {end} instead of {expected})")?;
            }
            writeln!(f, "; groups back at their last whole commit: {groups}")?;
        }
        self.unrecorded.iter().try_for_each(|commit| write_unrecorded(f, commit))
    }
}

fn write_unrecorded(f: &mut fmt::Formatter<'_>, commit: &UnrecordedCommit) -> fmt::Result {
    let UnrecordedCommit { topic, partition, producer_id, producer_epoch, .. } = commit;
    write!(
        f,
        "{topic}-{partition}: producer {producer_id}, epoch {producer_epoch}: a commit without sync \
         survived the power cut here, its marker is at offset {}, and its commit record did not",
        commit.marker_offset
    )?;
    if commit.others > 0 {
        write!(f, " (nor did those of {} more behind it)", commit.others)?;
    }
    writeln!(
        f,
        "; what it wrote to other partitions may be missing there, its group positions are not in force"
    )
}
