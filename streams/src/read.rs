//! Reads a topic again, typed, from any offset or time, whether or not a job is running on it.
//!
//! ```text
//!   Log::open(dir)?.read(CLICKS).from(ago(hours(48))).until(At::End)
//!                       |--- in a `for`: an iterator of Result<LogRecord>
//!                       `--- .stream():  a futures::Stream of the same, fed by a thread
//! ```
//!
//! Why a reader apart from jobs: a question that is asked once wants a loop, no group and no state.
//!
//! Invariants
//! * only committed records, merged over the partitions by (timestamp, partition).
//! * without `until` the reading ends where the topic ended when it began.
//! * a record that does not decode is an item like any other: the reading goes on behind it. Any other
//!   error is the last item.
//! * nothing is created, and the log is owned only for moments, and only where nobody has it open.

use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::task::{Context, Poll};

use futures::Stream;
use futures::task::AtomicWaker;

use crate::at::At;
use crate::broker::{Merged, Stretches, View, find_topic, locate};
use crate::codec::{Codec, Data};
use crate::dsl::Topic;
use crate::error::{Error, Result};
use crate::key::RecordKey;
use crate::operator::{evidence, short_name};
use crate::record::{Headers, RawRecord};

/// How many records a stream keeps ready.
const STREAM_RECORDS: usize = 1_024;

/// The log of a directory, to be read.
///
/// ```
/// use streams::prelude::*;
/// # use core_log::{BatchBuilder, NO_HEADERS, TopicSettings};
///
/// const VISITS: Topic<String, u64> = topic("visits");
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let log = core_log::Log::open(dir.path())?;
/// # let visits = log.create_topic("visits", TopicSettings::default())?;
/// # let mut batch = BatchBuilder::new();
/// # for (time, value) in [(1_000, "7"), (2_000, "oops"), (3_000, "9")] {
/// #     batch.push(time, Some(b"ana"), Some(value.as_bytes()), NO_HEADERS)?;
/// # }
/// # log.producer(Durability::Sync)?.append(&visits, 0, &mut batch)?;
/// # log.close()?;
/// let mut sum = 0;
/// let mut wrong = Vec::new();
/// for visit in Log::open(dir.path())?.read(VISITS).from(At::Time(1_000.into())).until(At::End) {
///     match visit {
///         Ok(visit) => sum += visit.value.unwrap_or_default(),
///         Err(error) => wrong.push(error.to_string()),
///     }
/// }
/// assert_eq!(sum, 7 + 9);
/// assert_eq!(wrong, ["visits-0@1 does not decode as u64: expected value at line 1 column 1"]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Log {
    dir: PathBuf,
}

impl Log {
    /// The log in `dir`, which must be there. A job may be running on it, or start later.
    ///
    /// # Errors
    ///
    /// S016: no log is there; S006: a process has it open that does not answer; S013 to S015.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref().to_owned();
        View::of(&dir).topics()?;
        Ok(Self { dir })
    }

    /// Reads a topic; all of it, unless [`from`](Reading::from) and [`until`](Reading::until) say
    /// otherwise.
    pub fn read<K: RecordKey, V: Data, C: Codec<V>>(
        &self,
        topic: Topic<K, V, C>,
    ) -> Reading<K, V, C> {
        Reading { dir: self.dir.clone(), topic, from: At::Start, until: At::End }
    }
}

/// A record as it lies in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord<K, V> {
    /// The topic.
    pub topic: &'static str,
    /// The partition.
    pub partition: u32,
    /// The record's number in its partition.
    pub offset: i64,
    /// Its timestamp in the log, in milliseconds since 1970.
    pub timestamp: i64,
    /// The key; `None` is null.
    pub key: Option<K>,
    /// The value; `None` is null.
    pub value: Option<V>,
    /// The headers.
    pub headers: Headers,
}

/// A topic to be read, and from where to where: goes into a `for`, or becomes a
/// [`stream`](Reading::stream).
#[must_use = "a reading does nothing until it is iterated"]
pub struct Reading<K, V, C> {
    dir: PathBuf,
    topic: Topic<K, V, C>,
    from: At,
    until: At,
}

impl<K: RecordKey, V: Data, C: Codec<V>> Reading<K, V, C> {
    /// Begins here; default [`At::Start`]. An offset behind the end of all partitions is S032, a
    /// beginning that retention has removed S007: they are the first and only item.
    pub fn from(mut self, from: impl Into<At>) -> Self {
        self.from = from.into();
        self
    }

    /// Ends in front of this place; default [`At::End`], the end as it is when the reading begins.
    pub fn until(mut self, until: impl Into<At>) -> Self {
        self.until = until.into();
        self
    }

    /// The same as a stream, for async programs. A thread reads ahead; it ends with the stream.
    ///
    /// ```
    /// # use futures::Stream;
    /// use streams::prelude::*;
    ///
    /// const VISITS: Topic<String, u64> = topic("visits");
    ///
    /// fn visits(log: &Log) -> streams::ReadStream<String, u64> {
    ///     log.read(VISITS).from(ago(hours(48))).stream()
    /// }
    /// # let dir = tempfile::tempdir()?;
    /// # let log = core_log::Log::open(dir.path())?;
    /// # log.create_topic("visits", core_log::TopicSettings::default())?;
    /// # log.close()?;
    /// # use std::future::poll_fn;
    /// # let read = Log::open(dir.path())?;
    /// # let mut visits = Box::pin(visits(&read));
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # assert!(runtime.block_on(poll_fn(|cx| visits.as_mut().poll_next(cx))).is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "a stream does nothing until it is polled"]
    pub fn stream(self) -> ReadStream<K, V> {
        let (give, items) = sync_channel(STREAM_RECORDS);
        let waker = Arc::new(AtomicWaker::new());
        let wakes = Wakes { give: Some(give), waker: Arc::clone(&waker) };
        let name = format!("read-{}", self.topic.name());
        let spawned = std::thread::Builder::new().name(name).spawn(move || {
            for item in self {
                if !wakes.hand(item) {
                    return;
                }
            }
        });
        let refused =
            spawned.err().map(|source| Error::System { what: "a reading thread", source });
        ReadStream { items, waker, refused }
    }
}

