//! Counts records that are late now and were not then, or the other way round.
//!
//! Why here: only the step with the windows knows the source time of a record and the window that it
//! belongs to. It asks only where a job runs again, and only of stores whose grace was another one.
//!
//! Invariants
//! * counts belong to the running transaction: they are taken at its commit and dropped with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ids::StoreName;
use crate::key::windowed_key;
use crate::time::{InForce, Span, Stamp, Windows};

/// The windows that stores had then.
pub(crate) type WindowsThen = Arc<BTreeMap<StoreName, InForce>>;

/// Records of one key and window by what was said of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Judged {
    /// Late then, counted now.
    pub(crate) late_then: u64,
    /// Counted then, late now.
    pub(crate) late_now: u64,
}

impl Judged {
    pub(crate) fn add(&mut self, other: Self) {
        self.late_then = self.late_then.saturating_add(other.late_then);
        self.late_now = self.late_now.saturating_add(other.late_now);
    }
}

/// The counts of the running transaction, by store and windowed key.
pub(crate) type JudgedRows = BTreeMap<(StoreName, Vec<u8>), Judged>;

/// Sets the windows of a store against those that it had then.
pub(crate) struct Judge {
    then: WindowsThen,
    rows: JudgedRows,
}

impl Judge {
    /// `None`: nothing is to be judged.
    pub(crate) fn new(then: &WindowsThen) -> Option<Self> {
        let rows = JudgedRows::new();
        (!then.is_empty()).then(|| Self { then: Arc::clone(then), rows })
    }

    /// A record has come to its window.
    pub(crate) fn look(
        &mut self,
        store: &StoreName,
        key: &[u8],
        (now, span): (Windows, Span),
        stamp: Stamp,
    ) {
        let in_force = self.then.get(store);
        let then = in_force.and_then(|in_force| in_force.counted_by(span.start));
        let Some(then) = then.filter(|then| then.are_like(&now)) else { return };
        let judged = |window: Windows| window.is_late(span, stamp.source_time);
        let judged = match (judged(then), judged(now)) {
            (true, false) => Judged { late_then: 1, late_now: 0 },
            (false, true) => Judged { late_then: 0, late_now: 1 },
            _ => return,
        };
        let mut row = Vec::new();
        windowed_key(key, span.start, span.end, &mut row);
        self.rows.entry((store.clone(), row)).or_default().add(judged);
    }

    /// How many windows it has counts of.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn take(&mut self) -> JudgedRows {
        std::mem::take(&mut self.rows)
    }
}
