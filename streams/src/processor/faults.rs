//! What becomes of records that a step of the task cannot take.
//!
//! ```text
//!   step: error --> policy?  Fail:       the error goes up, the job stops
//!                            Skip:       counted, noted
//!                            DeadLetter: counted, noted, emitted to <id>-dlq
//!   after the commit point: what was noted becomes a warning, seldom enough
//! ```
//!
//! Why notes: a warning per record would bury everything else, and one for a record whose transaction
//! is rolled back would tell of something that did not happen.
//!
//! Invariants
//! * a task warns once in ten seconds at most, with how many records there were since the last time
//!   and one of them as an example.
//! * where a record came from is known exactly while it is processed: not while windows close or rows
//!   are passed on.

use std::sync::Arc;

use super::context::Context;
use crate::error::{Error, Result};
use crate::letter::{LetterValue, Reason};
use crate::on_error::OnError;
use crate::record::{Headers, RawRecord, RecordPosition};

/// How long a task says nothing more after a warning.
const WARN_EVERY_MS: i64 = 10_000;

/// A step that may refuse records.
#[derive(Clone, Debug)]
pub(crate) struct FallibleStep {
    /// The number of its node.
    pub(crate) node: usize,
    /// What a person calls it.
    pub(crate) name: String,
    pub(crate) policy: OnError,
}

/// The record that is being processed.
#[derive(Clone, Copy, Debug)]
struct Current {
    input: usize,
    partition: u32,
    /// Another task reads the same record, and speaks of it.
    is_copy: bool,
    offset: i64,
    timestamp: i64,
}

/// The policies of a task's steps, and what they have met.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    steps: Vec<FallibleStep>,
    /// Topics by the number of their input.
    inputs: Vec<Arc<str>>,
    /// The output for dead letters.
    output: Option<usize>,
    current: Option<Current>,
    notes: Notes,
}

impl Faults {
    pub(crate) fn new(
        steps: Vec<FallibleStep>,
        inputs: Vec<Arc<str>>,
        output: Option<usize>,
    ) -> Self {
        Self { steps, inputs, output, current: None, notes: Notes::default() }
    }

    /// From here on what fails belongs to this record. Of a `copy`, which another task reads as well,
    /// nothing is counted or set aside here.
    pub(crate) fn begin_record(
        &mut self,
        input: usize,
        partition: u32,
        copy: bool,
        record: &RawRecord<'_>,
    ) {
        let (offset, timestamp) = (record.offset, record.timestamp);
        self.current = Some(Current { input, partition, is_copy: copy, offset, timestamp });
    }

    /// From here on what fails belongs to no record that was read.
    pub(crate) fn end_record(&mut self) {
        self.current = None;
    }

    /// The running transaction is complete: what it left out is told once it is committed.
    pub(crate) fn prepared(&mut self) {
        self.notes.prepared();
    }

    /// After the commit point of what was prepared, at `now_ms` of the wall clock.
    pub(crate) fn committed(&mut self, now_ms: i64) {
        if let Some(Warning { skipped, dead_letters, example }) = self.notes.committed(now_ms) {
            tracing::warn!(skipped, dead_letters, example, "steps could not take some records");
        }
    }

    fn step(&self, node: usize) -> Option<&FallibleStep> {
        self.steps.iter().find(|step| step.node == node)
    }
}

/// What a letter is made of.
pub(crate) struct Refused<'a> {
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) form: LetterValue,
    /// Its own timestamp, where it is not known which record it came from.
    pub(crate) timestamp: i64,
    pub(crate) headers: &'a Headers,
}

impl Context {
    /// Whether a step has to hand over what it refuses.
    pub(crate) fn keeps_refused(&self, node: usize) -> bool {
        self.faults.step(node).is_some_and(|step| step.policy == OnError::DeadLetter)
    }

    /// What a person calls a step.
    pub(crate) fn step_name(&self, node: usize) -> String {
        self.faults.step(node).map_or_else(|| node.to_string(), |step| step.name.clone())
    }

    /// Where the record that is being processed was read.
    pub(crate) fn position(&self) -> Option<RecordPosition> {
        let Current { input, partition, offset, .. } = self.faults.current?;
        let topic = Arc::clone(self.faults.inputs.get(input)?);
        Some(RecordPosition { topic, partition, offset })
    }

    /// The partition that is read: the task's own, except for what every task reads.
    pub(crate) fn partition_read(&self) -> u32 {
        self.faults.current.map_or(self.task.partition, |current| current.partition)
    }

