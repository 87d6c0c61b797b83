//! What an output depends on: which sources, how far behind them it is, which state. Pure.
//!
//! Why: a stretch of input that is read again gives what it gave before only where nothing from in
//! front of the stretch comes in. For windows that can be told from event times alone.
//!
//! ```text
//!   stateless                source -> filter, map, key by, .. -> sink        record by record
//!   windowed, lag 0          .. -> window -> sink                            windows wholly inside
//!   windowed, lag of first   .. -> window -> key by -> window -> sink        the same, further in
//!   joined with a table      as the stream: the table is brought to where it was first
//!   anything else            a count over all time, two streams joined, ..   needs all its history
//! ```
//!
//! Invariants
//! * a step that is not known here needs its history: nothing is compared that need not agree.

use std::collections::{BTreeMap, BTreeSet};

use super::{Emit, Graph, Kind, Node, NodeId};
use crate::ids::StoreName;
use crate::time::Windows;

/// How a windowed output closes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closing {
    pub(crate) window: Windows,
    /// How far the input of the windows lags each source topic, in milliseconds.
    pub(crate) lags: BTreeMap<String, i64>,
}

/// What kind of output it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Nature {
    /// Each record follows from one record of these topics.
    Stateless(Vec<String>),
    /// The last record of each key and window is its result.
    Windowed(Closing),
    /// It depends on state that is older than any window.
    History,
}

/// What a node's records follow from.
#[derive(Clone, Debug, PartialEq)]
struct Lineage {
    lags: BTreeMap<String, i64>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    None,
    /// Final results of this window, under their windowed key.
    Window(Windows),
    /// The same, each change of them.
    Updates(Windows),
    /// Final results under another key.
    Rekeyed,
    /// The rows of a table that a replay has brought to where it was.
    Table,
    History,
}

impl Graph {
    /// The user's topics that the job writes, and what kind of output each is.
    pub(crate) fn outputs(&self) -> BTreeMap<String, Nature> {
        let lineages = self.lineages();
        let mut outputs: BTreeMap<String, Vec<&Lineage>> = BTreeMap::new();
        for (id, node) in self.iter() {
            if let Kind::Sink { topic } = &node.kind {
                outputs.entry(topic.clone()).or_default().push(&lineages[id.0]);
            }
        }
        outputs.into_iter().map(|(topic, of)| (topic, nature(&of))).collect()
    }

