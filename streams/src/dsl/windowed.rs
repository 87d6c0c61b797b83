//! Streams in windows, and results that have yet to say when they speak.
//!
//! ```text
//!   stream.window(w) --> WindowedStream --count, aggregate, reduce--> WindowTable --on_close, on_update--> stream
//!                              `--late_to(TOPIC)
//! ```
//!
//! Why two groupings: sessions merge, so an aggregate of theirs takes a function that merges two values;
//! what has none does not compile.

mod late;

use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;

use super::assembly::{Assembly, TopicTypes};
use super::stream::{KeyedPlace, decode_carried, store_name};
use super::{Stream, Topic};
use crate::codec::{Bincode, Codec, Data};
use crate::key::{Key, Windowed};
use crate::operator::{
    Folds, KeptRecords, KeyedWindows, LateTo, OpenSessions, WindowAggregate, WindowStep,
};
use crate::processor::{Next, ProcessKeyed, Shared, Stateful, Timed};
use crate::time::{Hopping, Session, Shape, Since, Sliding, TimeInputs, Tumbling, Windows};
use crate::topology::{Carries, Emit, Kind, NodeId, changelog_topic};
use late::LateRoute;

/// Windows in which each record finds its place by its own time.
#[derive(Clone, Copy, Debug)]
pub struct Spans;

/// Windows that records make, and that may be brought together.
#[derive(Clone, Copy, Debug)]
pub struct Sessions;

/// What [`Stream::window`] takes: [`tumbling`](crate::tumbling), [`hopping`](crate::hopping),
/// [`sliding`](crate::sliding), [`session`](crate::session), [`since`](crate::since).
pub trait Window: Into<Windows> + sealed::Sealed {
    /// [`Sessions`], or [`Spans`].
    type Grouping;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! window {
    ($($kind:ident: $grouping:ident),*) => {$(
        impl sealed::Sealed for $kind {}
        impl Window for $kind {
            type Grouping = $grouping;
        }
    )*};
}

window!(Tumbling: Spans, Hopping: Spans, Since: Spans, Sliding: Spans, Session: Sessions);

/// Records grouped by key and window.
#[must_use = "a windowed stream does nothing until it is counted, reduced or aggregated"]
pub struct WindowedStream<K, V, G = Spans> {
    stream: Stream<K, V>,
    windows: Windows,
    late: Option<LateRoute<K, V>>,
    grouping: PhantomData<G>,
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

/// What a step needs of a value, and how it is read where it was carried through a repartition topic.
type Carried<V, V2> = (fn(V) -> V2, fn(Option<&[u8]>) -> Result<V2, String>);

impl<K: Key, V: Data, G> WindowedStream<K, V, G> {
    pub(super) fn new(stream: Stream<K, V>, windows: Windows) -> Self {
        Self { stream, windows, late: None, grouping: PhantomData }
    }

    /// Counts the records of each key and window.
    pub fn count(self, store: &str) -> WindowTable<K, u64> {
        let merge = |n: &mut u64, other: u64| *n = n.saturating_add(other);
        let windows = self.windows;
        let by_time = matches!(windows.shape(), Shape::Tumbling { .. } | Shape::Hopping { .. });
        if by_time && self.late.is_none() {
            let add = |n: &mut Option<u64>, more: u64| {
                *n = Some(n.unwrap_or(0).saturating_add(more));
            };
            let folds = Folds { add: Box::new(add), merge: Some(Box::new(merge)) };
            return self.placed(store, "count", move |stream, kind, _| {
                let (assembly, place) = stream.counted(kind.stores()[0], Some(windows));
                let kept = TopicTypes::of::<K, KeptRecords<u64>, Bincode>();
                finish_table(assembly, place, kind, folds, None, kept)
            });
        }
        let add = |n: &mut Option<u64>, ()| *n = Some(n.unwrap_or(0).saturating_add(1));
        let folds = Folds { add: Box::new(add), merge: Some(Box::new(merge)) };
        self.fold(store, "count", Carries::Key, (|_| (), |_| Ok(())), folds)
    }

