//! `replay`: the job again over old input, with a progress bar, and what it came to.
//!
//! ```text
//!   a terminal:  a bar, refreshed in place (standard error)
//!   a pipe:      a line each 10 s
//! ```
//!
//! Ctrl-C finishes the transaction and stops; the same command goes on from there.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal};
use std::time::Duration;

use core_log::{Clock, SystemClock};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use super::args::Replay;
use super::table::{cut, grouped};
use super::{Ended, interrupt, print};
use crate::app::App;
use crate::error::Result;
use crate::replay::{Compared, Comparison, Difference, News, Report, Tick, Wish};
use crate::time::Instant;

/// How many differences of a topic are printed.
const SHOWN_MAX: usize = 20;
/// How many characters of a result are printed.
const RESULT_CHARS: usize = 100;
/// The lines of a pipe, one after the other.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Runs the job again and prints what came of it.
pub(super) fn replay(app: App, options: Replay) -> Result<Ended> {
    let app = match options.threads {
        Some(threads) => app.threads(threads),
        None => app,
    };
    let program = super::program(app.id());
    let title = format!("from {} until {}", options.from, options.until);
    let mut replay = app.replay(options.from, options.until);
    if let Some(name) = &options.name {
        replay = replay.name(name);
    }
    if options.compare {
        replay = replay.compare();
    }
    let interrupted = interrupt::listen()?;
    let mut shown = Shown {
        title,
        clock: SystemClock::new(),
        bar: None,
        started: None,
        line_at: Duration::ZERO,
    };
    let ran = replay.run_watched(&mut |news| {
        shown.show(&news)?;
        Ok(if interrupted.get() { Wish::Stop } else { Wish::GoOn })
    });
    shown.clear();
    let Some(report) = ran? else {
        print::text("stopped; the same command goes on from here\n")?;
        return Ok(Ended::Unfinished);
    };
    let of_name = options.name.map_or_else(String::new, |name| format!(" --name {name}"));
    print::text(&summary(&report, &format!("{program} tail{of_name}")))?;
    Ok(if report.has_differences() { Ended::Differs } else { Ended::Done })
}

/// What is shown while it runs.
struct Shown {
    title: String,
    clock: SystemClock,
    bar: Option<ProgressBar>,
    started: Option<Duration>,
    line_at: Duration,
}

impl Shown {
    fn show(&mut self, news: &News<'_>) -> Result<()> {
        match news {
            News::Begins(report) => self.begin(report),
            News::Runs(tick) => self.run(*tick),
            News::Compares => {
                self.clear();
                Ok(())
            }
        }
    }

    fn begin(&mut self, report: &Report) -> Result<()> {
        self.started = Some(self.clock.monotonic());
        self.line_at = self.clock.monotonic() + LINE_EVERY;
        // Whoever closes the pipe still wants the exit code.
        print::text(&banner(report, &self.title))?;
        if io::stderr().is_terminal() && io::stdout().is_terminal() {
            let bar = ProgressBar::new(report.stretch.iter().map(|part| part.len()).sum());
            bar.set_style(style());
            self.bar = Some(bar);
        }
        Ok(())
    }

