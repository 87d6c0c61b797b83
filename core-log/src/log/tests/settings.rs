//! Settings of topics that change while the log runs.

use super::*;
use crate::error::Recourse;
use crate::storage::memory::{At, Effect, Fault};

#[test]
fn a_changed_setting_acts_at_once_and_survives_a_power_cut() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let before = log.create_topic("t", TopicSettings::default()).unwrap();
    let mut producer = log.producer(Durability::Sync).unwrap();
    producer.append(&before, 0, &mut batch(&["a"])).unwrap();
    let after = log
        .alter_topic("t", |settings| {
            settings.set("segment.bytes", "256")?;
            settings.set("retention.bytes", "0")
        })
        .unwrap();
    assert_eq!((before.settings().segment_bytes, after.settings().segment_bytes), (1 << 30, 256));
    for value in ["b", "c", "d", "e"] {
        producer.append(&before, 0, &mut batch(&[value])).unwrap();
    }
    log.maintain(1_000_000).unwrap();
    assert!(log.offsets(before.id(), 0).unwrap().log_start_offset > 0, "segments are small now");
    let too_large = producer.append(&before, 0, &mut batch(&["x"; 50]));
    assert!(matches!(too_large, Err(Error::BatchTooLarge { max_bytes: 256, .. })));
    drop((log, producer));
    let log = open(&storage.crash_image(Keep::None));
    assert_eq!(log.topic("t").unwrap(), after);
}

#[test]
fn a_change_that_is_refused_changes_nothing() {
    let log = open(&MemoryStorage::new(1));
    let topic = log.create_topic("t", TopicSettings::with_partitions(2)).unwrap();
    let more = log.alter_topic("t", |settings| {
        settings.partitions = 3;
        Ok(())
    });
    assert!(matches!(more, Err(Error::InvalidSetting { setting: "partitions", .. })));
    let wrong = log.alter_topic("t", |settings| settings.set("segment.bytes", "1"));
    assert_eq!(wrong.unwrap_err().recourse(), Recourse::FixInput);
    let unknown = log.alter_topic("u", |_settings| Ok(()));
    assert!(matches!(unknown, Err(Error::UnknownTopic { .. })));
    assert_eq!(log.topic("t").unwrap(), topic);
}

#[test]
fn a_failed_write_of_the_settings_leaves_the_old_or_the_new_ones() {
    for nth in 0..6 {
        let storage = MemoryStorage::new(1);
        let log = open(&storage);
        let before = log.create_topic("t", TopicSettings::default()).unwrap();
        let at = At::Operation(storage.operations() + nth);
        storage.inject(Fault::once(at, Effect::Error(std::io::ErrorKind::Other)));
        let changed = log.alter_topic("t", |settings| settings.set("retention.ms", "5"));
        let topic = log.topic("t").unwrap();
        match changed {
            Ok(after) => assert_eq!(topic, after),
            Err(_) => assert!(topic == before || topic.settings().retention_ms == Some(5)),
        }
        drop(log);
        let log = open(&storage.crash_image(Keep::None));
        assert_eq!(log.topic("t").unwrap(), topic, "the {nth}th operation failed");
    }
}
