//! The suite of all back ends on RocksDB, with crashes as a killed process leaves them.

use tempfile::TempDir;

use super::super::conformance::{self, Crashable};
use super::super::{CacheOptions, Checkpoint, Flusher, RowCache};
use super::*;

const SMALL: RocksBudget =
    RocksBudget { block_cache_bytes: 1024 * 1024, write_buffer_bytes: 256 * 1024 };

struct OnDisk {
    dir: TempDir,
    backend: RocksBackend,
}

impl OnDisk {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let backend = RocksBackend::open(dir.path(), &SMALL).expect("opens");
        OnDisk { dir, backend }
    }
}

impl Crashable for OnDisk {
    fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(self.backend.clone())
    }

    fn crash(&mut self) {
        let image = tempfile::tempdir().expect("a directory");
        killed::image(self.dir.path(), image.path()).expect("copies");
        self.backend = RocksBackend::open(image.path(), &SMALL).expect("opens what is left");
        self.dir = image;
    }
}

fn name(text: &str) -> StoreName {
    StoreName::new(text).expect("a good name")
}

#[test]
fn the_back_end_on_disk_conforms() {
    conformance::run(0..3, |_seed| Box::new(OnDisk::new()));
}

#[test]
fn a_second_process_on_the_directory_is_refused() {
    let harness = OnDisk::new();
    let second = RocksBackend::open(harness.dir.path(), &SMALL);
    assert!(matches!(second, Err(StoreError::Io { .. })), "{second:?}");
}

#[test]
fn a_closed_database_has_every_row() {
    let dir = tempfile::tempdir().expect("a directory");
    let backend = RocksBackend::open(dir.path(), &SMALL).expect("opens");
    let stores = backend.open(&[name("counts")]).expect("opens");
    let key = Bytes::from_static(b"k");
    stores[0].write(&[(key.clone(), Some(key.clone()))]).expect("writes");
    stores[0].sync().expect("syncs");
    drop((stores, backend));
    let backend = RocksBackend::open(dir.path(), &SMALL).expect("opens again");
    let stores = backend.open(&[name("counts")]).expect("opens");
    assert_eq!(stores[0].get(b"k").expect("gets").as_deref(), Some(&b"k"[..]));
}

#[test]
fn a_row_cache_survives_a_crash_with_the_rows_of_its_checkpoint() {
    let mut harness = OnDisk::new();
    let checkpoint =
        |offset| Checkpoint { log_id: [1; 16], topic_id: [2; 16], leader_epoch: 0, offset };
    let options = CacheOptions { dirty_rows_max: 100, ..CacheOptions::default() };
    let open = |harness: &OnDisk| {
        let stores = harness.backend.open(&[name("counts")]).expect("opens");
        let flusher = Flusher::thread().expect("a thread");
        RowCache::open(Arc::clone(&stores[0]), 7, options, flusher)
    };
    let mut cache = open(&harness);
    for offset in 1..=500i64 {
        let value = Bytes::copy_from_slice(&offset.to_be_bytes());
        let own = Bytes::from(format!("\x01{:03}", offset % 250));
        let rows = vec![(own, Some(value.clone())), (Bytes::from_static(b"\x01last"), Some(value))];
        cache.commit(rows, checkpoint(offset), offset);
        cache.step(offset).expect("steps");
        if offset == 250 {
            cache.flush_all().expect("flushes");
        }
    }
    drop(cache);
    harness.crash();
    let mut cache = open(&harness);
    let reached = cache.checkpoint().expect("reads").expect("was synced once");
    assert!((250..=500).contains(&reached.offset), "{reached:?}");
    let last = cache.get(b"\x01last").expect("gets").expect("is there");
    assert_eq!(last[..], reached.offset.to_be_bytes());
    let mut rows = 0;
    let mut visit = |_: &[u8], _: &[u8]| {
        rows += 1;
        ControlFlow::Continue(())
    };
    cache.scan(b"\x01", b"\x02", &mut visit).expect("scans");
    assert_eq!(rows, 251);
}
