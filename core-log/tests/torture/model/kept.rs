//! What retention may delete: what is too old, and what has enough behind it.

use core_log::{Offset, Timestamp};

use super::{Batch, Fate, Model, OLD, Txn, name};

pub(crate) const OLD_RETENTION_MS: i64 = 150_000;
pub(crate) const OLD_RETENTION_BYTES: usize = 900;

/// For how long a transaction may be open.
const TRANSACTION_MS: i64 = 60_000;
/// What a batch takes beside its records, and a record beside its value, at most.
const BATCH_BYTES: usize = 61;
const RECORD_BYTES: usize = 16;
/// The longest value.
const VALUE_BYTES: usize = 100;

impl Model {
    /// Everything is about to be maintained, as of a date; the topic that keeps little ends at `end`.
    pub(crate) fn maintaining(&mut self, date: Timestamp, end: Offset) {
        self.compaction.begin_pass(date);
        let old = self.batches.iter().filter(|batch| batch.part == OLD);
        let is_open = |batch: &&Batch| batch.txn.is_some_and(|txn| self.is_open(txn));
        let open = old.clone().find(is_open).and_then(|batch| batch.first);
        let expired =
            self.txns.iter().filter(|txn| txn.fate == Fate::Open && !self.is_running(txn));
        let may_go = may_go(old, date, end, expired.count()).min(open.unwrap_or(end));
        self.deleted_before = self.deleted_tried[OLD];
        self.deleted_tried[OLD] = may_go.max(self.deleted_before);
    }

    /// Whether a transaction is open, and its time is not up.
    fn is_open(&self, txn: usize) -> bool {
        self.is_running(&self.txns[txn])
    }

    fn is_running(&self, txn: &Txn) -> bool {
        txn.fate == Fate::Open && !txn.is_settled && self.now - txn.at < TRANSACTION_MS
    }

    /// It was: only what lies below these last stable offsets can be gone; and where the log starts now.
    pub(crate) fn maintained(&mut self, keyed: Offset, old: Offset, start: Offset) {
        self.compaction.end_pass(keyed);
        self.deleted[OLD] = self.deleted[OLD].max(start);
        self.deleted_tried[OLD] = self.deleted_tried[OLD].min(old).max(self.deleted_before);
        if start > self.deleted_tried[OLD] {
            let most = self.deleted_tried[OLD];
            self.wrong = Some(format!("{} starts at {start}, not {most} at most", name(OLD)));
        }
    }
}

/// The first offset that must stay. Transactions whose time is up get markers first, which count.
fn may_go<'a>(
    batches: impl Iterator<Item = &'a Batch> + Clone,
    date: Timestamp,
    log_end: Offset,
    markers: usize,
) -> Offset {
    let mut later = batches.filter_map(|batch| Some((batch, batch.first?, batch.end()?)));
    while let Some((batch, first, end)) = later.next() {
        let is_old = date - batch.at > OLD_RETENTION_MS;
        let (mut behind, mut unknown) = (0, usize::try_from(log_end - end).unwrap_or(0));
        for (batch, ..) in later.clone() {
            let values = batch.values.iter().map(|value| value.len() + RECORD_BYTES);
            behind += BATCH_BYTES + values.sum::<usize>();
            unknown -= batch.values.len();
        }
        // Markers, and what was aborted or is in doubt.
        behind += (unknown + markers) * (BATCH_BYTES + RECORD_BYTES + VALUE_BYTES);
        if !is_old && behind < OLD_RETENTION_BYTES {
            return first;
        }
    }
    log_end
}
