//! A consumer as a stream: the edge to asynchronous programs.
//!
//! Why no thread: a task that waits leaves its waker with the log's counter of changes; whoever appends
//! wakes it. Any executor will do.
//!
//! Invariants
//! * The counter is read before the log is looked at, and the waker is left only if it has not moved: no
//!   wake-up is lost.
//! * The stream never ends; after an error it may be polled again.
//! * While it waits it is not silent. It is woken when it has waited for half of `max.poll.interval.ms`, and
//!   from then on has all of that to come by: a task that was dropped keeps no partition from others.
//! * When the consumer is dropped its waker is gone, and it leaves its group.
//!
//! Reading from the disk happens inside `poll_next`, without a thread in between.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;

use super::consumer::Consumer;
use super::polled::Polled;
use crate::error::Result;

/// Each item is what a poll hands out, and never empty.
///
/// ```
/// use core_log::{BatchBuilder, ConsumerSettings, Durability, Log, NO_HEADERS, TopicSettings};
/// use futures::{FutureExt, StreamExt};
///
/// let dir = tempfile::tempdir()?;
/// let log = Log::open(dir.path())?;
/// let clicks = log.create_topic("clicks", TopicSettings::default())?;
/// let settings = ConsumerSettings::from_kafka([("auto.offset.reset", "earliest")])?;
/// let mut consumer = log.group("billing")?.consumer(settings);
/// consumer.subscribe(&["clicks"])?;
/// assert!(consumer.next().now_or_never().is_none(), "nothing is there yet");
///
/// let mut batch = BatchBuilder::new();
/// batch.push(0, None, Some(b"page"), NO_HEADERS)?;
/// log.producer(Durability::Sync)?.append(&clicks, 0, &mut batch)?;
/// // In a task: consumer.next().await, and commit_async()?.await.
/// let polled = consumer.next().now_or_never().flatten().expect("one record was written")?;
/// assert_eq!(polled.count(), 1);
/// consumer.commit_async()?.wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl Stream for Consumer {
    type Item = Result<Polled>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let consumer = &mut *self;
        let log = consumer.log.clone();
        let changes = log.inner.changes();
        let place = *consumer.place.get_or_insert_with(|| changes.place());
        loop {
            let seen = changes.seen();
            let polled = consumer.step();
            if polled.as_ref().map_or(true, |polled| !polled.is_empty()) {
                consumer.end_call();
                return Poll::Ready(Some(polled));
            }
            consumer.ask_to_be_woken();
            if changes.wake(place, seen, context.waker()) {
                consumer.begin_wait();
                return Poll::Pending;
            }
        }
    }
}
