//! Windows of share groups against a model, and their metadata.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const A: HolderId = HolderId(1);
const B: HolderId = HolderId(2);
const SECOND: Duration = Duration::from_secs(1);
const LIMITS: Limits = Limits { lock: Duration::from_secs(30), deliveries: 3, records: 100 };

fn claim(window: &mut Window, by: HolderId, now: Duration, most: usize) -> Vec<Offset> {
    let Some(from) = window.first_free(&LIMITS) else { return Vec::new() };
    let offsets: Vec<_> = (from..10).collect();
    let claimed = window.claim(from..10, &offsets, by, now, (most, &LIMITS));
    claimed.into_iter().map(|(offset, _)| offset).collect()
}

#[test]
fn a_record_has_one_holder_until_its_lock_ends() {
    let mut window = Window::from_committed(0, b"");
    assert_eq!(claim(&mut window, A, Duration::ZERO, 2), [0, 1]);
    assert_eq!(claim(&mut window, B, SECOND, 2), [2, 3]);
    assert!(!window.acknowledge(0, B, SECOND, Acknowledge::Accept), "it is not its own");
    assert!(window.acknowledge(1, A, SECOND, Acknowledge::Accept));
    assert_eq!(window.to_committed(), (0, b"hws1\x02".to_vec()));
    assert!(window.acknowledge(2, B, SECOND, Acknowledge::Release));
    assert_eq!(claim(&mut window, A, SECOND, 1), [2]);
    assert_eq!(window.first_end(), Some(LIMITS.lock));
    assert_eq!(window.expire(LIMITS.lock, &LIMITS), (1, vec![]));
    assert!(!window.acknowledge(0, A, LIMITS.lock, Acknowledge::Accept), "its lock has ended");
    assert_eq!(claim(&mut window, B, LIMITS.lock, 1), [0]);
    assert!(window.acknowledge(0, B, LIMITS.lock, Acknowledge::Reject));
    assert_eq!(window.to_committed(), (2, vec![]));
    assert_eq!(window.free_of(B, &LIMITS), (1, vec![]));
    assert_eq!(claim(&mut window, A, LIMITS.lock, 1), [3]);
}

#[test]
fn what_is_delivered_too_often_is_given_up_and_named() {
    let mut window = Window::from_committed(5, b"");
    for delivery in 1..=3 {
        let claimed = window.claim(5..6, &[5], A, Duration::ZERO, (1, &LIMITS));
        assert_eq!(claimed, [(5, delivery)]);
        let (freed, given_up) = window.free_of(A, &LIMITS);
        assert_eq!((freed, given_up), (1, if delivery == 3 { vec![5] } else { vec![] }));
    }
    assert_eq!(window.to_committed(), (6, vec![]));
    assert!(window.is_dirty);
}

#[test]
fn a_window_that_is_full_hands_out_nothing_new() {
    let limits = Limits { records: 2, ..LIMITS };
    let mut window = Window::from_committed(0, b"");
    let claimed = window.claim(0..4, &[0, 1, 2, 3], A, Duration::ZERO, (9, &limits));
    assert_eq!(claimed.len(), 2);
    assert!(window.acknowledge(1, A, Duration::ZERO, Acknowledge::Accept));
    assert_eq!(window.first_free(&limits), None);
    assert!(window.acknowledge(0, A, Duration::ZERO, Acknowledge::Accept));
    assert_eq!(window.first_free(&limits), Some(2));
    // Far apart: the bitmap could not name both.
    let mut wide = Window::from_committed(0, b"");
    let (read, offsets) = (0..SPAN_MAX + 1, [0, SPAN_MAX - 1, SPAN_MAX]);
    let claimed = wide.claim(read, &offsets, A, SECOND, (9, &LIMITS));
    assert_eq!(claimed.len(), 2);
    assert!(wide.acknowledge(SPAN_MAX - 1, A, SECOND, Acknowledge::Accept));
    let (start, metadata) = wide.to_committed();
    assert_eq!((start, metadata.len()), (0, 4096));
    assert_eq!(wide.first_free(&LIMITS), None);
    assert_eq!(Window::from_committed(start, &metadata).to_committed(), (start, metadata));
}

#[test]
fn what_retention_took_or_a_cut_lost_is_forgotten() {
    let mut window = Window::from_committed(0, b"");
    assert_eq!(claim(&mut window, A, Duration::ZERO, 8).len(), 8);
    window.clip(3, 6);
    assert_eq!(window.to_committed().0, 3);
    assert_eq!(window.free_of(A, &LIMITS).0, 3);
    assert_eq!(claim(&mut window, A, Duration::ZERO, 1), [3]);
}

