//! Stores of processors: typed layouts over one ordered byte store.
//!
//! ```text
//!   t.store("s")                                  key                          value, timestamp
//!   t.window_store("s", size, retention)          key, start, end              value
//!   t.session_store("s", retention)               (key, end, start)            value
//!   t.versioned_store("s", history)               (key, from)                  value or none
//! ```
//!
//! Why handles: a processor keeps them in its fields and works on them without naming them again; the same
//! handle in two processors is one store.
//!
//! Invariants
//! * a store belongs to the sub-topology of the processors that list it; whoever does not list it is refused.
//! * what a read sees depends on the record at hand and on nothing that other partitions have done
//!   meanwhile; see `operator/kept.rs`.
//!
//! Reference: Kafka Streams `Stores`, `KeyValueStore`, `WindowStore`, `SessionStore`,
//! `VersionedKeyValueStore`.

mod key_value;
mod session;
mod versioned;
mod window;

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::{Bound, ControlFlow, RangeBounds};
use std::rc::Rc;
use std::time::Duration;

pub use key_value::{KeyValueStore, TableView};
pub use session::SessionStore;
pub use versioned::{VersionPut, VersionedStore};
pub use window::WindowStore;

use super::Topology;
use super::assembly::TopicTypes;
use super::stream::store_name;
use crate::codec::Data;
use crate::error::{Error, Result};
use crate::ids::StoreName;
use crate::key::{Key, RecordKey};
use crate::operator::{Ages, Kept, StoreLink, UsedStore};
use crate::processor::{Shared, Stateful, Timed};
use crate::store::{Direction, Places, StoreError, Stored};
use crate::time::duration_ms;
use crate::topology::{Kind, NodeId, changelog_topic};

/// The name of a store, and how long its rows live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    name: String,
    ttl_ms: Option<i64>,
}

/// A store of this name, with options: `store("seen").ttl(hours(1))`. Where there are none, the name
/// alone does.
#[must_use]
pub fn store(name: &str) -> StoreOptions {
    StoreOptions { name: name.to_owned(), ttl_ms: None }
}

impl StoreOptions {
    /// How long a row lives after it was last put, by event time: it is absent for a record whose source
    /// partition has gone on by so much, and deleted when the processor's time has. Of a key-value store;
    /// windows, sessions and versions have a retention.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { ttl_ms: Some(duration_ms(ttl)), ..self }
    }
}

impl From<&str> for StoreOptions {
    fn from(name: &str) -> Self {
        store(name)
    }
}

/// What the stores of all layouts have in common: encoded keys in, decoded keys out.
pub(super) struct Handle<K, A> {
    node: NodeId,
    kept: Shared<Kept<A>>,
    /// Room for an encoded key.
    scratch: RefCell<Vec<u8>>,
    key: PhantomData<fn() -> K>,
}

impl<K, A> Clone for Handle<K, A> {
    fn clone(&self) -> Self {
        let (kept, scratch) = (Rc::clone(&self.kept), RefCell::default());
        Self { node: self.node, kept, scratch, key: PhantomData }
    }
}

/// What a layout is called, and how long rows are kept in it.
struct Layout {
    what: &'static str,
    ages: Ages,
    keep_ms: Option<i64>,
}

impl<K, A: Data> Handle<K, A> {
    fn link(&self) -> StoreLink {
        let used: Shared<dyn UsedStore> = Rc::<RefCell<_>>::clone(&self.kept) as _;
        let timed: Shared<dyn Timed> = Rc::<RefCell<_>>::clone(&self.kept) as _;
        StoreLink { node: self.node, used: Some(used), timed: Some(timed), is_keyed: true }
    }

    /// Calls `act` with the rows, where this task has them.
    fn with<T>(&self, act: impl FnOnce(&mut Kept<A>) -> Result<T>) -> Result<T> {
        let mut kept = self.kept.borrow_mut();
        if kept.is_open() {
            return act(&mut kept);
        }
        Err(Error::Topology {
            reason: format!("a processor works on store `{}`, which is not its own", kept.store()),
            help: "list the store in the processor's `fn stores(&self)`".to_owned(),
        })
    }

