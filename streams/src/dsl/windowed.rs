//! Streams in windows, and results that have yet to say when they speak.

use std::cell::RefCell;
use std::rc::Rc;

use super::assembly::{Assembly, TopicTypes};
use super::stream::{KeyedPlace, Placed, decode_carried, store_name};
use super::{Stream, Topic};
use crate::codec::{Bincode, Data};
use crate::ids::StoreName;
use crate::key::{Key, Windowed};
use crate::operator::{Add, WindowAggregate};
use crate::processor::{Next, Shared, Stateful, Timed};
use crate::time::{TimeInputs, Tumbling};
use crate::topology::{Carries, Emit, Kind, NodeId, changelog_topic};

/// Records grouped by key and window.
#[must_use = "a windowed stream does nothing until it is counted or aggregated"]
pub struct WindowedStream<K, V> {
    pub(crate) stream: Stream<K, V>,
    pub(crate) window: Tumbling,
}

/// A windowed result; say when it speaks: `.on_close()` (one final record per window) or
/// `.on_update()` (each changed window, once per commit).
#[must_use = "say when windows speak: `.on_close()` (one final result) or `.on_update()` (each changed window, once per commit)"]
pub struct WindowTable<K, A> {
    assembly: Shared<Assembly>,
    finish: Box<dyn FnOnce(Emit) -> Stream<Windowed<K>, A>>,
}

/// What a result must be before it can go to a topic: nothing windowed is, before it says when it
/// speaks.
#[diagnostic::on_unimplemented(
    message = "a windowed result must say when it speaks before it can go to a topic",
    label = "final results, or every change?",
    note = "`.on_close().to(..)` sends one final record per window; `.on_update().to(..)` sends each changed window, once per commit"
)]
pub trait SaysWhen {}

impl<K: Key, V: Data> WindowedStream<K, V> {
    /// Counts the records of each key and window.
    pub fn count(self, store: &str) -> WindowTable<K, u64> {
        let window = self.window;
        let (name, assembly) = name_of(&self.stream.assembly, store);
        let stream = self.stream;
        let place = move |name: &StoreName| stream.counted(name, Some(window));
        let add = Box::new(|n: &mut u64, more: u64| *n = n.saturating_add(more));
        table(assembly, name, window, "count", place, add)
    }

    /// Folds the records of each key and window into a value that starts from `A::default()`.
    pub fn aggregate<A: Data + Default>(
        self,
        store: &str,
        add: impl Fn(&mut A, V) + Send + 'static,
    ) -> WindowTable<K, A> {
        let window = self.window;
        let (name, assembly) = name_of(&self.stream.assembly, store);
        let stream = self.stream;
        let place =
            move |name: &StoreName| stream.keyed(name, Carries::Value, |v| v, decode_carried::<V>);
        table(assembly, name, window, "aggregate", place, Box::new(add))
    }
}

impl<K: Key, A: Data> WindowTable<K, A> {
    /// One final record per window, when it closes: when all clocks that it depends on have passed its
    /// end plus grace. It carries the largest timestamp of its records.
    pub fn on_close(self) -> Stream<Windowed<K>, A> {
        (self.finish)(Emit::OnClose)
    }

    /// The latest value of each changed window, once per commit.
    pub fn on_update(self) -> Stream<Windowed<K>, A> {
        (self.finish)(Emit::OnUpdate)
    }

    /// Does not compile: say first when windows speak.
    pub fn to<C>(self, _topic: Topic<Windowed<K>, A, C>)
    where
        Self: SaysWhen,
    {
        drop(self.assembly);
    }
}

fn name_of(assembly: &Shared<Assembly>, store: &str) -> (Option<StoreName>, Shared<Assembly>) {
    (store_name(assembly, store).ok(), Rc::clone(assembly))
}

fn table<K: Key, V: 'static, A: Data + Default>(
    assembly: Shared<Assembly>,
    name: Option<StoreName>,
    window: Tumbling,
    what: &'static str,
    place: impl FnOnce(&StoreName) -> Placed<V> + 'static,
    add: Add<V, A>,
) -> WindowTable<K, A> {
    let finish = {
        let assembly = Rc::clone(&assembly);
        move |emit: Emit| match name {
            None => nowhere(assembly),
            Some(store) => {
                let (assembly, place) = place(&store);
                finish_table(assembly, store, window, what, place, add, emit)
            }
        }
    };
    WindowTable { assembly, finish: Box::new(finish) }
}

fn finish_table<K: Key, V: 'static, A: Data + Default>(
    assembly: Shared<Assembly>,
    store: StoreName,
    window: Tumbling,
    what: &'static str,
    place: KeyedPlace<V>,
    add: Add<V, A>,
    emit: Emit,
) -> Stream<Windowed<K>, A> {
    let node = {
        let mut assembly = assembly.borrow_mut();
        let kind = Kind::WindowAggregate { store: store.clone(), what, window, emit };
        let topic = changelog_topic(&assembly.graph.id, &store);
        assembly.types.insert(topic, TopicTypes::of::<Windowed<K>, A, Bincode>());
        assembly.graph.add(kind, &[place.node])
    };
    let inputs = place.inputs.behind(window.lag_ms());
    let origin = store.to_string();
    let lists = Rc::clone(&assembly);
    let attach = move |next: Next<Windowed<K>, A>| {
        let op = WindowAggregate::<K, V, A>::new(store, window, emit, place.inputs, add, next);
        let op = Rc::new(RefCell::new(op));
        {
            let mut lists = lists.borrow_mut();
            let stateful: Shared<dyn Stateful> = Rc::<RefCell<_>>::clone(&op) as _;
            let timed: Shared<dyn Timed> = Rc::<RefCell<_>>::clone(&op) as _;
            lists.stateful.push((node, stateful));
            lists.timed.push((node, timed));
        }
        (place.attach)(Box::new(op));
    };
    let attach = Box::new(attach);
    Stream { assembly, node, inputs, rekeyed: false, origin, attach, source: None }
}

/// The continuation of a step whose name was refused.
pub(super) fn nowhere<K: 'static, V: 'static>(assembly: Shared<Assembly>) -> Stream<K, V> {
    let inputs = TimeInputs::default();
    let attach = Box::new(|_: Next<K, V>| ());
    let origin = String::new();
    Stream { assembly, node: NodeId(0), inputs, rekeyed: false, origin, attach, source: None }
}
