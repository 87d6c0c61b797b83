//! What a repair would do, as a value that a person reads before it is done.
//!
//! Why a value: whoever says yes must know what is given up, with file, position and offsets.
//!
//! ```text
//!   hole in a file          its bytes to quarantine, markers and a batch without records in their place
//!   file missing            a file with such a batch
//!   commit records damaged  what can be read of them in a new file, the old one to quarantine
//! ```
//!
//! Invariants
//! * What the next start does by itself is no part of a plan.
//! * Actions come in an order in which each leaves the log no worse, whatever becomes of the next.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::look::Look;
use super::partition::{Doubt, PartitionLook};
use super::report::Hole;
use crate::format::ControlType;
use crate::ids::{Offset, TopicId, TopicPartition};
use crate::segment::{Examined, Place, WITNESS_LOST};

/// Offsets whose records are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostRange {
    /// Where the bad bytes begin in the file.
    pub position: u64,
    /// How many bad bytes there are: they go to quarantine.
    pub bytes: u64,
    /// The first offset that is lost.
    pub first_offset: Offset,
    /// The offset behind them; the same when only bytes are lost that were no batch.
    pub next_offset: Offset,
    /// What is wrong with the first of them.
    pub reason: String,
}

/// One thing that a repair does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RepairAction {
    /// Takes bad bytes out of a segment; a batch without records stands for their offsets.
    TakeOut {
        /// The `.log` file, which is replaced.
        path: PathBuf,
        /// What is lost.
        lost: Vec<LostRange>,
        /// How transactions are taken to have ended whose marker is lost, one line each.
        ended: Vec<String>,
    },
    /// Makes a segment that is missing, of a batch without records.
    MakeSegment {
        /// The file.
        path: PathBuf,
        /// The first offset that is lost.
        first_offset: Offset,
        /// The offset behind them.
        next_offset: Offset,
    },
    /// Removes a seal that speaks of another file than the one beside it: it is made again.
    RemoveSeal {
        /// The seal.
        path: PathBuf,
    },
    /// Writes down where a partition begins.
    SetLogStart {
        /// The file.
        path: PathBuf,
        /// The first offset of which there is a file.
        offset: Offset,
    },
    /// Writes the topic's id into a directory that names another topic.
    ReplaceTopicId {
        /// The file.
        path: PathBuf,
        /// The id that it holds.
        found: TopicId,
        /// The topic's.
        topic: TopicId,
    },
    /// Replaces the list of topics by those that have directories, with default settings and without
    /// retention.
    ReplaceTopics {
        /// The file.
        path: PathBuf,
        /// The topics, with their partitions.
        topics: Vec<String>,
        /// Those of them that get a new id, as their directories hold none.
        with_new_id: Vec<String>,
    },
    /// Replaces the commit records by what can be read of them.
    ReplaceCommits {
        /// The file, or the directory when there is none.
        path: PathBuf,
        /// How many records can be read.
        kept: usize,
        /// How many bytes cannot.
        lost_bytes: u64,
        /// Whether the positions of groups before the damage are lost with a snapshot.
        snapshot_lost: bool,
        /// The groups of which a position can be read; it may be older than the last one committed.
        groups: Vec<String>,
        /// Transactions that a marker in another partition proves to be committed.
        proven: Vec<String>,
        /// Transactions that nothing decides any more: the next start rolls them back.
        undecided: Vec<String>,
    },
    /// Gives the log a new id: what remembers positions beside the old one starts over.
    ReplaceId {
        /// The file.
        path: PathBuf,
    },
}

/// What has to be done beside what is told.
#[derive(Clone, Debug)]
pub(super) enum Work {
    Segment { place: Arc<Place>, segment: Examined, holes: Vec<Fill> },
    Make { place: Arc<Place>, fill: Fill },
    Seal { path: PathBuf },
    Begin { place: Arc<Place>, at: Offset },
    LogStart { place: Arc<Place>, at: Offset },
    TopicId { place: Arc<Place>, id: TopicId },
    Topics,
    Commits { synced: BTreeMap<TopicPartition, Offset> },
    Id,
}

/// What takes the place of a hole.
#[derive(Clone, Debug)]
pub(super) struct Fill {
    pub(super) position: u64,
    pub(super) bytes: u64,
    pub(super) first: Offset,
    pub(super) next: Offset,
    pub(super) leader_epoch: i32,
    pub(super) doubts: Vec<Doubt>,
}

/// What a repair would do. The directory stays locked until this is executed or dropped.
#[derive(Debug)]
pub struct RepairPlan {
    pub(super) look: Look,
    pub(super) actions: Vec<RepairAction>,
    pub(super) works: Vec<Work>,
}

impl RepairPlan {
    /// The actions, in their order.
    #[must_use]
    pub fn actions(&self) -> &[RepairAction] {
        &self.actions
    }

    /// Whether there is nothing to repair.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    fn push(&mut self, action: RepairAction, work: Work) {
        self.actions.push(action);
        self.works.push(work);
    }
}

