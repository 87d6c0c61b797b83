//! The journal under torn tails, lost records and rot.

use super::*;
use crate::commit::record::CommitRecord;
use crate::ids::TransactionalId;
use crate::storage::careless::{CarelessStorage, Neglect};
use crate::storage::memory::{Keep, MemoryStorage};

const DIR: &str = "/log/__commits-0";

fn commit(commits_synced: Offset) -> CommitsRecord {
    CommitsRecord::Commit(CommitRecord {
        transactional_id: TransactionalId::new("job").unwrap(),
        producer_id: ProducerId(1),
        producer_epoch: ProducerEpoch(0),
        survives_power_loss: true,
        commits_synced,
        written: Vec::new(),
        witnesses: Vec::new(),
        offsets: Vec::new(),
    })
}

fn new_journal() -> (MemoryStorage, Arc<dyn Storage>, Journal) {
    let memory = MemoryStorage::new(1);
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    storage.create_dir_all(Path::new(DIR)).unwrap();
    storage.sync_dir(Path::new("/log")).unwrap();
    storage.sync_dir(Path::new("/")).unwrap();
    let journal = Journal::create(&storage, Path::new(DIR), Snapshot::default(), 0, 0).unwrap();
    (memory, storage, journal)
}

fn offsets(contents: &Contents) -> Vec<Offset> {
    contents.records.iter().map(|(offset, _)| *offset).collect()
}

fn read_image(image: &MemoryStorage) -> Contents {
    read(image, Path::new(DIR)).unwrap().unwrap()
}

#[test]
fn what_was_appended_is_read_back() {
    let (memory, _, mut journal) = new_journal();
    assert_eq!(journal.append(&commit(0), 0).unwrap(), 1);
    assert_eq!(journal.append(&commit(1), 0).unwrap(), 2);
    let contents = read_image(&memory);
    assert_eq!(offsets(&contents), [1, 2]);
    assert_eq!((contents.next_offset, contents.damage.is_some()), (3, false));
}

/// Whether a record that takes the place of a lost one stays the last one.
fn survivors_stay_dead(neglect: Option<Neglect>) -> bool {
    let (memory, _, mut journal) = new_journal();
    for _ in 0..3 {
        journal.append(&commit(1), 0).unwrap();
    }
    // Record 1 never reached the disk, 2 and 3 did.
    let path = Path::new(DIR).join(file_name(0));
    let length = memory.read_file(&path).unwrap().len();
    let record = (length - read_image(&memory).snapshot_end) / 3;
    let image = memory.crash_image(Keep::All);
    image.rot(&path, length - 3 * record + 70, 0xff).unwrap();
    let storage: Arc<dyn Storage> = match neglect {
        None => Arc::new(image.clone()),
        Some(neglect) => Arc::new(CarelessStorage { inner: image.clone(), neglect }),
    };
    let contents = read_image(&image);
    assert_eq!((offsets(&contents), contents.damage.is_some()), (vec![], false));
    let (mut journal, repair) = contents.repair(&storage, Path::new(DIR)).unwrap();
    assert_eq!(repair.cut_bytes, 3 * record as u64);
    assert_eq!(image.read_file(&repair.quarantine_path.unwrap()).unwrap().len(), 3 * record);
    // A new record takes the gap; the dead ones behind it must not become valid again.
    assert_eq!(journal.append(&commit(1), 0).unwrap(), 1);
    [Keep::None, Keep::All, Keep::Random(7)].into_iter().all(|keep| {
        let contents = read_image(&image.crash_image(keep));
        offsets(&contents).len() <= 1 && contents.damage.is_none()
    })
}

#[test]
fn a_lost_record_takes_the_survivors_behind_it_along_for_ever() {
    assert!(survivors_stay_dead(None));
    assert!(!survivors_stay_dead(Some(Neglect::Cut)), "a tail that is not cut went unnoticed");
}

#[test]
fn a_record_that_a_later_one_witnesses_is_damage_and_is_not_cut() {
    let (memory, _, mut journal) = new_journal();
    journal.append(&commit(1), 0).unwrap();
    journal.append(&commit(2), 0).unwrap();
    let path = Path::new(DIR).join(file_name(0));
    memory.rot(&path, read_image(&memory).snapshot_end + 70, 0x01).unwrap();
    let contents = read_image(&memory);
    let damage = contents.damage.unwrap();
    assert_eq!((damage.offset, damage.position), (1, contents.snapshot_end as u64));
}

#[test]
fn rot_in_a_snapshot_is_damage() {
    let (memory, _, _) = new_journal();
    memory.rot(&Path::new(DIR).join(file_name(0)), 65, 0x01).unwrap();
    assert!(read_image(&memory).damage.is_some());
}

