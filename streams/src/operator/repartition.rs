//! Out of one sub-topology through a repartition topic and into the next.
//!
//! Why a pair: both ends agree on the envelope and on what it carries; in front of a count that is key
//! and times, no value.
//!
//! Invariants
//! * headers travel where values do, a null one included.
//! * watermarks raise the clock of their input and reach no operator.

use std::cell::Cell;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use super::envelope::{self, Envelope};
use crate::codec::{Bincode, Codec};
use crate::error::{Error, Result};
use crate::key::RecordKey;
use crate::processor::{Context, Entry, Next, Process, ProcessKeyed, Record};
use crate::record::{Headers, RawRecord};
use crate::time::Stamp;
use crate::topology::Carries;

/// Encodes records into a repartition topic.
pub(crate) struct RepartitionSink<K, V> {
    topic: String,
    output: usize,
    carries: Carries,
    /// Whether the reader wants to know who sent what.
    ordered: Rc<Cell<bool>>,
    key: Vec<u8>,
    value: Vec<u8>,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> RepartitionSink<K, V> {
    pub(crate) fn new(topic: String, output: usize, carries: Carries) -> Self {
        let (key, value, ordered) = (Vec::new(), Vec::new(), Rc::default());
        Self { topic, output, carries, ordered, key, value, types: PhantomData }
    }

    /// The same sink, which says who sent what if the reader asks for it.
    pub(crate) fn asked_by(self, ordered: Rc<Cell<bool>>) -> Self {
        Self { ordered, ..self }
    }
}

impl<K: RecordKey, V> Process<K, V> for RepartitionSink<K, V>
where
    Bincode: Codec<V>,
{
    fn process(&mut self, ctx: &mut Context, record: Record<K, V>) -> Result<()> {
        let Some(key) = &record.key else {
            ctx.counters.null_keys += 1;
            return Ok(());
        };
        self.key.clear();
        self.value.clear();
        key.encode(&mut self.key);
        let none = Headers::none();
        let headers = match self.carries {
            Carries::Key => &none,
            Carries::Value => &record.headers,
        };
        match (&record.value, self.carries) {
            (None, _) => envelope::null(record.stamp(), &mut self.value),
            (Some(_), Carries::Key) => envelope::key_only(record.stamp(), &mut self.value),
            (Some(_), Carries::Value) => envelope::begin_value(record.stamp(), &mut self.value),
        }
        if self.ordered.get() {
            envelope::sent_by(ctx.task.partition, &mut self.value);
        }
        match (&record.value, self.carries) {
            (None, _) | (Some(_), Carries::Key) => {}
            (Some(value), Carries::Value) => {
                Bincode::encode(value, &mut self.value).map_err(|e| Error::Encode {
                    topic: self.topic.clone(),
                    reason: e.to_string(),
                })?;
            }
        }
        let routed_by = K::partition_bytes(&self.key);
        ctx.emit(
            self.output,
            Some(routed_by),
            record.timestamp,
            Some(&self.key),
            Some(&self.value),
            headers,
        )
    }
}

/// Takes records of a repartition topic to an operator that keeps state. The clock of its input is
/// kept by the task, which reads the watermarks.
pub(crate) struct RepartitionEntry<V> {
    topic: Arc<str>,
    next: Box<dyn ProcessKeyed<V>>,
    decode: fn(Option<&[u8]>) -> Result<V, String>,
}

impl<V> RepartitionEntry<V> {
    /// `decode` makes the operator's value: from the bytes, or from nothing where only keys travel.
    pub(crate) fn new(
        topic: &str,
        next: Box<dyn ProcessKeyed<V>>,
        decode: fn(Option<&[u8]>) -> Result<V, String>,
    ) -> Self {
        Self { topic: Arc::from(topic), next, decode }
    }
}

/// The key, the times and the value of a repartition record; the value is `Some(None)` where only keys
/// travel.
type Unwrapped<'a> = (&'a [u8], Stamp, Option<Option<&'a [u8]>>);

fn unwrap<'a>(record: &RawRecord<'a>) -> Result<Unwrapped<'a>, &'static str> {
    let bytes = record.value.ok_or("a repartition record has no envelope")?;
    let key = record.key.ok_or("a repartition record has no key")?;
    let (source_time, value) = match envelope::decode(bytes, record.timestamp)? {
        Envelope::KeyOnly { source_time } => (source_time, Some(None)),
        Envelope::Record { source_time, value } => (source_time, value.map(Some)),
        Envelope::Watermarks(_) => return Err("watermarks reached an operator"),
    };
    Ok((key, Stamp { timestamp: record.timestamp, source_time }, value))
}

/// Whose record it is that does not decode.
struct Place<'a> {
    topic: &'a str,
    partition: u32,
    offset: i64,
}

