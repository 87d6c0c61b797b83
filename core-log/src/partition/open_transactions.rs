//! Where read-committed readers must stop, and what they must skip, in one partition. Pure.
//!
//! Why: a reader that sees only committed records needs two answers, the last stable offset and the
//! aborted transactions of the range it reads; both follow from the batches alone.
//!
//! Invariants
//! * `last_stable_offset <= high_watermark`, and no record below it belongs to an open transaction.
//! * A batch is skipped when its producer aborted a transaction whose range it lies in: a producer has
//!   one transaction at a time, so nothing else of it can lie there.
//!
//! On crash: recovery replays the batches and comes to the same entries.
//! Reference: KIP-98; Kafka `UnifiedLog.collectAbortedTransactions`.

use super::producer_state::OpenSpan;
use crate::format::BatchHeader;
use crate::ids::{Offset, ProducerId};
use crate::segment::AbortedTransaction;

/// The first offset that a read-committed reader must not see yet.
pub(crate) fn last_stable_offset(first_open: Option<Offset>, high_watermark: Offset) -> Offset {
    first_open.map_or(high_watermark, |first| first.min(high_watermark))
}

/// What the index of aborted transactions says of a transaction that ended with the marker at
/// `marker_offset`, where `first_open` is the first offset of those still open.
pub(crate) fn aborted_entry(
    producer_id: ProducerId,
    span: OpenSpan,
    marker_offset: Offset,
    first_open: Option<Offset>,
) -> AbortedTransaction {
    AbortedTransaction {
        producer_id,
        first_offset: span.first_offset,
        last_offset: marker_offset,
        last_stable_offset: first_open.unwrap_or(marker_offset + 1),
    }
}

/// The aborted transactions of a range, ordered so that each batch is looked up, not compared to all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AbortedList {
    /// By producer, then in the order of the log: a producer's transactions do not overlap.
    sorted: Vec<AbortedTransaction>,
}

impl AbortedList {
    pub(crate) fn new(mut aborted: Vec<AbortedTransaction>) -> Self {
        aborted
            .sort_unstable_by_key(|transaction| (transaction.producer_id, transaction.last_offset));
        Self { sorted: aborted }
    }

    /// Whether a batch belongs to one of these transactions, and must not be seen.
    pub(crate) fn contains(&self, header: &BatchHeader) -> bool {
        let (producer_id, offset) = (header.producer_id, header.base_offset);
        let behind = self.sorted.partition_point(|transaction| {
            (transaction.producer_id, transaction.last_offset) < (producer_id, offset)
        });
        header.is_transactional()
            && self.sorted.get(behind).is_some_and(|transaction| {
                transaction.producer_id == producer_id && transaction.first_offset <= offset
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Attributes, BatchBuilder, NO_HEADERS, Stamp};
    use crate::ids::ProducerEpoch;

    #[test]
    fn the_last_stable_offset_is_the_first_open_one_but_not_past_the_high_watermark() {
        assert_eq!(last_stable_offset(None, 10), 10);
        assert_eq!(last_stable_offset(Some(4), 10), 4);
        assert_eq!(last_stable_offset(Some(12), 10), 10);
    }

    fn batch(producer: i64, base_offset: Offset, attributes: Attributes) -> BatchHeader {
        let mut batch = BatchBuilder::new();
        batch.push(0, None, None, NO_HEADERS).unwrap();
        batch.header(&Stamp {
            base_offset,
            leader_epoch: 0,
            attributes,
            producer_id: ProducerId(producer),
            producer_epoch: ProducerEpoch(0),
            base_sequence: 0,
        })
    }

    #[test]
    fn only_the_aborted_producers_transactional_batches_are_skipped() {
        let span = OpenSpan { first_offset: 4, end_offset: 8 };
        let aborted = [aborted_entry(ProducerId(1), span, 9, Some(6))];
        assert_eq!(aborted[0].last_stable_offset, 6);
        let aborted = AbortedList::new(aborted.to_vec());
        let in_transaction = Attributes::TRANSACTIONAL;
        assert!(aborted.contains(&batch(1, 4, in_transaction)));
        assert!(aborted.contains(&batch(1, 7, in_transaction)));
        assert!(!aborted.contains(&batch(1, 3, in_transaction)));
        assert!(!aborted.contains(&batch(1, 10, in_transaction)));
        assert!(!aborted.contains(&batch(2, 5, in_transaction)));
        assert!(!aborted.contains(&batch(1, 5, Attributes::NONE)));
    }

    /// Several producers, interleaved, each with aborted and committed transactions in turn; the answer
    /// of a plain search over all of them.
    #[test]
    fn a_batch_is_found_among_many_transactions_as_by_a_plain_search() {
        let entry = |producer: i64, n: i64| {
            let first_offset = n * 40 + producer * 3;
            let span = OpenSpan { first_offset, end_offset: first_offset + 8 };
            aborted_entry(ProducerId(producer), span, first_offset + 9, None)
        };
        let mut aborted: Vec<_> = (0..50).flat_map(|n| (0..5).map(move |p| (p, n))).collect();
        // In the order of their markers, as a fetch answers them, and in no order at all.
        for turn in 0..2 {
            let entries: Vec<_> = aborted.iter().map(|(p, n)| entry(*p, *n)).collect();
            let list = AbortedList::new(entries.clone());
            for (offset, producer) in (0..2_100).flat_map(|o| (0..6).map(move |p| (o, p))) {
                let header = batch(producer, offset, Attributes::TRANSACTIONAL);
                let expected = entries.iter().any(|entry| {
                    entry.producer_id == ProducerId(producer)
                        && (entry.first_offset..=entry.last_offset).contains(&offset)
                });
                assert_eq!(list.contains(&header), expected, "{turn} {producer} {offset}");
            }
            aborted.reverse();
        }
        assert!(!AbortedList::default().contains(&batch(1, 4, Attributes::TRANSACTIONAL)));
    }
}
