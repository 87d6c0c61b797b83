//! Handles that outnumber the descriptors: nothing of that can be noticed but the count.

use std::sync::Barrier;

use super::*;
use crate::storage::memory::{At, Call, Effect, Fault, Keep, MemoryStorage};

const MAX: usize = 4;

fn pooled(memory: &MemoryStorage) -> PooledStorage {
    PooledStorage::new(Arc::new(memory.clone()), MAX)
}

fn path(n: usize) -> PathBuf {
    PathBuf::from(format!("/file-{n}"))
}

fn make(storage: &PooledStorage, n: usize) -> Arc<dyn File> {
    let file = storage.create(&path(n)).unwrap();
    file.write_all_at(&[u8::try_from(n).unwrap(); 8], 0).unwrap();
    file.sync().unwrap();
    file
}

fn first_byte(file: &Arc<dyn File>) -> usize {
    let mut byte = [0; 1];
    file.read_exact_at(&mut byte, 0).unwrap();
    byte[0].into()
}

#[test]
fn more_handles_than_descriptors_all_work() {
    let memory = MemoryStorage::new(1);
    let storage = pooled(&memory);
    let files: Vec<_> = (0..20).map(|n| make(&storage, n)).collect();
    assert!(memory.open_files() <= MAX, "{}", memory.open_files());
    for round in 0..3 {
        for (n, file) in files.iter().enumerate() {
            assert_eq!(first_byte(file), n, "round {round}");
            assert_eq!(file.len().unwrap(), 8);
        }
        assert!(memory.open_files() <= MAX);
    }
    drop(files);
    assert_eq!(memory.open_files(), 0);
    assert!(storage.pool.state.lock().by_path.is_empty());
    assert!(storage.pool.state.lock().ring.is_empty());
}

#[test]
fn what_is_used_again_and_again_keeps_its_descriptor() {
    let memory = MemoryStorage::new(1);
    let storage = pooled(&memory);
    let busy = make(&storage, 0);
    let others: Vec<_> = (1..40).map(|n| make(&storage, n)).collect();
    let before = memory.reads();
    for other in &others {
        first_byte(&busy);
        first_byte(other);
    }
    assert_eq!(memory.reads() - before, 2 * 39);
    let is_open = |n: usize| storage.pool.handles(&path(n))[0].file.read().is_some();
    assert!(is_open(0) && !is_open(1));
}

#[test]
fn a_file_that_was_not_synced_is_synced_before_it_is_closed() {
    let memory = MemoryStorage::new(1);
    let storage = pooled(&memory);
    storage.sync_dir(Path::new("/")).unwrap();
    let files: Vec<_> = (0..10)
        .map(|n| {
            let file = storage.create(&path(n)).unwrap();
            file.write_all_at(b"unsynced", 0).unwrap();
            file
        })
        .collect();
    storage.sync_dir(Path::new("/")).unwrap();
    assert!(memory.open_files() <= MAX);
    let image = memory.crash_image(Keep::None);
    let kept = (0..10).filter(|n| image.read_file(&path(*n)).unwrap() == b"unsynced").count();
    assert_eq!(kept, 10 - memory.open_files());
    drop(files);
}

#[test]
fn a_sync_that_fails_for_the_sake_of_others_is_told_to_the_writer() {
    let memory = MemoryStorage::new(1);
    let storage = pooled(&memory);
    let file = storage.create(&path(0)).unwrap();
    file.write_all_at(b"x", 0).unwrap();
    memory.inject(Fault::forever(At::Path(Call::Sync, "/file-0".to_owned()), Effect::LoseSync));
    let others: Vec<_> = (1..10)
        .map(|n| {
            let file = storage.create(&path(n)).unwrap();
            file.write_all_at(b"x", 0).unwrap();
            file
        })
        .collect();
    memory.clear_faults();
    assert!(file.sync().is_err(), "the page cache lies: a later sync must not succeed");
    assert!(file.write_all_at(b"y", 0).is_err());
    assert_eq!(first_byte(&file), usize::from(b'x'));
    drop(others);
}

#[test]
fn a_handle_outlives_the_name_of_its_file() {
    let memory = MemoryStorage::new(1);
    let storage = pooled(&memory);
    let files: Vec<_> = (0..10).map(|n| make(&storage, n)).collect();
    storage.remove_file(&path(0)).unwrap();
    storage.rename(&path(1), &path(2)).unwrap();
    drop(make(&storage, 0));
    for _ in 0..3 {
        for (n, file) in files.iter().enumerate() {
            assert_eq!(first_byte(file), n);
        }
    }
    // The one that was renamed is found by its new name.
    storage.rename(&path(2), &path(11)).unwrap();
    assert_eq!(first_byte(&files[1]), 1);
    assert!(memory.open_files() <= MAX + 2, "two have no name");
}

#[test]
fn threads_share_few_descriptors() {
    let memory = MemoryStorage::new(1);
    let storage = pooled(&memory);
    let files: Vec<_> = (0..16).map(|n| make(&storage, n)).collect();
    let start = Barrier::new(4);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (files, start) = (&files, &start);
            scope.spawn(move || {
                start.wait();
                for round in 0..500 {
                    let n = (round * 7 + thread * 5) % files.len();
                    assert_eq!(first_byte(&files[n]), n);
                    if n % 4 == thread {
                        files[n].write_all_at(&[u8::try_from(n).unwrap(); 8], 0).unwrap();
                        files[n].sync().unwrap();
                    }
                }
            });
        }
    });
    assert!(memory.open_files() <= MAX + 4, "{}", memory.open_files());
}
