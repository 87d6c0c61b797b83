//! Opens the partitions of a log, several at the same time.
//!
//! Why at the same time: each costs a few reads and a sync of its directory, and a log may have
//! thousands.
//!
//! Invariants
//! * What is found, and the order in which it is told, do not depend on how many are opened at once.
//!
//! On crash: see `partition::recovery`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::directory::{self, CleanShutdown};
use super::report::{PartitionRecovery, RecoveryReport, UnrecordedCommit};
use crate::commit::recovery::Loaded;
use crate::error::{Error, Result};
use crate::ids::{Offset, TopicId, TopicPartition};
use crate::partition::recovery::{OpenRequest, Opened, open as open_partition};
use crate::partition::unrecorded::Recorded;
use crate::partition::{Partition, Shared, topic_id};
use crate::segment::{Place, WITNESS_LOST};
use crate::topic::Topic;

/// What is known of a partition's state before it is opened.
#[derive(Debug)]
pub(crate) struct Before {
    witnesses: BTreeMap<TopicPartition, Offset>,
    /// The witness of a partition that has none.
    otherwise: Offset,
    may_have_lost: bool,
    recorded: Option<Recorded>,
}

impl Before {
    pub(crate) fn of(
        loaded: &Loaded,
        clean: Option<CleanShutdown>,
        report: &RecoveryReport,
    ) -> Self {
        let mut witnesses = loaded.witnesses();
        let is_damaged = loaded.contents.damage.is_some();
        let otherwise = match clean {
            // Nobody knows what has been lost with the commit records: nothing may be cut.
            None if is_damaged => {
                witnesses.clear();
                WITNESS_LOST
            }
            _ => 0,
        };
        for (partition, offset) in clean.into_iter().flat_map(|clean| clean.witnesses) {
            let known = witnesses.entry(partition).or_insert(0);
            *known = (*known).max(offset);
        }
        let may_have_lost = !is_damaged && !report.was_closed && report.was_rebooted;
        let recorded = (!is_damaged).then(|| loaded.recorded());
        Self { witnesses, otherwise, may_have_lost, recorded }
    }

    pub(crate) fn witness(&self, partition: TopicPartition) -> Offset {
        self.witnesses.get(&partition).copied().unwrap_or(self.otherwise)
    }
}

/// What the partitions said when they were opened.
#[derive(Debug)]
pub(super) struct Evidence {
    pub(super) producer_id_max: i64,
    pub(super) commit_claim: i32,
}

/// All partitions, topic by topic.
#[derive(Debug)]
pub(super) struct OpenedPartitions {
    pub(super) partitions: Vec<Vec<Arc<Partition>>>,
    pub(super) evidence: Evidence,
    pub(super) report: Vec<PartitionRecovery>,
    pub(super) unrecorded: Vec<UnrecordedCommit>,
}

/// Opens all partitions of `topics`, at most `lanes` at the same time.
pub(super) fn open_partitions(
    shared: &Shared,
    dir: &Path,
    topics: &[Topic],
    before: &Before,
    lanes: usize,
) -> Result<OpenedPartitions> {
    let all: Vec<(&Topic, u32)> =
        topics.iter().flat_map(|topic| (0..topic.partitions()).map(move |n| (topic, n))).collect();
    let lanes = lanes.clamp(1, all.len().max(1));
    let open_lane = |lane: usize| -> Result<Vec<(Opened, Option<TopicId>)>> {
        let own = all.iter().skip(lane).step_by(lanes);
        own.map(|(topic, number)| {
            let witness = before.witness(topic.partition(*number));
            let request = request(dir, topic, *number, witness, before.may_have_lost);
            let place = Arc::clone(&request.place);
            let recorded = before.recorded.clone();
            let opened = open_partition(shared, OpenRequest { recorded, ..request })?;
            let other_id = topic_id::settle(shared.storage.as_ref(), &place.dir, topic.id())?;
            Ok((opened, other_id))
        })
        .collect()
    };
    let mut opened: Vec<std::vec::IntoIter<_>> = Vec::new();
    std::thread::scope(|scope| {
        let open_lane = &open_lane;
        let others: Vec<_> = (1..lanes).map(|lane| scope.spawn(move || open_lane(lane))).collect();
        let mut outcomes = vec![open_lane(0)];
        for other in others {
            let finished = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            outcomes.push(finished);
        }
        outcomes.into_iter().try_for_each(|outcome| {
            opened.push(outcome?.into_iter());
            Ok::<(), Error>(())
        })
    })?;
    let mut found = OpenedPartitions {
        partitions: topics.iter().map(|_| Vec::new()).collect(),
        evidence: Evidence { producer_id_max: -1, commit_claim: 0 },
        report: Vec::new(),
        unrecorded: Vec::new(),
    };
    let mut lane_of_next = (0..lanes).cycle();
    for (index, topic) in topics.iter().enumerate() {
        for _ in 0..topic.partitions() {
            let lane = lane_of_next.next().expect("it goes round for ever");
            let (next, other_id) =
                opened[lane].next().expect("each lane has opened every partition of its own");
            found.evidence.producer_id_max =
                found.evidence.producer_id_max.max(next.producer_id_max);
            found.evidence.commit_claim = found.evidence.commit_claim.max(next.commit_claim);
            found.report.extend(partition_report(topic, &next, other_id));
            found.unrecorded.extend(unrecorded(topic, &next));
            found.partitions[index].push(Arc::new(next.partition));
        }
    }
    Ok(found)
}

pub(crate) fn place(dir: &Path, topic: &Topic, partition: u32) -> Place {
    Place {
        dir: directory::partition_dir(dir, topic.name(), partition),
        topic: topic.name().clone(),
        partition,
    }
}

pub(super) fn request(
    dir: &Path,
    topic: &Topic,
    partition: u32,
    witness: Offset,
    may_have_lost: bool,
) -> OpenRequest {
    OpenRequest {
        id: topic.partition(partition),
        place: Arc::new(place(dir, topic, partition)),
        options: topic.settings().partition_options(),
        witness,
        may_have_lost,
        is_new: false,
        adopted_below: topic.adopted_below_in(partition),
        recorded: None,
    }
}

/// The commit markers of a partition that have no commit record.
fn unrecorded(topic: &Topic, opened: &Opened) -> Option<UnrecordedCommit> {
    let markers = opened.unrecorded?;
    Some(UnrecordedCommit {
        topic: topic.name().clone(),
        partition: opened.partition.id().partition,
        producer_id: markers.producer_id,
        producer_epoch: markers.producer_epoch,
        marker_offset: markers.offset,
        others: markers.others,
    })
}

/// What happened to a partition, if anything did.
pub(super) fn partition_report(
    topic: &Topic,
    opened: &Opened,
    other_topic_id: Option<TopicId>,
) -> Option<PartitionRecovery> {
    let Opened { partition, tail, .. } = opened;
    let damage = partition.damage().map(|damage| partition.place().damaged(damage).to_string());
    let is_noteworthy = tail.cut_bytes > 0
        || tail.rewritten_bytes > 0
        || damage.is_some()
        || opened.log_start_lost
        || tail.differs_from_seal
        || other_topic_id.is_some();
    is_noteworthy.then(|| PartitionRecovery {
        topic: topic.name().clone(),
        partition: partition.id().partition,
        log_end_offset: partition.log_end(),
        cut_bytes: tail.cut_bytes,
        rewritten_bytes: tail.rewritten_bytes,
        quarantine_path: tail.quarantine_path.clone(),
        damage,
        log_start_lost: opened.log_start_lost,
        differs_from_seal: tail.differs_from_seal,
        other_topic_id,
    })
}