    /// Folds the records of each key and window into one value: the first as it is, each other one by this
    /// function, which is given what there is and the value that comes.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const BIDS: Topic<String, u64> = topic("bids");
    /// const HIGHEST: Topic<Windowed<String>, u64> = topic("highest");
    /// fn topology(t: &mut Topology) {
    ///     t.stream(BIDS).window(tumbling(secs(10))).reduce("highest", u64::max).on_close().to(HIGHEST);
    /// }
    /// let mut d = TestDriver::new(topology);
    /// for (bid, at) in [(3, 0), (7, 4_000), (5, 9_000), (1, 10_000)] {
    ///     d.send_at(BIDS, "lamp".into(), bid, at);
    /// }
    /// let first = Windowed { key: "lamp".to_string(), start: 0, end: 10_000 };
    /// assert_eq!(d.read(HIGHEST), [(first, 7)]);
    /// ```
    pub fn reduce(
        self,
        store: &str,
        fold: impl Fn(V, V) -> V + Send + 'static,
    ) -> WindowTable<K, V> {
        let fold = Rc::new(fold);
        let both = Rc::clone(&fold);
        let add = move |known: &mut Option<V>, value: V| {
            *known = Some(match known.take() {
                Some(known) => fold(known, value),
                None => value,
            });
        };
        let merge = move |known: &mut V, other: V| {
            let first = known.clone();
            *known = both(first, other);
        };
        let folds = Folds { add: Box::new(add), merge: Some(Box::new(merge)) };
        self.fold(store, "reduce", Carries::Value, (|v| v, decode_carried::<V>), folds)
    }

    /// Sends records that came after a window of theirs had closed to a topic, with key, value, timestamp
    /// and headers, in the same transaction. They are counted as late all the same.
    ///
    /// A record of hopping or sliding windows that some of its windows still take goes there too: once.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const CLICKS: Topic<String, u64> = topic("clicks");
    /// const COUNTS: Topic<Windowed<String>, u64> = topic("counts");
    /// const LATE: Topic<String, u64> = topic("late-clicks");
    /// fn topology(t: &mut Topology) {
    ///     t.stream(CLICKS).window(tumbling(secs(1))).late_to(LATE).count("n").on_close().to(COUNTS);
    /// }
    /// let mut d = TestDriver::new(topology);
    /// for (value, at) in [(1, 0), (2, 1_000), (3, 500)] {
    ///     d.send_at(CLICKS, "/".into(), value, at);
    /// }
    /// assert_eq!(d.read(LATE), [("/".to_string(), 3)]);
    /// assert_eq!(d.late(), 1);
    /// ```
    pub fn late_to<C: Codec<V>>(mut self, topic: Topic<K, V, C>) -> Self {
        self.late = Some(LateRoute::to(topic));
        self
    }

    pub(super) fn fold<V2: Data, A: Data>(
        self,
        store: &str,
        what: &'static str,
        carries: Carries,
        (convert, decode): Carried<V, V2>,
        folds: Folds<V2, A>,
    ) -> WindowTable<K, A> {
        self.placed(store, what, move |stream, kind, late| match late {
            None => {
                let (assembly, place) = stream.keyed(kind.stores()[0], carries, convert, decode);
                let kept = TopicTypes::of::<K, KeptRecords<V2>, Bincode>();
                finish_table(assembly, place, kind, folds, None, kept)
            }
            Some(route) => late::finish(stream, route, kind, convert, folds),
        })
    }

    /// A result that is put in place once it is said when it speaks.
    fn placed<A: Data>(
        self,
        store: &str,
        what: &'static str,
        finish: impl FnOnce(Stream<K, V>, Kind, Option<LateRoute<K, V>>) -> Stream<Windowed<K>, A>
        + 'static,
    ) -> WindowTable<K, A> {
        let assembly = Rc::clone(&self.stream.assembly);
        let name = store_name(&assembly, store).ok();
        let Self { stream, windows, late, .. } = self;
        let finish = {
            let assembly = Rc::clone(&assembly);
            move |emit: Emit| {
                let Some(store) = name else { return nowhere(assembly) };
                finish(stream, Kind::WindowAggregate { store, what, window: windows, emit }, late)
            }
        };
        WindowTable { assembly, finish: Box::new(finish) }
    }
}

impl<K: Key, V: Data> WindowedStream<K, V, Spans> {
    /// Folds the records of each key and window into a value that starts from `A::default()`.
    pub fn aggregate<A: Data + Default>(
        self,
        store: &str,
        add: impl Fn(&mut A, V) + Send + 'static,
    ) -> WindowTable<K, A> {
        let add = move |known: &mut Option<A>, value| add(known.get_or_insert_default(), value);
        let folds = Folds { add: Box::new(add), merge: None };
        self.fold(store, "aggregate", Carries::Value, (|v| v, decode_carried::<V>), folds)
    }
}

impl<K: Key, V: Data> WindowedStream<K, V, Sessions> {
    /// Folds the records of each session into a value that starts from `A::default()`. Where a record
    /// brings sessions together, `merge` adds the value of the later one to that of the earlier one.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const VISITS: Topic<String, String> = topic("visits");
    /// const PATHS: Topic<Windowed<String>, Vec<String>> = topic("paths");
    /// fn topology(t: &mut Topology) {
    ///     t.stream(VISITS)
    ///         .window(session(secs(10)))
    ///         .aggregate("paths", |path: &mut Vec<String>, page| path.push(page), |path, later| {
    ///             path.extend(later);
    ///         })
    ///         .on_close()
    ///         .to(PATHS);
    /// }
    /// let mut d = TestDriver::new(topology);
    /// for (page, at) in [("/", 0), ("/cart", 8_000), ("/", 60_000)] {
    ///     d.send_at(VISITS, "ana".into(), page.into(), at);
    /// }
    /// let visit = Windowed { key: "ana".to_string(), start: 0, end: 8_000 };
    /// assert_eq!(d.read(PATHS), [(visit, vec!["/".to_string(), "/cart".to_string()])]);
    /// ```
    pub fn aggregate<A: Data + Default>(
        self,
        store: &str,
        add: impl Fn(&mut A, V) + Send + 'static,
        merge: impl Fn(&mut A, A) + Send + 'static,
    ) -> WindowTable<K, A> {
        let add = move |known: &mut Option<A>, value| add(known.get_or_insert_default(), value);
        let folds = Folds { add: Box::new(add), merge: Some(Box::new(merge)) };
        self.fold(store, "aggregate", Carries::Value, (|v| v, decode_carried::<V>), folds)
    }
}

impl<K: Key, A: Data> WindowTable<K, A> {
    /// One final record per window, when it closes: when all clocks that it depends on have passed its
    /// end plus grace. It carries the largest timestamp of its records.
    pub fn on_close(self) -> Stream<Windowed<K>, A> {
        (self.finish)(Emit::OnClose)
    }