/// What must be done so that everything that is left can be served.
pub(super) fn plan(look: Look) -> RepairPlan {
    let mut plan = RepairPlan { look, actions: Vec::new(), works: Vec::new() };
    let mut synced = BTreeMap::new();
    for index in 0..plan.look.partitions.len() {
        let (end, steps) = of_partition(&plan.look.partitions[index]);
        synced.insert(plan.look.partitions[index].id, end);
        for (action, work) in steps {
            plan.push(action, work);
        }
    }
    if plan.look.topics_lost.is_some() {
        let name = |topic: &crate::topic::Topic| {
            format!("{} ({} partitions)", topic.name(), topic.partitions())
        };
        let topics = plan.look.topics.iter().map(name).collect();
        let with_new_id = plan.look.with_new_id.iter().map(ToString::to_string).collect();
        let path = plan.look.path("topics.checkpoint");
        plan.push(RepairAction::ReplaceTopics { path, topics, with_new_id }, Work::Topics);
    }
    if let Some(damage) = &plan.look.commits.loaded.contents.damage {
        let commits = &plan.look.commits;
        let action = RepairAction::ReplaceCommits {
            path: damage.path.clone(),
            kept: commits.salvage.records.len(),
            lost_bytes: commits.salvage.bad_bytes,
            snapshot_lost: commits.salvage.snapshot.is_none(),
            groups: commits.salvage.groups().iter().map(ToString::to_string).collect(),
            proven: commits.proven.iter().map(|proven| proven.producer_id.to_string()).collect(),
            undecided: commits
                .undecided
                .iter()
                .map(|(partition, producer)| format!("producer {producer} in {partition}"))
                .collect(),
        };
        plan.push(action, Work::Commits { synced });
    }
    if plan.look.meta_lost.is_some() {
        let path = plan.look.path("meta.properties");
        plan.push(RepairAction::ReplaceId { path }, Work::Id);
    }
    plan
}

/// What is done to one partition, and where it ends afterwards.
fn of_partition(look: &PartitionLook) -> (Offset, Vec<(RepairAction, Work)>) {
    let mut steps = Vec::new();
    let place = || Arc::clone(&look.place);
    let holes: Vec<Hole> =
        look.holes().into_iter().filter(|hole| !hole.is_torn_tail(look.witness)).collect();
    let end = holes.iter().map(|hole| hole.next).fold(look.end_offset(), Offset::max);
    if look.segments.is_empty() {
        let action = RepairAction::MakeSegment {
            path: holes[0].path.clone(),
            first_offset: look.log_start.unwrap_or(0),
            next_offset: end,
        };
        return (end, vec![(action, Work::Begin { place: place(), at: end })]);
    }
    let fill = |hole: &Hole| Fill {
        position: hole.position,
        bytes: hole.bytes,
        first: hole.first,
        next: hole.next,
        leader_epoch: look.replay.leader_epoch,
        doubts: look
            .replay
            .doubts
            .iter()
            .filter(|doubt| doubt.hole == hole.first)
            .copied()
            .collect(),
    };
    for hole in holes.iter().filter(|hole| hole.segment.is_none()) {
        let (first_offset, next_offset) = (hole.first, hole.next);
        let action =
            RepairAction::MakeSegment { path: hole.path.clone(), first_offset, next_offset };
        steps.push((action, Work::Make { place: place(), fill: fill(hole) }));
    }
    for (index, segment) in look.segments.iter().enumerate() {
        let own: Vec<&Hole> = holes.iter().filter(|hole| hole.segment == Some(index)).collect();
        if own.is_empty() {
            if look.has_stale_seal(index) {
                let path = segment.seal_path.clone();
                let work = Work::Seal { path: path.clone() };
                steps.push((RepairAction::RemoveSeal { path }, work));
            }
            continue;
        }
        let fills: Vec<Fill> = own.iter().map(|hole| fill(hole)).collect();
        let action = RepairAction::TakeOut {
            path: segment.path.clone(),
            lost: own.iter().map(|hole| hole.lost()).collect(),
            ended: fills.iter().flat_map(|fill| &fill.doubts).map(ended).collect(),
        };
        let work = Work::Segment { place: place(), segment: segment.clone(), holes: fills };
        steps.push((action, work));
    }
    if look.log_start.is_none() {
        let at = look.segments.first().map_or(0, |first| first.base_offset);
        let path = look.place.dir.join(crate::partition::trim::LOG_START_FILE);
        let action = RepairAction::SetLogStart { path, offset: at };
        steps.push((action, Work::LogStart { place: place(), at }));
    }
    if let Some(found) = look.other_topic_id {
        let (path, topic) =
            (look.place.dir.join(crate::partition::topic_id::FILE_NAME), look.id.topic);
        let action = RepairAction::ReplaceTopicId { path, found, topic };
        steps.push((action, Work::TopicId { place: place(), id: topic }));
    }
    (end, steps)
}

