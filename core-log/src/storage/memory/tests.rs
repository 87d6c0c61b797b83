//! What a power cut leaves, case by case; and the same cases on the real file system where it
//! must agree.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use super::*;

fn path(name: &str) -> PathBuf {
    Path::new("/d").join(name)
}

fn storage() -> MemoryStorage {
    let storage = MemoryStorage::new(7);
    storage.create_dir_all(Path::new("/d")).unwrap();
    storage.sync_dir(Path::new("/")).unwrap();
    storage
}

/// A file whose name and bytes are durable.
fn durable_file(storage: &MemoryStorage, name: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = storage.create(&path(name)).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync().unwrap();
    storage.sync_dir(Path::new("/d")).unwrap();
    file
}

fn after_cut(storage: &MemoryStorage, keep: Keep, name: &str) -> Option<Vec<u8>> {
    storage.crash_image(keep).read_file(&path(name)).ok()
}

#[test]
fn unsynced_bytes_are_lost_or_kept_as_the_test_says() {
    let storage = storage();
    let file = durable_file(&storage, "a", b"one");
    file.write_all_at(b"two", 3).unwrap();
    file.write_all_at(b"three", 6).unwrap();
    assert_eq!(storage.unsynced_changes(), 2);
    assert_eq!(after_cut(&storage, Keep::None, "a").unwrap(), b"one");
    assert_eq!(after_cut(&storage, Keep::Prefix(1), "a").unwrap(), b"onetwo");
    assert_eq!(after_cut(&storage, Keep::Prefix(2), "a").unwrap(), b"onetwothree");
    assert_eq!(after_cut(&storage, Keep::All, "a").unwrap(), b"onetwothree");
    assert_eq!(storage.read_file(&path("a")).unwrap(), b"onetwothree");
    file.sync().unwrap();
    assert_eq!(after_cut(&storage, Keep::None, "a").unwrap(), b"onetwothree");
}

#[test]
fn a_killed_process_loses_nothing_but_the_power_cut_after_it_may() {
    let storage = storage();
    let file = durable_file(&storage, "a", b"one");
    file.write_all_at(b"two", 3).unwrap();
    let killed = storage.kill_image();
    assert_eq!(killed.read_file(&path("a")).unwrap(), b"onetwo");
    assert_eq!(after_cut(&killed, Keep::None, "a").unwrap(), b"one");
    file.write_all_at(b"x", 0).unwrap();
    assert_eq!(killed.read_file(&path("a")).unwrap(), b"onetwo");
    assert_eq!(killed.boot_id().unwrap(), storage.boot_id().unwrap());
    assert_ne!(killed.crash_image(Keep::All).boot_id().unwrap(), storage.boot_id().unwrap());
}

#[test]
fn a_new_file_is_lost_until_its_directory_is_synced_however_often_it_is_synced_itself() {
    let storage = storage();
    let file = storage.create(&path("a")).unwrap();
    file.write_all_at(b"one", 0).unwrap();
    file.sync().unwrap();
    assert_eq!(after_cut(&storage, Keep::None, "a"), None);
    storage.sync_dir(Path::new("/d")).unwrap();
    assert_eq!(after_cut(&storage, Keep::None, "a").unwrap(), b"one");
}

#[test]
fn a_rename_without_a_sync_of_the_directory_may_be_lost_and_is_never_torn() {
    let storage = storage();
    durable_file(&storage, "a", b"old");
    durable_file(&storage, "b", b"new");
    storage.rename(&path("b"), &path("a")).unwrap();
    let names = |keep| storage.crash_image(keep).list(Path::new("/d")).unwrap();
    assert_eq!(names(Keep::None), ["a", "b"]);
    assert_eq!(after_cut(&storage, Keep::None, "a").unwrap(), b"old");
    assert_eq!(names(Keep::All), ["a"]);
    for seed in 0..50 {
        let left = names(Keep::Random(seed));
        let a = after_cut(&storage, Keep::Random(seed), "a").unwrap();
        assert!((left.len() == 2 && a == b"old") || (left.len() == 1 && a == b"new"));
    }
    storage.sync_dir(Path::new("/d")).unwrap();
    assert_eq!(names(Keep::None), ["a"]);
}

