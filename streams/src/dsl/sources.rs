//! One stream of several topics: those of a list, and those whose names match a pattern.
//!
//! ```text
//!   clicks-eu --+
//!   clicks-us --+-- merged by time, as all inputs of a task -- one stream
//! ```
//!
//! Why at the start: which topics a pattern takes decides how many tasks there are, so it is decided
//! when the job meets the log, and stays so until it starts again.
//!
//! Invariants
//! * every task of a job, and its answers to questions, see the same topics for a pattern.

use std::rc::Rc;
use std::sync::Arc;

use super::stream::Sources;
use super::windowed::nowhere;
use super::{Stream, Topic, Topology};
use crate::codec::{Codec, Data};
use crate::error::Error;
use crate::key::RecordKey;
use crate::operator::SharedNext;
use crate::topology::{Kind, Pattern};

impl Topology {
    /// The topics of the log, for patterns; the first to say so is right.
    pub(crate) fn know_topics(&mut self, names: &Arc<[String]>) {
        self.assembly.borrow_mut().known.get_or_insert_with(|| Arc::clone(names));
    }

    /// The records of several topics as one stream, merged as all inputs of a task are. Each topic keeps
    /// its own clocks: a record is late by that of its own partition, and windows wait for all of them.
    /// [`event_time`](Stream::event_time) and [`on_error`](Stream::on_error) right behind it speak for
    /// all of them. Steps that keep state want topics with one number of partitions (S003).
    ///
    /// ```
    /// use streams::prelude::*;
    /// const EU: Topic<String, u64> = topic("clicks-eu");
    /// const US: Topic<String, u64> = topic("clicks-us");
    /// const COUNTS: Topic<String, u64> = topic("counts");
    /// fn topology(t: &mut Topology) {
    ///     t.stream_many([EU, US]).count("clicks-by-user").to(COUNTS);
    /// }
    /// let mut d = TestDriver::new(topology).partitions(2);
    /// d.send(EU, "ana".into(), 1).send(US, "ana".into(), 2);
    /// assert_eq!(d.read(COUNTS).last(), Some(&("ana".to_string(), 2)));
    /// ```
    pub fn stream_many<K: RecordKey, V: Data, C: Codec<V>>(
        &mut self,
        topics: impl IntoIterator<Item = Topic<K, V, C>>,
    ) -> Stream<K, V> {
        let names: Vec<String> = topics.into_iter().map(|topic| topic.name().to_owned()).collect();
        let twice = (1..names.len()).find(|&i| names[..i].contains(&names[i]));
        let mistake = match (names.is_empty(), twice) {
            (true, _) => Some("`.stream_many(..)` names no topic".to_owned()),
            (_, Some(i)) => Some(format!("`.stream_many(..)` names topic `{}` twice", names[i])),
            _ => None,
        };
        if let Some(reason) = mistake {
            let help = "name each topic once: `t.stream_many([EU, US])`".to_owned();
            self.assembly.borrow_mut().mistake(Error::Topology { reason, help });
            return nowhere(Rc::clone(&self.assembly));
        }
        let mut merged = self.stream_of::<K, V, C>(&names[0]);
        let rest = names[1..].iter().map(|name| self.stream_of::<K, V, C>(name)).collect();
        merged = merge_all(merged, rest);
        merged
    }

    /// The records of all topics whose whole names match a regular expression, as one stream, with the
    /// types of the given topic; else as [`stream_many`](Self::stream_many).
    ///
    /// Topics are matched when the job meets the log; those that come later are taken up when it starts
    /// the next time. None at all is an error (S004). The job's own topics are never matched, and it may
    /// not write to a topic that would be (S018).
    ///
    /// ```
    /// use streams::prelude::*;
    /// const COUNTS: Topic<String, u64> = topic("counts");
    /// fn topology(t: &mut Topology) {
    ///     let clicks = t.stream_matching(topic::<String, u64>("clicks-.*"));
    ///     clicks.count("clicks-by-user").to(COUNTS);
    /// }
    /// let mut d = TestDriver::new(topology).partitions(2);
    /// d.send(topic("clicks-eu"), "ana".to_string(), 1u64);
    /// d.send(topic("clicks-us"), "ana".to_string(), 2u64);
    /// assert_eq!(d.read(COUNTS).last(), Some(&("ana".to_string(), 2)));
    /// ```
    pub fn stream_matching<K: RecordKey, V: Data, C: Codec<V>>(
        &mut self,
        pattern: Topic<K, V, C>,
    ) -> Stream<K, V> {
        let names = {
            let mut assembly = self.assembly.borrow_mut();
            match Pattern::new(pattern.name()) {
                Err(why) => {
                    assembly.mistake(Error::Topology {
                        reason: format!("`{}` is no pattern: {why}", pattern.name()),
                        help: "write a regular expression over whole names: `clicks-.*`".to_owned(),
                    });
                    drop(assembly);
                    return nowhere(Rc::clone(&self.assembly));
                }
                Ok(found) => {
                    assembly.graph.patterns.insert(pattern.name().to_owned());
                    let known = assembly.known.clone().unwrap_or_default();
                    found.choose(&assembly.graph.id, &known)
                }
            }
        };
        // Without a log, or without a match, the pattern stands for the topics.
        let Some((first, rest)) = names.split_first() else {
            return self.stream_of::<K, V, C>(pattern.name());
        };
        let first = self.stream_of::<K, V, C>(first);
        let rest = rest.iter().map(|name| self.stream_of::<K, V, C>(name)).collect();
        Stream { origin: pattern.name().to_owned(), ..merge_all(first, rest) }
    }
}

/// One stream of these, which are all directly behind their sources.
fn merge_all<K: RecordKey, V: Data>(first: Stream<K, V>, rest: Vec<Stream<K, V>>) -> Stream<K, V> {
    if rest.is_empty() {
        return first;
    }
    let nodes: Vec<_> = [first.node].into_iter().chain(rest.iter().map(|s| s.node)).collect();
    let node = first.assembly.borrow_mut().graph.add(Kind::Merge, &nodes);
    let sources: Sources<V> = [&first]
        .into_iter()
        .chain(&rest)
        .flat_map(|s| s.source.iter().flatten().cloned())
        .collect();
    let inputs = rest.iter().fold(first.inputs, |all, stream| all.union(&stream.inputs));
    let attach = first.attach;
    Stream {
        assembly: first.assembly,
        node,
        inputs,
        rekeyed: false,
        origin: first.origin,
        attach: Box::new(move |next| {
            let shared = SharedNext::new(next);
            attach(Box::new(shared.handle()));
            rest.into_iter().for_each(|stream| (stream.attach)(Box::new(shared.handle())));
        }),
        source: Some(sources),
    }
}
