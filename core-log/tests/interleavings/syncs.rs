//! Producers that share the syncs of one partition, of which one fails.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use core_log::storage::Storage;
use core_log::storage::careless::{CarelessStorage, Neglect};
use core_log::storage::memory::{At, Call, Effect, Fault, Keep, MemoryStorage};
use core_log::{Durability, ProducerSettings, Record};
use shuttle::thread;

use super::{batch, explore, options, read, small};

/// What is acknowledged is on the disk at that moment, whoever of a group has synced, and although one sync
/// fails: seen on what a power cut would leave then.
fn acknowledge(neglect: Option<Neglect>) {
    explore(move || {
        let storage = MemoryStorage::new(1);
        let log = match neglect {
            Some(neglect) => options(CarelessStorage { inner: storage.clone(), neglect }),
            None => options(storage.clone()),
        };
        let log = log.open("/data").unwrap();
        let topic = small(&log, "t");
        storage.inject(Fault::once(At::Path(Call::Sync, "/t-0/".to_owned()), Effect::LoseSync));
        let settings = ProducerSettings { linger: Duration::ZERO, ..ProducerSettings::default() };
        let shared = Arc::new(log.batching_producer(settings).unwrap());
        let must_be_there = |storage: &MemoryStorage, value: &str| {
            let (image, dir) = (storage.crash_image(Keep::None), Path::new("/data/t-0"));
            let names = image.list(dir).unwrap();
            let mut logs = names.iter().filter(|name| name.ends_with(".log"));
            let holds = |name: &String| {
                let bytes = image.read_file(&dir.join(name)).unwrap();
                bytes.windows(value.len()).any(|window| window == value.as_bytes())
            };
            assert!(logs.any(holds), "{value} was acknowledged and is not on the disk");
        };
        let send = |name: &'static str| {
            let (shared, topic, storage) = (Arc::clone(&shared), topic.clone(), storage.clone());
            thread::spawn(move || {
                for n in 0..2 {
                    let value = format!("{name}-{n}");
                    let record = Record { partition: Some(0), ..Record::new(value.as_bytes()) };
                    shared.send(&topic, record).unwrap().wait().unwrap();
                    must_be_there(&storage, &value);
                }
            })
        };
        let append = |name: &'static str| {
            let (log, topic, storage) = (log.clone(), topic.clone(), storage.clone());
            thread::spawn(move || {
                let mut tries = (0..4).map(|_| log.producer(Durability::Sync));
                let mut producer = tries.find_map(Result::ok).expect("one fault, four tries");
                for n in 0..2 {
                    let value = format!("{name}-{n}");
                    let mut tries = (0..4).map(|_| producer.append(&topic, 0, &mut batch(&value)));
                    tries.find_map(Result::ok).expect("one fault, four tries");
                    must_be_there(&storage, &value);
                }
            })
        };
        let threads = [send("a"), send("b"), append("c"), append("d")];
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let found = read(&log, &topic, 0);
        let mut values: Vec<_> = found.values().map(String::as_str).collect();
        values.sort_unstable();
        assert_eq!(values, ["a-0", "a-1", "b-0", "b-1", "c-0", "c-1", "d-0", "d-1"]);
    });
}

#[test]
fn nothing_is_acknowledged_that_is_not_synced() {
    acknowledge(None);
}

#[test]
fn a_failed_sync_that_is_tried_again_is_found() {
    let careless = || acknowledge(Some(Neglect::FailedSync));
    assert!(std::panic::catch_unwind(careless).is_err(), "no record was lost");
}
