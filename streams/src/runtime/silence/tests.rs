//! The rule in named cases, and that it comes to rest in random ones.

use proptest::prelude::*;

use super::*;

const AFTER: Duration = Duration::from_secs(10);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Read to its end; last read from at this second.
fn source(partition: u32, clock: i64, read_at: u64) -> SourceState {
    SourceState {
        topic: "in".into(),
        partition,
        position: 0,
        clock,
        is_at_end: true,
        read_at: at(read_at),
        raised_at: None,
        holds_windows: true,
    }
}

fn raises(sources: &[SourceState], now: u64) -> Vec<(u32, i64)> {
    let plan = plan(sources, at(now), AFTER);
    plan.raises.iter().map(|raise| (raise.partition, raise.to)).collect()
}

#[test]
fn a_silent_partition_is_raised_to_the_smallest_of_those_that_move() {
    let sources = [source(0, 500, 18), source(1, 400, 19), source(2, 100, 9)];
    assert_eq!(raises(&sources, 18), []);
    assert_eq!(raises(&sources, 19), [(2, 400)]);
    assert_eq!(plan(&sources, at(12), AFTER).next, Some(at(19)), "when to look again");
}

#[test]
fn an_empty_partition_is_passed_over_and_an_unknown_clock_is_no_goal() {
    assert_eq!(raises(&[source(0, 500, 20), source(1, i64::MIN, 0)], 20), [(1, 500)]);
    assert_eq!(raises(&[source(0, i64::MIN, 20), source(1, 7, 0)], 20), []);
}

#[test]
fn where_all_are_silent_nothing_moves() {
    let sources = [source(0, 500, 0), source(1, 100, 0)];
    assert_eq!(plan(&sources, at(10), AFTER), Plan::default());
    assert_eq!(plan(&sources, at(5), AFTER), Plan::default(), "and nothing will");
}

#[test]
fn a_partition_that_is_still_being_read_moves_and_is_not_raised() {
    let behind = SourceState { is_at_end: false, ..source(1, 100, 0) };
    assert_eq!(raises(&[source(0, 500, 99), behind.clone()], 100), []);
    assert_eq!(raises(&[source(0, 50, 0), behind], 100), [(0, 100)]);
}

#[test]
fn a_topic_that_no_window_depends_on_neither_moves_a_clock_nor_holds_one() {
    let table = SourceState { holds_windows: false, ..source(0, 900, 20) };
    assert_eq!(raises(&[table.clone(), source(1, 100, 0)], 20), []);
    assert_eq!(raises(&[table, source(1, 100, 0), source(2, 300, 20)], 20), [(1, 300)]);
}

#[test]
fn a_partition_that_stays_silent_follows_once_a_second_and_once_more_in_the_end() {
    let raised =
        |clock, raised_at| SourceState { raised_at: Some(raised_at), ..source(1, clock, 0) };
    let half = Duration::from_millis(500);
    let sources = [source(0, 600, 20), raised(500, at(20) - half)];
    let soon = plan(&sources, at(20), AFTER);
    assert_eq!((soon.raises.len(), soon.next), (0, Some(at(20) + half)));
    assert_eq!(raises(&sources, 21), [(1, 600)]);
    assert_eq!(plan(&[source(0, 600, 20), raised(600, at(21))], at(22), AFTER), Plan::default());
}

#[test]
fn without_patience_all_that_is_read_to_its_end_is_as_far_as_the_furthest() {
    let behind = SourceState { is_at_end: false, ..source(2, 5, 0) };
    let sources = [source(0, 500, 3), source(1, 100, 3), behind];
    let plan = plan(&sources, at(3), Duration::ZERO);
    assert_eq!(plan.raises.len(), 1);
    assert_eq!((plan.raises[0].partition, plan.raises[0].to), (1, 500));
}

#[test]
fn the_longest_patience_never_ends() {
    let sources = [source(0, 500, 3), source(1, 100, 3)];
    assert_eq!(plan(&sources, Duration::MAX - at(1), Duration::MAX), Plan::default());
}

proptest! {
    /// Carried out whenever it says so, with nothing read any more: clocks only rise, never above those
    /// that moved, and after a while there is nothing left to do.
    #[test]
    fn raises_come_to_rest(
        list in prop::collection::vec((0i64..50, 0u64..30, any::<bool>()), 1..6), after in 0u64..12,
    ) {
        let state = |(p, &(clock, read_at, is_at_end)): (u32, &(i64, u64, bool))| SourceState {
            is_at_end, ..source(p, clock, read_at)
        };
        let mut sources: Vec<_> = (0..).zip(&list).map(state).collect();
        let most = sources.iter().map(|source| source.clock).max().unwrap();
        let mut now = at(30);
        for _ in 0..40 {
            let plan = plan(&sources, now, at(after));
            for raise in &plan.raises {
                let raised = sources.iter_mut().find(|s| s.partition == raise.partition).unwrap();
                prop_assert!(raised.clock < raise.to && raise.to <= most);
                (raised.clock, raised.raised_at) = (raise.to, Some(now));
            }
            match plan.next {
                Some(next) => { prop_assert!(next > now); now = next; }
                None if plan.raises.is_empty() => return Ok(()),
                None => {}
            }
        }
        prop_assert!(false, "it never comes to rest: {sources:?}");
    }
}
