//! The ids of topics: in the list, in the partitions' directories, in both, and in neither.

use super::*;
use crate::ids::TopicId;
use crate::inspect::tests::of_kafka;
use crate::partition::topic_id;

fn list() -> PathBuf {
    Path::new(DIR).join("topics.checkpoint")
}

fn metadata(partition: &str) -> PathBuf {
    Path::new(DIR).join(partition).join(topic_id::FILE_NAME)
}

fn id_of(image: &MemoryStorage, topic: &str) -> TopicId {
    options(image).open(DIR).unwrap().topic(topic).unwrap().id()
}

fn repair(image: &MemoryStorage) -> Vec<RepairAction> {
    let plan = options(image).plan_repair(DIR).unwrap();
    let actions = plan.actions().to_vec();
    plan.execute().unwrap();
    assert_eq!(options(image).plan_repair(DIR).unwrap().to_string(), "nothing to repair");
    actions
}

#[test]
fn a_lost_list_is_made_again_with_the_ids_that_groups_have_positions_under() {
    for how in ["closed", "killed", "cut"] {
        let reference = reference(how);
        let id = id_of(&reference.image.kill_image(), "t");
        let image = reference.image.kill_image();
        damage(&image, &list(), Wrong::Missing);
        let actions = repair(&image);
        let [RepairAction::ReplaceTopics { with_new_id, .. }] = &actions[..] else {
            panic!("{actions:?}")
        };
        assert!(with_new_id.is_empty());
        let log = options(&image).open(DIR).unwrap();
        assert_eq!(log.topic("t").unwrap().id(), id);
        assert_eq!(positions(&log).unwrap(), reference.positions);
    }
}

#[test]
fn a_log_is_known_by_what_is_left_at_its_top() {
    let reference = reference("closed");
    let id = id_of(&reference.image.kill_image(), "t");
    let meta = Path::new(DIR).join("meta.properties");
    for other in [list(), Path::new(DIR).join("__commits-0")] {
        let image = reference.image.kill_image();
        image.remove_dir_all(&other).or_else(|_file| image.remove_file(&other)).unwrap();
        image.remove_file(&meta).unwrap();
        let Err(Error::Damaged { path, .. }) = options(&image).open(DIR) else {
            panic!("{}", other.display())
        };
        assert_eq!(path, meta);
        assert!(repair(&image).contains(&RepairAction::ReplaceId { path: meta.clone() }));
        assert_eq!(id_of(&image, "t"), id);
    }
}

#[test]
fn directories_without_an_id_get_it_at_the_next_start() {
    let reference = reference("closed");
    let (image, t0) = (reference.image.kill_image(), metadata("t-0"));
    let text = image.read_file(&t0).unwrap();
    for partition in ["t-0", "t-1"] {
        image.remove_file(&metadata(partition)).unwrap();
    }
    let lost = image.kill_image();
    options(&image).open(DIR).unwrap();
    assert_eq!(image.read_file(&t0).unwrap(), text);
    // When the list goes before, nobody knows the id any more.
    let id = id_of(&lost.kill_image(), "t");
    damage(&lost, &list(), Wrong::Empty);
    let actions = repair(&lost);
    let [RepairAction::ReplaceTopics { with_new_id, .. }] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(*with_new_id, ["t"]);
    assert_ne!(id_of(&lost, "t"), id);
}

#[test]
fn a_directory_that_names_another_topic_is_named_and_the_list_is_right() {
    let reference = reference("closed");
    let image = reference.image.kill_image();
    let [topic, found] = [id_of(&image.kill_image(), "t"), TopicId([9; 16])];
    let path = metadata("t-1");
    put(&image, &path, topic_id::to_text(found).as_bytes());
    for _ in 0..2 {
        let log = options(&image).open(DIR).unwrap();
        let [report] = &log.recovery().partitions[..] else { panic!("{}", log.recovery()) };
        assert_eq!((report.partition, report.other_topic_id), (1, Some(found)));
        let mut seen = Values::new();
        read(&log, 1, &mut seen).unwrap();
        assert_eq!(seen, reference.partitions[1]);
        log.close().unwrap();
    }
    let report = options(&image).verify(DIR).unwrap();
    let doubtful = report.findings.iter().filter(|f| f.kind == FindingKind::Doubtful);
    assert_eq!(doubtful.map(|f| &f.path).collect::<Vec<_>>(), [&path]);
    let replaced = RepairAction::ReplaceTopicId { path: path.clone(), found, topic };
    // Without the list, the first partition is right against the second one.
    let without = image.kill_image();
    damage(&without, &list(), Wrong::Missing);
    assert_eq!(repair(&without)[0], replaced);
    assert_eq!(id_of(&without, "t"), topic);
    assert_eq!(repair(&image), [replaced]);
    let aside = path.with_extension("metadata.0.quarantine");
    assert_eq!(image.read_file(&aside).unwrap(), topic_id::to_text(found).as_bytes());
    assert!(options(&image).verify(DIR).unwrap().is_sound());
}

#[test]
fn copies_of_a_topic_do_not_share_its_id_when_the_list_is_lost() {
    let image = reference("closed").image.kill_image();
    let id = id_of(&image.kill_image(), "t");
    for path in files(&image) {
        let copy = PathBuf::from(path.to_string_lossy().replace("/t-", "/u-"));
        if copy != path {
            image.create_dir_all(copy.parent().unwrap()).unwrap();
            image.create(&copy).unwrap().write_all_at(&image.read_file(&path).unwrap(), 0).unwrap();
        }
    }
    // Somebody's notes, or a copy of one partition: no partition of the topic.
    for name in ["t-07", "t-20261122", "t-x"] {
        image.create_dir_all(&Path::new(DIR).join(name)).unwrap();
        let first = Path::new(DIR).join(name).join("00000000000000000000.log");
        image.create(&first).unwrap();
    }
    damage(&image, &list(), Wrong::Missing);
    let actions = repair(&image);
    let last = actions.last().unwrap();
    let RepairAction::ReplaceTopics { topics, with_new_id, .. } = last else { panic!("{last:?}") };
    assert_eq!(*topics, ["t (2 partitions)", "u (2 partitions)"]);
    assert_eq!(*with_new_id, ["u"]);
    let log = options(&image).open(DIR).unwrap();
    assert_eq!(log.topic("t").unwrap().id(), id);
    assert_ne!(log.topic("u").unwrap().id(), id);
}

/// Kafka's markers say nothing of this log's commit records, and its producers are not this log's.
#[test]
fn a_topic_that_was_taken_over_is_sound() {
    for (case, files) in of_kafka() {
        let storage = MemoryStorage::new(1);
        let log = options(&storage).create(true).open(DIR).unwrap();
        crate::inspect::tests::put(&storage, &Path::new(DIR).join("k-0"), &files);
        let topic = log.adopt_topic("k", TopicSettings::default()).unwrap().topic;
        // Under ids that Kafka used too, with other outcomes.
        for n in 0..4_i64 {
            let name = format!("job-{n}");
            let mut job = log.transactional_producer(&name, Durability::Sync).unwrap();
            for _ in 0..3 {
                let transaction = job.begin().unwrap();
                transaction.append(&topic, 0, &mut batch(&["a".to_owned()])).unwrap();
                transaction.abort().unwrap();
            }
        }
        for is_closed in [false, true] {
            if is_closed {
                log.close().unwrap();
            }
            let image = storage.kill_image();
            let report = options(&image).verify(DIR).unwrap();
            assert!(report.is_sound(), "{case}: {report}");
            assert_eq!(repair(&image), [], "{case}");
        }
    }
}
