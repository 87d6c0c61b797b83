//! Where records of a user's topic enter: decode, event time, clock.
//!
//! Invariants
//! * every record that decodes counts for the stream time of its partition, whatever happens to it
//!   afterwards; one that is refused does not, and goes no further: the policy decides.
//! * whether a record is good may be found out before its turn; what follows from it, an error
//!   included, happens once, in its turn, and its log timestamp says when that is.
//! * a null value has no event time of its own: it keeps its log timestamp and moves no clock where
//!   event times are taken from values.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use super::children::Children;
use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::key::RecordKey;
use crate::letter::LetterValue;
use crate::processor::{Context, Entry, Process, Record, Refused};
use crate::record::{Headers, RawRecord};

/// How much of a record that does not decode is shown.
const EVIDENCE_BYTES: usize = 200;

type Extract<V> = Box<dyn Fn(&V) -> i64>;

/// What the topology may still say of a source after it was added.
pub(crate) struct SourceSettings<V> {
    pub(crate) event_time: RefCell<Option<Extract<V>>>,
    pub(crate) ahead_max_ms: Rc<Cell<i64>>,
}

impl<V> Default for SourceSettings<V> {
    /// Times as the log has them.
    fn default() -> Self {
        Self { event_time: RefCell::new(None), ahead_max_ms: Rc::new(Cell::new(i64::MAX)) }
    }
}

/// The entry of a user's topic.
pub(crate) struct SourceEntry<K, V, C> {
    topic: Arc<str>,
    /// The number of the step's node.
    step: usize,
    settings: Rc<SourceSettings<V>>,
    next: Children<K, V>,
    decoded: Option<(i64, Result<Record<K, V>>)>,
    codec: PhantomData<fn() -> C>,
}

impl<K: RecordKey, V, C: Codec<V>> SourceEntry<K, V, C> {
    pub(crate) fn new(
        topic: &str,
        step: usize,
        settings: Rc<SourceSettings<V>>,
        next: Children<K, V>,
    ) -> Self {
        Self { topic: Arc::from(topic), step, settings, next, decoded: None, codec: PhantomData }
    }

    fn decode(&self, ctx: &Context, raw: &RawRecord<'_>) -> Result<Record<K, V>> {
        let refuse = |what: &'static str, reason: String, bytes: &[u8]| Error::Decode {
            topic: self.topic.to_string(),
            partition: ctx.partition_read(),
            offset: raw.offset,
            kind: what,
            reason,
            evidence: evidence(bytes),
        };
        let key = K::decode(raw.key)
            .map_err(|e| refuse(short_name::<K>(), e.to_string(), raw.key.unwrap_or_default()))?;
        let value = match raw.value {
            None => None,
            Some(bytes) => Some(
                C::decode(bytes).map_err(|e| refuse(short_name::<V>(), e.to_string(), bytes))?,
            ),
        };
        let timestamp = self.timestamp_of(ctx, raw, value.as_ref())?;
        let headers = raw.headers.cloned().unwrap_or_else(Headers::none);
        Ok(Record { key, value, timestamp, source_time: i64::MIN, headers })
    }

    fn timestamp_of(&self, ctx: &Context, raw: &RawRecord<'_>, value: Option<&V>) -> Result<i64> {
        let extract = self.settings.event_time.borrow();
        let (Some(extract), Some(value)) = (extract.as_ref(), value) else {
            return Ok(raw.timestamp);
        };
        let event_time = extract(value);
        let limit_ms = self.settings.ahead_max_ms.get();
        let ahead_ms = event_time.saturating_sub(raw.timestamp);
        if ahead_ms > limit_ms {
            return Err(Error::EventTimeAhead {
                topic: self.topic.to_string(),
                partition: ctx.partition_read(),
                offset: raw.offset,
                event_time,
                log_timestamp: raw.timestamp,
                ahead_ms,
                limit_ms,
            });
        }
        Ok(event_time)
    }

    fn refuse(&self, ctx: &mut Context, error: Error, raw: &RawRecord<'_>) -> Result<()> {
        let none = Headers::none();
        let refused = Refused {
            key: raw.key,
            value: raw.value,
            form: LetterValue::Original,
            timestamp: raw.timestamp,
            headers: raw.headers.unwrap_or(&none),
        };
        ctx.refuse(self.step, error, &refused)
    }

    fn moves_the_clock(&self, record: &Record<K, V>) -> bool {
        record.value.is_some() || self.settings.event_time.borrow().is_none()
    }
}

impl<K: RecordKey, V: Clone, C: Codec<V>> Entry for SourceEntry<K, V, C> {
    fn timestamp(&mut self, ctx: &Context, _: usize, raw: &RawRecord<'_>) -> Result<i64> {
        if self.settings.event_time.borrow().is_none() {
            return Ok(raw.timestamp);
        }
        let decoded = match self.decoded.take() {
            Some((offset, decoded)) if offset == raw.offset => decoded,
            _ => self.decode(ctx, raw),
        };
        let timestamp = decoded.as_ref().map_or(raw.timestamp, |record| record.timestamp);
        self.decoded = Some((raw.offset, decoded));
        Ok(timestamp)
    }

    fn process(&mut self, ctx: &mut Context, input: usize, raw: &RawRecord<'_>) -> Result<()> {
        let decoded = match self.decoded.take() {
            Some((offset, decoded)) if offset == raw.offset => decoded,
            _ => self.decode(ctx, raw),
        };
        ctx.counters.records_in += 1;
        let mut record = match decoded {
            Ok(record) => record,
            Err(error) => return self.refuse(ctx, error, raw),
        };
        record.source_time = if self.moves_the_clock(&record) {
            ctx.observe(input, record.timestamp)
        } else {
            ctx.clocks[input]
        };
        self.next.process(ctx, record)
    }
}

/// The last part of a type's path, which is what a person calls it.
pub(crate) fn short_name<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    if name.contains('<') { name } else { name.rsplit("::").next().unwrap_or(name) }
}

/// The bytes of a record, as far as they are shown.
pub(crate) fn evidence(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(EVIDENCE_BYTES)];
    let more = if cut.len() < bytes.len() { " .." } else { "" };
    format!("{}{more}", cut.escape_ascii())
}
