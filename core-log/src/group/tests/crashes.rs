//! Power cuts after every operation: no committed offset is beyond a partition's end, and what was
//! committed with an acknowledgement is not read again.

use super::*;
use crate::commit::Broken;
use crate::error::Result;
use crate::group::lane::{Budget, Lane};
use crate::members::table::Handed;
use crate::partition::FetchBound;
use crate::storage::memory::Keep;

fn reopen(storage: &MemoryStorage, broken: Option<Broken>) -> Result<Log> {
    let mut options = LogOptions::new()
        .storage(Arc::new(storage.clone()))
        .clock(clock())
        .background(false)
        .commits_bytes_max(600);
    if let Some(broken) = broken {
        options = options.broken(broken);
    }
    options.open(DIR)
}

/// Writes without any promise, reads, commits; answers the offset of the last acknowledged commit.
fn work(storage: &MemoryStorage, broken: Option<Broken>, acknowledged: &mut Offset) -> Result<()> {
    let log = reopen(storage, broken)?;
    let t = log.topic("t").or_else(|_| log.create_topic("t", TopicSettings::default()))?;
    let mut producer = log.producer(Durability::Os)?;
    let mut consumer = log.group("g")?.consumer(manual());
    consumer.subscribe(&["t"])?;
    for n in 0..6 {
        let mut batch = BatchBuilder::new();
        batch.push(n, None, Some(n.to_string().as_bytes()), NO_HEADERS)?;
        producer.append(&t, 0, &mut batch)?;
        consumer.poll(Duration::ZERO)?;
        if n % 2 == 0 {
            consumer.commit()?;
        } else {
            consumer.commit_async()?.wait()?;
        }
        *acknowledged = consumer.position("t", 0)?;
    }
    consumer.close()
}

/// What a checker finds after a power cut.
fn check(image: &MemoryStorage, acknowledged: Offset) -> std::result::Result<(), String> {
    let log = reopen(image, None).map_err(|e| e.to_string())?;
    let Ok(t) = log.topic("t") else {
        return if acknowledged == 0 { Ok(()) } else { Err("the topic is gone".to_owned()) };
    };
    let end = log.offsets(t.id(), 0).unwrap().log_end_offset;
    let committed = committed_in(&log).get(&0).copied().unwrap_or(0);
    if committed > end {
        return Err(format!("committed {committed}, but the log ends at {end}"));
    }
    if committed < acknowledged {
        return Err(format!("committed {committed}, but {acknowledged} was acknowledged"));
    }
    let mut consumer = member(&log, manual());
    let first = values(&consumer.poll(Duration::ZERO).unwrap()).remove(&0);
    match first.map(|values| values[0]) {
        Some(first) if first != committed => Err(format!("reads on at {first}, not {committed}")),
        _ => Ok(()),
    }
}

/// Cuts the power after each operation; answers what the checker found.
fn cut_everywhere(broken: Option<Broken>) -> Vec<String> {
    let whole = MemoryStorage::new(1);
    work(&whole, broken, &mut 0).unwrap();
    let mut found = Vec::new();
    for cut in 0..whole.operations() {
        let storage = MemoryStorage::new(1);
        storage.stop_after(cut);
        let mut acknowledged = 0;
        let outcome = work(&storage, broken, &mut acknowledged);
        assert!(outcome.is_err() || acknowledged == 6);
        for keep in [Keep::None, Keep::All] {
            let image = storage.crash_image(keep);
            found.extend(check(&image, acknowledged).err());
        }
    }
    found
}

#[test]
fn no_power_cut_takes_back_a_commit_or_leaves_it_beyond_the_end() {
    assert_eq!(cut_everywhere(None), Vec::<String>::new());
}

#[test]
fn a_commit_that_does_not_sync_what_was_consumed_is_found_out() {
    let found = cut_everywhere(Some(Broken::SkipConsumedSync));
    assert!(found.iter().any(|problem| problem.starts_with("committed")), "{found:?}");
}

#[test]
fn a_failed_sync_of_a_commit_is_a_crash_after_which_it_can_be_committed_again() {
    let storage = MemoryStorage::new(1);
    let log = reopen(&storage, None).unwrap();
    let t = topic(&log, "t", 1);
    write(&log, &t, 0, &[0, 1], Durability::Sync);
    let mut consumer = member(&log, manual());
    assert_eq!(poll(&mut consumer)[&0], [0, 1]);
    let error = Effect::Error(std::io::ErrorKind::Other);
    storage.inject(Fault::once(At::Path(Call::Sync, "__commits-0".to_owned()), error));
    let failed = consumer.commit().unwrap_err();
    assert_ne!(failed.recourse(), crate::error::Recourse::FixInput, "{failed}");
    consumer.commit().unwrap();
    let image = storage.crash_image(Keep::None);
    assert_eq!(committed_in(&reopen(&image, None).unwrap()), BTreeMap::from([(0, 2)]));
    // The member outlives the crash of the log, and goes on where it was.
    write(&log, &t, 0, &[2], Durability::Sync);
    assert_eq!(poll(&mut consumer)[&0], [2]);
}

/// A power cut takes the unsynced tail, and other records get its offsets: who had read the tail would skip
/// them.
#[test]
fn a_position_behind_a_cut_goes_back_to_it_and_skips_nothing() {
    let (storage, clock) = (MemoryStorage::new(1), clock());
    let log = open(&storage, &clock);
    let t = topic(&log, "t", 1);
    write(&log, &t, 0, &[0, 1, 2], Durability::Sync);
    write(&log, &t, 0, &[3, 4, 5], Durability::Os);
    let log = open(&storage.crash_image(Keep::None), &clock);
    write(&log, &t, 0, &[13, 14, 15, 16], Durability::Sync);
    assert!(log.offsets(t.id(), 0).unwrap().leader_epoch > 0, "the cut raised the epoch");
    for (offset, first) in [(1, 1), (3, 13), (5, 13), (7, 13), (99, 13)] {
        let start = Some(Handed { offset, leader_epoch: 0 });
        let mut lane = Lane::new(&log, &t, 0, FetchBound::LastStable, start);
        let mut budget = Budget { records: 100, bytes: 1 << 20, partition_bytes: 1 << 20 };
        let mut batches = Vec::new();
        lane.take(OffsetReset::Earliest, &mut budget, &mut batches).unwrap();
        let polled = values(&Polled { batches }).remove(&0).unwrap();
        assert_eq!((polled[0], polled[polled.len() - 1]), (first, 16), "from {offset}");
        assert_eq!(lane.position().unwrap().offset, 7);
    }
}