#[test]
fn what_compaction_takes_meanwhile_holds_up_nothing() {
    let mut window = Window::from_committed(0, b"");
    assert_eq!(claim(&mut window, A, Duration::ZERO, 9).len(), 9);
    window.free_of(A, &LIMITS);
    assert_eq!(window.claim(0..10, &[7], B, SECOND, (9, &LIMITS)), [(7, 2)]);
    // The ninth, behind it, is gone too.
    assert_eq!(window.to_committed(), (7, b"hws1\x02".to_vec()));
    // A gap that is wider than a window, from its start on and from its end on.
    let far = SPAN_MAX * 3 + 5;
    let mut window = Window::from_committed(0, b"");
    let mut claimed = Vec::new();
    while claimed.is_empty() {
        let from = window.first_free(&LIMITS).expect("nothing is held");
        claimed = window.claim(from..far + 1, &[far], A, SECOND, (9, &LIMITS));
    }
    assert_eq!((claimed, window.to_committed().0), (vec![(far, 1)], far));
}

#[test]
fn metadata_of_somebody_else_says_nothing() {
    for metadata in [&b""[..], b"a note", b"hws", b"hws2\xff"] {
        assert_eq!(Window::from_committed(7, metadata), Window::from_committed(7, b""));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Claim(HolderId, usize),
    Acknowledge(HolderId, usize, Acknowledge),
    Pass(u64),
    Gone(HolderId),
    /// A crash: the window comes back from what was committed.
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let holder = || prop_oneof![Just(A), Just(B)];
    let what = prop_oneof![
        4 => Just(Acknowledge::Accept),
        1 => Just(Acknowledge::Release),
        1 => Just(Acknowledge::Reject)
    ];
    let step = prop_oneof![
        4 => (holder(), 1..5_usize).prop_map(|(by, most)| Step::Claim(by, most)),
        6 => (holder(), 0..6_usize, what).prop_map(|(by, n, what)| Step::Acknowledge(by, n, what)),
        1 => (1..40_u64).prop_map(Step::Pass),
        1 => holder().prop_map(Step::Gone),
        1 => Just(Step::Crash),
    ];
    proptest::collection::vec(step, 1..120)
}

proptest! {
    #[test]
    fn each_record_is_held_once_and_what_is_done_is_never_handed_out_again(steps in steps()) {
        // Records at every third offset: the rest was compacted away.
        let log: Vec<Offset> = (0..40).map(|n| n * 3).collect();
        let limits = Limits { deliveries: u32::MAX, records: 12, ..LIMITS };
        let mut window = Window::from_committed(0, b"");
        let mut held: BTreeMap<Offset, (HolderId, Duration)> = BTreeMap::new();
        let mut done: BTreeSet<Offset> = BTreeSet::new();
        let mut now = Duration::ZERO;
        for step in steps {
            match step {
                Step::Claim(by, most) => {
                    let Some(from) = window.first_free(&limits) else { continue };
                    let offsets: Vec<_> = log.iter().copied().filter(|o| *o >= from).collect();
                    for (offset, _) in window.claim(from..120, &offsets, by, now, (most, &limits)) {
                        prop_assert!(!done.contains(&offset), "{} is done", offset);
                        prop_assert_eq!(held.insert(offset, (by, now + limits.lock)), None);
                    }
                }
                Step::Acknowledge(by, n, what) => {
                    let Some((&offset, &(holder, until))) = held.iter().nth(n) else { continue };
                    let may = holder == by && now < until;
                    prop_assert_eq!(window.acknowledge(offset, by, now, what), may);
                    if may {
                        held.remove(&offset);
                        if what != Acknowledge::Release {
                            done.insert(offset);
                        }
                    }
                }
                Step::Pass(seconds) => {
                    now += SECOND * u32::try_from(seconds).unwrap();
                    window.expire(now, &limits);
                    held.retain(|_, (_, until)| *until > now);
                }
                Step::Gone(holder) => {
                    window.free_of(holder, &limits);
                    held.retain(|_, (by, _)| *by != holder);
                }
                Step::Crash => {
                    let (start, metadata) = window.to_committed();
                    window = Window::from_committed(start, &metadata);
                    held.clear();
                }
            }
            let (start, _) = window.to_committed();
            let below: Vec<_> = log.iter().filter(|offset| **offset < start).collect();
            prop_assert!(below.iter().all(|offset| done.contains(offset)), "skipped below {}", start);
        }
    }
}
