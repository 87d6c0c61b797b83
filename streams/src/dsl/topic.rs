//! A topic with the types of its keys and values, and the codec of its values.

use std::marker::PhantomData;

use crate::codec::{Bincode, Json};

type Types<K, V, C> = fn() -> (K, V, C);

/// A topic as a constant: its name, key type, value type and codec.
///
/// ```
/// use streams::prelude::*;
/// const VISITS: Topic<String, u64> = topic("visits");
/// const COMPACT: Topic<String, u64, Bincode> = topic("compact").bincode();
/// assert_eq!((VISITS.name(), COMPACT.name()), ("visits", "compact"));
/// ```
pub struct Topic<K, V, C = Json> {
    name: &'static str,
    types: PhantomData<Types<K, V, C>>,
}

impl<K, V, C> Clone for Topic<K, V, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V, C> Copy for Topic<K, V, C> {}

impl<K, V, C> std::fmt::Debug for Topic<K, V, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Topic({})", self.name)
    }
}

/// A topic whose values are JSON.
#[must_use]
pub const fn topic<K, V>(name: &'static str) -> Topic<K, V> {
    Topic { name, types: PhantomData }
}

impl<K, V> Topic<K, V, Json> {
    /// The same topic with values in bincode.
    #[must_use]
    pub const fn bincode(self) -> Topic<K, V, Bincode> {
        Topic { name: self.name, types: PhantomData }
    }
}

impl<K, V, C> Topic<K, V, C> {
    /// The topic's name in the log.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}
