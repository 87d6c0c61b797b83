//! One task: a sub-topology over one partition of its inputs.
//!
//! ```text
//!   open: operators built, stores restored, inputs at their committed positions
//!     |
//!     v     begin(N)                      prepare(N): updates, changelogs, positions, counts
//!   ready  ----------->  run(budget) ..  -----------------------------------------------------.
//!     ^                      | committed(N - 1): undecided rows -> committed rows              |
//!     |                      v                                                                 |
//!     |                  run(budget) ..                                                        |
//!     `----------------------------------------------------------------------------------------'
//!   any error: the task is dropped with everything it holds
//! ```
//!
//! Invariants
//! * N is prepared only after N - 1 is committed; what belongs to a transaction (counts, which inputs
//!   have moved) is taken when it is prepared, as the next one begins before it is committed.
//! * after each record everything that is due has fired, each step before those behind it; what takes the
//!   updates of a table fires at the commit, when it has them.
//! * positions are committed with the clocks that belong to them.
//!
//! On crash: the next task starts from the committed positions and the changelogs.

mod clocks;
mod open;
mod ordered;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use self::ordered::{Choice, watermarks_in};
use super::input::{GlobalPosition, Input, InputTime, choose};
use super::late_log::LateLog;
use super::plan::JobPlan;
use crate::broker::{Batch, Broker, Position, TopicRef, Transaction};
use crate::dsl::Assembly;
use crate::error::Result;
use crate::ids::TaskId;
use crate::operator::Combines;
use crate::processor::{
    Changelog, Context, Counters, Entry, Judge, NamedOutputs, Output, Shared, Stateful, Timed,
};
use crate::store::{Checkpoint, Flusher, RowCache};
use crate::time::TimeInputs;
use crate::topology::NodeId;

/// Where a task finds its store partitions on disk.
pub(crate) trait Stores {
    /// The committed rows of one store partition.
    fn open(&self, store: &crate::ids::StoreName, partition: u32) -> Result<RowCache>;
}

struct StorePartition {
    node: NodeId,
    op: Shared<dyn Stateful>,
    changelog: TopicRef,
    /// Under whose name the changelog is kept: the job's.
    holder: String,
    batch: Box<dyn Batch>,
}

/// A step that acts when its time comes.
struct Clocked {
    node: NodeId,
    op: Shared<dyn Timed>,
    /// It takes updates of a table, so its time is that of the last commit: until the next one, records
    /// may come that are older than its inputs' clocks.
    waits: bool,
}

/// How far a task's records to one repartition topic are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UpstreamMark {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: u32,
    pub(crate) watermark: i64,
}

/// A task that is ready to run.
pub(crate) struct Task {
    pub(crate) id: TaskId,
    ctx: Context,
    inputs: Vec<Input>,
    /// Timestamps of the inputs' next records, to choose among them.
    heads: Vec<Option<i64>>,
    entries: Vec<Option<Box<dyn Entry>>>,
    timed: Vec<Clocked>,
    stores: Vec<StorePartition>,
    /// What gathers records before they are emitted.
    combiners: Vec<Shared<dyn Combines>>,
    /// Repartition topics that this task writes, and its time there.
    downstream: Vec<(TopicRef, TimeInputs)>,
    /// Where changelogs are kept for its stores.
    broker: Arc<dyn Broker>,
    raised: bool,
    /// Whether an input is taken in the order of source time.
    has_ordered: bool,
    /// Where raises of silent inputs are written down, and a batch for them; `None`: no window waits.
    clock_log: Option<(TopicRef, Box<dyn Batch>)>,
    /// Where it is counted what was late then, in a replay.
    late_log: Option<LateLog>,
    /// Whether the clock on the wall is what an earlier run has written down.
    repeats_clock: bool,
    /// The last reading that was written down.
    logged_reading: i64,
    /// Inputs whose clocks windows depend on.
    timed_inputs: Arc<BTreeSet<usize>>,
    pub(crate) restored: u64,
}

