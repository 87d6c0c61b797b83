//! Writes records to a topic of the user: the end of a stream.
//!
//! Keys choose the partition by murmur2 (a windowed key by its inner key); records without a key stay
//! in the partition of their task.

use std::marker::PhantomData;

use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::key::RecordKey;
use crate::processor::{Context, Process, Record};

type Types<K, V, C> = fn() -> (K, V, C);

pub(crate) struct Sink<K, V, C> {
    topic: String,
    output: usize,
    key: Vec<u8>,
    value: Vec<u8>,
    types: PhantomData<Types<K, V, C>>,
}

impl<K, V, C> Sink<K, V, C> {
    pub(crate) fn new(topic: String, output: usize) -> Self {
        Self { topic, output, key: Vec::new(), value: Vec::new(), types: PhantomData }
    }
}

impl<K: RecordKey, V, C: Codec<V>> Process<K, V> for Sink<K, V, C> {
    fn process(&mut self, ctx: &mut Context, record: Record<K, V>) -> Result<()> {
        self.key.clear();
        self.value.clear();
        let keyed = record.key.as_ref().is_some_and(|key| key.encode(&mut self.key));
        if let Some(value) = &record.value {
            C::encode(value, &mut self.value)
                .map_err(|e| Error::Encode { topic: self.topic.clone(), reason: e.to_string() })?;
        }
        ctx.counters.records_out += 1;
        ctx.emit(
            self.output,
            keyed.then(|| K::partition_bytes(&self.key)),
            record.timestamp,
            keyed.then_some(&self.key),
            record.value.is_some().then_some(&self.value),
            &record.headers,
        )
    }
}
