//! Stores of a running job, read from any thread: get, range, prefix, windows.
//!
//! ```
//! use streams::prelude::*;
//!
//! const VISITS: Topic<String, u64> = topic("visits");
//! const TOTALS: Topic<String, u64> = topic("totals");
//!
//! fn topology(t: &mut Topology) {
//!     t.stream(VISITS).count("visits-per-page").to(TOTALS);
//! }
//!
//! # let dir = tempfile::tempdir()?;
//! # let log = core_log::Log::open(dir.path())?;
//! # log.create_topic("visits", core_log::TopicSettings::with_partitions(2))?;
//! # log.close()?;
//! # drop(log);
//! let job = App::new("visits", topology).log(dir.path()).start()?;
//! let counts = job.store("visits-per-page")?;
//! let home: Option<u64> = counts.get(&"/home".to_string())?;
//! assert_eq!(home, None);
//! for row in counts.prefix("/shop/") {
//!     let (page, visits): (String, u64) = row?;
//!     println!("{page} {visits}");
//! }
//! # job.stop();
//! # job.wait()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Why not a lock on the store: its worker owns it. A question is passed to all workers between the same
//! two commits, and each answers from what it has committed.
//!
//! Invariants
//! * only committed rows are seen, and those of one answer belong to the same commit.
//! * a long range is fetched a page at a time: each page is of one commit, and never of an earlier one
//!   than the page before.

mod catalog;
mod inspector;
mod questions;
mod status;

pub(crate) use catalog::Catalog;
pub(crate) use inspector::Inspector;
pub(crate) use questions::{
    Answer, Asking, PageLine, Question, RowLine, RowsWanted, StoreLine, What, WindowTime, answer,
};
pub(crate) use status::{Live, SourceLine, Status, WindowLine, gather};

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;

use crate::broker::partition_for;
use crate::codec::{Bincode, Codec, Data};
use crate::error::{Error, Result};
use crate::ids::StoreName;
use crate::key::{Key, RecordKey, WINDOW_BYTES, Windowed, windowed_key};
use crate::runtime::Control;
use crate::runtime::query::{FoundRow, Only, ROWS_MAX, Select, Selection, page};
use crate::store::StoreError;

/// Rows that a page of an iterator has at most.
const PAGE_ROWS: usize = 1_000;

/// The committed rows of one store of a running job; see [`Handle::store`](crate::Handle::store).
#[must_use = "a store does nothing until it is asked"]
pub struct Store<K, V> {
    name: StoreName,
    control: Arc<Control>,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for Store<K, V> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), control: Arc::clone(&self.control), types: PhantomData }
    }
}

impl<K, V> std::fmt::Debug for Store<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.name)
    }
}

/// A key that begins with text, so that rows can be found by its first letters.
#[diagnostic::on_unimplemented(
    message = "keys of type `{Self}` do not begin with text",
    label = "has no prefix",
    note = "`prefix` wants keys of type String, Windowed<String>, or a tuple that begins with a String; else use `range`"
)]
pub trait TextKey: RecordKey {
    /// Whether what follows the text are the two times of a window.
    const IS_WINDOWED: bool;

    /// The bytes that keys which begin with this text begin with.
    #[must_use]
    fn first_bytes(text: &str) -> Vec<u8> {
        text.as_bytes().to_vec()
    }
}

impl TextKey for String {
    const IS_WINDOWED: bool = false;
}

impl TextKey for Windowed<String> {
    const IS_WINDOWED: bool = true;
}

impl<B: Key> TextKey for (String, B) {
    const IS_WINDOWED: bool = false;

    fn first_bytes(text: &str) -> Vec<u8> {
        member_prefix(text)
    }
}

impl<B: Key, C: Key> TextKey for (String, B, C) {
    const IS_WINDOWED: bool = false;

    fn first_bytes(text: &str) -> Vec<u8> {
        member_prefix(text)
    }
}

/// The member form of a text without its end.
pub(crate) fn member_prefix(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    text.to_owned().encode_member(&mut bytes);
    bytes.truncate(bytes.len().saturating_sub(2));
    bytes
}

impl<K: RecordKey, V: Data> Store<K, V> {
    pub(crate) fn new(name: StoreName, control: Arc<Control>) -> Self {
        Self { name, control, types: PhantomData }
    }