    /// The user's topics that the job reads, once each.
    pub(crate) fn user_sources(&self) -> Vec<&str> {
        let named = self.nodes.iter().filter_map(|node| match &node.kind {
            Kind::Source { topic, .. } | Kind::GlobalTable { topic, .. } => Some(topic.as_str()),
            _ => None,
        });
        let mut names: Vec<&str> = named.collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Whether the event times of a source topic are taken from its values.
    pub(crate) fn takes_event_time(&self, topic: &str) -> bool {
        self.nodes.iter().any(
            |node| matches!(&node.kind, Kind::Source { topic: t, event_time: true } if t == topic),
        )
    }

    /// Whether the records of a source topic only fill tables: a replay needs all of them that were
    /// there when its stretch began, and reads them first.
    pub(crate) fn fills_only_tables(&self, topic: &str) -> bool {
        let reads = |kind: &Kind| match kind {
            Kind::Source { topic: t, .. } | Kind::GlobalTable { topic: t, .. } => t == topic,
            _ => false,
        };
        let mut open: Vec<NodeId> =
            self.iter().filter(|(_, node)| reads(&node.kind)).map(|(id, _)| id).collect();
        let mut fills = false;
        while let Some(id) = open.pop() {
            match &self.nodes[id.0].kind {
                Kind::Table { .. } | Kind::VersionedTable { .. } | Kind::GlobalTable { .. } => {
                    fills = true;
                }
                Kind::RepartitionSink { topic, .. } => {
                    let of = |(_, node): &(NodeId, &Node)| matches!(&node.kind, Kind::RepartitionSource { topic: t } if t == topic);
                    open.extend(self.iter().filter(of).map(|(id, _)| id));
                }
                Kind::Source { .. }
                | Kind::Filter
                | Kind::Map
                | Kind::TryMap
                | Kind::FlatMap
                | Kind::Inspect
                | Kind::Branch(_)
                | Kind::KeyBy
                | Kind::MapWithKey
                | Kind::FlatMapWithKey
                | Kind::Merge
                | Kind::RepartitionSource { .. } => {
                    let consumers = self.iter().filter(|(_, node)| node.inputs.contains(&id));
                    open.extend(consumers.map(|(consumer, _)| consumer));
                }
                // Its records do more than to fill a table.
                _ => return false,
            }
        }
        fills
    }

    /// A node and all nodes that its records come from, through repartition topics too.
    fn upstream(&self, node: NodeId) -> BTreeSet<NodeId> {
        let (mut open, mut found) = (vec![node], BTreeSet::new());
        while let Some(id) = open.pop() {
            if !found.insert(id) {
                continue;
            }
            let node = &self.nodes[id.0];
            open.extend(&node.inputs);
            if let Kind::RepartitionSource { topic } = &node.kind {
                let writes = |kind: &Kind| matches!(kind, Kind::RepartitionSink { topic: t, .. } if t == topic);
                open.extend(self.iter().filter(|(_, n)| writes(&n.kind)).map(|(id, _)| id));
            }
        }
        found
    }

    /// The user's topics whose event times are those of a node, each once: not those of tables.
    pub(crate) fn timed_sources(&self, node: NodeId) -> BTreeSet<&str> {
        let upstream = self.upstream(node).into_iter();
        let named = upstream.filter_map(|id| match &self.nodes[id.0].kind {
            Kind::Source { topic, .. } => Some(topic.as_str()),
            _ => None,
        });
        named.filter(|topic| !self.fills_only_tables(topic)).collect()
    }

    /// The store whose windows an output has, where no other windows lie in front of it.
    pub(crate) fn only_windows_of(&self, output: &str) -> Option<&StoreName> {
        let sinks = self
            .iter()
            .filter(|(_, node)| matches!(&node.kind, Kind::Sink { topic } if topic == output));
        let upstream = sinks.flat_map(|(id, _)| self.upstream(id));
        let stores: BTreeSet<&StoreName> = upstream
            .filter_map(|id| match &self.nodes[id.0].kind {
                Kind::WindowAggregate { store, .. } => Some(store),
                _ => None,
            })
            .collect();
        let mut stores = stores.into_iter();
        stores.next().filter(|_| stores.next().is_none())
    }

    /// Whether the windowed keys of an output name the last moment of their window as its end.
    pub(crate) fn output_ends_inside(&self, output: &str) -> bool {
        self.only_windows_of(output).is_some_and(|store| self.store_ends_inside(store.as_str()))
    }

    /// The same for the rows of a store.
    pub(crate) fn store_ends_inside(&self, name: &str) -> bool {
        self.nodes.iter().any(|node| {
            matches!(&node.kind, Kind::WindowAggregate { store, window, .. }
                if store.as_str() == name && window.end_inside())
        })
    }

    fn lineages(&self) -> Vec<Lineage> {
        let mut all: Vec<Lineage> = Vec::with_capacity(self.nodes.len());
        // Inputs have lower numbers, and so has the writer of a repartition topic than its reader.
        for (_, node) in self.iter() {
            let inputs: Vec<&Lineage> = match &node.kind {
                Kind::RepartitionSource { topic } => self
                    .iter()
                    .filter(|(_, other)| {
                        matches!(&other.kind, Kind::RepartitionSink { topic: t, .. } if t == topic)
                    })
                    .filter_map(|(NodeId(id), _)| all.get(id))
                    .collect(),
                _ => node.inputs.iter().filter_map(|input| all.get(input.0)).collect(),
            };
            let sources = inputs.iter().flat_map(|input| input.lags.keys());
            let fills = sources.into_iter().all(|topic| self.fills_only_tables(topic));
            let lineage = step(&node.kind, &inputs, fills);
            all.push(lineage);
        }
        all
    }
}

/// What follows a step. `fills`: all sources of its inputs only fill tables.
fn step(kind: &Kind, inputs: &[&Lineage], fills: bool) -> Lineage {
    let mut lags = BTreeMap::new();
    for (topic, lag) in inputs.iter().flat_map(|input| &input.lags) {
        let known = lags.entry(topic.clone()).or_insert(*lag);
        *known = (*known).max(*lag);
    }
    let mut states = inputs.iter().map(|input| input.state);
    let first = states.next().unwrap_or(State::None);
    let merged = if states.all(|state| state == first) { first } else { State::History };
    match kind {
        Kind::Source { topic, .. } => {
            Lineage { lags: BTreeMap::from([(topic.clone(), 0)]), state: State::None }
        }
        Kind::Filter
        | Kind::Map
        | Kind::TryMap
        | Kind::FlatMap
        | Kind::Inspect
        | Kind::Branch(_)
        | Kind::Merge
        | Kind::RepartitionSink { .. }
        | Kind::RepartitionSource { .. }
        | Kind::Sink { .. } => Lineage { lags, state: merged },
        Kind::KeyBy | Kind::MapWithKey | Kind::FlatMapWithKey => {
            let state = match merged {
                State::None => State::None,
                State::Window(_) | State::Rekeyed => State::Rekeyed,
                // Which changes there are depends on when commits fall.
                State::Updates(_) | State::Table | State::History => State::History,
            };
            Lineage { lags, state }
        }
        Kind::WindowAggregate { window, emit, .. }
            if matches!(merged, State::None | State::Window(_) | State::Rekeyed)
                && !window.never_close() =>
        {
            lags.values_mut().for_each(|lag| *lag = lag.saturating_add(window.lag_ms()));
            let state = match emit {
                Emit::OnClose => State::Window(*window),
                Emit::OnUpdate => State::Updates(*window),
            };
            Lineage { lags, state }
        }
        Kind::Table { .. } if merged == State::None && fills => {
            Lineage { lags: BTreeMap::new(), state: State::Table }
        }
        Kind::GlobalTable { .. } => Lineage { lags: BTreeMap::new(), state: State::Table },
        Kind::TableTableJoin { .. } if merged == State::Table => {
            Lineage { lags: BTreeMap::new(), state: State::Table }
        }
        // A table has no part in the time of the stream that looks it up.
        Kind::TableJoin { .. } => match inputs {
            [stream, table] if table.state == State::Table => (*stream).clone(),
            _ => Lineage { lags, state: State::History },
        },
        _ => Lineage { lags, state: State::History },
    }
}

fn nature(of: &[&Lineage]) -> Nature {
    let Some((first, rest)) = of.split_first() else { return Nature::History };
    if rest.iter().any(|other| other.state != first.state) {
        return Nature::History;
    }
    let mut lags: BTreeMap<String, i64> = BTreeMap::new();
    for (topic, lag) in of.iter().flat_map(|lineage| &lineage.lags) {
        let known = lags.entry(topic.clone()).or_insert(*lag);
        *known = (*known).max(*lag);
    }
    match first.state {
        State::None => Nature::Stateless(lags.into_keys().collect()),
        State::Window(window) | State::Updates(window) => {
            // Its own windows lag what they are made of; they close by that.
            lags.values_mut().for_each(|lag| *lag -= window.lag_ms());
            Nature::Windowed(Closing { window, lags })
        }
        State::Rekeyed | State::Table | State::History => Nature::History,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{mins, secs, tumbling};
    use crate::topology::{Carries, JoinKind};

    fn window(store: &str, minutes: u64, emit: Emit) -> Kind {
        let store = StoreName::new(store).unwrap();
        let window = tumbling(mins(minutes)).grace(secs(10));
        Kind::WindowAggregate { store, what: "count", window: window.into(), emit }
    }

    fn source(g: &mut Graph) -> NodeId {
        g.add(Kind::Source { topic: "in".into(), event_time: true }, &[])
    }

    fn through(g: &mut Graph, topic: &str, from: NodeId) -> NodeId {
        let topic = || topic.to_owned();
        g.add(Kind::RepartitionSink { topic: topic(), carries: Carries::Key }, &[from]);
        g.add(Kind::RepartitionSource { topic: topic() }, &[])
    }

    fn out(mut g: Graph, from: NodeId) -> Nature {
        g.add(Kind::Sink { topic: "out".into() }, &[from]);
        g.outputs().remove("out").unwrap()
    }

    #[test]
    fn a_filter_keeps_nothing_and_a_count_over_all_time_everything() {
        let mut g = Graph::new("app");
        let s = source(&mut g);
        let f = g.add(Kind::Filter, &[s]);
        assert_eq!(out(g.clone(), f), Nature::Stateless(vec!["in".into()]));
        let store = StoreName::new("s").unwrap();
        let counted = g.add(Kind::Aggregate { store, what: "count" }, &[f]);
        assert_eq!(out(g, counted), Nature::History);
    }

    #[test]
    fn a_second_window_is_further_behind_its_source_than_the_first() {
        let mut g = Graph::new("app");
        let s = source(&mut g);
        let first = through(&mut g, "r", s);
        let first = g.add(window("a", 1, Emit::OnClose), &[first]);
        let lags = |ms| BTreeMap::from([("in".to_owned(), ms)]);
        let size = |minutes| tumbling(mins(minutes)).grace(secs(10));
        let expected = Closing { window: size(1).into(), lags: lags(0) };
        assert_eq!(out(g.clone(), first), Nature::Windowed(expected));
        let k = g.add(Kind::KeyBy, &[first]);
        assert_eq!(out(g.clone(), k), Nature::History, "its windows can not be told any more");
        let second = through(&mut g, "q", k);
        let second = g.add(window("b", 5, Emit::OnClose), &[second]);
        let expected = Closing { window: size(5).into(), lags: lags(70_000) };
        assert_eq!(out(g.clone(), second), Nature::Windowed(expected));
        let only = |mut g: Graph, from| {
            g.add(Kind::Sink { topic: "out".into() }, &[from]);
            g.only_windows_of("out").map(ToString::to_string)
        };
        assert_eq!(only(g.clone(), first), Some("a".to_owned()));
        assert_eq!(only(g.clone(), second), None, "two stores have a part in it");
        assert_eq!(g.timed_sources(second), BTreeSet::from(["in"]));
    }

    #[test]
    fn what_is_counted_of_changes_depends_on_when_commits_fell() {
        let mut g = Graph::new("app");
        let s = source(&mut g);
        let first = g.add(window("a", 1, Emit::OnUpdate), &[s]);
        assert!(matches!(out(g.clone(), first), Nature::Windowed(_)));
        let k = g.add(Kind::KeyBy, &[first]);
        let second = g.add(window("b", 5, Emit::OnClose), &[k]);
        assert_eq!(out(g, second), Nature::History);
    }

    #[test]
    fn a_topic_fills_only_tables_when_all_of_its_records_end_in_one() {
        let name = |name| StoreName::new(name).unwrap();
        let mut g = Graph::new("app");
        let users = g.add(Kind::Source { topic: "users".into(), event_time: false }, &[]);
        let kept = g.add(Kind::Filter, &[users]);
        let rekeyed = through(&mut g, "r", kept);
        let table = g.add(Kind::Table { store: name("users") }, &[rekeyed]);
        let stream = source(&mut g);
        let join = Kind::TableJoin { store: name("users"), join: JoinKind::Inner };
        let joined = g.add(join, &[stream, table]);
        let global = Kind::GlobalTable { topic: "all".into(), store: name("all") };
        g.add(global, &[]);
        assert_eq!(g.user_sources(), ["all", "in", "users"]);
        let fills = |g: &Graph| ["all", "in", "users"].map(|topic| g.fills_only_tables(topic));
        assert_eq!(fills(&g), [true, false, true]);
        assert_eq!(out(g.clone(), joined), Nature::Stateless(vec!["in".into()]));
        let mut with_both = g.clone();
        let kind = Kind::TableTableJoin { store: name("both"), join: JoinKind::Outer };
        let mapped = with_both.add(Kind::Map, &[table]);
        let both = with_both.add(kind, &[table, mapped]);
        let join = Kind::TableJoin { store: name("both"), join: JoinKind::Left };
        let looks_up = with_both.add(join, &[stream, both]);
        assert_eq!(out(with_both, looks_up), Nature::Stateless(vec!["in".into()]));
        assert_eq!(out(g.clone(), table), Nature::History);
        g.add(Kind::ForEach, &[kept]);
        assert_eq!(fills(&g), [true, false, false], "somebody looks at its records too");
        assert_eq!(out(g, joined), Nature::History, "so it begins with the stretch");
    }
}
