//! Tables joined by a key that is found in the values of the left one.
//!
//! ```text
//!   left ---- <s>-subscription-repartition ----> subscriptions in <s>-subscriptions <-- right
//!     |                                                          |
//!     +--- join in <s> <---- <s>-response-repartition -----------+
//! ```
//!
//! Invariants
//! * questions are routed as the right table's rows are, answers as the left one's: neither side moves.
//! * the result is as far in time as the slower of the direct way and the way there and back.

use std::cell::RefCell;
use std::rc::Rc;

use super::Table;
use super::assembly::{Assembly, TopicTypes};
use super::repartition::Cut;
use super::stream::{decode_carried, store_name};
use crate::codec::{Bincode, Data};
use crate::ids::StoreName;
use crate::key::Key;
use crate::operator::{
    Answer, Answers, AskRight, Joined, LeftRows, RepartitionEntry, RepartitionSink, Subscribe,
    Subscription, SubscriptionStore, TakeAnswer, TellLeft,
};
use crate::processor::{ProcessKeyed, Shared, Stateful};
use crate::store::OrderedOverlay;
use crate::time::TimeInputs;
use crate::topology::{Carries, JoinKind, Kind, NodeId, changelog_topic, repartition_topic};

/// The end of a topic at which records arrive.
struct Arrival {
    node: NodeId,
    input: usize,
    topic: String,
}

impl Arrival {
    /// Puts the operator in place that takes the records.
    fn attach<V: Data>(self, assembly: &Shared<Assembly>, op: Box<dyn ProcessKeyed<V>>) {
        let entry = RepartitionEntry::new(&self.topic, op, decode_carried::<V>);
        assembly.borrow_mut().entries[self.input] = Some(Box::new(entry));
    }
}

/// The key of the row that a value names; none.
type ForeignKey<V, K2> = Rc<dyn Fn(&V) -> Option<K2>>;

impl<K: Key, V: Data> Table<K, V> {
    /// Joins each row with the row of another table that it names: a foreign key, found in its value.
    /// The result is a table under this table's keys, in a store of its own.
    ///
    /// It has a row where both sides have one, and follows every change of both, of the foreign key too.
    /// Both sides may have any number of partitions. A row without a foreign key (`None`) has no result
    /// and is counted as a null key. A result's timestamp is the larger of its rows'; intermediate
    /// results may show while a change is on its way between the two sides, as the updates of any table
    /// may, the last one follows from the last rows of both sides. `foreign_key` must answer the same for the
    /// same value.
    ///
    /// Rows that name one row of the other table are listed in the store `<store>-subscriptions`.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const LINES: Topic<u64, (String, u64)> = topic("order-lines");
    /// const PRODUCTS: Topic<String, u64> = topic("products");
    /// const SUMS: Topic<u64, u64> = topic("sums");
    /// fn topology(t: &mut Topology) {
    ///     let products = t.table(PRODUCTS, "products");
    ///     t.table(LINES, "lines")
    ///         .join_on(&products, |(product, _)| product.clone(), "priced", |(_, n), price| n * price)
    ///         .to(SUMS);
    /// }
    /// let mut d = TestDriver::new(topology).partitions(3);
    /// d.send(PRODUCTS, "chair".into(), 40).send(LINES, 7, ("chair".into(), 2));
    /// assert_eq!(d.read(SUMS).last(), Some(&(7, 80)));
    /// d.send(PRODUCTS, "chair".into(), 45);
    /// assert_eq!(d.read(SUMS), [(7, 90)]);
    /// ```
    pub fn join_on<K2, V2, R, F>(
        &self,
        other: &Table<K2, V2>,
        foreign_key: impl Fn(&V) -> F + Send + 'static,
        store: &str,
        join: impl Fn(V, V2) -> R + Send + 'static,
    ) -> Table<K, R>
    where
        K2: Key,
        V2: Data,
        R: Data,
        F: Into<Option<K2>>,
    {
        let both = move |left, right: Option<V2>| right.map(|right| join(left, right));
        let foreign_key = move |value: &V| foreign_key(value).into();
        self.join_by(other, JoinKind::Inner, Rc::new(foreign_key), store, Rc::new(both))
    }