    /// A step cannot take a record: its policy decides. An error means that the job stops.
    pub(crate) fn refuse(
        &mut self,
        node: usize,
        error: Error,
        refused: &Refused<'_>,
    ) -> Result<()> {
        let Some(step) = self.faults.step(node) else { return Err(error) };
        let policy = step.policy;
        if policy != OnError::Fail && self.faults.current.is_some_and(|current| current.is_copy) {
            return Ok(());
        }
        match policy {
            OnError::Fail => return Err(error),
            OnError::Skip => self.counters.skipped += 1,
            OnError::DeadLetter => {
                let Some(output) = self.faults.output else { return Err(error) };
                let message = error.to_string();
                let reason = Reason {
                    source: self.position(),
                    exception: exception(&error),
                    code: error.code(),
                    message: &message,
                    step: &step.name,
                    form: refused.form,
                };
                let headers = reason.headers(refused.headers);
                let read_at = self.faults.current.map(|current| current.timestamp);
                let timestamp = read_at.unwrap_or(refused.timestamp);
                self.emit(output, None, timestamp, refused.key, refused.value, &headers)?;
                self.counters.dead_letters += 1;
            }
        }
        self.faults.notes.note(&error, policy);
        Ok(())
    }
}

fn exception(error: &Error) -> &'static str {
    match error {
        Error::Decode { .. } => "decode",
        Error::EventTimeAhead { .. } => "event-time",
        _ => "refused",
    }
}

/// What there is to warn of. Pure.
#[derive(Debug, Default)]
struct Notes {
    /// Of the running transaction.
    running: Option<Warning>,
    /// Of those before it, prepared or committed.
    unsaid: Option<Warning>,
    warned_ms: Option<i64>,
}

/// How many records there were since the last warning, and the first of them.
#[derive(Debug, PartialEq, Eq)]
struct Warning {
    skipped: u64,
    dead_letters: u64,
    example: String,
}

impl Notes {
    fn note(&mut self, error: &Error, policy: OnError) {
        let warning = self.running.get_or_insert_with(|| Warning {
            skipped: 0,
            dead_letters: 0,
            example: error.to_string(),
        });
        match policy {
            OnError::DeadLetter => warning.dead_letters += 1,
            OnError::Skip | OnError::Fail => warning.skipped += 1,
        }
    }

    fn prepared(&mut self) {
        self.unsaid = match (self.unsaid.take(), self.running.take()) {
            (Some(mut unsaid), Some(more)) => {
                unsaid.skipped += more.skipped;
                unsaid.dead_letters += more.dead_letters;
                Some(unsaid)
            }
            (unsaid, more) => unsaid.or(more),
        };
    }

    /// What there is to say, if it is time to. A clock that was set back does not silence a task.
    fn committed(&mut self, now_ms: i64) -> Option<Warning> {
        let quiet = |warned: i64| (0..WARN_EVERY_MS).contains(&now_ms.saturating_sub(warned));
        if self.warned_ms.is_some_and(quiet) {
            return None;
        }
        let warning = self.unsaid.take()?;
        self.warned_ms = Some(now_ms);
        Some(warning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(reason: &str) -> Error {
        Error::Refused { step: "1 try map".into(), record: None, reason: reason.into() }
    }

    #[test]
    fn a_task_warns_once_in_a_while_with_a_count_and_an_example() {
        let mut notes = Notes::default();
        let counts = |warning: Option<Warning>| warning.map(|w| (w.skipped, w.dead_letters));
        let note = |notes: &mut Notes, reason, policy| {
            notes.note(&error(reason), policy);
            notes.prepared();
        };
        assert_eq!(notes.committed(0), None);
        note(&mut notes, "a", OnError::Skip);
        note(&mut notes, "b", OnError::DeadLetter);
        let example = "step 1 try map refused a result that came from state: a".to_owned();
        let first = Warning { skipped: 1, dead_letters: 1, example };
        assert_eq!(notes.committed(1_000), Some(first));
        note(&mut notes, "c", OnError::Skip);
        assert_eq!(notes.committed(10_999), None, "too soon");
        note(&mut notes, "d", OnError::Skip);
        assert_eq!(counts(notes.committed(11_000)), Some((2, 0)));
        note(&mut notes, "e", OnError::DeadLetter);
        assert_eq!(counts(notes.committed(-5)), Some((0, 1)), "the clock was set back");
    }

    #[test]
    fn nothing_is_told_of_a_transaction_that_is_not_committed() {
        let mut notes = Notes::default();
        notes.note(&error("a"), OnError::Skip);
        notes.prepared();
        notes.note(&error("b"), OnError::Skip);
        assert_eq!(notes.committed(0).map(|w| w.skipped), Some(1));
    }
}