#[test]
fn a_removed_file_may_come_back_until_the_directory_is_synced() {
    let storage = storage();
    let file = durable_file(&storage, "a", b"one");
    storage.remove_file(&path("a")).unwrap();
    assert!(!storage.exists(&path("a")).unwrap());
    assert_eq!(after_cut(&storage, Keep::None, "a").unwrap(), b"one");
    storage.sync_dir(Path::new("/d")).unwrap();
    assert_eq!(after_cut(&storage, Keep::None, "a"), None);
    let mut buffer = [0; 3];
    file.read_exact_at(&mut buffer, 0).unwrap();
    assert_eq!(&buffer, b"one");
}

#[test]
fn a_cut_file_may_be_long_again_until_it_is_synced() {
    let storage = storage();
    let file = durable_file(&storage, "a", b"onetwo");
    file.set_len(3).unwrap();
    assert_eq!(after_cut(&storage, Keep::None, "a").unwrap(), b"onetwo");
    file.sync().unwrap();
    assert_eq!(after_cut(&storage, Keep::None, "a").unwrap(), b"one");
}

#[test]
fn random_cuts_lose_early_writes_and_keep_late_ones_and_tear_at_sectors() {
    let storage = storage();
    let file = durable_file(&storage, "a", b"");
    file.write_all_at(&[1; 1024], 0).unwrap();
    file.write_all_at(&[2; 1024], 1024).unwrap();
    let mut seen = BTreeSet::new();
    for seed in 0..400 {
        let mut left = after_cut(&storage, Keep::Random(seed), "a").unwrap();
        assert_eq!(left, after_cut(&storage, Keep::Random(seed), "a").unwrap());
        assert_eq!(left.len() % 512, 0);
        left.resize(2048, 9);
        let sectors: Vec<u8> = left.chunks(512).map(|sector| sector[0]).collect();
        assert!(left.chunks(512).all(|sector| sector.iter().all(|b| *b == sector[0])));
        seen.insert(sectors);
    }
    for expected in [
        [1, 1, 2, 2],
        [0, 0, 2, 2],
        [1, 1, 9, 9],
        [9, 9, 9, 9],
        [0, 1, 2, 0],
        [0, 0, 0, 0],
        [0, 1, 2, 9],
    ] {
        assert!(seen.contains(expected.as_slice()), "{expected:?} is missing in {seen:?}");
    }
}

#[test]
fn a_write_that_begins_within_a_sector_is_torn_at_the_files_sectors() {
    let storage = storage();
    let file = durable_file(&storage, "a", &[7; 300]);
    file.write_all_at(&[1; 600], 300).unwrap();
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let left = after_cut(&storage, Keep::Random(seed), "a").unwrap();
        assert_eq!(left[..300], [7; 300]);
        seen.insert(left.len());
    }
    assert_eq!(seen, BTreeSet::from([300, 512, 900]));
}

#[test]
fn a_lost_sync_leaves_bytes_that_can_be_read_and_that_no_later_sync_saves() {
    let storage = storage();
    let file = durable_file(&storage, "a", b"one");
    file.write_all_at(b"two", 3).unwrap();
    storage.inject(Fault::once(At::Path(Call::Sync, "/a".to_owned()), Effect::LoseSync));
    assert!(file.sync().is_err());
    file.sync().unwrap();
    assert_eq!(storage.read_file(&path("a")).unwrap(), b"onetwo");
    assert_eq!(after_cut(&storage, Keep::All, "a").unwrap(), b"one");
    file.write_all_at(b"three", 6).unwrap();
    file.sync().unwrap();
    assert_eq!(after_cut(&storage, Keep::None, "a").unwrap(), b"one\0\0\0three");
    file.write_all_at(b"two", 3).unwrap();
    file.sync().unwrap();
    assert_eq!(after_cut(&storage, Keep::None, "a").unwrap(), b"onetwothree");
}

#[test]
fn planned_faults_strike_the_nth_operation_once_or_for_ever() {
    let storage = storage();
    let file = durable_file(&storage, "a", b"");
    let next = storage.operations() + 1;
    storage.inject(Fault::once(At::Operation(next + 1), Effect::ShortWrite { keep: 2 }));
    storage.inject(Fault::forever(At::Operation(next + 3), Effect::Error(ErrorKind::Other)));
    file.write_all_at(b"abc", 0).unwrap();
    assert!(file.write_all_at(b"xyz", 0).is_err());
    assert_eq!(storage.read_file(&path("a")).unwrap(), b"xyc");
    file.sync().unwrap();
    assert!(file.write_all_at(b"z", 0).is_err());
    assert!(storage.create(&path("b")).is_err());
    assert!(storage.sync_dir(Path::new("/d")).is_err());
    storage.clear_faults();
    file.write_all_at(b"z", 0).unwrap();
    assert_eq!(storage.read_file(&path("a")).unwrap(), b"zyc");
}

