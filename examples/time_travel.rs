//! A mistake in a job is mended, and the last hour is run again beside what the job wrote then.
//!
//! ```text
//!   views --> job with the mistake --> views-per-page          three hours, as it happened
//!     `-----> the mended job ---------> views-per-page-replay   the last hour again, compared
//! ```
//!
//! The job counts views per page and minute, but takes `/home?from=mail` for a page of its own. The
//! replay runs the mended job over the last hour in state and topics of its own: what is live stays as it
//! is. The comparison shows what the mistake has cost, before anybody decides what to do about it.
//!
//! ```console
//! $ cargo run --example time_travel                                  # writes, runs, replays, verifies
//! $ cargo run --example time_travel -- replay --from @2026-01-05T12:00Z --compare
//! $ cargo run --example time_travel -- tail views-per-page-replay
//! $ cargo run --example time_travel -- reset --to start              # shows what it would do
//! ```

mod support;
#[path = "support/undisturbed.rs"]
mod undisturbed;

use std::collections::BTreeMap;
use std::process::ExitCode;

use streams::prelude::*;
use streams::{Comparison, Difference};
use support::{Outcome, dir_of, new_log, say, write};
use undisturbed::run_to_the_end;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct View {
    url: String,
}

const VIEWS: Topic<String, View> = topic("views");
const PER_PAGE: Topic<Windowed<String>, u64> = topic("views-per-page");
const AGAIN: Topic<Windowed<String>, u64> = topic("views-per-page-replay");

fn count_by(t: &mut Topology, page: fn(&View) -> String) {
    t.stream(VIEWS)
        .key_by(page)
        .window(tumbling(mins(1)))
        .count("views-by-page")
        .on_close()
        .to(PER_PAGE);
}

/// As it ran for three hours.
fn with_the_mistake(t: &mut Topology) {
    count_by(t, |view| view.url.clone());
}

/// As it should have been.
fn mended(t: &mut Topology) {
    count_by(t, |view| page_of(&view.url).to_owned());
}

fn page_of(url: &str) -> &str {
    url.split_once('?').map_or(url, |(page, _query)| page)
}

fn app(topology: fn(&mut Topology)) -> App {
    App::new("views", topology).log(dir_of("time_travel"))
}

fn main() -> ExitCode {
    support::main(app(mended), demo)
}

/// 2026-01-05 10:00 UTC.
const START_MS: i64 = 1_767_607_200_000;
const HOUR_MS: i64 = 3_600_000;
const MINUTE_MS: i64 = 60_000;
const STEP_MS: i64 = 100;
const USERS: i64 = 100;
const PAGES: [&str; 4] = ["/home", "/home?from=mail", "/cart", "/about"];

/// Three hours of views and a minute more, in which every user is seen: so every window before it closes.
fn views() -> impl Iterator<Item = (String, View, i64)> {
    (0..(3 * HOUR_MS + MINUTE_MS) / STEP_MS).map(|n| {
        let page = PAGES[usize::try_from(n * n % 11 % 4).unwrap_or(0)];
        (format!("user-{}", n % USERS), View { url: page.to_owned() }, START_MS + n * STEP_MS)
    })
}

type Counts = BTreeMap<(String, i64), u64>;

/// Views per page and minute of the last whole hour, counted without `streams`.
fn counted(page: fn(&str) -> &str) -> Counts {
    let mut counts = Counts::new();
    let hour = START_MS + 2 * HOUR_MS..START_MS + 3 * HOUR_MS;
    for (_, view, at) in views().filter(|(_, _, at)| hour.contains(at)) {
        let minute = at - at.rem_euclid(MINUTE_MS);
        *counts.entry((page(&view.url).to_owned(), minute)).or_default() += 1;
    }
    counts
}

fn demo() -> Outcome<bool> {
    let dir = dir_of("time_travel");
    let log = new_log(&dir)?;
    write(&log, VIEWS, views())?;
    log.close()?;
    say(&format!("time travel \u{b7} three hours of views \u{b7} log {}", dir.display()));
    let progress = run_to_the_end(app(with_the_mistake))?;
    say(&format!("  {} views counted by the job with the mistake", progress.records_in));

    let from = At::Time((START_MS + 2 * HOUR_MS).into());
    let report = app(mended).replay(from, At::End).compare().run()?;
    say(&format!("  {} views of the last hour replayed by the mended one", report.records));
    let [compared] = &report.compared[..] else {
        return Err("the job writes one topic".into());
    };
    let Comparison::Counted { same, differ, only_then, only_now, differences } =
        &compared.comparison
    else {
        return Err("windows can be compared".into());
    };
    let (then, now) = (&compared.then, &compared.now);
    say(&format!(
        "compare {then} with {now}: {same} same \u{b7} {differ} differ \u{b7} {only_then} only then \u{b7} {only_now} only now"
    ));
    for Difference { key, window, then, now, .. } in differences.iter().take(2) {
        let or_nothing = |count: &Option<String>| count.clone().unwrap_or("-".to_owned());
        let minute = window.map_or(0, |(start, _)| start / MINUTE_MS % (24 * 60));
        let (hour, minute) = (minute / 60, minute % 60);
        let (then, now) = (or_nothing(then), or_nothing(now));
        say(&format!("  {hour:02}:{minute:02} {key}   then {then}   now {now}"));
    }

    let mut written = Counts::new();
    for record in Log::open(&report.dir)?.read(AGAIN) {
        let record = record?;
        let (Some(window), Some(views)) = (record.key, record.value) else {
            return Err("a count has a window and a value".into());
        };
        written.insert((window.key, window.start), views);
    }
    let (wrong, right) = (counted(|url| url), counted(page_of));
    let count = |is: &dyn Fn(Option<&u64>, Option<&u64>) -> bool| {
        let keys: std::collections::BTreeSet<_> = wrong.keys().chain(right.keys()).collect();
        let found = keys.into_iter().filter(|key| is(wrong.get(*key), right.get(*key))).count();
        u64::try_from(found).unwrap_or(u64::MAX)
    };
    let exact = written == right
        && *same == count(&|then, now| then == now)
        && *differ == count(&|then, now| then.is_some() && now.is_some() && then != now)
        && *only_then == count(&|_, now| now.is_none())
        && *only_now == count(&|then, _| then.is_none());
    let verdict = if exact { "verified" } else { "WRONG" };
    say(&format!(
        "{verdict}: the replay counts every view of the hour once, and the comparison names each window that was wrong"
    ));
    Ok(exact)
}
