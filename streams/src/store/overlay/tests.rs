//! Rows that stay from one transaction to the next, beside an overlay of which none does.

use proptest::prelude::*;

use super::*;
use crate::store::{Backend, CacheOptions, Flusher, MemoryBackend};

/// An overlay that remembers what rows were, over a cache of so many bytes.
fn opened(clean_bytes_max: usize) -> Overlay<String> {
    let name = StoreName::new("s").unwrap();
    let store = MemoryBackend::new(0).open(std::slice::from_ref(&name)).unwrap().remove(0);
    let options = CacheOptions { clean_bytes_max, dirty_rows_max: 8, ..CacheOptions::default() };
    let mut rows = Overlay::new(name);
    rows.keep_old();
    rows.open(RowCache::open(store, 0, options, Flusher::inline()));
    rows
}

/// Everything that a step can learn of a row.
fn told(rows: &mut Overlay<String>, key: u8) -> String {
    let place = rows.find(&[key]).unwrap();
    let row = rows.at(place);
    let (times, old) = ((row.timestamp, row.source_time), (&row.old, row.old_timestamp));
    format!("{:?} {times:?} {old:?} {} {}", row.value, row.committed, row.unsent)
}

/// The records of the changelog.
fn prepared(rows: &mut Overlay<String>) -> Vec<(i64, Vec<u8>, Option<Vec<u8>>)> {
    let mut logged = Vec::new();
    rows.prepare(|timestamp, key, value| {
        logged.push((timestamp, key.to_vec(), value.map(<[u8]>::to_vec)));
        Ok::<_, StoreError>(())
    })
    .unwrap();
    logged
}

proptest! {
    /// Whatever stays, a transaction finds each row as if it had loaded it, visits what it touches in the
    /// same order, and writes the same changelog.
    #[test]
    fn a_row_that_stayed_is_as_one_that_is_loaded(
        ops in prop::collection::vec((0_u8..12, 0_u8..8, 1_i64..9), 0..200),
        kept_bytes in prop::sample::select(vec![1_500_usize, 8_000, 1 << 20]),
    ) {
        let (mut keeping, mut forgetting) = (opened(kept_bytes), opened(0));
        for (offset, (key, what, at)) in (0..).zip(ops) {
            prop_assert_eq!(told(&mut keeping, key), told(&mut forgetting, key));
            let stamp = Stamp { timestamp: at, source_time: at + 1 };
            for rows in [&mut keeping, &mut forgetting] {
                let place = rows.find(&[key]).unwrap();
                let row = rows.at(place);
                match what {
                    0 => row.delete(),
                    1 => row.replace(None, stamp),
                    2 | 3 => {
                        row.value.get_or_insert_default().push('x');
                        row.touch(stamp);
                    }
                    4 => row.replace(Some("new".to_owned()), stamp),
                    5 => {
                        row.take_unsent();
                    }
                    _ => {}
                }
            }
            let touched = |rows: &Overlay<String>| {
                (0..rows.len()).map(|nth| rows.rows[rows.touched(nth)].key.clone()).collect::<Vec<_>>()
            };
            prop_assert_eq!(touched(&keeping), touched(&forgetting));
            if what == 6 {
                prop_assert_eq!(prepared(&mut keeping), prepared(&mut forgetting));
            }
            if what >= 6 {
                let reached =
                    Checkpoint { log_id: [0; 16], topic_id: [0; 16], leader_epoch: 0, offset };
                keeping.committed(Some(reached), 0);
                forgetting.committed(Some(reached), 0);
                keeping.behind().step(0).unwrap();
                forgetting.behind().step(0).unwrap();
            }
        }
    }
}

#[test]
fn rows_go_when_they_are_too_many_and_their_bytes_with_them() {
    let mut rows = opened(4_000);
    for key in 0..100 {
        let place = rows.find(&[key]).unwrap();
        rows.at(place).replace(Some("v".repeat(10)), Stamp { timestamp: 1, source_time: 1 });
        if key % 4 == 3 {
            prepared(&mut rows);
            rows.committed(None, 0);
            assert!(rows.kept_bytes <= 2_000, "{} bytes", rows.kept_bytes);
            let sum: usize = rows.rows.iter().map(Row::kept_bytes).sum();
            assert_eq!(sum, rows.kept_bytes);
            assert_eq!(rows.len(), 0);
        }
    }
    let kept = rows.rows.len();
    assert!((1..20).contains(&kept), "{kept} rows stayed");
}
