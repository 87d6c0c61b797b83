//! Tables that change at most once in a period.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::Table;
use super::assembly::TopicTypes;
use super::stream::store_name;
use crate::codec::Data;
use crate::key::{Key, RecordKey};
use crate::operator::{AtMostEvery, Children, SaidView};
use crate::processor::{Shared, Stateful, Timed};
use crate::store::{OrderedOverlay, View};
use crate::time::duration_ms;
use crate::topology::{Kind, changelog_topic};

impl<K: RecordKey, V: Data> Table<K, V> {
    /// The same table, with each row changing at most once in `period` of event time: the first change
    /// of a row begins its period, and at its end the latest value is passed on.
    ///
    /// What waits is kept in a store called `<store>-at-most-every`, and survives crashes. Whoever looks
    /// a row up finds what was said last. Time is that of the table's own topics: while nothing comes
    /// there, nothing ends. Which of the values between are said depends on when commits fall, as for
    /// every table; the last one is said in any case, once its period is over. A period of 0 changes
    /// nothing.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const PRICES: Topic<String, u64> = topic("prices");
    /// const SHOWN: Topic<String, u64> = topic("shown");
    /// fn topology(t: &mut Topology) {
    ///     t.table(PRICES, "prices").at_most_every(secs(10)).to(SHOWN);
    /// }
    /// let mut d = TestDriver::new(topology);
    /// for (at, price) in [(0, 5), (2_000, 6), (9_000, 7)] {
    ///     d.send_at(PRICES, "tea".into(), price, at).run()?;
    /// }
    /// assert_eq!(d.read(SHOWN), []);
    /// d.send_at(PRICES, "rice".into(), 1, 10_000);
    /// assert_eq!(d.read(SHOWN), [("tea".to_string(), 7)]);
    /// # Ok::<(), streams::Error>(())
    /// ```
    #[must_use = "a table does nothing until it is joined, grouped or written"]
    pub fn at_most_every(&self, period: Duration) -> Table<K, V>
    where
        K: Key,
    {
        let every_ms = duration_ms(period);
        if every_ms == 0 {
            return self.again();
        }
        let Ok(store) = store_name(&self.assembly, &format!("{}-at-most-every", self.store)) else {
            return Table::nowhere(Rc::clone(&self.assembly));
        };
        let (changes, behind) = (Children::new(), Rc::clone(&self.rows));
        let rows = Rc::new(RefCell::new(OrderedOverlay::new(store.clone())));
        let said: Rc<dyn View<V>> = Rc::new(SaidView::new(Rc::clone(&rows), behind));
        let inputs = self.inputs.clone();
        let op = AtMostEvery::<K, V>::new(store.clone(), every_ms, inputs, rows, changes.clone());
        let op = Rc::new(RefCell::new(op));
        let node = {
            let mut assembly = self.assembly.borrow_mut();
            let kind = Kind::AtMostEvery { store: store.clone(), every_ms };
            let node = assembly.graph.add(kind, &[self.node]);
            let topic = changelog_topic(&assembly.graph.id, &store);
            assembly.types.insert(topic, TopicTypes::of_waiting::<K, V>());
            let stateful: Shared<dyn Stateful> = Rc::<RefCell<_>>::clone(&op) as _;
            let timed: Shared<dyn Timed> = Rc::<RefCell<_>>::clone(&op) as _;
            assembly.stateful.push((node, stateful));
            assembly.timed.push((node, timed));
            node
        };
        self.changes.add(Box::new(op));
        Table {
            assembly: Rc::clone(&self.assembly),
            node,
            inputs: self.inputs.behind(every_ms),
            store: self.store.clone(),
            rows: said,
            changes,
        }
    }

    /// The same table.
    fn again(&self) -> Table<K, V> {
        Table {
            assembly: Rc::clone(&self.assembly),
            node: self.node,
            inputs: self.inputs.clone(),
            store: self.store.clone(),
            rows: Rc::clone(&self.rows),
            changes: self.changes.clone(),
        }
    }
}