impl Place<'_> {
    fn damaged(&self, reason: &'static str) -> Error {
        let (topic, partition, offset) = (self.topic.to_owned(), self.partition, self.offset);
        Error::Internal { topic, partition, offset, reason }
    }

    fn undecodable(&self, kind: &'static str, reason: String) -> Error {
        Error::Decode {
            topic: self.topic.to_owned(),
            partition: self.partition,
            offset: self.offset,
            kind,
            reason,
            evidence: String::new(),
        }
    }
}

const VALUE: &str = "the value of a repartition record";
const KEY: &str = "the key of a repartition record";

impl<V> Entry for RepartitionEntry<V> {
    fn timestamp(&mut self, _: &Context, _: usize, record: &RawRecord<'_>) -> Result<i64> {
        Ok(record.timestamp)
    }

    fn process(&mut self, ctx: &mut Context, _: usize, record: &RawRecord<'_>) -> Result<()> {
        let place =
            Place { topic: &self.topic, partition: ctx.task.partition, offset: record.offset };
        let (key, stamp, value) = unwrap(record).map_err(|reason| place.damaged(reason))?;
        let value = value
            .map(|bytes| (self.decode)(bytes).map_err(|reason| place.undecodable(VALUE, reason)));
        self.next.process(ctx, key, value.transpose()?, stamp)
    }
}

/// Takes records of a repartition topic on as a stream: with typed keys, and their headers.
pub(crate) struct StreamEntry<K, V> {
    topic: Arc<str>,
    next: Next<K, V>,
}

impl<K, V> StreamEntry<K, V> {
    pub(crate) fn new(topic: &str, next: Next<K, V>) -> Self {
        Self { topic: Arc::from(topic), next }
    }
}

impl<K: RecordKey, V> Entry for StreamEntry<K, V>
where
    Bincode: Codec<V>,
{
    fn timestamp(&mut self, _: &Context, _: usize, record: &RawRecord<'_>) -> Result<i64> {
        Ok(record.timestamp)
    }

    fn process(&mut self, ctx: &mut Context, _: usize, record: &RawRecord<'_>) -> Result<()> {
        let place =
            Place { topic: &self.topic, partition: ctx.task.partition, offset: record.offset };
        let (key, stamp, value) = unwrap(record).map_err(|reason| place.damaged(reason))?;
        let key = K::decode(Some(key)).map_err(|e| place.undecodable(KEY, e.to_string()))?;
        let decode = |bytes: Option<&[u8]>| {
            let bytes = bytes.ok_or_else(|| place.damaged("a record of a stream has no value"))?;
            Bincode::decode(bytes).map_err(|e| place.undecodable(VALUE, e.to_string()))
        };
        let record = Record {
            key,
            value: value.map(decode).transpose()?,
            timestamp: stamp.timestamp,
            source_time: stamp.source_time,
            headers: record.headers.cloned().unwrap_or_else(Headers::none),
        };
        self.next.process(ctx, record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{Broker, Scope, SimulatedLog};
    use crate::ids::TaskId;
    use crate::processor::Output;
    use crate::record::Header;

    #[test]
    fn timestamps_headers_and_tombstones_travel_in_the_repartition_topic() {
        let mut log = SimulatedLog::new(1, 0);
        log.ensure_topic("r", 1).unwrap();
        let broker = log.broker(i64::MAX).unwrap();
        let topic = broker.topics().unwrap().into_iter().find(|t| &*t.name == "r").unwrap();
        let transaction = broker.producer("job").unwrap().begin().unwrap();
        let output = Output::new(topic.clone(), &broker);
        let task = TaskId { subtopology: 0, partition: 0 };
        let mut ctx = Context::new(task, 1, vec![Some(output)]);
        ctx.begin(Arc::clone(&transaction));

        let headers: Headers =
            [Header { key: "trace".to_owned(), value: None }].into_iter().collect();
        let mut sink = RepartitionSink::<String, u64>::new("r".to_owned(), 0, Carries::Value);
        for (value, timestamp) in [(Some(5), 1_000), (None, 2_000)] {
            let record = Record {
                key: Some("k".to_owned()),
                value,
                timestamp,
                source_time: 7_000,
                headers: headers.clone(),
            };
            sink.process(&mut ctx, record).unwrap();
        }
        ctx.flush().unwrap();

        let records = broker.reader(&topic, 0, 0, Scope::Own).unwrap().poll().unwrap().unwrap();
        let at = |i: usize| {
            let raw = records.get(i).unwrap();
            let envelope = envelope::decode(raw.value.unwrap(), raw.timestamp).unwrap();
            (raw.key, raw.timestamp, raw.headers, envelope)
        };
        let five = Envelope::Record { source_time: 7_000, value: Some(&[5]) };
        assert_eq!(at(0), (Some(&b"k"[..]), 1_000, Some(&headers), five));
        let null = Envelope::Record { source_time: 7_000, value: None };
        assert_eq!(at(1), (Some(&b"k"[..]), 2_000, Some(&headers), null));
    }
}
