//! `status`: once, or refreshed in place until Ctrl-C.
//!
//! ```text
//!   clickstream . RUNNING 2 h 14 m . exactly-once . 41 commits (p50 4 ms, p99 9 ms) . 0 restarts
//!   SOURCE   PART  POSITION      END  LAG  LAG TIME  EVENT TIME            RATE/s
//!   WINDOWS        ..
//!   NOT PROCESSED  ..
//!   STATE          ..
//! ```
//!
//! Invariants
//! * on a terminal the screen is refreshed in place; piped, each refresh is a block of its own.

use std::io::{self, IsTerminal};
use std::time::Duration;

use core_log::{Clock, SystemClock};

use super::args::Status as Options;
use super::hint::s001;
use super::state::{rows_text, unexpected};
use super::table::{Side, cut, duration, grouped, moment, size, table};
use super::{Ended, interrupt, print, reach};
use crate::app::App;
use crate::error::Result;
use crate::query::{Answer, Live, Question, SourceLine, Status, StoreLine, WindowLine};

const REFRESH: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(50);
/// Home, and behind the text clear what is left of the screen before.
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K\n";
const CLEAR_REST: &str = "\x1b[J";

/// Shows how the job goes.
pub(super) fn status(app: &App, options: &Options) -> Result<Ended> {
    if !options.watch {
        let status = ask(app)?;
        return print::text(&shown(&status, None, options.json)?);
    }
    let interrupted = interrupt::listen()?;
    let in_place = !options.json && io::stdout().is_terminal();
    let clock = SystemClock::new();
    let mut before: Option<(Status, Duration)> = None;
    while !interrupted.get() {
        let (status, now) = (ask(app)?, clock.monotonic());
        let since = before.as_ref().map(|(status, at)| (status, now.saturating_sub(*at)));
        let text = shown(&status, since, options.json)?;
        let text = match (in_place, &before) {
            (true, None) => format!("\x1b[2J{}", screen(&text)),
            (true, Some(_)) => screen(&text),
            (false, Some(_)) if !options.json => format!("\n{text}"),
            (false, _) => text,
        };
        if print::text(&text)? == Ended::OutputClosed {
            return Ok(Ended::OutputClosed);
        }
        before = Some((status, now));
        while !interrupted.get() && clock.monotonic().saturating_sub(now) < REFRESH {
            std::thread::park_timeout(TICK);
        }
    }
    Ok(Ended::Done)
}

fn screen(text: &str) -> String {
    format!("{HOME}{}{CLEAR_REST}", text.replace('\n', CLEAR_LINE))
}

fn ask(app: &App) -> Result<Status> {
    match reach::ask(app, &Question::Status)? {
        Answer::Status(status) => Ok(*status),
        _ => unexpected(),
    }
}

fn shown(status: &Status, before: Option<(&Status, Duration)>, json: bool) -> Result<String> {
    if json {
        let line = serde_json::to_string(status).expect("a status is plain data with text keys");
        return Ok(line + "\n");
    }
    let mut text = head(status);
    text.push_str(&sources(status, before));
    for window in &status.windows {
        text.push_str(&format!("WINDOWS  {}\n", windows(status, window)));
    }
    if let Some(Live { progress: p, .. }) = &status.running {
        text.push_str(&format!(
            "NOT PROCESSED  late {} \u{b7} dead letters {} \u{b7} skipped {} \u{b7} filtered {} \u{b7} null keys {} \u{b7} \
             null values {}\n",
            grouped(p.late),
            grouped(p.dead_letters),
            grouped(p.skipped),
            grouped(p.filtered),
            grouped(p.null_keys),
            grouped(p.null_values)
        ));
    }
    for store in &status.stores {
        let (rows, bytes) = (rows_text(store), size(store.bytes));
        let (partitions, memory) = (store.partitions, from_memory(store));
        text.push_str(&format!(
            "STATE    {}  rows {rows} \u{b7} {bytes} \u{b7} {partitions} partitions{memory}\n",
            store.store
        ));
    }
    if status.running.is_some() && status.sources.iter().all(|source| source.lag == 0) {
        text.push_str(&s001(status, None).unwrap_or_default());
    }
    Ok(text)
}

