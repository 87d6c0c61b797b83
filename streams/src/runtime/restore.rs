//! Brings a store partition up to its changelog.
//!
//! ```text
//!   checkpoint matches the log?   yes: replay the changelog from the checkpoint on
//!                                 no:  wipe this partition, replay from the start, say why
//!   the start of a changelog is that of its log, or where the job was reset
//! ```
//!
//! Invariants
//! * a store on disk is never ahead of the committed changelog, so a matching checkpoint is never
//!   wiped.
//! * only committed changelog records become rows.
//!
//! Reference: Kafka Streams `StoreChangelogReader`, `ProcessorStateManager`.

use bytes::Bytes;

use crate::broker::{Bounds, Broker, Scope, TopicRef};
use crate::error::Result;
use crate::processor::Stateful;
use crate::store::{Checkpoint, RowCache, layout};

/// Why a checkpoint does not speak for this changelog. Pure.
pub(crate) fn mismatch(
    checkpoint: &Checkpoint,
    log_id: [u8; 16],
    topic: &TopicRef,
    bounds: Bounds,
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
}

/// Restores one store partition and returns how many changelog records that took.
pub(crate) fn restore(
    broker: &dyn Broker,
    place: ChangelogPlace<'_>,
    op: &dyn Stateful,
    rows: &mut RowCache,
) -> Result<u64> {
    let ChangelogPlace { topic, partition, origin } = place;
    let bounds = broker.bounds(topic, partition)?;
    let bounds = Bounds { start: bounds.start.max(origin), ..bounds };
    let from = starting_point(broker, place, bounds, rows)?;
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
    ChangelogPlace { topic, partition, origin }: ChangelogPlace<'_>,
    bounds: Bounds,
    rows: &mut RowCache,
) -> Result<i64> {
    let Some(checkpoint) = rows.checkpoint()? else {
        rows.clear()?;
        return Ok(bounds.start);
    };
    let epoch = broker.leader_epoch_at(topic, partition, checkpoint.offset)?;
    if origin > 0 && checkpoint.offset <= origin {
        tracing::info!(changelog = %topic.name, partition, "the job was reset: the store is rebuilt");
        rows.clear()?;
        return Ok(bounds.start);
    }
    let Some(why) = mismatch(&checkpoint, broker.log_id(), topic, bounds, epoch) else {
        return Ok(checkpoint.offset);
    };
    tracing::warn!(
        changelog = %topic.name, partition, offset = checkpoint.offset, why,
        "the store on disk does not match its changelog and is rebuilt"
    );
    rows.clear()?;
    Ok(bounds.start)
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
        let good = Checkpoint { log_id: [1; 16], topic_id: [2; 16], leader_epoch: 3, offset: 15 };
        let check = |c: Checkpoint, epoch| mismatch(&c, [1; 16], &topic, bounds, epoch).is_some();
        assert!(!check(good, Some(3)));
        assert!(check(Checkpoint { log_id: [9; 16], ..good }, Some(3)));
        assert!(check(Checkpoint { topic_id: [9; 16], ..good }, Some(3)));
        assert!(check(Checkpoint { offset: 21, ..good }, Some(3)));
        assert!(check(Checkpoint { offset: 9, ..good }, Some(3)));
        assert!(check(good, Some(4)));
        assert!(check(good, None));
    }
}
