//! Brings a store partition up to its changelog.
//!
//! ```text
//!   hold the changelog at the checkpoint that a crash would leave: nothing behind it goes from now on
//!   checkpoint matches the log?   yes: replay the changelog from the checkpoint on
//!                                 no:  wipe this partition, replay from the start, say why
//!   the start of a changelog is that of its log, or where the job was reset
//! ```
//!
//! Invariants
//! * a store on disk is never ahead of the committed changelog, so a matching checkpoint is never
//!   wiped.
//! * only committed changelog records become rows.
//! * a row whose tombstone was compacted away is never found in a store: a checkpoint in front of what
//!   was compacted does not match.
//!
//! Reference: Kafka Streams `StoreChangelogReader`, `ProcessorStateManager`.

use bytes::Bytes;

use crate::broker::{Bounds, Broker, Scope, TopicRef};
use crate::error::Result;
use crate::processor::Stateful;
use crate::store::{Checkpoint, RowCache, layout};

/// What a changelog partition has.
#[derive(Clone, Copy)]
pub(crate) struct Kept {
    bounds: Bounds,
    /// Tombstones may be missing in front of this offset.
    compacted_below: i64,
}

/// Why a checkpoint does not speak for this changelog. Pure.
pub(crate) fn mismatch(
    checkpoint: &Checkpoint,
    log_id: [u8; 16],
    topic: &TopicRef,
    Kept { bounds, compacted_below }: Kept,
    leader_epoch: Option<i32>,
) -> Option<&'static str> {
    if checkpoint.log_id != log_id {
        Some("it belongs to another log")
    } else if checkpoint.topic_id != topic.id {
        Some("its changelog was created again")
    } else if checkpoint.offset > bounds.end {
        Some("it lies beyond the end of its changelog")
    } else if checkpoint.offset < bounds.start {
        Some("it lies below the start of its changelog")
    } else if checkpoint.offset < compacted_below {
        Some("what its changelog had behind it was compacted")
    } else if checkpoint.offset > bounds.start && leader_epoch != Some(checkpoint.leader_epoch) {
        Some("its changelog was cut and went on in another leader epoch")
    } else {
        None
    }
}

/// One partition of a changelog, and from where on it counts.
#[derive(Clone, Copy)]
pub(crate) struct ChangelogPlace<'a> {
    pub(crate) topic: &'a TopicRef,
    pub(crate) partition: u32,
    /// Everything below is void; 0 where the job was never reset.
    pub(crate) origin: i64,
    /// Under whose name the changelog is kept: the job's.
    pub(crate) holder: &'a str,
}

impl ChangelogPlace<'_> {
    /// Has everything from `offset` on kept, and answers what there is then.
    fn hold(&self, broker: &dyn Broker, offset: i64) -> Result<Kept> {
        let Self { topic, partition, origin, holder } = *self;
        broker.hold(topic, partition, holder, offset.max(origin))?;
        // Must be AFTER it is held, or else more could go before the store has read it.
        let compacted_below = broker.compacted_below(topic, partition)?;
        let bounds = broker.bounds(topic, partition)?;
        let bounds = Bounds { start: bounds.start.max(origin), ..bounds };
        Ok(Kept { bounds, compacted_below })
    }
}

/// Restores one store partition and returns how many changelog records that took.
pub(crate) fn restore(
    broker: &dyn Broker,
    place: ChangelogPlace<'_>,
    op: &dyn Stateful,
    rows: &mut RowCache,
) -> Result<u64> {
    let ChangelogPlace { topic, partition, .. } = place;
    let from = starting_point(broker, place, rows)?;
    let mut reader = broker.reader(topic, partition, from, Scope::Committed)?;
    let mut count = 0;
    while let Some(records) = reader.poll()? {
        let mut changes = Vec::with_capacity(records.len());
        let mut end = 0;
        for record in (0..records.len()).filter_map(|i| records.get(i)) {
            end = record.offset + 1;
            count += 1;
            if let Some(key) = record.key {
                push_row(op, key, record.timestamp, record.value, &mut changes);
            }
        }
        let leader_epoch = broker.leader_epoch_at(topic, partition, end)?.unwrap_or(-1);
        let checkpoint =
            Checkpoint { log_id: broker.log_id(), topic_id: topic.id, leader_epoch, offset: end };
        let now_ms = broker.now_ms();
        rows.commit(changes, checkpoint, now_ms);
        rows.step(now_ms)?;
    }
    Ok(count)
}