/// How many lookups were answered from memory; nothing where there were none.
fn from_memory(store: &StoreLine) -> String {
    let (hits, misses) = (u128::from(store.cache_hits), u128::from(store.cache_misses));
    match (hits * 1_000).checked_div(hits + misses) {
        None => String::new(),
        Some(permille) => {
            format!(" \u{b7} {}.{} % of lookups from memory", permille / 10, permille % 10)
        }
    }
}

fn head(status: &Status) -> String {
    let job = &status.job;
    let Some(live) = &status.running else {
        return format!("{job} \u{b7} STOPPED \u{b7} what its log says\n");
    };
    let times = live.commit_us.map_or_else(String::new, |(p50, p99)| {
        let ms = |us: u64| format!("{}.{} ms", us / 1_000, us % 1_000 / 100);
        format!(" (p50 {}, p99 {})", ms(p50), ms(p99))
    });
    format!(
        "{job} \u{b7} RUNNING {} (pid {}) \u{b7} exactly-once \u{b7} {} commits{times} \u{b7} {} restarts\n",
        duration(live.uptime_ms),
        live.pid,
        grouped(live.progress.commits),
        live.progress.restarts
    )
}

fn sources(status: &Status, before: Option<(&Status, Duration)>) -> String {
    let mut columns = vec![
        ("SOURCE", Side::Left),
        ("PART", Side::Right),
        ("POSITION", Side::Right),
        ("END", Side::Right),
        ("LAG", Side::Right),
        ("LAG TIME", Side::Right),
        ("EVENT TIME", Side::Left),
    ];
    if before.is_some() {
        columns.push(("RATE/s", Side::Right));
    }
    let rows: Vec<Vec<String>> = status
        .sources
        .iter()
        .enumerate()
        .map(|(at, source)| {
            let mut cells = source_cells(source);
            if let Some((before, passed)) = before {
                let known = before.sources.get(at).filter(|b| b.partition == source.partition);
                let from = known.and_then(|b| b.position).or(source.position).unwrap_or(0);
                cells.push(rate(from, source.position.unwrap_or(0), passed));
            }
            cells
        })
        .collect();
    table(&columns, &rows)
}

fn source_cells(source: &SourceLine) -> Vec<String> {
    let unknown = || "-".to_owned();
    vec![
        cut(&source.topic, 24),
        source.partition.to_string(),
        source.position.map_or_else(unknown, grouped),
        grouped(source.end),
        grouped(source.lag),
        source.lag_ms.map_or_else(unknown, duration),
        source.event_time.map_or_else(unknown, moment),
    ]
}

fn rate(before: i64, now: i64, passed: Duration) -> String {
    let ms = i128::try_from(passed.as_millis().max(1)).unwrap_or(i128::MAX);
    grouped(i128::from(now.saturating_sub(before).max(0)) * 1_000 / ms)
}

fn windows(status: &Status, window: &WindowLine) -> String {
    let mut parts = Vec::new();
    let store = status.stores.iter().find(|store| store.store == window.store);
    if let Some(store) = store {
        parts.push(format!("open {}", rows_text(store)));
    }
    parts.push(match window.closed_to {
        Some(time) => format!("closed to {}", moment(time)),
        None => "none closed yet".to_owned(),
    });
    if let Some(end) = store.and_then(|store| store.earliest_end) {
        let due = moment(end.saturating_add(window.delay_ms));
        parts.push(format!("next at {due}"));
    }
    format!("{}  {}", window.store, parts.join(" \u{b7} "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_per_second_and_never_negative() {
        assert_eq!(rate(1_000, 3_000, Duration::from_millis(500)), "4 000");
        assert_eq!(rate(3_000, 1_000, Duration::ZERO), "0");
    }

    #[test]
    fn a_screen_leaves_nothing_of_the_one_before() {
        assert_eq!(screen("a\nb\n"), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
    }
}