    /// The latest value of each changed window, once per commit. A session that was told and has become
    /// part of another one is taken back: a record with its key and no value.
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

/// Puts a step with windows in its place. `kept` are the types of records that sliding windows keep.
pub(super) fn finish_table<K: Key, V: Data, A: Data>(
    assembly: Shared<Assembly>,
    place: KeyedPlace<V>,
    kind: Kind,
    folds: Folds<V, A>,
    late: Option<LateTo<V>>,
    kept: TopicTypes,
) -> Stream<Windowed<K>, A> {
    let Kind::WindowAggregate { store, window: windows, emit, .. } = kind.clone() else {
        return nowhere(assembly);
    };
    let node = {
        let mut assembly = assembly.borrow_mut();
        let node = assembly.graph.add(kind, &[place.node]);
        let topic = changelog_topic(&assembly.graph.id, &store);
        let types = match windows.shape() {
            Shape::Session { .. } => TopicTypes::of::<K, OpenSessions<A>, Bincode>(),
            Shape::Sliding { .. } => kept,
            _ => TopicTypes::of::<Windowed<K>, A, Bincode>(),
        };
        assembly.types.insert(topic, types);
        node
    };
    let inputs = place.inputs.behind(windows.lag_ms());
    let origin = store.to_string();
    let lists = Rc::clone(&assembly);
    let attach = move |next: Next<Windowed<K>, A>| {
        let step = WindowStep { store, windows, emit, inputs: place.inputs };
        let op = match windows.shape() {
            Shape::Tumbling { .. } | Shape::Hopping { .. } | Shape::Since { .. } => {
                let op = WindowAggregate::<K, V, A>::new(step, folds, late, next);
                enlist(&lists, node, &Rc::new(RefCell::new(op)))
            }
            Shape::Session { .. } => {
                let op = KeyedWindows::<K, V, A, OpenSessions<A>>::new(step, folds, late, next);
                enlist(&lists, node, &Rc::new(RefCell::new(op)))
            }
            Shape::Sliding { .. } => {
                let op = KeyedWindows::<K, V, A, KeptRecords<V>>::new(step, folds, late, next);
                enlist(&lists, node, &Rc::new(RefCell::new(op)))
            }
        };
        (place.attach)(op);
    };
    let attach = Box::new(attach);
    Stream { assembly, node, inputs, rekeyed: false, origin, attach, source: None }
}

/// Names an operator where a task finds what keeps state and what has deadlines.
fn enlist<V, T>(lists: &Shared<Assembly>, node: NodeId, op: &Shared<T>) -> Box<dyn ProcessKeyed<V>>
where
    T: Stateful + Timed + 'static,
    Shared<T>: ProcessKeyed<V> + 'static,
{
    let mut lists = lists.borrow_mut();
    let stateful: Shared<dyn Stateful> = Rc::<RefCell<_>>::clone(op) as _;
    let timed: Shared<dyn Timed> = Rc::<RefCell<_>>::clone(op) as _;
    lists.stateful.push((node, stateful));
    lists.timed.push((node, timed));
    Box::new(Rc::clone(op))
}

/// The continuation of a step whose name was refused.
pub(super) fn nowhere<K: 'static, V: 'static>(assembly: Shared<Assembly>) -> Stream<K, V> {
    let inputs = TimeInputs::default();
    let attach = Box::new(|_: Next<K, V>| ());
    let origin = String::new();
    Stream { assembly, node: NodeId(0), inputs, rekeyed: false, origin, attach, source: None }
}
