//! Two tables joined by a key that is found in the left one's values, a foreign key: the left side.
//!
//! Rows that belong together lie in different tasks, so each left row subscribes to the right row that it
//! names, and is answered now and at each change of that row.
//!
//! ```text
//!   task of the left row (pk)                         task of the right row (fk)
//!   -------------------------                         --------------------------
//!   Change(old, new) of pk
//!     AskRight -- fk: pk wants nothing (old) -->  Subscriptions: rows (fk, pk)
//!              -- fk: pk wants answers (new) -->    |  now:                 the right row as it is
//!                                                   v  Change(fk), commit:  to all (fk, *)
//!     TakeAnswer <-- pk: fk, right row, when -----  Answer
//!        |
//!        `- pk still names fk? result(pk) = join(left row now, right row)
//!   no left row, or no fk in it: result(pk) at once, without asking
//! ```
//!
//! Why the final result is right whatever the interleaving: questions of one left row to one right row
//! come in order, as both ways keep the order between two tasks; whoever has changed asks last, after it
//! has changed; and an answer counts only while the left row names the key that it speaks of.
//!
//! Invariants
//! * a subscription (fk, pk) is kept exactly while the last passed on row of pk names fk.
//! * an answer holds the right row of the running transaction; where that changes later, its change
//!   brings another answer behind it.
//! * a result's timestamp is the larger of those of its rows; of a deleted right row, that of the delete.
//!
//! On crash: questions and answers on their way are records of repartition topics, subscriptions rows.
//! Reference: Kafka Streams KIP-213, `SubscriptionSendProcessorSupplier`, `ResponseJoinProcessorSupplier`.
//! There a hash of the left row goes with each question and back; here the left row itself is looked at.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::{Change, RepartitionSink};
use crate::codec::Data;
use crate::error::Result;
use crate::key::Key;
use crate::processor::{Context, Process, ProcessKeyed, Record, Shared};
use crate::record::Headers;
use crate::store::{Overlay, View};
use crate::time::Stamp;
use crate::topology::JoinKind;

/// What a left row asks of the right row that is the record's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subscription<K> {
    /// The left row.
    pub(super) key: K,
    pub(super) wants: Wants,
}

/// What it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Wants {
    /// The right row, now and whenever it changes.
    Answers,
    /// To hear no more.
    Nothing,
}

/// What a right row says to the left row that is the record's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer<F, V> {
    /// Whose row it is.
    pub(super) foreign_key: F,
    /// `None`: there is no such row.
    pub(super) row: Option<V>,
    /// The row's timestamp, or that of its delete where it was deleted just now.
    pub(super) timestamp: Option<i64>,
}

/// Which right row a left one names.
pub(crate) type ForeignKey<V, F> = Rc<dyn Fn(&V) -> Option<F>>;
/// What both make; `None`: nothing.
pub(crate) type Joined<V, V2, R> = Rc<dyn Fn(V, Option<V2>) -> Option<R>>;

/// What both ends of the left side know.
pub(crate) struct LeftRows<V, V2, F, R> {
    pub(crate) kind: JoinKind,
    pub(crate) foreign_key: ForeignKey<V, F>,
    pub(crate) join: Joined<V, V2, R>,
    /// The results.
    pub(crate) results: Shared<Overlay<R>>,
}

impl<V, V2, F, R> Clone for LeftRows<V, V2, F, R> {
    fn clone(&self) -> Self {
        Self {
            kind: self.kind,
            foreign_key: Rc::clone(&self.foreign_key),
            join: Rc::clone(&self.join),
            results: Rc::clone(&self.results),
        }
    }
}

impl<V, V2, F, R: Data> LeftRows<V, V2, F, R> {
    /// Puts a result in place. Where there is none and was none, nothing has happened.
    fn put(&self, key: &[u8], result: Option<R>, stamp: Stamp) -> Result<()> {
        let mut results = self.results.borrow_mut();
        let place = results.find(key)?;
        let row = results.at(place);
        if row.value.is_some() || result.is_some() {
            row.replace(result, stamp);
        }
        Ok(())
    }
}

/// Takes the changes of the left table: asks the right one, or knows the result at once.
pub(crate) struct AskRight<K, V, V2, F, R> {
    left: LeftRows<V, V2, F, R>,
    questions: RepartitionSink<F, Subscription<K>>,
    key: Vec<u8>,
}

impl<K, V, V2, F, R> AskRight<K, V, V2, F, R> {
    pub(crate) fn new(
        left: LeftRows<V, V2, F, R>,
        questions: RepartitionSink<F, Subscription<K>>,
    ) -> Self {
        Self { left, questions, key: Vec::new() }
    }
}

impl<K: Key, V, V2, F: Key, R> AskRight<K, V, V2, F, R> {
    fn ask(&mut self, ctx: &mut Context, of: F, key: K, wants: Wants, stamp: Stamp) -> Result<()> {
        let Stamp { timestamp, source_time } = stamp;
        let (value, headers) = (Some(Subscription { key, wants }), Headers::none());
        let question = Record { key: Some(of), value, timestamp, source_time, headers };
        self.questions.process(ctx, question)
    }
}

impl<K, V, V2, F, R> Process<K, Change<V>> for AskRight<K, V, V2, F, R>
where
    K: Key,
    F: Key,
    R: Data,
{
    fn process(&mut self, ctx: &mut Context, record: Record<K, Change<V>>) -> Result<()> {
        let stamp = record.stamp();
        let (Some(key), Some(Change { old, new })) = (record.key, record.value) else {
            return Ok(());
        };
        let before = old.as_ref().and_then(|row| (self.left.foreign_key)(row));
        let now = new.as_ref().and_then(|row| (self.left.foreign_key)(row));
        if let Some(before) = before.filter(|before| now.as_ref() != Some(before)) {
            self.ask(ctx, before, key.clone(), Wants::Nothing, stamp)?;
        }
        if let Some(now) = now {
            return self.ask(ctx, now, key, Wants::Answers, stamp);
        }
        if new.is_some() && self.left.kind == JoinKind::Inner {
            ctx.counters.null_keys += 1;
        }
        self.key.clear();
        key.encode(&mut self.key);
        let result = new.and_then(|row| (self.left.join)(row, None));
        self.left.put(&self.key, result, stamp)
    }
}

/// Takes the answers of the right table to a left row.
pub(crate) struct TakeAnswer<V, V2, F, R> {
    left: LeftRows<V, V2, F, R>,
    rows: Rc<dyn View<V>>,
}

impl<V, V2, F, R> TakeAnswer<V, V2, F, R> {
    pub(crate) fn new(left: LeftRows<V, V2, F, R>, rows: Rc<dyn View<V>>) -> Self {
        Self { left, rows }
    }
}

impl<V, V2, F: Key, R: Data> ProcessKeyed<Answer<F, V2>> for TakeAnswer<V, V2, F, R> {
    fn process(
        &mut self,
        _: &mut Context,
        key: &[u8],
        answer: Option<Answer<F, V2>>,
        stamp: Stamp,
    ) -> Result<()> {
        let (Some(answer), Some(row)) = (answer, self.rows.get(key)?) else { return Ok(()) };
        if (self.left.foreign_key)(&row.value).as_ref() != Some(&answer.foreign_key) {
            // It has another by now, whose answer is on its way or about to be asked for.
            return Ok(());
        }
        let timestamp = answer.timestamp.map_or(row.timestamp, |at| at.max(row.timestamp));
        let result = (self.left.join)(row.value, answer.row);
        self.left.put(key, result, Stamp { timestamp, ..stamp })
    }
}
