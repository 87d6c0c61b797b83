//! What of a simulated job can be looked at from outside: its graph, its rows, its stores as they lie on
//! their disk.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::Engine;
use crate::dsl::{Assembly, Topology};
use crate::error::Result;
use crate::ids::StoreName;
use crate::query::Catalog;
use crate::runtime::query::{FoundRow, Question, ROWS_MAX, Select, Selection};
use crate::store::layout::KIND_CHECKPOINT;
use crate::testing::stores::Stores;

/// The rows of a store, checkpoints apart: bytes by bytes.
pub(in crate::testing) type Image = BTreeMap<Vec<u8>, Vec<u8>>;

impl Engine {
    /// The topology, built once more to be looked at.
    pub(in crate::testing) fn assembly(&self) -> Result<Assembly> {
        let on_error = self.settings.on_error;
        Topology::build(&self.settings.id, i64::MAX, on_error, &|t| (self.build)(t))
    }

    pub(in crate::testing) fn catalog(&self) -> Result<Catalog> {
        Ok(Catalog::of(&self.assembly()?))
    }

    /// All committed rows of a store, by partition.
    pub(in crate::testing) fn rows_of(
        &self,
        store: &StoreName,
    ) -> Result<Vec<(u32, Vec<FoundRow>)>> {
        let mut found: BTreeMap<u32, Vec<FoundRow>> = BTreeMap::new();
        for worker in self.running.iter().flat_map(|running| &running.workers) {
            let mut open = vec![Vec::new()];
            // Each partition goes on where it has stopped.
            while let Some(from) = open.pop() {
                let select =
                    Select::Range { from, to: None, only: crate::runtime::query::Only::All };
                let (store, limit) = (store.clone(), ROWS_MAX);
                let selection = Selection { store, select, after: None, limit };
                for part in worker.tell(&Question::Rows(selection))?.parts {
                    let rows = found.entry(part.partition).or_default();
                    let known = rows.last().map(|row| row.key.clone());
                    let is_new = |row: &FoundRow| known.as_ref().is_none_or(|key| row.key > *key);
                    rows.extend(part.rows.into_iter().filter(is_new));
                    open.extend(part.stopped_at.map(|mut key| {
                        key.push(0);
                        key
                    }));
                }
                open.sort_unstable_by(|a, b| b.cmp(a));
            }
        }
        Ok(found.into_iter().collect())
    }

    /// What a store has on its disk.
    pub(in crate::testing) fn image(&mut self, store: &StoreName) -> Result<Image> {
        let mut image = Image::new();
        for store in self.stores.open(std::slice::from_ref(store))? {
            store.scan(&[], &[u8::MAX; 5], &mut |key, value| {
                if key.get(4) != Some(&KIND_CHECKPOINT) {
                    image.insert(key.to_vec(), value.to_vec());
                }
                ControlFlow::Continue(())
            })?;
        }
        Ok(image)
    }

    /// Every store after a clean stop, and as its changelog alone makes it.
    pub(in crate::testing) fn stores_and_changelogs(
        &mut self,
    ) -> Result<Vec<(StoreName, Image, Image)>> {
        self.stop()?;
        let catalog = self.catalog()?;
        let names: Vec<StoreName> = catalog.iter().map(|(name, _)| name.clone()).collect();
        let held: Vec<Image> = names.iter().map(|name| self.image(name)).collect::<Result<_>>()?;
        self.stores = Stores::in_memory(0);
        self.stop()?;
        let all = names.into_iter().zip(held);
        all.map(|(name, held)| Ok((name.clone(), held, self.image(&name)?))).collect()
    }
}