impl Task {
    pub(crate) fn open(
        plan: &JobPlan,
        id: TaskId,
        broker: &Arc<dyn Broker>,
        stores: &dyn Stores,
        keep_late_records: bool,
    ) -> Result<Self> {
        let shared = broker;
        let broker = broker.as_ref();
        let assembly = plan.assemble()?;
        let membership = assembly.graph.membership();
        let part = &plan.parts[id.subtopology];
        let mut outputs = Vec::new();
        for topic in &assembly.outputs {
            outputs.push(if part.sinks.contains(topic) {
                Some(Output::new(plan.topic(topic)?.clone(), broker))
            } else {
                None
            });
        }
        let faults = assembly.faults();
        let late = assembly.graph.behind_updates();
        let names = assembly.graph.names_topics().then(|| assembly.graph.clone());
        let Assembly { entries, timed, stateful, repartitions, combiners, .. } = assembly;
        let here = |node: NodeId| membership[node.0] == id.subtopology;
        let timed = timed.into_iter().filter(|(node, _)| here(*node));
        let timed = timed.map(|(node, op)| Clocked { node, op, waits: late.contains(&node) });
        let mut ctx = Context::new(id, entries.len(), outputs);
        ctx.late_records = keep_late_records.then(Vec::new);
        ctx.judge = Judge::new(&plan.settings.windows_then);
        ctx.faults = faults;
        ctx.named = names.map(|graph| {
            let refuses = move |name: &str| graph.refuses_to_write(name);
            NamedOutputs::new(Arc::clone(shared), plan.counts[id.subtopology], Box::new(refuses))
        });
        ctx.printer = plan.settings.printer.clone();
        let mut task = Self {
            id,
            ctx,
            inputs: Vec::new(),
            heads: Vec::new(),
            entries,
            timed: timed.collect(),
            stores: Vec::new(),
            combiners: Vec::new(),
            downstream: Vec::new(),
            broker: Arc::clone(shared),
            raised: false,
            has_ordered: part.sources.iter().any(|source| source.is_ordered),
            clock_log: plan.clock.clone().map(|topic| (topic, broker.batch())),
            late_log: plan.late.clone().map(|topic| LateLog::new(topic, broker)),
            repeats_clock: false,
            logged_reading: i64::MIN,
            timed_inputs: Arc::clone(&plan.timed_inputs),
            restored: 0,
        };
        for (node, op) in stateful.into_iter().filter(|(node, _)| here(*node)) {
            task.open_store(plan, (node, op), broker, stores)?;
        }
        let combiners = combiners.into_iter().filter(|(node, _)| here(*node));
        task.combiners.extend(combiners.map(|(_, combiner)| combiner));
        for decl in repartitions.into_iter().filter(|decl| here(decl.sink)) {
            task.downstream.push((plan.topic(&decl.topic)?.clone(), decl.inputs));
        }
        let mut carried = Vec::new();
        for source in part.sources.iter().filter(|source| !source.is_global) {
            carried.extend(task.open_input(plan, source, shared)?);
        }
        for source in part.sources.iter().filter(|source| source.is_global) {
            task.open_global(plan, source, broker, &carried)?;
        }
        let rank = |number: usize| {
            part.sources.iter().find(|source| source.input == number).map(|source| source.rank)
        };
        task.inputs.sort_by_key(|input| (!input.is_global, rank(input.number), input.number));
        task.timed.iter().for_each(|step| step.op.borrow_mut().resume(&task.ctx));
        Ok(task)
    }

    /// The owners of its store partitions.
    pub(super) fn stores(&self) -> impl Iterator<Item = &Shared<dyn Stateful>> {
        self.stores.iter().map(|store| &store.op)
    }

    /// Makes a transaction the running one.
    pub(crate) fn begin(&mut self, transaction: &Arc<dyn Transaction>) {
        self.ctx.begin(Arc::clone(transaction));
    }

    /// The clock of the slowest input: by it a worker decides which task is next.
    pub(crate) fn clock(&self) -> i64 {
        let own = self.inputs.iter().filter(|input| !input.is_global);
        own.map(|input| self.ctx.clocks[input.number]).min().unwrap_or(i64::MAX)
    }

    /// Whether a record waits to be processed.
    pub(crate) fn has_input(&mut self) -> Result<bool> {
        let mut raised = false;
        for place in 0..self.inputs.len() {
            self.inputs[place].look_again();
            if self.inputs[place].fill()? {
                return Ok(true);
            }
            raised |= self.repeat_raises(place);
            raised |= self.repeat_readings(place)?;
        }
        if raised {
            self.fire()?;
        }
        Ok(self.has_ordered && self.turn().is_some())
    }

    /// Whether there is something to commit.
    pub(crate) fn is_dirty(&self) -> bool {
        self.raised || self.inputs.iter().any(|input| input.moved)
    }

    /// Rows that the running transaction has touched.
    pub(crate) fn changed_rows(&self) -> usize {
        let judged = self.ctx.judge.as_ref().map_or(0, Judge::len);
        judged + self.stores.iter().map(|store| store.op.borrow().changed_rows()).sum::<usize>()
    }

