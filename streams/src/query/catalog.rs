//! The stores of a topology by name, with their types.

use std::collections::BTreeMap;

use super::questions::Question;
use crate::codec::Data;
use crate::dsl::{Assembly, RowTypes, TopicTypes};
use crate::error::{Error, Result};
use crate::ids::StoreName;
use crate::key::RecordKey;
use crate::topology::changelog_topic;

/// What can be asked for.
#[derive(Clone, Debug)]
pub(crate) struct Catalog {
    pub(crate) id: String,
    stores: BTreeMap<String, (StoreName, TopicTypes)>,
}

impl Catalog {
    pub(crate) fn of(assembly: &Assembly) -> Self {
        let id = assembly.graph.id.clone();
        let names = assembly.graph.subtopologies().into_iter().flat_map(|part| part.stores);
        let typed = names.filter_map(|name| {
            let types = assembly.types.get(&changelog_topic(&id, &name))?;
            Some((name.to_string(), (name, *types)))
        });
        Self { stores: typed.collect(), id }
    }

    pub(crate) fn find(&self, name: &str) -> Result<&(StoreName, TopicTypes)> {
        self.stores.get(name).ok_or_else(|| Error::UnknownStore {
            name: name.to_owned(),
            known: self.stores.keys().cloned().collect(),
        })
    }

    /// A store that has these types.
    pub(crate) fn typed<K: RecordKey, V: Data>(&self, name: &str) -> Result<StoreName> {
        let (name, types) = self.find(name)?;
        if types.rows.are::<K, V>() {
            return Ok(name.clone());
        }
        let (key, value) = types.rows.shape();
        let (asked_key, asked_value) = RowTypes::of::<K, V>().shape();
        Err(Error::StoreTypes {
            store: name.to_string(),
            held: format!("{key} -> {value}"),
            asked: format!("{asked_key} -> {asked_value}"),
        })
    }

    /// The stores that a question is about.
    pub(crate) fn stores_for(&self, question: &Question) -> Result<Vec<StoreName>> {
        match question {
            Question::Who | Question::Status => Ok(Vec::new()),
            Question::Stores => Ok(self.iter().map(|(name, _)| name.clone()).collect()),
            Question::Rows(wanted) => Ok(vec![self.find(&wanted.store)?.0.clone()]),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &(StoreName, TopicTypes)> {
        self.stores.values()
    }
}
