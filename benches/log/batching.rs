//! Single records through a batching producer: how many it takes, and 64 senders that wait for the disk.

use std::time::Duration;

use core_log::{BatchingProducer, Durability, Log, ProducerSettings, Record, Topic};

use crate::cost::{Cost, measured};

fn producer(log: &Log, durability: Durability) -> BatchingProducer {
    let linger = if durability == Durability::Sync { 0 } else { 5 };
    let linger = Duration::from_millis(linger);
    let settings = ProducerSettings { durability, linger, ..ProducerSettings::default() };
    log.batching_producer(settings).expect("a producer")
}

/// Sends records of 100 bytes one by one, without waiting for each.
pub(crate) fn send_all(log: &Log, topic: &Topic, records: u64) -> Cost {
    let producer = producer(log, Durability::Os);
    let value = [7; 100];
    measured(|| {
        for _ in 0..records {
            producer.send(topic, Record::new(&value)).expect("room");
        }
        producer.flush().expect("all are written");
    })
}

/// So many threads that each wait for the disk after each record.
pub(crate) fn threads(log: &Log, topic: &Topic, senders: usize, each: u64) -> Cost {
    let producer = producer(log, Durability::Sync);
    measured(|| {
        std::thread::scope(|scope| {
            for _ in 0..senders {
                scope.spawn(|| {
                    for _ in 0..each {
                        let sent = producer.send(topic, Record::new(&[7; 100])).expect("room");
                        sent.wait().expect("it is written");
                    }
                });
            }
        });
    })
}

/// So many tasks on one thread that each await the disk after each record.
pub(crate) fn tasks(log: &Log, topic: &Topic, senders: usize, each: u64) -> Cost {
    let producer = producer(log, Durability::Sync);
    let task = async || {
        for _ in 0..each {
            let sent = producer.send_async(topic, Record::new(&[7; 100])).await.expect("taken");
            sent.await.expect("it is written");
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    measured(|| {
        runtime.block_on(futures::future::join_all((0..senders).map(|_| task())));
    })
}
