//! The right side of a join by foreign key: who wants to hear of which row. See `foreign_join.rs`.
//!
//! ```text
//!   key of a row:  | fk, in its member form | pk, plain |      value: nothing
//!
//!   a question (fk, pk)        get, put, delete of one row
//!   a change of fk             scan of all (fk, *), one answer each, encoded once
//! ```
//!
//! Invariants
//! * the member form of a key ends by itself, so the rows of one fk are exactly those that begin with it.
//! * a subscription that is there already is not written again: a left row that changes and keeps its
//!   foreign key costs no changelog record here.
//!
//! On crash: rows come back from the changelog, as of the same commit as the left rows that asked.

use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::rc::Rc;

use super::foreign_join::{Answer, Subscription, Wants};
use super::window_aggregate::decode_key;
use super::{Change, envelope};
use crate::codec::{Bincode, Codec, Data};
use crate::error::{Error, Result};
use crate::ids::StoreName;
use crate::key::Key;
use crate::processor::{
    Changelog, Context, Process, ProcessKeyed, Record, RowKinds, Shared, Stateful,
};
use crate::record::Headers;
use crate::store::{Checkpoint, OrderedOverlay, RowCache, Stored, View};
use crate::time::Stamp;

/// The subscriptions, as the running transaction has them.
pub(crate) type SubscriptionRows = Shared<OrderedOverlay<()>>;

/// Writes answers: each is encoded once, however many left rows get it.
pub(crate) struct Answers {
    topic: String,
    output: usize,
    partition_bytes: fn(&[u8]) -> &[u8],
    value: Vec<u8>,
    timestamp: i64,
}

impl Answers {
    /// Into a topic that is routed by keys of type `K`.
    pub(crate) fn new<K: Key>(topic: &str, output: usize) -> Self {
        let (topic, partition_bytes) = (topic.to_owned(), K::partition_bytes as fn(&[u8]) -> &[u8]);
        Self { topic, output, partition_bytes, value: Vec::new(), timestamp: i64::MIN }
    }

    fn encode<A>(&mut self, answer: &A, stamp: Stamp) -> Result<()>
    where
        Bincode: Codec<A>,
    {
        self.value.clear();
        self.timestamp = stamp.timestamp;
        envelope::begin_value(stamp, &mut self.value);
        Bincode::encode(answer, &mut self.value)
            .map_err(|e| Error::Encode { topic: self.topic.clone(), reason: e.to_string() })
    }

    fn send(&self, ctx: &mut Context, key: &[u8]) -> Result<()> {
        let routed_by = Some((self.partition_bytes)(key));
        let (key, value) = (Some(key), Some(&self.value[..]));
        ctx.emit(self.output, routed_by, self.timestamp, key, value, &Headers::none())
    }
}

/// Takes the questions of left rows.
pub(crate) struct Subscribe<F, V2> {
    rows: SubscriptionRows,
    right: Rc<dyn View<V2>>,
    answers: Answers,
    left: Vec<u8>,
    pair: Vec<u8>,
    foreign_key: PhantomData<fn() -> F>,
}

impl<F, V2> Subscribe<F, V2> {
    pub(crate) fn new(rows: SubscriptionRows, right: Rc<dyn View<V2>>, answers: Answers) -> Self {
        let (left, pair) = (Vec::new(), Vec::new());
        Self { rows, right, answers, left, pair, foreign_key: PhantomData }
    }
}

impl<K: Key, F: Key, V2: Data> ProcessKeyed<Subscription<K>> for Subscribe<F, V2> {
    fn process(
        &mut self,
        ctx: &mut Context,
        key: &[u8],
        question: Option<Subscription<K>>,
        stamp: Stamp,
    ) -> Result<()> {
        let mut rows = self.rows.borrow_mut();
        let foreign_key = decode_key::<F>(rows.store(), key)?;
        let (Some(Subscription { key: left, wants }), Some(foreign_key)) = (question, foreign_key)
        else {
            return Ok(());
        };
        self.left.clear();
        left.encode(&mut self.left);
        self.pair.clear();
        foreign_key.encode_member(&mut self.pair);
        self.pair.extend_from_slice(&self.left);
        let is_known = rows.get(&self.pair)?.is_some();
        match (wants, is_known) {
            (Wants::Nothing, false) => return Ok(()),
            (Wants::Nothing, true) => {
                rows.put(&self.pair, None);
                return Ok(());
            }
            (Wants::Answers, true) => {}
            (Wants::Answers, false) => {
                rows.put(&self.pair, Some(Stored { timestamp: stamp.timestamp, value: () }));
            }
        }
        let found = self.right.get(key)?;
        let (row, timestamp) = found.map(|row| (row.value, row.timestamp)).unzip();
        self.answers.encode(&Answer { foreign_key, row, timestamp }, stamp)?;
        self.answers.send(ctx, &self.left)
    }
}