    /// The row of a key. Where several partitions have one, because the topic that the store is kept
    /// over does not place keys as Kafka does, it is that of the partition that Kafka would choose, or
    /// of the first.
    ///
    /// # Errors
    ///
    /// * S034: the job is not running, or does not answer in time.
    /// * S026: the store failed.
    pub fn get(&self, key: &K) -> Result<Option<V>> {
        let mut bytes = Vec::new();
        if !key.encode(&mut bytes) {
            return Ok(None);
        }
        let selection = self.selection(Select::Key(bytes.clone()));
        let found = page(&self.control.desk, &selection)?;
        let home = partition_for(K::partition_bytes(&bytes), found.partitions.max(1));
        let own = found.rows.iter().find(|row| row.partition == home);
        own.or_else(|| found.rows.front()).map(|row| decode_value(&self.name, row)).transpose()
    }

    /// The rows whose keys lie in a range, in the order of their bytes. That is the order of the keys,
    /// for every type but a window of text: there rows of a longer text may lie between those of a
    /// shorter one; use [`fetch`](Store::fetch) and [`prefix`](Store::prefix).
    pub fn range(&self, keys: impl RangeBounds<K>) -> Rows<K, V> {
        let bytes = |key: &K, is_after: bool| {
            let mut bytes = Vec::new();
            key.encode(&mut bytes);
            bytes.extend(is_after.then_some(0));
            bytes
        };
        let from = match keys.start_bound() {
            Bound::Included(key) => bytes(key, false),
            Bound::Excluded(key) => bytes(key, true),
            Bound::Unbounded => Vec::new(),
        };
        let to = match keys.end_bound() {
            Bound::Included(key) => Some(bytes(key, true)),
            Bound::Excluded(key) => Some(bytes(key, false)),
            Bound::Unbounded => None,
        };
        self.rows(Select::Range { from, to, only: Only::All })
    }

    /// The rows whose keys begin with this text.
    pub fn prefix(&self, text: &str) -> Rows<K, V>
    where
        K: TextKey,
    {
        self.rows(select_prefix(K::first_bytes(text), K::IS_WINDOWED))
    }

    fn rows(&self, select: Select) -> Rows<K, V> {
        Rows {
            store: self.clone(),
            selection: Selection { limit: PAGE_ROWS, ..self.selection(select) },
            page: VecDeque::new(),
            is_last: false,
        }
    }

    fn selection(&self, select: Select) -> Selection {
        Selection { store: self.name.clone(), select, after: None, limit: ROWS_MAX }
    }
}

impl<K: Key, V: Data> Store<Windowed<K>, V> {
    /// The windows of one key that start in a stretch of time (milliseconds since 1970, the end
    /// exclusive), in the order of time.
    pub fn fetch(&self, key: &K, starts: Range<i64>) -> Rows<Windowed<K>, V> {
        let mut inner = Vec::new();
        key.encode(&mut inner);
        self.rows(select_windows(inner, starts))
    }
}

/// Keys that begin with these bytes.
pub(crate) fn select_prefix(from: Vec<u8>, is_windowed: bool) -> Select {
    let only = if is_windowed { Only::WindowsOfLength(from.len()) } else { Only::All };
    let to = behind(&from);
    Select::Range { from, to, only }
}

/// The first bytes behind all that begin with these; `None` where there are none.
fn behind(prefix: &[u8]) -> Option<Vec<u8>> {
    let end = prefix.iter().rposition(|&byte| byte < u8::MAX)?;
    let mut bytes = prefix[..=end].to_vec();
    bytes[end] += 1;
    Some(bytes)
}

/// The windows of an encoded key that start in a stretch of time.
pub(crate) fn select_windows(inner: Vec<u8>, starts: Range<i64>) -> Select {
    let bound = |start| {
        let mut bytes = Vec::new();
        windowed_key(&inner, start, i64::MIN, &mut bytes);
        bytes
    };
    let (from, to) = (bound(starts.start), bound(starts.end));
    Select::Range { from, to: Some(to), only: Only::WindowsOf(inner) }
}

