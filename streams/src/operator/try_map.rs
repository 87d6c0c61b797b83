//! Replaces the value, or refuses it: then the step's policy decides. A null value passes untouched.
//!
//! Invariants
//! * a value is cloned only where a refused one becomes a dead letter.
//! * what is refused reaches no step behind this one; its source clock has moved, as for a record that
//!   a filter drops.

use std::fmt::Display;

use crate::codec::{Bincode, Codec, Data, Json};
use crate::error::{Error, Result};
use crate::key::RecordKey;
use crate::letter::{LetterValue, cut};
use crate::processor::{Context, Next, Process, Record, Refused};

pub(crate) struct TryMap<K, V2, F> {
    /// The number of the step's node.
    pub(crate) step: usize,
    pub(crate) map: F,
    pub(crate) next: Next<K, V2>,
}

impl<K, V, V2, E, F> Process<K, V> for TryMap<K, V2, F>
where
    K: RecordKey,
    V: Data,
    E: Display,
    F: Fn(V) -> Result<V2, E>,
{
    fn process(&mut self, ctx: &mut Context, mut record: Record<K, V>) -> Result<()> {
        let Some(value) = record.value.take() else {
            return self.next.process(ctx, record.with_value(None));
        };
        let kept = ctx.keeps_refused(self.step).then(|| value.clone());
        match (self.map)(value) {
            Ok(value) => self.next.process(ctx, record.with_value(Some(value))),
            Err(why) => {
                let error = Error::Refused {
                    step: ctx.step_name(self.step),
                    record: ctx.position(),
                    reason: cut(&why.to_string()).to_owned(),
                };
                refuse(ctx, self.step, error, &record.with_value(kept))
            }
        }
    }
}

/// Hands a record that a step cannot take to the step's policy.
pub(super) fn refuse<K: RecordKey, V: Data>(
    ctx: &mut Context,
    step: usize,
    error: Error,
    record: &Record<K, V>,
) -> Result<()> {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    let keyed = record.key.as_ref().is_some_and(|k| k.encode(&mut key));
    let form = match &record.value {
        Some(kept) => encode(kept, &mut value)
            .map_err(|reason| Error::Encode { topic: "a dead letter".to_owned(), reason })?,
        None => LetterValue::Json,
    };
    let refused = Refused {
        key: keyed.then_some(&*key),
        value: record.value.is_some().then_some(&*value),
        form,
        timestamp: record.timestamp,
        headers: &record.headers,
    };
    ctx.refuse(step, error, &refused)
}

/// JSON, which a person can read; bincode for what has no form in JSON.
fn encode<V: Data>(value: &V, out: &mut Vec<u8>) -> Result<LetterValue, String> {
    if Json::encode(value, out).is_ok() {
        return Ok(LetterValue::Json);
    }
    Bincode::encode(value, out).map_err(|e| e.to_string())?;
    Ok(LetterValue::Bincode)
}
