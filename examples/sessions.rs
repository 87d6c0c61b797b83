//! Visits of a site: the clicks of each visitor, as sessions that end after half an hour of silence.
//!
//! ```text
//!   clicks (key: visitor) --> sessions: gap 30 min, grace 5 min --> visits
//!                               pages and money of a visit, told once, when it is over
//! ```
//!
//! The job runs in a child process that is killed (SIGKILL) on the way and runs again to the end. Then every
//! visit is compared with what a plain loop over the sorted clicks of each visitor says.
//!
//! ```console
//! $ cargo run --example sessions                          # writes, runs, kills, runs again, verifies
//! $ cargo run --example sessions -- topology
//! $ cargo run --example sessions -- state list
//! $ cargo run --example sessions -- tail visits -o -5
//! ```

#[path = "support/killed.rs"]
mod killed;
mod support;

use std::collections::BTreeMap;
use std::process::ExitCode;

use killed::{run_and_kill, run_child};
use streams::prelude::*;
use support::{Outcome, PARTITIONS, dir_of, new_log, say, write};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Click {
    page: String,
    cents: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Visit {
    pages: u64,
    cents: u64,
}

const CLICKS: Topic<String, Click> = topic("clicks");
const VISITS: Topic<Windowed<String>, Visit> = topic("visits");

const GAP_MS: i64 = 30 * 60_000;

fn topology(t: &mut Topology) {
    t.stream(CLICKS)
        .filter(|click| !click.page.starts_with("/health"))
        .window(session(mins(30)).grace(mins(5)))
        .aggregate(
            "visits-by-visitor",
            |visit: &mut Visit, click| {
                visit.pages += 1;
                visit.cents += click.cents;
            },
            |visit, later| {
                visit.pages += later.pages;
                visit.cents += later.cents;
            },
        )
        .on_close()
        .to(VISITS);
}

fn app() -> App {
    App::new("sessions", topology).log(dir_of("sessions"))
}

fn main() -> ExitCode {
    support::main(app(), demo)
}

const START_MS: i64 = 1_767_607_200_000;
const CLICK_COUNT: u64 = 120_000;
const VISITOR_COUNT: u64 = 900;

/// Clicks of a day, some of them up to a minute late. Visitors come, click for a while, and go.
fn clicks() -> Vec<(String, Click, i64)> {
    let mut random = 11_u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % below
    };
    let click = |n: u64| {
        // About four hundred visitors are there at a time; others come as the day goes on.
        let visitor = (n / 600 + next(20) * next(20)) % VISITOR_COUNT;
        let delay = if next(5) == 0 { i64::try_from(next(60_000)).unwrap_or(0) } else { 0 };
        let at = START_MS + i64::try_from(n).unwrap_or(0) * 700 - delay;
        let page = if next(50) == 0 { "/health".to_owned() } else { format!("/{}", next(40)) };
        (format!("visitor-{visitor:03}"), Click { page, cents: next(500) }, at)
    };
    (0..CLICK_COUNT).map(click).collect()
}

/// One click of each partition long after all others, or else the last visits would stay open. The
/// filter leaves it out: what a filter drops moves the time all the same.
fn closing(at: i64) -> Vec<(String, Click, i64)> {
    let mut of_partition = BTreeMap::new();
    for number in 0.. {
        let visitor = format!("nobody-{number}");
        let partition = core_log::partition_for(visitor.as_bytes(), PARTITIONS);
        of_partition.entry(partition).or_insert(visitor);
        if of_partition.len() == usize::try_from(PARTITIONS).unwrap_or(1) {
            break;
        }
    }
    let click = |visitor| (visitor, Click { page: "/health".to_owned(), cents: 0 }, at);
    of_partition.into_values().map(click).collect()
}

/// Visits by visitor, first click and last click.
type Visits = BTreeMap<(String, i64, i64), Visit>;

/// The visits by a plain loop: the clicks of each visitor sorted, and cut where there is a gap.
fn expected(clicks: &[(String, Click, i64)]) -> Visits {
    let mut by_visitor: BTreeMap<&String, Vec<(i64, u64)>> = BTreeMap::new();
    for (visitor, click, at) in clicks.iter().filter(|(_, click, _)| click.page != "/health") {
        by_visitor.entry(visitor).or_default().push((*at, click.cents));
    }
    let mut visits = Visits::new();
    for (visitor, mut clicks) in by_visitor {
        clicks.sort_unstable();
        for visit in clicks.chunk_by(|(one, _), (next, _)| next - one <= GAP_MS) {
            let [(start, _), ..] = visit else { continue };
            let end = visit.last().map_or(*start, |(at, _)| *at);
            let pages = u64::try_from(visit.len()).unwrap_or(u64::MAX);
            let cents = visit.iter().map(|(_, cents)| cents).sum();
            visits.insert((visitor.clone(), *start, end), Visit { pages, cents });
        }
    }
    visits
}

fn demo() -> Outcome<bool> {
    let dir = dir_of("sessions");
    let log = new_log(&dir)?;
    let clicks = clicks();
    let end = START_MS + 48 * 3_600_000;
    write(&log, CLICKS, clicks.iter().cloned().chain(closing(end)))?;
    log.close()?;
    drop(log);
    say(&format!("sessions \u{b7} {CLICK_COUNT} clicks \u{b7} log {}", dir.display()));
    let run = run_and_kill(&dir, CLICK_COUNT / 3)?;
    say(&format!("killed at record {} (SIGKILL on purpose)", run.read));
    run_child(&dir)?;

    let mut found = Visits::new();
    let mut twice = 0;
    for record in Log::open(&dir)?.read(VISITS) {
        let record = record?;
        let (Some(window), Some(visit)) = (record.key, record.value) else { continue };
        let place = (window.key, window.start, window.end);
        twice += u64::from(found.insert(place, visit).is_some());
    }
    let expected = expected(&clicks);
    let lost = expected.keys().filter(|place| !found.contains_key(*place)).count();
    let wrong = found.iter().filter(|(place, visit)| expected.get(*place) != Some(visit)).count();
    let most = found.iter().max_by_key(|(_, visit)| visit.pages);
    if let Some(((visitor, start, end), visit)) = most {
        let minutes = (end - start) / 60_000;
        let Visit { pages, cents } = visit;
        say(&format!("the longest: {visitor}, {pages} pages in {minutes} minutes, {cents} cents"));
    }
    let visitors =
        found.keys().map(|(visitor, ..)| visitor).collect::<std::collections::BTreeSet<_>>();
    let is_right = run.killed && lost == 0 && wrong == 0 && twice == 0 && found == expected;
    let word = if is_right { "verified" } else { "wrong" };
    say(&format!(
        "{word}: {} visits of {} visitors \u{b7} {lost} lost \u{b7} {wrong} wrong \u{b7} {twice} twice",
        found.len(),
        visitors.len(),
    ));
    Ok(is_right)
}