    /// The same with an encoded key.
    fn at<T>(
        &self,
        encode: impl FnOnce(&mut Vec<u8>),
        act: impl FnOnce(&mut Kept<A>, &[u8]) -> Result<T>,
    ) -> Result<T> {
        let mut key = self.scratch.borrow_mut();
        key.clear();
        encode(&mut key);
        self.with(|kept| act(kept, &key))
    }

    /// Rows of a range, as long as `take` gives something for them.
    fn collect<T>(
        &self,
        range: (&[u8], Option<&[u8]>),
        direction: Direction,
        mut take: impl FnMut(&[u8], Stored<A>) -> Result<Option<T>>,
    ) -> Result<Vec<T>> {
        let mut found = Vec::new();
        self.visit(range, direction, |key, row| {
            found.extend(take(key, row)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    fn visit(
        &self,
        range: (&[u8], Option<&[u8]>),
        direction: Direction,
        mut take: impl FnMut(&[u8], Stored<A>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let mut failed = None;
        self.with(|kept| {
            kept.scan(range, direction, &mut |key, row| match take(key, row) {
                Ok(flow) => flow,
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            })
        })?;
        failed.map_or(Ok(()), Err)
    }

    /// Calls `take` for rows of a key that has several; see [`Kept::each_of`].
    fn each_of(
        &self,
        key: &K,
        places: Places,
        wanted: impl Fn(u128) -> bool,
        mut take: impl FnMut(&[u8], Stored<A>) -> Result<()>,
    ) -> Result<()>
    where
        K: Key,
    {
        let mut found = Vec::new();
        self.at(member(key), |kept, group| {
            kept.each_of(group, places, wanted, |key, row| {
                found.push((Box::<[u8]>::from(key), row));
                Ok(())
            })
        })?;
        found.into_iter().try_for_each(|(key, row)| take(&key, row))
    }

    /// Which rows there are of a key that has several.
    fn places(&self, key: &K, places: Places) -> Result<Vec<u128>>
    where
        K: Key,
    {
        self.at(member(key), |kept, group| kept.places(group, places))
    }

    /// The typed key of a row.
    fn key_of<T: RecordKey>(&self, bytes: &[u8]) -> Result<T> {
        let why = match T::decode(Some(bytes)) {
            Ok(Some(key)) => return Ok(key),
            Ok(None) => "it is null".to_owned(),
            Err(error) => error.to_string(),
        };
        let reason = format!("the key {} of a row: {why}", bytes.escape_ascii());
        Err(StoreError::Corrupt { store: self.kept.borrow().store().clone(), reason }.into())
    }
}

fn member<K: Key>(key: &K) -> impl FnOnce(&mut Vec<u8>) + '_ {
    |out| key.encode_member(out)
}

/// The smallest bytes behind all that begin with these; `None`: there are none.
fn behind(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

/// The bytes of a range of keys: from, included, and to, exclusive.
fn bounds<K: RecordKey>(range: &impl RangeBounds<K>) -> (Vec<u8>, Option<Vec<u8>>) {
    let (mut from, mut to) = (Vec::new(), Vec::new());
    match range.start_bound() {
        Bound::Unbounded => {}
        Bound::Included(key) => {
            key.encode(&mut from);
        }
        Bound::Excluded(key) => {
            key.encode(&mut from);
            from.push(0);
        }
    }
    let to = match range.end_bound() {
        Bound::Unbounded => None,
        Bound::Included(key) => {
            key.encode(&mut to);
            to.push(0);
            Some(to)
        }
        Bound::Excluded(key) => {
            key.encode(&mut to);
            Some(to)
        }
    };
    (from, to)
}

impl Topology {
    /// A store of a processor: the latest value of each key, in the order of the keys.
    ///
    /// ```
    /// use streams::prelude::*;
    /// fn topology(t: &mut Topology) {
    ///     let seen: KeyValueStore<String, u64> = t.store(store("seen").ttl(hours(1)));
    ///     # let _ = seen;
    /// }
    /// // A store that no processor lists is a mistake.
    /// let error = TestDriver::new(topology).run().unwrap_err();
    /// assert_eq!(error.to_string(), "the topology cannot run: no processor uses store `seen`");
    /// ```
    pub fn store<K: Key, V: Data>(
        &mut self,
        options: impl Into<StoreOptions>,
    ) -> KeyValueStore<K, V> {
        let options = options.into();
        let keep_ms = options.ttl_ms;
        let layout = Layout { what: "key-value", ages: Ages::Written, keep_ms };
        let (types, rows) = (TopicTypes::of::<K, V, crate::codec::Bincode>(), |kept| kept);
        KeyValueStore::new(self.declare(&options.name, layout, types, rows), keep_ms.is_some())
    }

    /// A store of a processor: values of keys and windows of this size, kept until event time has passed
    /// their start by `retention`.
    pub fn window_store<K: Key, V: Data>(
        &mut self,
        options: impl Into<StoreOptions>,
        size: Duration,
        retention: Duration,
    ) -> WindowStore<K, V> {
        let name = self.without_ttl(options.into());
        let keep_ms = Some(duration_ms(retention));
        let layout = Layout { what: "windows", ages: Ages::Start, keep_ms };
        let types = TopicTypes::of::<crate::key::Windowed<K>, V, crate::codec::Bincode>();
        WindowStore::new(self.declare(&name, layout, types, |kept| kept), duration_ms(size))
    }

    /// A store of a processor: values of keys and sessions, which have a start and an end of their own;
    /// kept until event time has passed their end by `retention`.
    pub fn session_store<K: Key, V: Data>(
        &mut self,
        options: impl Into<StoreOptions>,
        retention: Duration,
    ) -> SessionStore<K, V> {
        let name = self.without_ttl(options.into());
        let keep_ms = Some(duration_ms(retention));
        let layout = Layout { what: "sessions", ages: Ages::End, keep_ms };
        let types = TopicTypes::of::<(K, i64, i64), V, crate::codec::Bincode>();
        SessionStore::new(self.declare(&name, layout, types, |kept| kept))
    }

    /// A store of a processor: each value of a key with the time from which on it held. Older values are
    /// kept for `history` of event time after the next one began; the latest for ever.
    pub fn versioned_store<K: Key, V: Data>(
        &mut self,
        options: impl Into<StoreOptions>,
        history: Duration,
    ) -> VersionedStore<K, V> {
        let name = self.without_ttl(options.into());
        let keep_ms = Some(duration_ms(history));
        let layout = Layout { what: "versions", ages: Ages::Version, keep_ms };
        let types = TopicTypes::of::<(K, i64), Option<V>, crate::codec::Bincode>();
        let rows = |kept: Kept<Option<V>>| kept.with_void(Option::is_none);
        VersionedStore::new(self.declare(&name, layout, types, rows))
    }

    fn without_ttl(&mut self, options: StoreOptions) -> String {
        if options.ttl_ms.is_some() {
            self.assembly.borrow_mut().mistake(Error::Topology {
                reason: format!("store `{}` has both a time to live and a retention", options.name),
                help: "leave out `.ttl(..)`: the retention says how long its rows are kept"
                    .to_owned(),
            });
        }
        options.name
    }

    fn declare<K, A: Data>(
        &mut self,
        name: &str,
        layout: Layout,
        types: TopicTypes,
        rows: impl FnOnce(Kept<A>) -> Kept<A>,
    ) -> Handle<K, A> {
        let refused = || StoreName::new("refused").expect("letters are a good name");
        let (store, is_good) = match store_name(&self.assembly, name) {
            Ok(store) => (store, true),
            Err(_kept_as_the_mistake) => (refused(), false),
        };
        let mut assembly = self.assembly.borrow_mut();
        let now = Rc::clone(&assembly.now);
        let kept = rows(Kept::new(store.clone(), layout.ages, layout.keep_ms, now));
        let kept = Rc::new(RefCell::new(kept));
        let mut node = NodeId(0);
        if is_good {
            node = assembly.graph.add(Kind::Store { store: store.clone(), what: layout.what }, &[]);
            let topic = changelog_topic(&assembly.graph.id, &store);
            assembly.types.insert(topic, types);
            let stateful: Shared<dyn Stateful> = Rc::<RefCell<_>>::clone(&kept) as _;
            assembly.stateful.push((node, stateful));
        }
        Handle { node, kept, scratch: RefCell::default(), key: PhantomData }
    }
}
