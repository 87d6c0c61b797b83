//! Tables that are filtered or mapped row by row.
//!
//! Why without a store: a row follows from one row of the parent, so it is made when it is looked up, and
//! a change follows from the parent's change.

use std::rc::Rc;

use super::Table;
use crate::codec::Data;
use crate::key::RecordKey;
use crate::operator::{Children, MapChanges, MapView, RowMap};
use crate::topology::Kind;

impl<K: RecordKey, V: Data> Table<K, V> {
    /// The rows whose value answers yes. A row that stops doing so is deleted from the new table.
    ///
    /// The new table has no store of its own: the closure is called for each change, and again for each
    /// look-up.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const STOCK: Topic<String, u32> = topic("stock");
    /// const SCARCE: Topic<String, u32> = topic("scarce");
    /// fn topology(t: &mut Topology) {
    ///     t.table(STOCK, "stock").filter(|n| *n < 10).to(SCARCE);
    /// }
    /// let mut d = TestDriver::new(topology);
    /// d.send(STOCK, "tea".into(), 50).run()?;
    /// d.send(STOCK, "tea".into(), 5).run()?;
    /// d.send(STOCK, "tea".into(), 90).run()?;
    /// let told: Vec<Option<u32>> = d.read_records(SCARCE).into_iter().map(|r| r.value).collect();
    /// assert_eq!(told, [Some(5), None]);
    /// # Ok::<(), streams::Error>(())
    /// ```
    #[must_use = "a filtered table does nothing until it is joined, grouped or written"]
    pub fn filter(&self, keep: impl Fn(&V) -> bool + Send + 'static) -> Table<K, V> {
        let map = RowMap::Value(Box::new(move |value| keep(&value).then_some(value)));
        self.by_row(Kind::Filter, map)
    }

    /// As [`filter`](Self::filter), by key and value.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const STOCK: Topic<String, u32> = topic("stock");
    /// const TEAS: Topic<String, u32> = topic("teas");
    /// fn topology(t: &mut Topology) {
    ///     t.table(STOCK, "stock").filter_with_key(|what, n| what.ends_with("tea") && *n > 0).to(TEAS);
    /// }
    /// let mut d = TestDriver::new(topology);
    /// d.send(STOCK, "green tea".into(), 5).send(STOCK, "rice".into(), 5);
    /// assert_eq!(d.read(TEAS), [("green tea".to_string(), 5)]);
    /// ```
    #[must_use = "a filtered table does nothing until it is joined, grouped or written"]
    pub fn filter_with_key(&self, keep: impl Fn(&K, &V) -> bool + Send + 'static) -> Table<K, V> {
        let map = RowMap::WithKey(Box::new(move |key, value| keep(key, &value).then_some(value)));
        self.by_row(Kind::Filter, map)
    }

    /// Replaces the value of each row. Deleted rows stay deleted, without a call of the closure.
    ///
    /// The new table has no store of its own: the closure is called for the old and the new value of
    /// each change, and again for each look-up, so it should be quick and answer the same each time.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const USERS: Topic<u64, String> = topic("users");
    /// const CLICKS: Topic<u64, String> = topic("clicks");
    /// const SEEN: Topic<u64, String> = topic("seen");
    /// fn topology(t: &mut Topology) {
    ///     let names = t.table(USERS, "users").map(|name| name.to_uppercase());
    ///     t.stream(CLICKS).join(&names, |page, name| format!("{name} saw {page}")).to(SEEN);
    /// }
    /// let mut d = TestDriver::new(topology);
    /// d.send(USERS, 1, "ana".into()).run()?;
    /// d.send(CLICKS, 1, "/home".into());
    /// assert_eq!(d.read(SEEN), [(1, "ANA saw /home".to_string())]);
    /// # Ok::<(), streams::Error>(())
    /// ```
    #[must_use = "a mapped table does nothing until it is joined, grouped or written"]
    pub fn map<V2: Data>(&self, map: impl Fn(V) -> V2 + Send + 'static) -> Table<K, V2> {
        self.by_row(Kind::Map, RowMap::Value(Box::new(move |value| Some(map(value)))))
    }

    /// As [`map`](Self::map), with the key. The key stays as it is: a change of it is a
    /// [`group_by`](Self::group_by).
    ///
    /// ```
    /// use streams::prelude::*;
    /// const USERS: Topic<u64, String> = topic("users");
    /// const TAGS: Topic<u64, String> = topic("tags");
    /// fn topology(t: &mut Topology) {
    ///     t.table(USERS, "users").map_with_key(|id, name| format!("{name}#{id}")).to(TAGS);
    /// }
    /// let mut d = TestDriver::new(topology);
    /// d.send(USERS, 7, "ana".into());
    /// assert_eq!(d.read(TAGS), [(7, "ana#7".to_string())]);
    /// ```
    #[must_use = "a mapped table does nothing until it is joined, grouped or written"]
    pub fn map_with_key<V2: Data>(
        &self,
        map: impl Fn(&K, V) -> V2 + Send + 'static,
    ) -> Table<K, V2> {
        let map = RowMap::WithKey(Box::new(move |key: &K, value| Some(map(key, value))));
        self.by_row(Kind::Map, map)
    }

    fn by_row<V2: Data>(&self, kind: Kind, map: RowMap<K, V, V2>) -> Table<K, V2> {
        let node = self.assembly.borrow_mut().graph.add(kind, &[self.node]);
        let (map, changes) = (Rc::new(map), Children::new());
        self.changes.add(Box::new(MapChanges::new(Rc::clone(&map), changes.clone())));
        Table {
            assembly: Rc::clone(&self.assembly),
            node,
            inputs: self.inputs.clone(),
            rows: Rc::new(MapView::new(self.store.clone(), Rc::clone(&self.rows), map)),
            store: self.store.clone(),
            changes,
        }
    }
}
