//! Writes records to topics that they name themselves: the end of a stream.
//!
//! Invariants
//! * a record whose name is not to be had is refused: the job's policy decides, as for any record that a
//!   step cannot take.

use std::marker::PhantomData;

use super::try_map::refuse;
use crate::codec::{Codec, Data};
use crate::error::{Error, Result};
use crate::key::RecordKey;
use crate::processor::{Context, NameFault, Named, Process, Record};

pub(crate) struct SinkOf<F, C> {
    /// The number of the step's node.
    pub(crate) step: usize,
    pub(crate) name: F,
    key: Vec<u8>,
    value: Vec<u8>,
    codec: PhantomData<fn() -> C>,
}

impl<F, C> SinkOf<F, C> {
    pub(crate) fn new(step: usize, name: F) -> Self {
        Self { step, name, key: Vec::new(), value: Vec::new(), codec: PhantomData }
    }
}

impl<K, V, N, F, C> Process<K, V> for SinkOf<F, C>
where
    K: RecordKey,
    V: Data,
    N: AsRef<str>,
    F: Fn(&Record<K, V>) -> N,
    C: Codec<V>,
{
    fn process(&mut self, ctx: &mut Context, record: Record<K, V>) -> Result<()> {
        let name = (self.name)(&record);
        let name = name.as_ref();
        let output = match ctx.named(name)? {
            Named::Output(output) => output,
            Named::Refused(NameFault::Invalid(error)) => {
                return refuse(ctx, self.step, error, &record);
            }
            Named::Refused(NameFault::Reason(reason)) => {
                let (step, at) = (ctx.step_name(self.step), ctx.position());
                let error = Error::Refused { step, record: at, reason };
                return refuse(ctx, self.step, error, &record);
            }
        };
        self.key.clear();
        self.value.clear();
        let keyed = record.key.as_ref().is_some_and(|key| key.encode(&mut self.key));
        if let Some(value) = &record.value {
            C::encode(value, &mut self.value)
                .map_err(|e| Error::Encode { topic: name.to_owned(), reason: e.to_string() })?;
        }
        ctx.counters.records_out += 1;
        ctx.emit(
            output,
            keyed.then(|| K::partition_bytes(&self.key)),
            record.timestamp,
            keyed.then_some(&self.key),
            record.value.is_some().then_some(&self.value),
            &record.headers,
        )
    }
}