    /// Processes at most `budget` records, fewer when called to a commit, and returns how many.
    pub(crate) fn run(&mut self, budget: usize, called: &AtomicBool) -> Result<usize> {
        self.inputs.iter_mut().for_each(Input::look_again);
        for done in 0..budget {
            if done > 0 && called.load(Ordering::Relaxed) {
                return Ok(done);
            }
            match self.choose()? {
                Choice::Nothing => return Ok(done),
                Choice::Record(place) => self.process(place)?,
                Choice::Read(place) => self.read_ordered(place)?,
                Choice::Release(place) => self.release(place)?,
            }
        }
        Ok(budget)
    }

    fn choose(&mut self) -> Result<Choice> {
        if self.has_ordered {
            return self.choose_ordered();
        }
        if let [input] = &mut self.inputs[..] {
            return Ok(if input.fill()? { Choice::Record(0) } else { Choice::Nothing });
        }
        self.heads.clear();
        for (place, input) in self.inputs.iter_mut().enumerate() {
            let number = input.number;
            let head = if input.fill()? { input.head() } else { None };
            // A global table is whole before anything looks it up: Kafka's bootstrap.
            if input.is_global && head.is_some() {
                return Ok(Choice::Record(place));
            }
            self.heads.push(match (head, &mut self.entries[number]) {
                (Some(record), Some(entry)) => Some(entry.timestamp(&self.ctx, number, &record)?),
                (Some(record), None) => Some(record.timestamp),
                (None, _) => None,
            });
        }
        Ok(choose(&self.heads).map_or(Choice::Nothing, Choice::Record))
    }

    fn process(&mut self, chosen: usize) -> Result<()> {
        self.repeat_raises(chosen);
        self.repeat_readings(chosen)?;
        let input = &mut self.inputs[chosen];
        let number = input.number;
        let record = input.head().expect("an input with a record was chosen");
        if input.watermarks.is_some() && record.key.is_none() {
            let said = watermarks_in(input, &record)?;
            self.ctx.clocks[number] = input.heard(&said);
        } else if let Some(entry) = &mut self.entries[number] {
            let is_copy = input.is_global && self.id.partition > 0;
            self.ctx.faults.begin_record(number, input.partition, is_copy, &record);
            entry.process(&mut self.ctx, number, &record)?;
            self.ctx.faults.end_record();
            if self.ctx.has_read_clock.take() && self.logged_reading != self.ctx.now_ms {
                self.log_reading(chosen)?;
            }
        } else {
            self.ctx.observe(number, record.timestamp);
        }
        self.inputs[chosen].advance();
        self.fire()
    }

    fn fire(&mut self) -> Result<()> {
        let mut now = self.timed.iter().filter(|step| !step.waits);
        now.try_for_each(|step| step.op.borrow_mut().fire(&mut self.ctx))
    }

    /// Everything that comes once per commit, each step before those behind it: updates, and what they
    /// close, for which there may be no record after them.
    fn speak(&mut self) -> Result<()> {
        for at in 0..self.stores.len() {
            self.stores[at].op.borrow_mut().emit_updates(&mut self.ctx)?;
            // Beyond the next store its updates are still missing.
            let next = self.stores.get(at + 1).map(|store| store.node);
            let mut whole = self.timed.iter().filter(|step| next.is_none_or(|n| step.node <= n));
            whole.try_for_each(|step| step.op.borrow_mut().fire(&mut self.ctx))?;
        }
        Ok(())
    }

    /// Hands everything emitted to the log; whether there was anything.
    pub(crate) fn flush(&mut self) -> Result<bool> {
        self.combiners.iter().try_for_each(|c| c.borrow_mut().flush(&mut self.ctx))?;
        self.ctx.flush()
    }

    /// The task's part of the commit: everything it did is in the transaction, and its positions are
    /// returned.
    pub(crate) fn prepare(
        &mut self,
        transaction: &Arc<dyn Transaction>,
        skip_first: bool,
        now: Duration,
    ) -> Result<Vec<Position>> {
        // Where nothing was read nothing has changed; nor may it, as nobody might commit it.
        if self.is_dirty() {
            self.speak()?;
        }
        self.flush()?;
        for store in &mut self.stores {
            let (topic, partition) = (&store.changelog, self.id.partition);
            let transaction = transaction.as_ref();
            let batch = store.batch.as_mut();
            let mut changelog = Changelog::new(topic, partition, batch, transaction, skip_first);
            store.op.borrow_mut().prepare(&mut changelog)?;
            changelog.flush()?;
        }
        if let (Some(log), Some(judge)) = (&mut self.late_log, &mut self.ctx.judge) {
            log.write(judge.take(), transaction.as_ref())?;
        }
        let positions = self.positions();
        self.inputs.iter_mut().for_each(|input| input.settle(now));
        self.raised = false;
        self.ctx.faults.prepared();
        self.ctx.end();
        Ok(positions)
    }

