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

/// Whether a batch belongs to one of these transactions, and must not be seen.
pub(crate) fn is_aborted(header: &BatchHeader, aborted: &[AbortedTransaction]) -> bool {
    header.is_transactional()
        && aborted.iter().any(|transaction| {
            transaction.producer_id == header.producer_id
                && transaction.first_offset <= header.base_offset
                && header.base_offset <= transaction.last_offset
        })
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
        let in_transaction = Attributes::TRANSACTIONAL;
        assert!(is_aborted(&batch(1, 4, in_transaction), &aborted));
        assert!(is_aborted(&batch(1, 7, in_transaction), &aborted));
        assert!(!is_aborted(&batch(1, 3, in_transaction), &aborted));
        assert!(!is_aborted(&batch(1, 10, in_transaction), &aborted));
        assert!(!is_aborted(&batch(2, 5, in_transaction), &aborted));
        assert!(!is_aborted(&batch(1, 5, Attributes::NONE), &aborted));
    }
}