/// Takes the changes of the right table to all that have subscribed.
pub(crate) struct TellLeft {
    rows: SubscriptionRows,
    answers: Answers,
    prefix: Vec<u8>,
}

impl TellLeft {
    pub(crate) fn new(rows: SubscriptionRows, answers: Answers) -> Self {
        Self { rows, answers, prefix: Vec::new() }
    }
}

impl<F: Key, V2: Data> Process<F, Change<V2>> for TellLeft {
    fn process(&mut self, ctx: &mut Context, record: Record<F, Change<V2>>) -> Result<()> {
        let stamp = record.stamp();
        let (Some(foreign_key), Some(change)) = (record.key, record.value) else { return Ok(()) };
        self.prefix.clear();
        foreign_key.encode_member(&mut self.prefix);
        let (from, to) = (&self.prefix[..], behind(&self.prefix));
        let timestamp = Some(stamp.timestamp);
        // Where nobody has subscribed nothing is encoded.
        let mut answer = Some(Answer { foreign_key, row: change.new, timestamp });
        let (answers, mut done) = (&mut self.answers, Ok(()));
        self.rows.borrow().scan(from, to.as_deref(), &mut |pair, _| {
            let encoded = answer.take().map_or(Ok(()), |answer| answers.encode(&answer, stamp));
            let left = pair.get(from.len()..).unwrap_or_default();
            done = encoded.and_then(|()| answers.send(ctx, left));
            if done.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        done
    }
}

/// The first bytes behind all that begin with a prefix; `None`: nothing is behind them.
fn behind(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte < u8::MAX)?;
    let mut bound = prefix[..=last].to_vec();
    bound[last] += 1;
    Some(bound)
}

/// The store of the subscriptions.
pub(crate) struct SubscriptionStore {
    store: StoreName,
    rows: SubscriptionRows,
}

impl SubscriptionStore {
    pub(crate) fn new(store: StoreName, rows: SubscriptionRows) -> Self {
        Self { store, rows }
    }
}

impl Stateful for SubscriptionStore {
    fn store(&self) -> &StoreName {
        &self.store
    }

    fn open(&mut self, rows: RowCache) -> Result<()> {
        self.rows.borrow_mut().open(rows);
        Ok(())
    }

    fn row_kinds(&self) -> RowKinds {
        RowKinds::One(self.rows.borrow().kind())
    }

    fn prepare(&mut self, changelog: &mut Changelog<'_>) -> Result<()> {
        let mut rows = self.rows.borrow_mut();
        rows.prepare(|timestamp, key, value| changelog.push(timestamp, key, value))
    }

    fn committed(&mut self, checkpoint: Option<Checkpoint>, now_ms: i64) -> Result<()> {
        self.rows.borrow_mut().committed(checkpoint, now_ms);
        Ok(())
    }

    fn changed_rows(&self) -> usize {
        self.rows.borrow().len()
    }

    fn with_rows(&mut self, look: &mut dyn FnMut(&mut RowCache) -> Result<()>) -> Result<()> {
        look(self.rows.borrow_mut().behind())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_ends_behind_all_that_begin_with_its_prefix() {
        assert_eq!(behind(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(behind(&[1, 0xff, 0xff]), Some(vec![2]));
        assert_eq!(behind(&[0xff; 8]), None);
        for prefix in [&b"a\0\0"[..], &[0, 0, 0, 0xff], &[0xfe, 0xff]] {
            let bound = behind(prefix).unwrap();
            let longest = [prefix, &[0xff; 40]].concat();
            assert!(prefix < &bound[..] && longest < bound, "{prefix:?}");
        }
    }
}
