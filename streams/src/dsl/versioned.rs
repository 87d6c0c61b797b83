//! Tables that remember what their rows were, for look-ups as of a time.
//!
//! ```text
//!   rates topic -- versioned_table("rates", 1 h) -- store `rates`, store `rates-history`
//!   orders ------------------------------------- join: the rate of the order's own time
//! ```

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::assembly::{Assembly, TopicTypes};
use super::stream::{KeyedPlace, decode_carried, store_name};
use super::{Stream, Table, Topic, Topology};
use crate::codec::{Codec, Data};
use crate::ids::StoreName;
use crate::key::{Key, RecordKey};
use crate::operator::{Children, TableStore, VersionStore, VersionedView, VersionedWriter};
use crate::processor::{Shared, Stateful};
use crate::store::{Overlay, Versions, View};
use crate::time::duration_ms;
use crate::topology::{Carries, Kind, changelog_topic};

impl Topology {
    /// A table of a topic, as [`table`](Topology::table), whose rows remember what they were: a stream
    /// that is joined with it finds the value that held at the time of its own record.
    ///
    /// The latest value of a key is the one with the largest timestamp: one that comes out of order
    /// finds its place in `history` and changes nothing else. One that is older than the largest
    /// timestamp of its partition by more than `history` is counted as late. History lies in a second
    /// store, `<store>-history`.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const ORDERS: Topic<String, u64> = topic("orders");
    /// const RATES: Topic<String, u64> = topic("rates");
    /// const PAID: Topic<String, u64> = topic("paid");
    /// fn topology(t: &mut Topology) {
    ///     let rates = t.versioned_table(RATES, "rates", hours(1));
    ///     t.stream(ORDERS).join(&rates, |sum, rate| sum * rate).to(PAID);
    /// }
    /// let mut d = TestDriver::new(topology);
    /// d.send_at(RATES, "eur".into(), 2, 1_000).send_at(RATES, "eur".into(), 3, 5_000).run()?;
    /// d.send_at(ORDERS, "eur".into(), 10, 4_000).send_at(ORDERS, "eur".into(), 10, 6_000);
    /// assert_eq!(d.read(PAID), [("eur".to_string(), 20), ("eur".to_string(), 30)]);
    /// # Ok::<(), streams::Error>(())
    /// ```
    pub fn versioned_table<K: Key, V: Data, C: Codec<V>>(
        &mut self,
        topic: Topic<K, V, C>,
        store: &str,
        history: Duration,
    ) -> Table<K, V> {
        self.stream(topic).versioned_table(store, history)
    }
}

impl<K: RecordKey, V: Data> Stream<K, V> {
    /// As [`table`](Stream::table), with rows that remember what they were: see
    /// [`Topology::versioned_table`].
    ///
    /// ```
    /// use streams::prelude::*;
    /// const RATES: Topic<NoKey, (String, u64)> = topic("rates");
    /// const LATEST: Topic<String, (String, u64)> = topic("latest");
    /// fn topology(t: &mut Topology) {
    ///     let rates = t.stream(RATES).key_by(|(currency, _)| currency.clone());
    ///     rates.versioned_table("rates", hours(1)).to(LATEST);
    /// }
    /// let mut d = TestDriver::new(topology);
    /// d.send_at(RATES, NoKey, ("eur".into(), 3), 5_000).run()?;
    /// d.send_at(RATES, NoKey, ("eur".into(), 2), 1_000).run()?;
    /// assert_eq!(d.read(LATEST), [("eur".to_string(), ("eur".to_string(), 3))]);
    /// # Ok::<(), streams::Error>(())
    /// ```
    pub fn versioned_table(self, store: &str, history: Duration) -> Table<K, V>
    where
        K: Key,
    {
        let names = store_name(&self.assembly, store).and_then(|store| {
            let history = store_name(&self.assembly, &format!("{store}-history"))?;
            Ok((store, history))
        });
        let names = match names {
            Ok(names) => names,
            Err(assembly) => return Table::nowhere(assembly),
        };
        let (assembly, place) = self.keyed(&names.0, Carries::Value, |v| v, decode_carried::<V>);
        versioned(assembly, place, names, duration_ms(history))
    }
}

fn versioned<K: Key, V: Data>(
    assembly: Shared<Assembly>,
    place: KeyedPlace<V>,
    (store, history): (StoreName, StoreName),
    history_ms: i64,
) -> Table<K, V> {
    let rows = Rc::new(RefCell::new(Overlay::new(store.clone())));
    let versions = Rc::new(RefCell::new(Versions::new(history.clone(), history_ms)));
    let changes = Children::new();
    let node = {
        let mut assembly = assembly.borrow_mut();
        let kind =
            Kind::VersionedTable { store: store.clone(), history: history.clone(), history_ms };
        let kept = TableStore::<K, V>::new(store.clone(), Rc::clone(&rows), changes.clone());
        let node = assembly.table(kind, &[place.node], kept);
        let topic = changelog_topic(&assembly.graph.id, &history);
        assembly.types.insert(topic, TopicTypes::of_versions::<K, V>());
        let kept = VersionStore::new(history, Rc::clone(&versions));
        let stateful: Shared<dyn Stateful> = Rc::new(RefCell::new(kept));
        assembly.stateful.push((node, stateful));
        node
    };
    let seen = VersionedView { rows: Rc::clone(&rows), versions: Rc::clone(&versions) };
    let seen: Rc<dyn View<V>> = Rc::new(seen);
    (place.attach)(Box::new(VersionedWriter { rows, versions }));
    Table { assembly, node, inputs: place.inputs, store, rows: seen, changes }
}
