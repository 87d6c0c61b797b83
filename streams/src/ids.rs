//! Names and numbers of the runtime: stores, sub-topologies, tasks.
//!
//! Why newtypes: a store name becomes part of topic names and column families, so it is checked once,
//! where it enters, and never again.
//!
//! Invariants
//! * a `StoreName` is `[a-zA-Z0-9._-]{1,150}`, so `<id>-<store>-repartition` is a valid topic name.

use std::fmt;
use std::sync::Arc;

/// A name that cannot become part of a topic's name. Recourse: choose another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} name `{name}` is not valid")]
pub struct InvalidName {
    /// What the name is for.
    pub kind: &'static str,
    /// The name.
    pub name: String,
}

/// The most bytes that a store name may have.
const STORE_NAME_MAX: usize = 150;

/// The name of a state store: what its changelog, its repartition topic and its column family are
/// called after.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreName(Arc<str>);

impl StoreName {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// [`InvalidName`]: empty, longer than 150 bytes, or a character outside
    ///   `[a-zA-Z0-9._-]`. Recourse: choose another name.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > STORE_NAME_MAX || !name.chars().all(legal) {
            return Err(InvalidName { kind: "store", name: name.to_owned() });
        }
        Ok(Self(Arc::from(name)))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StoreName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StoreName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// One partition of one sub-topology: the unit that a worker owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    /// Index of the sub-topology, in the order in which the topology names its sources.
    pub subtopology: usize,
    /// The partition of its inputs.
    pub partition: u32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.subtopology, self.partition)
    }
}