#[test]
fn reads_can_fail_too() {
    let storage = storage();
    let file = durable_file(&storage, "a", b"abc");
    storage.inject(Fault::once(At::Read(2), Effect::Error(ErrorKind::Other)));
    let mut buffer = [0; 3];
    assert!(file.read_at(&mut buffer, 0).is_ok());
    assert!(file.read_at(&mut buffer, 0).is_err());
    assert!(file.read_at(&mut buffer, 0).is_ok());
}

#[test]
fn when_power_is_off_nothing_changes_any_more() {
    let storage = storage();
    let file = durable_file(&storage, "a", b"");
    storage.stop_after(storage.operations() + 1);
    file.write_all_at(b"abc", 0).unwrap();
    assert!(file.write_all_at(b"def", 3).is_err());
    assert!(file.sync().is_err());
    assert!(storage.remove_file(&path("a")).is_err());
    assert_eq!(after_cut(&storage, Keep::All, "a").unwrap(), b"abc");
    assert_eq!(after_cut(&storage, Keep::None, "a").unwrap(), b"");
}

#[test]
fn a_full_disk_takes_what_fits_and_room_comes_back_with_what_is_removed() {
    let storage = storage();
    let file = durable_file(&storage, "a", b"abcd");
    let other = durable_file(&storage, "b", b"");
    storage.limit_space(2);
    file.write_all_at(b"ABCD", 0).unwrap();
    let full = file.write_all_at(b"defg", 3).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    assert_eq!(storage.read_file(&path("a")).unwrap(), b"ABCdef");
    assert!(other.write_all_at(b"x", 0).is_err());
    file.set_len(5).unwrap();
    other.write_all_at(b"x", 0).unwrap();
    storage.remove_file(&path("a")).unwrap();
    other.write_all_at(b"12345", 1).unwrap();
    assert!(other.write_all_at(b"6", 6).is_err());
}

#[test]
fn directories_are_names_too() {
    let storage = storage();
    storage.create_dir_all(Path::new("/d/x/y")).unwrap();
    storage.create(Path::new("/d/x/y/f")).unwrap();
    assert_eq!(storage.list(Path::new("/d/x")).unwrap(), ["y"]);
    assert_eq!(storage.crash_image(Keep::None).list(Path::new("/d")).unwrap(), [""; 0]);
    storage.sync_dir(Path::new("/d")).unwrap();
    let image = storage.crash_image(Keep::None);
    assert_eq!(image.list(Path::new("/d/x")).unwrap(), [""; 0]);
    storage.remove_dir_all(Path::new("/d/x")).unwrap();
    assert_eq!(storage.list(Path::new("/d")).unwrap(), [""; 0]);
    assert_eq!(storage.list(Path::new("/d/x")).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_lock_has_one_holder_and_does_not_survive_the_process() {
    let storage = storage();
    let held = storage.lock(&path(".lock")).unwrap();
    assert!(held.is_some());
    assert!(storage.lock(&path(".lock")).unwrap().is_none());
    assert!(storage.kill_image().lock(&path(".lock")).unwrap().is_some());
    drop(held);
    assert!(storage.lock(&path(".lock")).unwrap().is_some());
}

#[test]
fn the_same_seed_gives_the_same_random_bytes_and_a_restart_gives_others() {
    let draw = |storage: &MemoryStorage| {
        let mut bytes = [0; 12];
        storage.random_bytes(&mut bytes).unwrap();
        bytes
    };
    let (a, b) = (MemoryStorage::new(1), MemoryStorage::new(1));
    let first = draw(&a);
    assert_eq!(first, draw(&b));
    assert_ne!(first, draw(&a.crash_image(Keep::None)));
    assert_ne!(first, draw(&MemoryStorage::new(2)));
}

#[test]
fn rot_changes_what_is_read_and_what_is_on_the_disk() {
    let storage = storage();
    durable_file(&storage, "a", b"abc");
    let operations = storage.operations();
    storage.rot(&path("a"), 1, 0x20).unwrap();
    assert_eq!(storage.read_file(&path("a")).unwrap(), b"aBc");
    assert_eq!(after_cut(&storage, Keep::None, "a").unwrap(), b"aBc");
    assert!(storage.rot(&path("a"), 3, 1).is_err());
    assert_eq!(storage.operations(), operations);
}