impl<K: RecordKey, V: Data, C: Codec<V>> IntoIterator for Reading<K, V, C> {
    type Item = Result<LogRecord<K, V>>;
    type IntoIter = LogRecords<K, V, C>;

    fn into_iter(self) -> Self::IntoIter {
        LogRecords { topic: self.topic, state: State::Asked(self), types: PhantomData }
    }
}

enum State<K, V, C> {
    /// Nothing was looked up yet.
    Asked(Reading<K, V, C>),
    Open(Merged),
    Ended,
}

/// The records of a topic, one by one.
pub struct LogRecords<K, V, C> {
    topic: Topic<K, V, C>,
    state: State<K, V, C>,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: RecordKey, V: Data, C: Codec<V>> LogRecords<K, V, C> {
    fn open(reading: &Reading<K, V, C>) -> Result<Merged> {
        let mut view = View::of(&reading.dir);
        let (from, until, now_ms) = (&reading.from, &reading.until, View::now_ms());
        let (topic, located) = view.with(|log| {
            let topic = find_topic(log, &reading.dir, reading.topic.name())?;
            let located = locate(log, &topic, from, until, now_ms)?;
            Ok((topic, located))
        })?;
        if let (Some(error), At::Offset(_)) = (located.past, from) {
            return Err(error);
        }
        let parts =
            (0..).zip(located.spans).map(|(partition, span)| (topic.clone(), partition, span));
        Ok(Merged::new(Stretches::new(view, parts)))
    }
}

impl<K: RecordKey, V: Data, C: Codec<V>> Iterator for LogRecords<K, V, C> {
    type Item = Result<LogRecord<K, V>>;

    fn next(&mut self) -> Option<Self::Item> {
        if let State::Asked(reading) = &self.state {
            match Self::open(reading) {
                Ok(merged) => self.state = State::Open(merged),
                Err(error) => {
                    self.state = State::Ended;
                    return Some(Err(error));
                }
            }
        }
        let State::Open(merged) = &mut self.state else { return None };
        let topic = self.topic;
        match merged.next(|partition, raw| decode(topic, partition, raw)) {
            Ok(Some(item)) => Some(item),
            Ok(None) => {
                self.state = State::Ended;
                None
            }
            Err(error) => {
                self.state = State::Ended;
                Some(Err(error))
            }
        }
    }
}

fn decode<K: RecordKey, V: Data, C: Codec<V>>(
    topic: Topic<K, V, C>,
    partition: u32,
    raw: &RawRecord<'_>,
) -> Result<LogRecord<K, V>> {
    let refuse = |kind: &'static str, reason: String, bytes: &[u8]| Error::Decode {
        topic: topic.name().to_owned(),
        partition,
        offset: raw.offset,
        kind,
        reason,
        evidence: evidence(bytes),
    };
    let key = K::decode(raw.key)
        .map_err(|e| refuse(short_name::<K>(), e.to_string(), raw.key.unwrap_or_default()))?;
    let value = raw
        .value
        .map(|bytes| C::decode(bytes).map_err(|e| refuse(short_name::<V>(), e.to_string(), bytes)));
    Ok(LogRecord {
        topic: topic.name(),
        partition,
        offset: raw.offset,
        timestamp: raw.timestamp,
        key,
        value: value.transpose()?,
        headers: raw.headers.cloned().unwrap_or_default(),
    })
}

/// The side of the thread: wakes the task whenever there is something new, and at the end.
struct Wakes<T> {
    give: Option<SyncSender<T>>,
    waker: Arc<AtomicWaker>,
}

impl<T> Wakes<T> {
    /// Whether the stream still takes items.
    fn hand(&self, item: T) -> bool {
        let taken = self.give.as_ref().is_some_and(|give| give.send(item).is_ok());
        self.waker.wake();
        taken
    }
}

impl<T> Drop for Wakes<T> {
    fn drop(&mut self) {
        // Must be BEFORE the task is woken, or else it would find the channel empty but open.
        self.give = None;
        self.waker.wake();
    }
}

/// The records of a topic as a [`futures::Stream`]. Polling it never blocks.
#[must_use = "a stream does nothing until it is polled"]
pub struct ReadStream<K, V> {
    items: Receiver<Result<LogRecord<K, V>>>,
    waker: Arc<AtomicWaker>,
    refused: Option<Error>,
}

impl<K: RecordKey, V: Data> Stream for ReadStream<K, V> {
    type Item = Result<LogRecord<K, V>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(error) = self.refused.take() {
            return Poll::Ready(Some(Err(error)));
        }
        // Must be BEFORE the channel is looked at, or else what comes in between would wake nobody.
        self.waker.register(cx.waker());
        match self.items.try_recv() {
            Ok(item) => Poll::Ready(Some(item)),
            Err(TryRecvError::Empty) => Poll::Pending,
            Err(TryRecvError::Disconnected) => Poll::Ready(None),
        }
    }
}

impl<K, V> Unpin for ReadStream<K, V> {}
