//! A user's processor behind a stream.
//!
//! ```text
//!   stream --[repartition topic, behind key_by and with state]--> process --> outputs, one or several
//!                                                 stores, tables -'
//! ```
//!
//! Invariants
//! * a processor runs whether or not anything follows it.
//! * a store expires after the timers of the last processor that uses it: a timer sees what was there at
//!   its time.

use std::cell::RefCell;
use std::rc::Rc;

use super::Stream;
use super::assembly::{Assembly, TopicTypes};
use super::stream::store_name;
use super::windowed::nowhere;
use crate::codec::Data;
use crate::error::Error;
use crate::ids::StoreName;
use crate::key::{NoKey, RecordKey};
use crate::operator::{Children, Core, ProcessStep, Processor, StoreLink, TimerRows};
use crate::processor::{Next, Shared, Stateful, Timed};
use crate::topology::{Kind, NodeId, changelog_topic};

impl<K: RecordKey, V: Data> Stream<K, V> {
    /// Hands each record to a processor, with stores and timers of its own, and goes on with what it
    /// forwards. See [`Processor`] for an example.
    ///
    /// With a store or a timer, records of one key must meet: behind `key_by` they go through the topic
    /// `<job>-<name>-repartition` first. What is forwarded may have any key, so a step behind it that keeps
    /// state repartitions again.
    pub fn process<P: Processor<K, V>>(self, name: &str, processor: P) -> Stream<P::Key, P::Out> {
        let [output] = self.process_to(name, processor, ["output"]);
        output
    }

    /// The same with several outputs, each under the name by which
    /// [`forward_to`](crate::Ctx::forward_to) sends to it alone.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const IN: Topic<String, u64> = topic("in");
    /// const SMALL: Topic<String, u64> = topic("small");
    /// const LARGE: Topic<String, u64> = topic("large");
    ///
    /// struct Sort;
    /// impl Processor<String, u64> for Sort {
    ///     type Key = String;
    ///     type Out = u64;
    ///     fn record(&mut self, ctx: &mut Ctx<'_, String, u64>, record: Record<String, u64>) -> Processed {
    ///         let (Some(key), Some(n)) = (record.key, record.value) else { return Ok(()) };
    ///         ctx.forward_to(if n < 10 { "small" } else { "large" }, key, n)?;
    ///         Ok(())
    ///     }
    /// }
    ///
    /// fn topology(t: &mut Topology) {
    ///     let [small, large] = t.stream(IN).process_to("sort", Sort, ["small", "large"]);
    ///     small.to(SMALL);
    ///     large.to(LARGE);
    /// }
    /// let mut d = TestDriver::new(topology);
    /// d.send(IN, "a".into(), 7).send(IN, "b".into(), 12);
    /// assert_eq!(d.read(SMALL), [("a".to_string(), 7)]);
    /// assert_eq!(d.read(LARGE), [("b".to_string(), 12)]);
    /// ```
    pub fn process_to<P: Processor<K, V>, const N: usize>(
        self,
        name: &str,
        processor: P,
        outputs: [&str; N],
    ) -> [Stream<P::Key, P::Out>; N] {
        match store_name(&self.assembly, name) {
            Ok(name) => put_in_place(self, name, processor, outputs),
            Err(assembly) => outputs.map(|_| nowhere(Rc::clone(&assembly))),
        }
    }
}

fn put_in_place<K: RecordKey, V: Data, P: Processor<K, V>, const N: usize>(
    stream: Stream<K, V>,
    name: StoreName,
    processor: P,
    outputs: [&str; N],
) -> [Stream<P::Key, P::Out>; N] {
    let links: Vec<StoreLink> = processor.stores().iter().map(|store| store.link()).collect();
    let has_timers = processor.timers().per_key;
    let is_keyed = has_timers || links.iter().any(|link| link.is_keyed);
    if is_keyed && std::any::TypeId::of::<K>() == std::any::TypeId::of::<NoKey>() {
        stream.assembly.borrow_mut().mistake(Error::Topology {
            reason: format!("processor `{name}` keeps state, and its stream has no key"),
            help: "choose one first: `.key_by(|click| click.user.clone())`".to_owned(),
        });
    }
    let stream = if is_keyed { stream.by_any_key(&name) } else { stream };
    let (assembly, inputs, attach) = (stream.assembly, stream.inputs, stream.attach);
    let timers = if has_timers { timer_rows(&assembly, &name) } else { None };
    let node = {
        let mut from = vec![stream.node];
        from.extend(links.iter().map(|link| link.node));
        let timers = timers.as_ref().map(|timers| timers.borrow().store().clone());
        assembly.borrow_mut().graph.add(Kind::Process { name: name.clone(), timers }, &from)
    };
    let named = outputs.map(|output| (output.to_owned(), Children::new()));
    let core = Core {
        node: node.0,
        name: name.to_string(),
        outputs: named.to_vec(),
        timers: timers.clone(),
        inputs: inputs.clone(),
        now: Rc::clone(&assembly.borrow().now),
    };
    let step = Rc::new(RefCell::new(ProcessStep::new(processor, core, is_keyed)));
    {
        let mut lists = assembly.borrow_mut();
        if let Some(timers) = timers {
            let stateful: Shared<dyn Stateful> = timers;
            let topic = changelog_topic(&lists.graph.id, stateful.borrow().store());
            lists.types.insert(topic, TopicTypes::of_timers::<K>());
            lists.stateful.push((node, stateful));
        }
        if step.borrow().has_time() {
            let timed: Shared<dyn Timed> = Rc::<RefCell<_>>::clone(&step) as _;
            lists.timed.push((node, timed));
        }
        links.into_iter().for_each(|link| lists.use_store(node, link, &inputs));
    }
    attach(Box::new(step));
    named.map(|(_, children)| Stream {
        assembly: Rc::clone(&assembly),
        node,
        inputs: inputs.clone(),
        rekeyed: true,
        origin: name.to_string(),
        attach: Box::new(move |next: Next<P::Key, P::Out>| children.add(next)),
        source: None,
    })
}

fn timer_rows(assembly: &Shared<Assembly>, name: &StoreName) -> Option<Shared<TimerRows>> {
    let store = store_name(assembly, &format!("{name}-timers")).ok()?;
    Some(Rc::new(RefCell::new(TimerRows::new(store))))
}

impl Assembly {
    /// A processor uses a store: what is too old there goes by the time of all processors that do.
    fn use_store(&mut self, node: NodeId, link: StoreLink, inputs: &crate::time::TimeInputs) {
        let (Some(used), Some(timed)) = (link.used, link.timed) else { return };
        used.borrow_mut().used_by(inputs);
        if used.borrow().keeps_for_ever() {
            return;
        }
        self.timed.retain(|(_, known)| !Rc::ptr_eq(known, &timed));
        self.timed.push((node, timed));
    }
}
