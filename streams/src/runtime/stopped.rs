//! The stores of a job that does not run, brought up to their changelogs to be looked at.
//!
//! Why as a start does it: the state directory alone may lag behind the log; what was committed is what
//! a start would find. No record is written to the log.
//!
//! On crash: as of a job: stores on disk are never ahead of their changelogs.

use std::cell::RefCell;

use super::plan::JobPlan;
use super::query::{Asked, Question, Told, look};
use super::restore::{ChangelogPlace, restore};
use super::task::{OpenStores, Stores as _};
use crate::broker::{Broker, TopicRef};
use crate::error::Result;
use crate::ids::StoreName;
use crate::processor::RowKinds;
use crate::store::RowCache;
use crate::topology::changelog_topic;

/// Store partitions of a stopped job.
pub(crate) struct StoppedStores {
    parts: RefCell<Vec<Part>>,
}

struct Part {
    store: StoreName,
    partition: u32,
    /// The kind under which the store has its rows.
    kind: RowKinds,
    rows: RowCache,
}

impl JobPlan {
    /// Of these stores, those that a log has rows of.
    pub(crate) fn stores_with_changelogs(&self, wanted: &[StoreName]) -> Vec<StoreName> {
        let has_one = |store: &&StoreName| self.changelog(store).is_some();
        wanted.iter().filter(has_one).cloned().collect()
    }

    fn changelog(&self, store: &StoreName) -> Option<&TopicRef> {
        self.topics.get(&changelog_topic(&self.settings.id, store))
    }
}

impl StoppedStores {
    /// Brings all partitions of the opened stores up to their changelogs.
    ///
    /// # Errors
    ///
    /// What keeps a start from restoring them.
    pub(crate) fn open(plan: &JobPlan, broker: &dyn Broker, stores: &OpenStores) -> Result<Self> {
        let mut parts = Vec::new();
        for (_, op) in plan.assemble()?.stateful {
            let op = op.borrow();
            let (store, changelog) = match plan.changelog(op.store()) {
                Some(changelog) if stores.by_name.contains_key(op.store()) => {
                    (op.store(), changelog)
                }
                _ => continue,
            };
            let different = if op.is_replicated() { 1 } else { changelog.partitions };
            for partition in 0..changelog.partitions.min(different) {
                let mut rows = stores.open(store, partition)?;
                let origin = plan.origin(changelog, partition);
                let holder = &plan.settings.id;
                let place = ChangelogPlace { topic: changelog, partition, origin, holder };
                restore(broker, place, &*op, &mut rows)?;
                let (store, kind) = (store.clone(), op.row_kinds());
                parts.push(Part { store, partition, kind, rows });
            }
        }
        Ok(Self { parts: RefCell::new(parts) })
    }
}

impl Asked for StoppedStores {
    fn ask(&self, question: &Question) -> Result<(Told, Option<u64>)> {
        let mut told = Told::default();
        for part in self.parts.borrow_mut().iter_mut() {
            look(&part.store, part.partition, part.kind, &mut part.rows, question, &mut told)?;
        }
        Ok((told, None))
    }
}