    fn run(&mut self, tick: Tick) -> Result<()> {
        if let Some(bar) = &self.bar {
            bar.set_length(tick.total.max(tick.records));
            bar.set_position(tick.records);
            return Ok(());
        }
        let now = self.clock.monotonic();
        if now < self.line_at {
            return Ok(());
        }
        self.line_at = now + LINE_EVERY;
        let passed = now.saturating_sub(self.started.unwrap_or(now));
        print::text(&line(tick, passed)).map(drop)
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn banner(report: &Report, title: &str) -> String {
    let mut names: Vec<&str> = report.stretch.iter().map(|part| part.topic.as_str()).collect();
    names.dedup();
    let of = |name: &str| {
        let parts = report.stretch.iter().filter(|part| part.topic == name);
        let count = parts.clone().count();
        let records: u64 = parts.map(|part| part.len()).sum();
        let s = if count == 1 { "" } else { "s" };
        format!("{name} {count} partition{s} \u{b7} {} records", grouped(records))
    };
    let topics: Vec<String> = names.into_iter().map(of).collect();
    let goes_on = if report.resumed { " \u{b7} goes on where it was" } else { "" };
    format!("replaying {} \u{b7} {title}{goes_on}\n", topics.join(", "))
}

fn line(Tick { records, total }: Tick, passed: Duration) -> String {
    let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = records.saturating_mul(1_000) / millis;
    let percent = records.saturating_mul(100).checked_div(total).unwrap_or(100).min(100);
    let left = total.saturating_sub(records).checked_div(rate);
    let eta = left.map_or_else(|| "?".to_owned(), |seconds| format!("{} s", grouped(seconds)));
    format!("  {percent} %  {} rec  {} rec/s  ETA {eta}\n", grouped(records), grouped(rate))
}

fn summary(report: &Report, tail: &str) -> String {
    let mut text = String::new();
    let records = grouped(report.records);
    // Writing to a string cannot fail.
    let _written = writeln!(
        text,
        "replayed {records} records \u{b7} {} results \u{b7} {} late",
        grouped(report.progress.records_out),
        grouped(report.progress.late),
    );
    for compared in &report.compared {
        push_comparison(&mut text, compared);
    }
    for topic in &report.topics {
        let dir = report.dir.display();
        let _written = writeln!(text, "written to {topic} in {dir} (look at it: {tail} {topic})");
    }
    text
}

fn push_comparison(text: &mut String, compared: &Compared) {
    let Compared { then, now, comparison } = compared;
    match comparison {
        Comparison::Left { reason } => {
            let _written = writeln!(text, "not compared: {then} ({reason})");
        }
        Comparison::Counted { same, differ, only_then, only_now, differences } => {
            let _written = writeln!(
                text,
                "compare {then} with {now}: {} same \u{b7} {} differ \u{b7} {} only then \u{b7} {} only now",
                grouped(*same),
                grouped(*differ),
                grouped(*only_then),
                grouped(*only_now)
            );
            for difference in differences.iter().take(SHOWN_MAX) {
                let _written = writeln!(text, "  {}", difference_line(difference));
            }
            let all = differ + only_then + only_now;
            if all + same == 0 {
                text.push_str("  the stretch alone decides no result: make it longer\n");
            }
            let shown = u64::try_from(differences.len().min(SHOWN_MAX)).unwrap_or(u64::MAX);
            if all > shown {
                let _written = writeln!(text, "  and {} more", grouped(all - shown));
            }
        }
    }
}

fn difference_line(difference: &Difference) -> String {
    let window = difference.window.map(|(start, _)| format!("{} ", Instant(start)));
    let side = |value: &Option<String>| {
        value.as_ref().map_or_else(|| "-".to_owned(), |value| cut(value, RESULT_CHARS))
    };
    let reason = difference.reason.as_ref().map(|reason| format!("     ({reason})"));
    format!(
        "{}{}   then {}   now {}{}",
        window.unwrap_or_default(),
        difference.key,
        side(&difference.then),
        side(&difference.now),
        reason.unwrap_or_default()
    )
}

/// Records, rate and time left, with numbers as in every other line.
fn style() -> ProgressStyle {
    let template = "  {wide_bar} {percent:>3} %  {read} rec  {rate}/s  ETA {eta}";
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|_invalid| ProgressStyle::default_bar());
    // A bar that cannot be drawn takes nothing from the replay.
    let read = |state: &ProgressState, out: &mut dyn fmt::Write| {
        out.write_str(&grouped(state.pos())).ok();
    };
    let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
        let whole = format!("{:.0}", state.per_sec()).parse::<u64>().unwrap_or(0);
        out.write_str(&grouped(whole)).ok();
    };
    style.with_key("read", read).with_key("rate", rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_is_told_with_its_differences() {
        let difference = Difference {
            key: "/cart".into(),
            window: Some((1_795_083_120_000, 1_795_083_180_000)),
            then: Some("977".into()),
            now: Some("981".into()),
            reason: Some("4 records were late then: grace 10 s".into()),
        };
        let comparison = Comparison::Counted {
            same: 60_120,
            differ: 1,
            only_then: 1,
            only_now: 0,
            differences: vec![difference],
        };
        let (then, now) = ("page-counts".to_owned(), "page-counts-replay".to_owned());
        let mut text = String::new();
        push_comparison(&mut text, &Compared { then, now, comparison });
        assert_eq!(
            text,
            "compare page-counts with page-counts-replay: 60 120 same \u{b7} 1 differ \u{b7} 1 only then \u{b7} 0 only now\n\
             \x20 2026-11-19T10:12:00Z /cart   then 977   now 981     (4 records were late then: grace 10 s)\n\
             \x20 and 1 more\n"
        );
    }

    #[test]
    fn a_comparison_of_nothing_says_so_and_a_long_result_is_cut() {
        let of = |differ, differences| {
            let comparison =
                Comparison::Counted { same: 0, differ, only_then: 0, only_now: 0, differences };
            let mut text = String::new();
            push_comparison(&mut text, &Compared { then: "a".into(), now: "b".into(), comparison });
            text
        };
        assert!(
            of(0, Vec::new()).ends_with("  the stretch alone decides no result: make it longer\n")
        );
        let then = Some("x".repeat(101));
        let long = Difference { key: "k".into(), window: None, then, now: None, reason: None };
        let expected = format!("  k   then {}..   now -\n", "x".repeat(98));
        assert!(of(1, vec![long]).ends_with(&expected));
    }

    #[test]
    fn a_line_tells_how_far_it_is_and_how_long_it_will_take() {
        let tick = Tick { records: 580, total: 1_000 };
        assert_eq!(line(tick, Duration::from_secs(2)), "  58 %  580 rec  290 rec/s  ETA 1 s\n");
        assert!(line(Tick { records: 0, total: 5 }, Duration::ZERO).ends_with("ETA ?\n"));
    }
}
