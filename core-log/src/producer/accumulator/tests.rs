//! When batches are full, old enough, wanted, or too old; and who gets which partition.

use super::*;
use crate::config::TopicSettings;
use crate::ids::TopicName;

const LINGER: Duration = Duration::from_millis(5);

fn settings() -> ProducerSettings {
    ProducerSettings {
        batch_bytes: 1_000,
        linger: LINGER,
        record_bytes_max: 2_000,
        buffer_bytes: 10_000,
        ..ProducerSettings::default()
    }
}

fn topic(partitions: u32) -> Topic {
    let id = TopicId::from_random([1; 16]);
    Topic::new(TopicName::new("t").unwrap(), id, TopicSettings::with_partitions(partitions))
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn push(into: &mut Accumulator, record: Record<'_>, now: Duration) -> Pushed {
    into.push(&topic(3), &record, 7, || now).unwrap()
}

fn at(partition: u32, value: &[u8]) -> Record<'_> {
    Record { partition: Some(partition), ..Record::new(value) }
}

fn numbers(wave: &[Batch]) -> Vec<u64> {
    wave.iter().map(|batch| batch.number).collect()
}

#[test]
fn a_batch_that_is_not_full_lingers_and_one_that_is_does_not() {
    let mut batches = Accumulator::new(&settings(), 0);
    assert_eq!(batches.due(), None);
    assert!(push(&mut batches, at(0, b"a"), ms(10)).is_news);
    assert!(!push(&mut batches, at(0, b"b"), ms(12)).is_news);
    push(&mut batches, at(1, b"c"), ms(12));
    assert_eq!(batches.due(), Some(ms(15)));
    assert!(batches.take(ms(14)).is_empty());
    let wave = batches.take(ms(15));
    assert_eq!((numbers(&wave), wave[0].builder.count()), (vec![0], 2));
    assert!(push(&mut batches, at(1, &[0; 950]), ms(15)).is_news, "it is full now");
    assert!(batches.due().unwrap() <= ms(15));
    assert_eq!(numbers(&batches.take(ms(15))), [1]);
    assert_eq!(batches.due(), None);
}

#[test]
fn a_wave_waits_for_those_who_come_again_until_they_are_all_there_or_the_time_is_up() {
    let settings = ProducerSettings { linger: Duration::ZERO, ..settings() };
    let mut batches = Accumulator::new(&settings, 0);
    push(&mut batches, at(0, b"a"), ms(0));
    batches.gather(2, ms(9));
    assert!(!push(&mut batches, at(0, b"b"), ms(1)).is_news);
    assert_eq!((batches.due(), batches.take(ms(8)).len()), (Some(ms(9)), 0));
    assert!(push(&mut batches, at(1, b"c"), ms(8)).is_news, "the last that was waited for");
    assert_eq!(batches.due(), Some(ms(0)));
    assert_eq!(numbers(&batches.take(ms(8))), [0, 1], "and none of them waits again");
    assert_eq!(batches.waiting_records, 0);

    push(&mut batches, at(0, b"d"), ms(8));
    batches.gather(5, ms(9));
    assert_eq!(numbers(&batches.take(ms(9))), [2], "the others went away");
    batches.gather(5, ms(20));
    push(&mut batches, at(0, b"e"), ms(10));
    batches.want_all();
    assert_eq!(numbers(&batches.take(ms(10))), [3], "a flush does not wait");
    batches.gather(5, ms(20));
    push(&mut batches, at(0, &[0; 1_000]), ms(11));
    assert_eq!(numbers(&batches.take(ms(11))), [4], "nor does a batch that is full");
    push(&mut batches, at(0, b"f"), ms(12));
    assert_eq!((batches.take_all().len(), batches.waiting_records), (1, 0));
}

