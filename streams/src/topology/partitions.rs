//! How many partitions tasks and repartition topics have, given those of the user's topics. Pure.
//!
//! ```text
//!   clicks (4) -- key by -- repartition (6, as it meets users) --+
//!   users (6) -- table -----------------------------------------join    6 tasks
//! ```
//!
//! Invariants
//! * inputs that keep state by key together have one count: that of their source topics and of the
//!   repartition topics for which the user chose one. Others adapt to it, or to the largest
//!   sub-topology that writes them.
//! * a sub-topology has as many tasks as its largest group of inputs has partitions.
//!
//! Reference: Kafka Streams `CopartitionedTopicsEnforcer`.

use std::collections::BTreeMap;

use super::{SourceDecl, Subtopology};
use crate::error::{Error, Result};

/// What every sub-topology and every repartition topic gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartitionCounts {
    /// By sub-topology.
    pub(crate) tasks: Vec<u32>,
    /// By name.
    pub(crate) repartitions: BTreeMap<String, u32>,
}

/// Counts partitions.
///
/// # Errors
///
/// [`Error::NotCopartitioned`] when inputs that keep state by key together differ.
pub(crate) fn partition_counts(
    parts: &[Subtopology],
    of_topic: &BTreeMap<String, u32>,
) -> Result<PartitionCounts> {
    check(parts, of_topic)?;
    let mut groups: BTreeMap<usize, u32> = BTreeMap::new();
    let mut tasks = vec![0; parts.len()];
    loop {
        let before = groups.clone();
        for (part, tasks) in parts.iter().zip(&mut tasks) {
            for source in sources(part) {
                let count = groups.entry(source.group).or_default();
                *count = (*count).max(fixed(source, of_topic).unwrap_or(0));
                *tasks = (*tasks).max(*count);
            }
        }
        for part in parts {
            for source in sources(part).filter(|source| fixed(source, of_topic).is_none()) {
                let adapts = !sources(part)
                    .any(|other| other.group == source.group && fixed(other, of_topic).is_some());
                let upstream = source.upstream.map_or(0, |upstream| tasks[upstream]);
                let count = groups.entry(source.group).or_default();
                *count = if adapts { (*count).max(upstream) } else { *count };
            }
        }
        if groups == before {
            break;
        }
    }
    let internal = parts.iter().flat_map(sources).filter(|source| source.upstream.is_some());
    let repartitions = internal.map(|source| {
        let count =
            source.chosen.unwrap_or_else(|| groups.get(&source.group).copied().unwrap_or(0));
        (source.topic.clone(), count)
    });
    Ok(PartitionCounts { tasks, repartitions: repartitions.collect() })
}

fn sources(part: &Subtopology) -> impl Iterator<Item = &SourceDecl> {
    part.sources.iter().filter(|source| !source.is_global)
}

/// The count that the user decided.
fn fixed(source: &SourceDecl, of_topic: &BTreeMap<String, u32>) -> Option<u32> {
    match source.upstream {
        Some(_) => source.chosen,
        None => Some(of_topic.get(&source.topic).copied().unwrap_or(0)),
    }
}