impl Hole {
    fn lost(&self) -> LostRange {
        LostRange {
            position: self.position,
            bytes: self.bytes,
            first_offset: self.first,
            next_offset: self.next,
            reason: self.reason.clone(),
        }
    }
}

fn ended(doubt: &Doubt) -> String {
    let how = match doubt.ended {
        Some(ControlType::Commit) => "was committed, as the index of aborted ones says",
        Some(ControlType::Abort) => "was aborted, as the index of aborted ones says",
        None => "may have been committed or aborted, and is taken for aborted",
    };
    let span = doubt.span;
    format!(
        "the transaction of producer {} from offset {} to {} {how}",
        doubt.producer_id, span.first_offset, span.end_offset
    )
}

impl fmt::Display for LostRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { position, bytes, first_offset, next_offset, reason } = self;
        write!(f, "{bytes} bytes at byte {position} go to quarantine ({reason}); ")?;
        if next_offset > first_offset {
            write!(f, "LOST: the records of offsets {first_offset} to {next_offset}, exclusive")
        } else {
            write!(f, "no record is lost")
        }
    }
}

impl fmt::Display for RepairAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TakeOut { path, lost, ended } => {
                write!(f, "{}: take out what is damaged, keep all else", path.display())?;
                lost.iter().try_for_each(|range| write!(f, "\n     {range}"))?;
                ended.iter().try_for_each(|line| write!(f, "\n     {line}"))
            }
            Self::MakeSegment { path, first_offset, next_offset } => {
                write!(f, "{}: make the file again, empty; LOST: ", path.display())?;
                if next_offset > first_offset {
                    write!(f, "the records of offsets {first_offset} to {next_offset}, exclusive")
                } else {
                    write!(f, "what was in it, of which nothing is known")
                }
            }
            Self::RemoveSeal { path } => write!(
                f,
                "{}: remove the seal, which is not this file's; it is made again",
                path.display()
            ),
            Self::SetLogStart { path, offset } => write!(
                f,
                "{}: the partition begins at offset {offset}; records that were deleted may be back",
                path.display()
            ),
            Self::ReplaceTopicId { path, found, topic } => write!(
                f,
                "{}: write the topic's id, {topic}, in place of {found}; if the directory is another \
                 log's, put the right one in its place instead",
                path.display()
            ),
            Self::ReplaceTopics { path, topics, with_new_id } => {
                write_topics(f, path, topics, with_new_id)
            }
            Self::ReplaceId { path } => {
                write!(f, "{}: give the log a new id; stores on disk start over", path.display())
            }
            Self::ReplaceCommits { .. } => self.write_commits(f),
        }
    }
}

fn write_topics(
    f: &mut fmt::Formatter<'_>,
    path: &Path,
    topics: &[String],
    with_new_id: &[String],
) -> fmt::Result {
    write!(
        f,
        "{}: list the topics that have directories: {}; LOST: their settings (they keep everything \
         from now on)",
        path.display(),
        topics.join(", ")
    )?;
    if !with_new_id.is_empty() {
        let names = with_new_id.join(", ");
        write!(f, "\n     LOST: the ids, and the positions of groups, of {names}")?;
    }
    Ok(())
}

impl RepairAction {
    fn write_commits(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::ReplaceCommits {
            path,
            kept,
            lost_bytes,
            snapshot_lost,
            groups,
            proven,
            undecided,
        } = self
        else {
            return Ok(());
        };
        write!(f, "{}: keep the {kept} commit records that can be read", path.display())?;
        write!(f, "\n     {lost_bytes} bytes are no records; the old file goes to quarantine")?;
        if *snapshot_lost {
            write!(f, "\n     LOST: the positions that groups had committed before")?;
        }
        for (what, names) in [
            ("positions that may be older than the last ones: of", groups),
            ("committed, as a marker proves: producers", proven),
            ("LOST: open and rolled back by the next start:", undecided),
        ] {
            if !names.is_empty() {
                write!(f, "\n     {what} {}", names.join(", "))?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for RepairPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return write!(f, "nothing to repair");
        }
        for (number, action) in (1..).zip(&self.actions) {
            writeln!(f, "{number}. {action}")?;
        }
        write!(f, "Nothing is deleted: what is taken out stays in *.quarantine files.")
    }
}

impl PartitionLook {
    /// Whether a full segment is whole, and its seal speaks of another file.
    pub(super) fn has_stale_seal(&self, index: usize) -> bool {
        let segment = &self.segments[index];
        index + 1 < self.segments.len()
            && segment.sealed_bytes.is_some_and(|bytes| bytes != segment.bytes())
            && segment.stretches.iter().all(|stretch| stretch.bad.is_none())
    }

    /// Whether nobody knows up to where it was synced.
    pub(super) fn is_witness_lost(&self) -> bool {
        self.witness == WITNESS_LOST
    }
}
