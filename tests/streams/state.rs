//! Stores: what survives, what is replayed, what aborted input may touch.

use std::collections::BTreeMap;

use streams::prelude::*;

use crate::equal::latest;

const IN: Topic<String, u64> = topic("in");
const SUMS: Topic<String, u64> = topic("sums");

fn sums(t: &mut Topology) {
    t.stream(IN).aggregate("sums", |sum: &mut u64, n| *sum += n).to(SUMS);
}

fn expected(rounds: u64) -> BTreeMap<String, u64> {
    (0..50).map(|k| (format!("k{k}"), rounds * (k + 1))).collect()
}

fn send_round(d: &mut TestDriver) {
    for k in 0..50 {
        d.send(IN, format!("k{k}"), k + 1);
    }
}

#[test]
fn a_store_keeps_its_rows_across_restarts_and_replays_only_the_tail() {
    let mut d = TestDriver::new(sums).partitions(2).seed(4);
    for _ in 0..20 {
        send_round(&mut d);
    }
    d.stop();
    let before = d.restored();
    send_round(&mut d);
    d.run().unwrap();
    assert_eq!(d.restored(), before, "a clean stop leaves nothing to replay");
    d.stop();
    d.run().unwrap();
    assert_eq!(d.restored(), before);
    d.crash();
    send_round(&mut d);
    assert_eq!(latest(&d.read_records(SUMS)), expected(22));
    let replayed = d.restored() - before;
    assert!(replayed < 500, "{replayed} changelog records replayed: that is not a tail");
}

#[test]
fn rows_come_back_from_the_changelog_when_the_store_is_lost() {
    for seed in 0..20 {
        let mut d = TestDriver::new(sums).partitions(3).seed(seed).crash_every(35);
        for _ in 0..6 {
            send_round(&mut d);
        }
        assert_eq!(latest(&d.read_records(SUMS)), expected(6), "seed {seed}");
        d.crash();
        send_round(&mut d);
        let rows = latest(&d.read_records(SUMS));
        assert_eq!(rows, expected(7), "seed {seed}");
    }
}

#[test]
fn a_windows_rows_are_deleted_when_it_closes() {
    const CLOSED: Topic<Windowed<String>, u64> = topic("closed");
    fn windows(t: &mut Topology) {
        t.stream(IN).window(tumbling(secs(1))).count("n").on_close().to(CLOSED);
    }
    const ROWS: Topic<Windowed<String>, u64, Bincode> = topic("test-n-changelog").bincode();
    let mut d = TestDriver::new(windows).seed(9).crash_every(7);
    for second in 0..30 {
        d.send_at(IN, "a".into(), 1, second * 1_000).send_at(IN, "b".into(), 1, second * 1_000 + 5);
    }
    d.advance_to(20_000);
    let open = latest(&d.read_records(ROWS));
    assert!(open.keys().all(|w| w.end > 29_000), "{open:?}");
    assert_eq!(d.read(CLOSED).len() + open.len(), 60);
}
