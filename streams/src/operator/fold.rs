//! How records are put into a window, and two parts of one into one. Also where late records go.

use serde::{Deserialize, Serialize};

use super::aggregate::Fold;
use crate::error::Result;
use crate::processor::Context;
use crate::record::Headers;
use crate::time::Stamp;

/// Adds what a later part of a window has to what an earlier part has.
pub(crate) type Merge<A> = Box<dyn Fn(&mut A, A)>;

/// How a window becomes a value.
pub(crate) struct Folds<V, A> {
    pub(crate) add: Fold<V, A>,
    /// Only sessions merge.
    pub(crate) merge: Option<Merge<A>>,
}

/// Where a record goes that came after a window of its own had closed: encoded key, value, times.
pub(crate) type LateTo<V> = Box<dyn FnMut(&mut Context, &[u8], V, Stamp) -> Result<()>>;

/// A value with the headers of its record, for a step that may have to pass on the whole record. Kept, it is
/// the value alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct WithHeaders<V> {
    pub(crate) value: V,
    #[serde(skip)]
    pub(crate) headers: Headers,
}