#[test]
fn while_one_is_on_its_way_the_next_grows_to_the_limit_and_order_is_kept() {
    let mut batches = Accumulator::new(&settings(), 0);
    for n in 0..40_u8 {
        push(&mut batches, at(0, &[n; 100]), ms(0));
    }
    let mut seen = 0;
    loop {
        let wave = batches.take(ms(0));
        if wave.is_empty() {
            break;
        }
        assert_eq!(wave.len(), 1, "one batch of a partition at a time");
        for batch in wave {
            assert!(batch.builder.len_bytes() <= 2_000);
            seen += batch.builder.count();
            batches.give_back(batch);
        }
    }
    assert!(seen > 30, "{seen}");
    // The last one is not full: it lingers.
    assert_eq!(batches.due(), Some(LINGER));
    batches.want_all();
    assert_eq!(seen + batches.take(ms(0))[0].builder.count(), 40);
}

#[test]
fn a_large_record_that_does_not_fit_behind_a_small_one_sends_that_one_first() {
    let mut batches = Accumulator::new(&settings(), 0);
    push(&mut batches, at(0, b"small"), ms(0));
    push(&mut batches, at(0, &[0; 1_900]), ms(0));
    assert_eq!(numbers(&batches.take(ms(0))), [0]);
    assert_eq!(numbers(&batches.take(ms(0))), [1]);
}

#[test]
fn records_without_a_key_stay_together_and_then_move_on() {
    let mut batches = Accumulator::new(&settings(), 1);
    let partition =
        |batches: &mut Accumulator| push(batches, Record::new(&[0; 300]), ms(0)).partition;
    let seen: Vec<u32> = (0..9).map(|_| partition(&mut batches)).collect();
    assert_eq!(seen, [1, 1, 1, 1, 2, 2, 2, 2, 0]);
    batches.take(LINGER);
    assert_eq!(partition(&mut batches), 1, "the batch of partition 0 is on its way");
}

#[test]
fn a_key_decides_the_partition_as_kafkas_clients_do() {
    let mut batches = Accumulator::new(&settings(), 0);
    for key in ["a", "b", "c", "21", "foobar"] {
        let pushed = push(&mut batches, Record::keyed(key.as_bytes(), b""), ms(0));
        assert_eq!(pushed.partition, partition_for(key.as_bytes(), 3));
    }
    let chosen = Record { partition: Some(2), ..Record::keyed(b"a", b"") };
    assert_eq!(push(&mut batches, chosen, ms(0)).partition, 2);
}

#[test]
fn the_buffer_is_counted_until_batches_are_given_back() {
    let mut batches = Accumulator::new(&settings(), 0);
    let record = at(0, &[0; 1_000]);
    let mut pushed = 0;
    while batches.has_room(&record) {
        push(&mut batches, record, ms(0));
        pushed += 1;
    }
    assert!((8..=9).contains(&pushed), "{pushed} records of 1 000 bytes fit into 10 000");
    let wave = batches.take(ms(0));
    assert!(!batches.has_room(&record), "what is on its way still counts");
    for batch in wave {
        batches.give_back(batch);
    }
    assert!(batches.has_room(&record));
    for batch in batches.take_all() {
        batches.give_back(batch);
    }
    assert_eq!((batches.buffered_bytes(), batches.is_empty()), (0, true));
}

#[test]
fn what_waits_too_long_is_given_up_oldest_first() {
    let settings = ProducerSettings { delivery_timeout: ms(100), linger: ms(90), ..settings() };
    let mut batches = Accumulator::new(&settings, 0);
    push(&mut batches, at(0, b"a"), ms(0));
    push(&mut batches, at(1, b"b"), ms(1));
    push(&mut batches, at(0, b"c"), ms(2));
    assert!(batches.expire(ms(99)).is_empty());
    assert_eq!(numbers(&batches.expire(ms(100))), [0]);
    assert_eq!(numbers(&batches.expire(ms(1_000))), [1]);
}

#[test]
fn a_rate_holds_batches_back_even_when_they_are_wanted() {
    let settings = ProducerSettings { records_per_second_max: Some(10), ..settings() };
    let mut batches = Accumulator::new(&settings, 0);
    for partition in 0..3 {
        push(&mut batches, at(partition, b"a"), ms(0));
    }
    batches.want_all();
    assert_eq!(numbers(&batches.take(ms(0))), [0]);
    assert_eq!(batches.due(), Some(ms(100)));
    assert!(batches.take(ms(99)).is_empty());
    assert_eq!(numbers(&batches.take(ms(100))), [1]);
    assert_eq!(numbers(&batches.take(ms(200))), [2]);
}
