//! What one partition has promised to keep and has not yet synced. Pure.
//!
//! Why: writers choose their durability one by one, and readers must not see a record before it is as
//! durable as its writer was promised; the first open promise is therefore the high watermark.
//!
//! ```text
//!        synced            promised to be synced
//!   |===============|....[####]......[######]...|      . written without such a promise
//!                        ^ high watermark       ^ log end
//! ```
//!
//! Invariants
//! * Ranges ascend, do not overlap, and none lies below the synced offset.
//! * Markers promise nothing, and an aborted transaction takes its promises back.

use std::collections::VecDeque;

use crate::ids::{Offset, ProducerId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Promise {
    first: Offset,
    end: Offset,
    producer_id: ProducerId,
}

/// Offsets that somebody waits to see on the disk.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    open: VecDeque<Promise>,
}

impl Promises {
    /// Promises to keep `first..end`, which lies behind everything promised before.
    pub(crate) fn add(&mut self, first: Offset, end: Offset, producer_id: ProducerId) {
        match self.open.back_mut() {
            Some(last) if last.end == first && last.producer_id == producer_id => last.end = end,
            _ => self.open.push_back(Promise { first, end, producer_id }),
        }
    }

    /// Everything below `offset` is on the disk.
    pub(crate) fn keep_below(&mut self, offset: Offset) {
        while self.open.front().is_some_and(|promise| promise.end <= offset) {
            self.open.pop_front();
        }
        if let Some(promise) = self.open.front_mut() {
            promise.first = promise.first.max(offset);
        }
    }

    /// The transaction of this producer was aborted: nobody waits for its records any more.
    pub(crate) fn take_back(&mut self, producer_id: ProducerId) {
        self.open.retain(|promise| promise.producer_id != producer_id);
    }

    /// The first offset that is not yet as durable as promised.
    pub(crate) fn high_watermark(&self, log_end: Offset) -> Offset {
        self.open.front().map_or(log_end, |promise| promise.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_watermark_is_the_first_open_promise() {
        let mut promises = Promises::default();
        assert_eq!(promises.high_watermark(5), 5);
        promises.add(5, 8, ProducerId(1));
        promises.add(8, 9, ProducerId(1));
        promises.add(12, 15, ProducerId(2));
        assert_eq!(promises.high_watermark(20), 5);
        promises.keep_below(7);
        assert_eq!(promises.high_watermark(20), 7);
        promises.keep_below(9);
        assert_eq!(promises.high_watermark(20), 12);
        promises.keep_below(20);
        assert_eq!(promises.high_watermark(20), 20);
    }

    #[test]
    fn an_aborted_transaction_takes_its_promises_back() {
        let mut promises = Promises::default();
        promises.add(0, 2, ProducerId(1));
        promises.add(2, 4, ProducerId(2));
        promises.take_back(ProducerId(1));
        assert_eq!(promises.high_watermark(4), 2);
    }
}