fn starting_point(
    broker: &dyn Broker,
    place: ChangelogPlace<'_>,
    rows: &mut RowCache,
) -> Result<i64> {
    let ChangelogPlace { topic, partition, origin, .. } = place;
    let log_id = broker.log_id();
    let is_ours = |c: &Checkpoint| c.log_id == log_id && c.topic_id == topic.id;
    let durable = rows.durable_checkpoint()?.filter(is_ours);
    let kept = place.hold(broker, durable.map_or(0, |checkpoint| checkpoint.offset))?;
    let Some(checkpoint) = rows.checkpoint()? else {
        rows.clear()?;
        return Ok(kept.bounds.start);
    };
    let epoch = broker.leader_epoch_at(topic, partition, checkpoint.offset)?;
    if origin > 0 && checkpoint.offset <= origin {
        tracing::info!(changelog = %topic.name, partition, "the job was reset: the store is rebuilt");
    } else if let Some(why) = mismatch(&checkpoint, log_id, topic, kept, epoch) {
        tracing::warn!(
            changelog = %topic.name, partition, offset = checkpoint.offset, why,
            "the store on disk does not match its changelog and is rebuilt"
        );
    } else {
        return Ok(checkpoint.offset);
    }
    rows.clear()?;
    // Must be on the disk BEFORE the changelog is kept for other rows, or else a crash would bring back
    // those that it was not kept for.
    rows.flush_all()?;
    Ok(place.hold(broker, 0)?.bounds.start)
}

fn push_row(
    op: &dyn Stateful,
    key: &[u8],
    timestamp: i64,
    value: Option<&[u8]>,
    out: &mut Vec<(Bytes, Option<Bytes>)>,
) {
    let mut row_key = Vec::with_capacity(1 + key.len());
    op.row_kinds().place(key, &mut row_key);
    let row = value.map(|value| {
        let mut row = Vec::new();
        layout::encode_row(timestamp, value, &mut row);
        Bytes::from(row)
    });
    let implied = op.implied_at(key, timestamp, value);
    out.extend(implied.into_iter().map(|(key, row)| (key.into(), row)));
    out.push((row_key.into(), row));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_speaks_only_for_the_changelog_it_was_taken_of() {
        let topic =
            TopicRef { name: "c".into(), id: [2; 16], partitions: 1, batch_bytes_max: 1 << 20 };
        let bounds = Bounds { start: 10, committed_end: 20, end: 20 };
        let kept = Kept { bounds, compacted_below: 15 };
        let good = Checkpoint { log_id: [1; 16], topic_id: [2; 16], leader_epoch: 3, offset: 15 };
        let check = |c: Checkpoint, epoch| mismatch(&c, [1; 16], &topic, kept, epoch).is_some();
        assert!(!check(good, Some(3)));
        assert!(check(Checkpoint { log_id: [9; 16], ..good }, Some(3)));
        assert!(check(Checkpoint { topic_id: [9; 16], ..good }, Some(3)));
        assert!(check(Checkpoint { offset: 21, ..good }, Some(3)));
        assert!(check(Checkpoint { offset: 9, ..good }, Some(3)));
        assert!(check(Checkpoint { offset: 14, ..good }, Some(3)), "a tombstone may be gone");
        assert!(check(good, Some(4)));
        assert!(check(good, None));
    }
}
