//! Outputs that records name: looked up, or created, when the first record asks for one.
//!
//! Why at run time: the names come out of the data. So they are checked, and there are only so many:
//! each holds a batch for every partition, and a log with a topic for every user is a mistake.
//!
//! ```text
//!   name --known?--> output
//!     `-- a good name, and nobody's own? -- in the log? -- else created, with the task's partitions
//! ```
//!
//! Invariants
//! * a name costs the log one look; afterwards it is one lookup in a table.
//! * creating a topic is no part of a transaction: one that is rolled back may leave an empty topic.
//!
//! On crash: gone; names are looked up again.

use std::sync::Arc;

use hashbrown::HashMap;

use super::context::{Context, Output};
use crate::broker::{Broker, TopicKind, TopicRef};
use crate::error::{Error, Result};
use crate::ids::check_name;

/// Topics that one task names at most.
pub(crate) const NAMED_MAX: usize = 256;

/// Why a name may not be written to; `None`: it may.
pub(crate) type Refuses = Box<dyn Fn(&str) -> Option<String>>;

/// Where the outputs that records name come from.
pub(crate) struct NamedOutputs {
    broker: Arc<dyn Broker>,
    /// What a topic gets that is created.
    partitions: u32,
    refuses: Refuses,
    known: HashMap<String, usize>,
}

/// A topic for a name, or why there is none.
pub(crate) enum Named {
    /// The index of its output.
    Output(usize),
    /// The record is refused.
    Refused(NameFault),
}

/// What is wrong with a name.
pub(crate) enum NameFault {
    /// It is no name of a topic.
    Invalid(Error),
    /// The reason.
    Reason(String),
}

impl NamedOutputs {
    pub(crate) fn new(broker: Arc<dyn Broker>, partitions: u32, refuses: Refuses) -> Self {
        Self { broker, partitions, refuses, known: HashMap::new() }
    }

    fn fault(&self, name: &str) -> Option<NameFault> {
        if let Err(invalid) = check_name("topic", name) {
            return Some(NameFault::Invalid(invalid.into()));
        }
        if self.known.len() >= NAMED_MAX {
            let reason = format!(
                "it names topic `{name}`, and the records of this task have already named {NAMED_MAX}"
            );
            return Some(NameFault::Reason(reason));
        }
        (self.refuses)(name).map(NameFault::Reason)
    }

    fn topic(&self, name: &str) -> Result<TopicRef> {
        let find = || -> Result<Option<TopicRef>> {
            Ok(self.broker.topics()?.into_iter().find(|topic| &*topic.name == name))
        };
        if let Some(topic) = find()? {
            return Ok(topic);
        }
        match self.broker.create_topic(name, self.partitions, TopicKind::Output) {
            Ok(topic) => Ok(topic),
            // Another task may have been first.
            Err(error) => find()?.ok_or(error),
        }
    }
}

impl Context {
    /// The output for a name.
    pub(crate) fn named(&mut self, name: &str) -> Result<Named> {
        let named = self.named.as_mut().expect("a task that has such a sink can name topics");
        if let Some(&output) = named.known.get(name) {
            return Ok(Named::Output(output));
        }
        if let Some(fault) = named.fault(name) {
            return Ok(Named::Refused(fault));
        }
        let topic = named.topic(name)?;
        let output = Output::new(topic, named.broker.as_ref());
        self.outputs.push(Some(output));
        named.known.insert(name.to_owned(), self.outputs.len() - 1);
        Ok(Named::Output(self.outputs.len() - 1))
    }
}
