//! Who may send next, while the buffer is full: first come, first served. Pure.
//!
//! Why: without turns a large record would wait for ever behind small ones that slip past it.
//!
//! Invariants
//! * A turn that was taken is left, also by a future that is dropped.

use std::collections::BTreeMap;
use std::task::Waker;

/// Those who wait for room, in order.
#[derive(Debug, Default)]
pub(super) struct Turns {
    next: u64,
    /// Threads wait without a waker.
    waiting: BTreeMap<u64, Option<Waker>>,
}

impl Turns {
    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether the holder of `turn`, or somebody without one, need not wait for others.
    pub(super) fn may_go(&self, turn: Option<u64>) -> bool {
        self.waiting.first_key_value().is_none_or(|(first, _)| Some(*first) == turn)
    }

    /// Takes the last turn.
    pub(super) fn take(&mut self) -> u64 {
        let turn = self.next;
        self.next += 1;
        self.waiting.insert(turn, None);
        turn
    }

    /// Whom to wake when the turn comes.
    pub(super) fn set_waker(&mut self, turn: u64, waker: &Waker) {
        if let Some(slot) = self.waiting.get_mut(&turn) {
            *slot = Some(waker.clone());
        }
    }

    /// Gives a turn up.
    pub(super) fn leave(&mut self, turn: u64) {
        self.waiting.remove(&turn);
    }

    /// Wakes the first, if it is a task.
    pub(super) fn wake_first(&self) {
        if let Some((_, Some(waker))) = self.waiting.first_key_value() {
            waker.wake_by_ref();
        }
    }

    /// Wakes all tasks.
    pub(super) fn wake_all(&self) {
        self.waiting.values().flatten().for_each(Waker::wake_by_ref);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_in_order_and_one_that_is_given_up_is_skipped() {
        let mut turns = Turns::default();
        assert!(turns.may_go(None));
        let (first, second, third) = (turns.take(), turns.take(), turns.take());
        assert!(turns.may_go(Some(first)) && !turns.may_go(Some(second)) && !turns.may_go(None));
        turns.leave(second);
        turns.leave(first);
        assert!(turns.may_go(Some(third)));
        turns.leave(third);
        assert!(turns.is_empty() && turns.may_go(None));
    }
}