    /// As [`join_on`](Self::join_on), and a row that names nothing, or a row that is not there, has a
    /// result too: the closure gets `None`.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const STAFF: Topic<String, Option<u64>> = topic("staff");
    /// const ROOMS: Topic<u64, String> = topic("rooms");
    /// const WHERE: Topic<String, String> = topic("where");
    /// fn topology(t: &mut Topology) {
    ///     let rooms = t.table(ROOMS, "rooms");
    ///     t.table(STAFF, "staff")
    ///         .left_join_on(&rooms, |room| *room, "seated", |_, room| room.unwrap_or("home".into()))
    ///         .to(WHERE);
    /// }
    /// let mut d = TestDriver::new(topology).partitions(2);
    /// d.send(STAFF, "ana".into(), None).send(STAFF, "bob".into(), Some(2));
    /// d.send(ROOMS, 2, "attic".into());
    /// let said = d.read(WHERE);
    /// assert!(said.contains(&("ana".to_string(), "home".to_string())));
    /// assert_eq!(said.iter().rfind(|(who, _)| who == "bob").unwrap().1, "attic");
    /// ```
    pub fn left_join_on<K2, V2, R, F>(
        &self,
        other: &Table<K2, V2>,
        foreign_key: impl Fn(&V) -> F + Send + 'static,
        store: &str,
        join: impl Fn(V, Option<V2>) -> R + Send + 'static,
    ) -> Table<K, R>
    where
        K2: Key,
        V2: Data,
        R: Data,
        F: Into<Option<K2>>,
    {
        let both = move |left, right| Some(join(left, right));
        let foreign_key = move |value: &V| foreign_key(value).into();
        self.join_by(other, JoinKind::Left, Rc::new(foreign_key), store, Rc::new(both))
    }

    fn join_by<K2: Key, V2: Data, R: Data>(
        &self,
        right: &Table<K2, V2>,
        kind: JoinKind,
        foreign_key: ForeignKey<V, K2>,
        store: &str,
        join: Joined<V, V2, R>,
    ) -> Table<K, R> {
        let assembly = &self.assembly;
        let named = store_name(assembly, store).and_then(|store| {
            Ok((store_name(assembly, &format!("{store}-subscriptions"))?, store))
        });
        let Ok((listed, store)) = named else { return Table::nowhere(Rc::clone(assembly)) };

        let types = TopicTypes::of_repartition::<K2, Subscription<K>>();
        let (questions, asked) =
            way(assembly, &store, "subscription", self.node, self.inputs.clone(), types);
        let question_time = TimeInputs(vec![(asked.input, 0)]);

        let (node, rows) = subscriptions::<K, K2>(assembly, listed, &[asked.node, right.node]);
        let inputs = question_time.union(&right.inputs);
        let types = TopicTypes::of_repartition::<K, Answer<K2, V2>>();
        let (answers, answered) = way(assembly, &store, "response", node, inputs, types);

        let topic = asked.topic.clone();
        let of = |input: &str| Answers::new::<K>(input, answers);
        let subscribe =
            Subscribe::<K2, V2>::new(Rc::clone(&rows), Rc::clone(&right.rows), of(&answered.topic));
        right.changes.add(Box::new(TellLeft::new(rows, of(&answered.topic))));
        asked.attach::<Subscription<K>>(assembly, Box::new(subscribe));

        let inputs = TimeInputs(vec![(answered.input, 0)]).union(&self.inputs);
        let joined = Kind::ForeignJoin { store: store.clone(), join: kind };
        let nodes = [answered.node, self.node];
        let (table, results) =
            Table::written_by(Rc::clone(assembly), &nodes, inputs, store, joined);
        let left = LeftRows { kind, foreign_key, join, results };
        let take = TakeAnswer::new(left.clone(), Rc::clone(&self.rows));
        answered.attach::<Answer<K2, V2>>(assembly, Box::new(take));
        let sink = RepartitionSink::new(topic, questions, Carries::Value);
        self.changes.add(Box::new(AskRight::new(left, sink)));
        table
    }
}

/// A topic of the join, which is called after its store: the output to it, and its other end.
fn way(
    assembly: &Shared<Assembly>,
    store: &StoreName,
    what: &str,
    from: NodeId,
    inputs: TimeInputs,
    types: TopicTypes,
) -> (usize, Arrival) {
    let topic = repartition_topic(&assembly.borrow().graph.id, format_args!("{store}-{what}"));
    let Cut { output, node, input, .. } =
        Cut::new(assembly, from, inputs, &topic, Carries::Value, types);
    (output, Arrival { node, input, topic })
}

/// The store of the subscriptions: its node and its rows.
fn subscriptions<K: Key, K2: Key>(
    assembly: &Shared<Assembly>,
    store: StoreName,
    nodes: &[NodeId],
) -> (NodeId, Shared<OrderedOverlay<()>>) {
    let rows = Rc::new(RefCell::new(OrderedOverlay::new(store.clone())));
    let mut assembly = assembly.borrow_mut();
    let node = assembly.graph.add(Kind::Subscriptions { store: store.clone() }, nodes);
    let topic = changelog_topic(&assembly.graph.id, &store);
    assembly.types.insert(topic, TopicTypes::of::<(K2, K), (), Bincode>());
    let kept = SubscriptionStore::new(store, Rc::clone(&rows));
    let stateful: Shared<dyn Stateful> = Rc::new(RefCell::new(kept));
    assembly.stateful.push((node, stateful));
    (node, rows)
}
