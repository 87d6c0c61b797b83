//! Names and numbers of the runtime: stores, sub-topologies, tasks.
//!
//! Why newtypes: a store name becomes part of topic names and column families, so it is checked once,
//! where it enters, and never again.
//!
//! Invariants
//! * a `StoreName` is `[a-zA-Z0-9._-]{1,150}`, so `<id>-<store>-repartition` is a valid topic name
//!   unless the id is very long.

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

/// The most bytes that the name of a topic or a job may have.
const NAME_MAX: usize = 249;

/// Checks the name of a topic or a job by Kafka's rules for topics.
pub(crate) fn check_name(kind: &'static str, name: &str) -> Result<(), InvalidName> {
    if is_legal(name, NAME_MAX) && name != "." && name != ".." {
        return Ok(());
    }
    Err(InvalidName { kind, name: name.to_owned() })
}

fn is_legal(name: &str, bytes_max: usize) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= bytes_max && name.chars().all(legal)
}

impl StoreName {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// [`InvalidName`]: empty, longer than 150 bytes, or a character outside
    ///   `[a-zA-Z0-9._-]`. Recourse: choose another name.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        if !is_legal(name, STORE_NAME_MAX) {
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