/// The windows of the encoded keys in a range.
///
/// The rows of a key that another one begins with may lie behind those of the longer one, as the bytes of
/// their times follow: so the range of bytes ends behind all rows of the shortest such key.
pub(crate) fn select_windows_between(from: Vec<u8>, to: Option<Vec<u8>>) -> Select {
    let end = to.as_ref().map(|to| {
        let mut beginnings = (0..to.len()).filter_map(|length| to.get(..length));
        let behind = |key: &[u8]| [key, &[u8::MAX; WINDOW_BYTES + 1]].concat();
        let behind_beginning = beginnings.find(|&key| key >= from.as_slice()).map(behind);
        behind_beginning.map_or_else(|| to.clone(), |behind| behind.max(to.clone()))
    });
    Select::Range { from: from.clone(), to: end, only: Only::WindowsBetween(from, to) }
}

fn decode_value<V: Data>(store: &StoreName, row: &FoundRow) -> Result<V> {
    Bincode::decode(&row.value).map_err(|e| {
        let reason = format!("the row of key {}: {e}", row.key.escape_ascii());
        StoreError::Corrupt { store: store.clone(), reason }.into()
    })
}

fn decode_key<K: RecordKey>(store: &StoreName, row: &FoundRow) -> Result<K> {
    let corrupt = |what: String| -> Error {
        let reason = format!("the key {} of a row: {what}", row.key.escape_ascii());
        StoreError::Corrupt { store: store.clone(), reason }.into()
    };
    let key = K::decode(Some(&row.key)).map_err(|e| corrupt(e.to_string()))?;
    key.ok_or_else(|| corrupt("it is null".to_owned()))
}

/// Rows of a store, fetched a page at a time. After an error there are no more.
#[must_use = "rows are fetched when they are asked for"]
pub struct Rows<K, V> {
    store: Store<K, V>,
    selection: Selection,
    page: VecDeque<FoundRow>,
    is_last: bool,
}

impl<K, V> std::fmt::Debug for Rows<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rows({:?})", self.selection)
    }
}

impl<K: RecordKey, V: Data> Rows<K, V> {
    fn next_row(&mut self) -> Result<Option<(K, V)>> {
        while self.page.is_empty() && !self.is_last {
            let page = page(&self.store.control.desk, &self.selection)?;
            self.page = page.rows;
            self.is_last = page.next.is_none();
            self.selection.after = page.next.or_else(|| self.selection.after.take());
        }
        let Some(row) = self.page.pop_front() else { return Ok(None) };
        let name = &self.store.name;
        Ok(Some((decode_key(name, &row)?, decode_value(name, &row)?)))
    }
}

impl<K: RecordKey, V: Data> Iterator for Rows<K, V> {
    type Item = Result<(K, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.next_row().transpose();
        if let Some(Err(_)) = row {
            self.page.clear();
            self.is_last = true;
        }
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys of which some begin others, with windows whose bytes fall before and behind what follows.
    #[test]
    fn a_range_of_windows_holds_exactly_those_of_its_keys() {
        let keys = ["", "/", "/a", "/a\u{e9}", "/home", "/home?x", "/homf", "b"].map(str::as_bytes);
        let rows = || keys.into_iter().flat_map(|k| [i64::MIN, -1, 0, i64::MAX].map(|t| (k, t)));
        let bounds = || std::iter::once(None).chain(keys.map(Some));
        for (from, to) in keys.iter().flat_map(|from| bounds().map(move |to| (*from, to))) {
            let select = select_windows_between(from.to_vec(), to.map(<[u8]>::to_vec));
            let Select::Range { from: first, to: end, only } = select else { panic!("a range") };
            for (key, start) in rows() {
                let mut row = Vec::new();
                windowed_key(key, start, i64::MAX, &mut row);
                let is_scanned = row >= first && end.as_ref().is_none_or(|end| row < *end);
                let is_wanted = key >= from && to.is_none_or(|to| key < to);
                assert_eq!(is_scanned && only.takes(&row), is_wanted, "{from:?} {to:?} {row:?}");
            }
        }
    }

    #[test]
    fn a_range_of_windows_ends_at_its_bound_where_no_key_begins_it() {
        let end = |from: &str, to: &str| match select_windows_between(from.into(), Some(to.into()))
        {
            Select::Range { to, .. } => to.unwrap(),
            Select::Key(_) => panic!("a range"),
        };
        assert_eq!(end("/a", "/c"), b"/c");
        assert!(end("/home", "/home?").starts_with(b"/home\xff"));
    }
}
