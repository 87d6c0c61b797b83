//! S001: nothing comes out, and nothing is wrong: windows wait for event time. Pure.

use std::time::Duration;

use super::table::{duration, moment};
use crate::query::{SourceLine, Status};

/// How long nothing may come out before somebody may wonder, and how often that is said at most.
const QUIET: Duration = Duration::from_secs(60);

/// When it is time for the hint.
#[derive(Debug)]
pub(super) struct Quiet {
    records_out: u64,
    since: Duration,
    said: Option<Duration>,
}

impl Quiet {
    pub(super) fn new(now: Duration) -> Self {
        Self { records_out: 0, since: now, said: None }
    }

    /// For how long nothing has come out, when that is to be said now.
    pub(super) fn is_due(&mut self, records_out: u64, now: Duration) -> Option<Duration> {
        if records_out != self.records_out {
            (self.records_out, self.since) = (records_out, now);
        }
        let quiet = now.saturating_sub(self.since);
        let was_said = self.said.is_some_and(|said| now.saturating_sub(said) < QUIET);
        if quiet < QUIET || was_said {
            return None;
        }
        self.said = Some(now);
        Some(quiet)
    }
}

/// Why windows wait, and for what; `None` where none do. `quiet_ms`: for how long nothing has come out.
pub(super) fn s001(status: &Status, quiet_ms: Option<i64>) -> Option<String> {
    let open = |store: &&crate::query::StoreLine| store.earliest_end.is_some() && store.rows > 0;
    let waiting = status.windows.iter().filter_map(|window| {
        let mut stores = status.stores.iter().filter(|store| store.store == window.store);
        Some((window, stores.find(open)?))
    });
    let (window, store) = waiting.min_by_key(|(_, store)| store.earliest_end)?;
    let due = store.earliest_end?.saturating_add(window.delay_ms);
    let quiet =
        quiet_ms.map_or_else(String::new, |ms| format!("no output for {}, and ", duration(ms)));
    let more = if store.has_more { "more than " } else { "" };
    let mut text = format!(
        "hint[S001]: {quiet}nothing is wrong: {more}{} windows of {} wait for event time\n",
        store.rows, store.store
    );
    text.push_str(&format!("  the oldest closes when event time reaches {}\n", moment(due)));
    if let Some(source) = window.held_by.and_then(|at| status.sources.get(at)) {
        text.push_str(&format!("  {}\n", holds(source)));
    }
    text.push_str(
        "  help: windows close when a later record comes, in each partition that feeds them\n        \
         a silent one is passed over while others move (after 10 s); sooner: .idle_after(secs(5))\n",
    );
    Some(text)
}

fn holds(source: &SourceLine) -> String {
    let place = format!("partition {} of {}", source.partition, source.topic);
    let at = match source.event_time {
        Some(time) => format!("is at {}", moment(time)),
        None if source.end == source.start => "is empty".to_owned(),
        None => "has given no event time yet".to_owned(),
    };
    let silent = match source.silent_ms {
        Some(ms) if source.lag == 0 => {
            format!("\n  (read to its end, silent for {})", duration(ms))
        }
        _ if source.lag > 0 => format!("\n  ({} of its records are still to be read)", source.lag),
        _ => String::new(),
    };
    format!("{place} {at} and holds the others back{silent}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::{StoreLine, WindowLine};

    fn status(rows: u64) -> Status {
        let source = |partition, event_time| SourceLine {
            topic: "clicks".into(),
            partition,
            is_table: false,
            position: Some(5),
            start: 0,
            end: 5,
            lag: 0,
            lag_ms: Some(0),
            event_time,
            silent_ms: Some(8_000),
        };
        let store = StoreLine {
            store: "per-page".into(),
            key: "String".into(),
            value: "u64".into(),
            is_windowed: true,
            partitions: 2,
            rows,
            has_more: false,
            bytes: 10,
            earliest_end: (rows > 0).then_some(1_763_546_640_000),
            cache_hits: 0,
            cache_misses: 0,
        };
        let window = WindowLine {
            store: "per-page".into(),
            delay_ms: 10_000,
            closed_to: None,
            held_by: Some(1),
        };
        Status {
            job: "job".into(),
            running: None,
            sources: vec![source(0, Some(1_763_546_700_000)), source(1, Some(1_763_546_638_000))],
            windows: vec![window],
            stores: vec![store],
        }
    }

    #[test]
    fn the_hint_is_due_after_a_minute_and_then_once_a_minute() {
        let mut quiet = Quiet::new(Duration::from_secs(5));
        let mut at = |out, seconds| quiet.is_due(out, Duration::from_secs(seconds));
        assert_eq!([at(0, 6), at(0, 64)], [None, None]);
        assert_eq!(at(0, 65), Some(QUIET));
        assert_eq!([at(0, 66), at(0, 124)], [None, None]);
        assert_eq!(at(0, 125), Some(Duration::from_secs(120)));
        assert_eq!([at(1, 200), at(1, 259)], [None, None]);
        assert_eq!(at(1, 260), Some(QUIET));
    }

    #[test]
    fn it_says_what_is_waited_for_and_who_holds_it_back() {
        assert_eq!(
            s001(&status(214), Some(60_000)).unwrap(),
            "hint[S001]: no output for 1 m 0 s, and nothing is wrong: 214 windows of per-page wait for \
             event time\n\
             \x20 the oldest closes when event time reaches 2025-11-19T10:04:10Z\n\
             \x20 partition 1 of clicks is at 2025-11-19T10:03:58Z and holds the others back\n\
             \x20 (read to its end, silent for 8.0 s)\n\
             \x20 help: windows close when a later record comes, in each partition that feeds them\n\
             \x20       a silent one is passed over while others move (after 10 s); sooner: .idle_after(secs(5))\n"
        );
        assert_eq!(s001(&status(0), None), None);
    }
}