    /// The positions of the inputs that moved. Those of global tables travel with the first own input.
    fn positions(&self) -> Vec<Position> {
        let globals = self.inputs.iter().filter(|input| input.is_global);
        let global_moved = globals.clone().any(|input| input.moved);
        let mut carried: Vec<GlobalPosition> = globals
            .map(|input| GlobalPosition {
                topic: input.topic.id,
                partition: input.partition,
                offset: input.position(),
            })
            .collect();
        let own = self.inputs.iter().filter(|input| !input.is_global);
        let carrier = own.clone().map(|input| input.number).min();
        let is_carrier = |input: &Input| Some(input.number) == carrier;
        let moved = own.filter(|input| input.moved || (global_moved && is_carrier(input)));
        let positions = moved.map(|input| {
            let clock = self.ctx.clocks[input.number];
            let watermarks = input.watermarks.clone().unwrap_or_default();
            let globals = if is_carrier(input) { std::mem::take(&mut carried) } else { Vec::new() };
            Position {
                topic: input.topic.id,
                partition: input.partition,
                offset: input.position(),
                metadata: InputTime { clock, watermarks, globals, ordered: input.ordered_to() }
                    .encode(),
            }
        });
        positions.collect()
    }

    /// How far its records to each repartition topic are.
    pub(crate) fn marks(&self) -> impl Iterator<Item = UpstreamMark> + '_ {
        self.downstream.iter().map(|(topic, inputs)| UpstreamMark {
            topic: Arc::clone(&topic.name),
            partition: self.id.partition,
            watermark: inputs.time(&self.ctx.clocks),
        })
    }

    /// What has happened to records in the running transaction.
    pub(crate) fn counters(&self) -> Counters {
        self.ctx.counters
    }

    /// The same, at its end.
    pub(crate) fn take_counters(&mut self) -> Counters {
        std::mem::take(&mut self.ctx.counters)
    }

    /// Takes the late records of the running transaction.
    pub(crate) fn take_late_records(&mut self) -> Vec<crate::processor::LateRecord> {
        self.ctx.late_records.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// After the commit point: undecided rows become committed ones.
    pub(crate) fn committed(&mut self, transaction: &dyn Transaction, now_ms: i64) -> Result<()> {
        for store in &self.stores {
            let end = transaction.end(&store.changelog, self.id.partition)?;
            let checkpoint = end.map(|end| Checkpoint {
                log_id: self.broker.log_id(),
                topic_id: store.changelog.id,
                leader_epoch: end.leader_epoch,
                offset: end.offset,
            });
            store.op.borrow_mut().committed(checkpoint, now_ms)?;
        }
        self.ctx.faults.committed(now_ms);
        self.step_stores(now_ms)
    }

    /// Lets stores flush in the background what is due at `now_ms`.
    pub(crate) fn step_stores(&mut self, now_ms: i64) -> Result<()> {
        self.tend(|rows| Ok(rows.step(now_ms)?))
    }

    /// A clean stop: everything committed goes to the disk.
    pub(crate) fn close(&mut self) -> Result<()> {
        self.tend(|rows| Ok(rows.flush_all()?))
    }

    /// Does this with the rows of each store. What more of them would survive a crash then, the changelog
    /// need not keep any longer.
    fn tend(&self, work: impl Fn(&mut RowCache) -> Result<()>) -> Result<()> {
        for store in &self.stores {
            let mut durable = None;
            store.op.borrow_mut().with_rows(&mut |rows| {
                work(rows)?;
                durable = rows.take_durable();
                Ok(())
            })?;
            if let Some(Checkpoint { offset, .. }) = durable {
                let (changelog, holder) = (&store.changelog, &store.holder);
                self.broker.hold(changelog, self.id.partition, holder, offset)?;
            }
        }
        Ok(())
    }
}

/// The back end of a process, with the flusher and the limits that its row caches share.
pub(crate) struct OpenStores {
    pub(crate) by_name:
        std::collections::BTreeMap<crate::ids::StoreName, Arc<dyn crate::store::ByteStore>>,
    pub(crate) options: crate::store::CacheOptions,
    pub(crate) flusher: Flusher,
}

impl OpenStores {
    /// No store at all.
    pub(crate) fn none(options: crate::store::CacheOptions) -> Result<Self> {
        let by_name = std::collections::BTreeMap::new();
        Ok(Self { by_name, options, flusher: Flusher::thread()? })
    }
}

impl Stores for OpenStores {
    fn open(&self, store: &crate::ids::StoreName, partition: u32) -> Result<RowCache> {
        let bytes = self.by_name.get(store).expect("all stores of the topology were opened");
        let (options, flusher) = (self.options, self.flusher.clone());
        Ok(RowCache::open(Arc::clone(bytes), partition, options, flusher))
    }
}