fn check(parts: &[Subtopology], of_topic: &BTreeMap<String, u32>) -> Result<()> {
    for part in parts {
        for &group in &part.keyed_groups {
            let of_group = sources(part).filter(|source| source.group == group);
            let mut counted: Vec<_> =
                of_group.filter_map(|source| Some((source, fixed(source, of_topic)?))).collect();
            // Streams first: they are the left side of a join, tables are looked up.
            counted.sort_by_key(|(source, _)| (std::cmp::Reverse(source.rank), source.input));
            let Some(((left, left_partitions), rest)) = counted.split_first() else { continue };
            if let Some((right, right_partitions)) = rest.iter().find(|(_, n)| n != left_partitions)
            {
                return Err(Error::NotCopartitioned {
                    left: left.topic.clone(),
                    left_partitions: *left_partitions,
                    right: right.topic.clone(),
                    right_partitions: *right_partitions,
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::StoreName;
    use crate::topology::{Carries, Graph, JoinKind, Kind, NodeId};

    fn source(g: &mut Graph, topic: &str) -> NodeId {
        g.add(Kind::Source { topic: topic.to_owned(), event_time: false }, &[])
    }

    fn through(g: &mut Graph, from: NodeId, topic: &str) -> NodeId {
        let topic = topic.to_owned();
        g.add(Kind::RepartitionSink { topic: topic.clone(), carries: Carries::Value }, &[from]);
        g.add(Kind::RepartitionSource { topic }, &[])
    }

    fn join_table(g: &mut Graph, stream: NodeId, table: NodeId) {
        let store = StoreName::new("s").unwrap();
        let table = g.add(Kind::Table { store: store.clone() }, &[table]);
        g.add(Kind::TableJoin { store, join: JoinKind::Inner }, &[stream, table]);
    }

    fn counts(g: &Graph, topics: &[(&str, u32)]) -> Result<PartitionCounts> {
        let of = topics.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        partition_counts(&g.subtopologies(), &of)
    }

    #[test]
    fn a_join_of_topics_of_different_counts_is_refused_and_names_the_stream_first() {
        let mut g = Graph::new("app");
        let users = source(&mut g, "users");
        let clicks = source(&mut g, "clicks");
        join_table(&mut g, clicks, users);
        assert_eq!(counts(&g, &[("clicks", 4), ("users", 4)]).unwrap().tasks, [4]);
        let error = counts(&g, &[("clicks", 4), ("users", 6)]).unwrap_err();
        let said = matches!(
            &error,
            Error::NotCopartitioned { left, left_partitions: 4, right, right_partitions: 6 }
                if left == "clicks" && right == "users"
        );
        assert!(said, "{error}");
    }

    #[test]
    fn an_implicit_repartition_topic_takes_the_count_of_what_it_meets() {
        let mut g = Graph::new("app");
        let clicks = source(&mut g, "clicks");
        let again = through(&mut g, clicks, "r");
        let users = source(&mut g, "users");
        join_table(&mut g, again, users);
        let counted = counts(&g, &[("clicks", 4), ("users", 6)]).unwrap();
        assert_eq!(counted.tasks, [4, 6]);
        assert_eq!(counted.repartitions["r"], 6);
        g.chosen.insert("r".to_owned(), 5);
        assert!(counts(&g, &[("clicks", 4), ("users", 6)]).is_err());
        assert_eq!(counts(&g, &[("clicks", 4), ("users", 5)]).unwrap().tasks, [4, 5]);
    }

    #[test]
    fn without_a_source_topic_the_largest_writer_decides() {
        let mut g = Graph::new("app");
        let (a, b) = (source(&mut g, "a"), source(&mut g, "b"));
        let (a, b) = (through(&mut g, a, "ra"), through(&mut g, b, "rb"));
        join_table(&mut g, a, b);
        let counted = counts(&g, &[("a", 2), ("b", 3)]).unwrap();
        assert_eq!(counted.tasks, [2, 3, 3]);
        assert_eq!((counted.repartitions["ra"], counted.repartitions["rb"]), (3, 3));
    }

    #[test]
    fn a_global_table_may_have_any_count_and_ties_no_others_together() {
        let mut g = Graph::new("app");
        let global = StoreName::new("g").unwrap();
        let kind = Kind::GlobalTable { topic: "g".to_owned(), store: global.clone() };
        let table = g.add(kind, &[]);
        for topic in ["a", "b"] {
            let stream = source(&mut g, topic);
            let join = Kind::TableJoin { store: global.clone(), join: JoinKind::Inner };
            let joined = g.add(join, &[stream, table]);
            let store = StoreName::new(topic).unwrap();
            g.add(Kind::Aggregate { store, what: "count" }, &[joined]);
        }
        let counted = counts(&g, &[("g", 9), ("a", 4), ("b", 6)]).unwrap();
        assert_eq!(counted.tasks, [6], "one sub-topology: its tasks share the table");
    }

    /// Left rows ask the right side and are answered: two topics, one each way.
    fn join_on(g: &mut Graph, left: NodeId, right: NodeId) {
        let named = |name| StoreName::new(name).unwrap();
        let left = g.add(Kind::Table { store: named("left") }, &[left]);
        let right = g.add(Kind::Table { store: named("right") }, &[right]);
        let asked = through(g, left, "questions");
        let listed = g.add(Kind::Subscriptions { store: named("listed") }, &[asked, right]);
        let answered = through(g, listed, "answers");
        let kind = Kind::ForeignJoin { store: named("joined"), join: JoinKind::Inner };
        g.add(kind, &[answered, left]);
    }

    #[test]
    fn each_side_of_a_join_by_foreign_key_keeps_its_count_whatever_the_other_has() {
        let mut g = Graph::new("app");
        let (lines, products) = (source(&mut g, "lines"), source(&mut g, "products"));
        join_on(&mut g, lines, products);
        let counted = counts(&g, &[("lines", 6), ("products", 2)]).unwrap();
        assert_eq!(counted.tasks, [6, 2]);
        assert_eq!((counted.repartitions["questions"], counted.repartitions["answers"]), (2, 6));

        let mut g = Graph::new("app");
        let (lines, products) = (source(&mut g, "lines"), source(&mut g, "products"));
        let (lines, products) = (through(&mut g, lines, "l"), through(&mut g, products, "p"));
        g.chosen.insert("p".to_owned(), 5);
        join_on(&mut g, lines, products);
        let counted = counts(&g, &[("lines", 3), ("products", 2)]).unwrap();
        assert_eq!((counted.repartitions["questions"], counted.repartitions["answers"]), (5, 5));
        assert_eq!(counted.repartitions["l"], 5, "what nobody chose follows its largest writer");
    }

    #[test]
    fn a_sub_topology_that_reads_what_it_writes_is_counted_all_the_same() {
        let mut g = Graph::new("app");
        let a = source(&mut g, "a");
        let again = through(&mut g, a, "r");
        g.add(Kind::Merge, &[a, again]);
        g.chosen.insert("r".to_owned(), 3);
        assert_eq!(counts(&g, &[("a", 2)]).unwrap().tasks, [3]);
    }
}