#[test]
fn a_power_cut_during_the_replacement_leaves_the_old_file_or_the_new_one() {
    let (memory, _, mut journal) = new_journal();
    journal.append(&commit(0), 0).unwrap();
    let (file, _) = journal.file();
    file.sync().unwrap();
    let before = memory.operations();
    let snapshot = Snapshot { producer_ids_end: 77, ..Snapshot::default() };
    journal.replace(snapshot, 0).unwrap();
    let operations = memory.operations() - before;
    for cut in 0..=operations {
        for keep in [Keep::None, Keep::All, Keep::Random(cut)] {
            let (memory, _, mut journal) = new_journal();
            journal.append(&commit(0), 0).unwrap();
            journal.file().0.sync().unwrap();
            memory.stop_after(memory.operations() + cut);
            let snapshot = Snapshot { producer_ids_end: 77, ..Snapshot::default() };
            let replaced = journal.replace(snapshot, 0);
            let contents = read_image(&memory.crash_image(keep));
            assert!(contents.damage.is_none(), "cut {cut} {keep:?}");
            let is_new = contents.snapshot.producer_ids_end == 77;
            assert!(is_new || offsets(&contents) == [1], "cut {cut} {keep:?}");
            assert!(is_new || replaced.is_err());
        }
    }
}

/// A whole batch was written as a whole: that this build does not know it, or that its offset rotted,
/// which the checksum does not cover, is no reason to cut it.
#[test]
fn a_whole_record_that_is_not_what_it_should_be_is_damage_and_no_torn_tail() {
    let (memory, _, mut journal) = new_journal();
    journal.append(&commit(0), 0).unwrap();
    let path = Path::new(DIR).join(file_name(0));
    let start = read_image(&memory).snapshot_end;
    let rotten = memory.kill_image();
    rotten.rot(&path, start + 7, 0x02).unwrap();
    assert_eq!(read_image(&rotten).damage.map(|damage| damage.offset), Some(1));
    // A record of a kind that does not exist yet.
    let mut later = BatchBuilder::new();
    later.push(0, Some(&[0, 0, 0, 9]), Some(b"?"), NO_HEADERS).unwrap();
    later.stamp(&Stamp {
        base_offset: 2,
        leader_epoch: 0,
        attributes: Attributes::NONE,
        producer_id: ProducerId::NONE,
        producer_epoch: ProducerEpoch::NONE,
        base_sequence: -1,
    });
    let (file, _) = journal.file();
    file.write_all_at(later.bytes(), journal.size_bytes()).unwrap();
    let contents = read_image(&memory);
    assert_eq!((offsets(&contents), contents.damage.map(|d| d.offset)), (vec![1], Some(2)));
}

#[test]
fn a_second_torn_tail_at_the_same_place_leaves_the_first_ones_copy() {
    let (memory, storage, mut journal) = new_journal();
    let mut copies = Vec::new();
    for torn in [&b"first"[..], b"second"] {
        let (file, _) = journal.file();
        file.write_all_at(torn, journal.size_bytes()).unwrap();
        let contents = read_image(&memory);
        let (again, repair) = contents.repair(&storage, Path::new(DIR)).unwrap();
        copies.push((repair.quarantine_path.unwrap(), torn));
        journal = again;
    }
    for (path, torn) in copies {
        assert_eq!(memory.read_file(&path).unwrap(), torn);
    }
}

#[test]
fn files_that_are_called_otherwise_are_not_the_logs() {
    let (memory, _, mut journal) = new_journal();
    for name in ["7.log", "+0000000000000000009.log", "notes.log"] {
        memory.create(&Path::new(DIR).join(name)).unwrap();
    }
    journal.append(&commit(0), 0).unwrap();
    journal.replace(Snapshot::default(), 0).unwrap();
    let contents = read_image(&memory);
    assert_eq!((contents.next_offset, contents.damage.is_some()), (3, false));
    assert!(memory.exists(&Path::new(DIR).join("7.log")).unwrap());
}

/// Only the sector in which the last record begins was lost. Its checksum holds, as it covers neither the
/// offset nor the length: taken for rot, the log would not open after an ordinary power cut.
#[test]
fn a_record_whose_first_bytes_were_lost_with_their_sector_is_a_torn_tail() {
    let mut met = 0;
    for letters in 1..=600 {
        let (memory, _, mut journal) = new_journal();
        let CommitsRecord::Commit(first) = commit(1) else { unreachable!("it is a commit") };
        let group = "g".repeat(letters % 200 + 1);
        let padded = |id: &str| CommitRecord {
            transactional_id: TransactionalId::new(id).unwrap(),
            ..first.clone()
        };
        for _ in 0..=letters / 200 {
            journal.append(&CommitsRecord::Commit(padded(&group)), 0).unwrap();
        }
        let path = Path::new(DIR).join(file_name(0));
        let at = memory.read_file(&path).unwrap().len();
        journal.append(&commit(1), 0).unwrap();
        let mut bytes = memory.read_file(&path).unwrap().to_vec();
        let lost = 512 - at % 512;
        if lost > 10 {
            continue;
        }
        met += 1;
        let whole = parse(path.clone(), bytes.clone(), 0);
        bytes[at..at + lost].fill(0);
        let torn = parse(path.clone(), bytes.clone(), 0);
        assert!(torn.damage.is_none(), "{lost}: {:?}", torn.damage.map(|damage| damage.reason));
        assert!(lost < 8 || torn.kept_end == at, "its offset is gone");
        // The same bytes, but for one that no lost sector explains.
        bytes[at] = 1;
        let rotten = parse(path, bytes, 0);
        assert!(rotten.damage.is_some(), "{lost}");
        assert!(whole.damage.is_none());
    }
    assert!(met >= 5, "{met}");
}
