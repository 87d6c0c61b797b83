//! Jobs with windows of every kind that run again over a stretch: what is compared does not depend on what
//! lies outside of it.

use streams::prelude::*;

use crate::jobs::{CLICKS, COUNTS, clicks};
use crate::replay::{app, counted, run, write};

fn by_page_and_user(t: &mut Topology) -> Stream<String, crate::jobs::Click> {
    t.stream(CLICKS).event_time(|c| c.at).key_by(|c| format!("{} {}", c.page, c.user))
}

fn hops(t: &mut Topology) {
    let windows = by_page_and_user(t).window(hopping(mins(1), secs(20)).grace(secs(10)));
    windows.count("clicks-per-minute").on_close().to(COUNTS);
}

fn slides(t: &mut Topology) {
    let windows = by_page_and_user(t).window(sliding(secs(20)).grace(secs(10)));
    windows.count("clicks-that-are-near").on_close().to(COUNTS);
}

fn sessions(t: &mut Topology) {
    let windows = by_page_and_user(t).window(session(secs(5)).grace(mins(1)));
    windows.count("clicks-per-visit").on_close().to(COUNTS);
}

fn sessions_as_they_grow(t: &mut Topology) {
    let windows = by_page_and_user(t).window(session(secs(5)).grace(mins(1)));
    windows.count("clicks-so-far").on_update().to(COUNTS);
}

#[test]
fn windows_of_every_kind_have_no_differences_wherever_their_stretch_begins_and_ends() {
    for topology in [hops as fn(&mut Topology), slides, sessions, sessions_as_they_grow] {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &clicks(5, 4, 200, 5_000));
        run(dir.path(), topology);
        for (from, until) in [(0, 200), (17, 190), (100, 200)] {
            let replay = app(dir.path(), topology).replay(At::Offset(from), At::Offset(until));
            let report = replay.compare().run().unwrap();
            let ([same, rest @ ..], differences) = counted(&report);
            assert_eq!((rest, differences), ([0, 0, 0], &[][..]), "{from}..{until}");
            assert!(same > 10, "{same} windows, {from}..{until}");
        }
    }
}
