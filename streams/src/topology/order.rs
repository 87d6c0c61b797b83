//! Which input of a task is read first where timestamps are equal. Pure.
//!
//! Why: a stream that looks up a table should find what was said at the same time, and the order in
//! which a user names topics must not decide what a job writes.
//!
//! ```text
//!   users ----- table --+                 rank 0
//!   accounts ----------join -- table --+  rank 1
//!   clicks --------------------------join  rank 2
//! ```
//!
//! Invariants
//! * the inputs of a table come before those of a stream that looks it up, through any number of joins.
//! * where two streams look each other up, the order in which the topology names them decides.

use std::collections::BTreeSet;

use super::{Graph, Kind, NodeId};

impl Graph {
    /// The rank of each node that is an input; 0 for all others.
    pub(crate) fn ranks(&self) -> Vec<usize> {
        let mut before: BTreeSet<(usize, usize)> = BTreeSet::new();
        for node in &self.nodes {
            let (Kind::TableJoin { .. }, &[stream, table]) = (&node.kind, &node.inputs[..]) else {
                continue;
            };
            let tables = self.inputs_of(table);
            for &stream in self.inputs_of(stream).difference(&tables) {
                before.extend(tables.iter().map(|&table| (table, stream)));
            }
        }
        let mut ranks = vec![0; self.nodes.len()];
        // A path has no more edges than there are nodes; more rounds would only follow a circle.
        for _ in 0..self.nodes.len() {
            for &(table, stream) in &before {
                ranks[stream] = ranks[stream].max(ranks[table] + 1);
            }
        }
        ranks
    }

    /// The inputs whose records reach a node inside its sub-topology.
    fn inputs_of(&self, node: NodeId) -> BTreeSet<usize> {
        let (mut seen, mut found, mut open) = (BTreeSet::new(), BTreeSet::new(), vec![node.0]);
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            if self.nodes[id].inputs.is_empty() {
                found.insert(id);
            }
            open.extend(self.nodes[id].inputs.iter().map(|input| input.0));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::StoreName;
    use crate::topology::JoinKind;

    fn source(g: &mut Graph, topic: &str) -> NodeId {
        g.add(Kind::Source { topic: topic.to_owned(), event_time: false }, &[])
    }

    fn join(g: &mut Graph, stream: NodeId, table: NodeId) -> NodeId {
        let store = StoreName::new("s").unwrap();
        g.add(Kind::TableJoin { store, join: JoinKind::Inner }, &[stream, table])
    }

    #[test]
    fn tables_come_before_what_looks_them_up_in_whatever_order_they_are_named() {
        let mut g = Graph::new("app");
        let clicks = source(&mut g, "clicks");
        let accounts = source(&mut g, "accounts");
        let users = source(&mut g, "users");
        let joined = join(&mut g, accounts, users);
        join(&mut g, clicks, joined);
        let ranks = g.ranks();
        assert_eq!([ranks[users.0], ranks[accounts.0], ranks[clicks.0]], [0, 1, 2]);
    }

    #[test]
    fn streams_that_look_each_other_up_still_have_an_order() {
        let mut g = Graph::new("app");
        let (a, b) = (source(&mut g, "a"), source(&mut g, "b"));
        join(&mut g, a, b);
        join(&mut g, b, a);
        assert_eq!(g.ranks().len(), 4);
    }
}
