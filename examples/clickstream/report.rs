//! What the demo shows: progress while it works, then a table and the account.
//!
//! On a terminal each step is a bar that moves; in a pipe it is one plain line when the step ends, so
//! that a log of the demo reads from top to bottom.
#![expect(clippy::print_stdout, reason = "printing is what this file is for")]

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::access_log::Rejected;
use crate::verifier::{Account, Window};

/// Rows of the table before the rest is only counted.
const ROWS: usize = 12;
/// Rejected lines that are shown one by one.
const REJECTED_ROWS: usize = 20;
const LABEL_WIDTH: usize = 10;
const PAGE_WIDTH: usize = 46;

/// One step of the demo, with its bar where there is a terminal.
pub(crate) struct Step {
    label: &'static str,
    text: String,
    bar: ProgressBar,
}

impl Step {
    /// Shows the step at 0 of `total`, where that is known.
    pub(crate) fn start(label: &'static str, text: &str, total: Option<u64>) -> Self {
        let target = if std::io::stdout().is_terminal() {
            ProgressDrawTarget::stdout()
        } else {
            ProgressDrawTarget::hidden()
        };
        let template = match total {
            Some(_) => "  {prefix:<9} {msg}  {bar:20} {percent:>3} %  {rate}",
            None => "  {prefix:<9} {msg}  {pos}  {rate}",
        };
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_bad_template| ProgressStyle::default_bar())
            .progress_chars("\u{2588}\u{2593}\u{2591}")
            .with_key("rate", write_rate);
        let bar = ProgressBar::with_draw_target(total, target)
            .with_style(style)
            .with_prefix(label)
            .with_message(text.to_owned());
        Self { label, text: text.to_owned(), bar }
    }

    /// Moves the bar.
    pub(crate) fn at(&self, done: u64) {
        self.bar.set_position(done);
    }

    /// Shows a line of its own above the bar.
    pub(crate) fn note(&self, label: &str, text: &str) {
        self.bar.suspend(|| line(label, text));
    }

    /// Ends the step with what came of it.
    pub(crate) fn finish(self, outcome: &str) {
        self.bar.finish_and_clear();
        let separator = if outcome.is_empty() { "" } else { " \u{b7} " };
        line(self.label, &format!("{}{separator}{outcome}", self.text));
    }
}

/// What the example can do.
pub(crate) fn help(text: &str) -> ExitCode {
    print!("{text}");
    ExitCode::SUCCESS
}

/// An error.
#[expect(clippy::print_stderr, reason = "a program tells its user what is wrong")]
pub(crate) fn complain(text: &str) {
    eprintln!("{text}");
}

/// A line that starts with what it is about.
pub(crate) fn line(label: &str, text: &str) {
    println!("  {label:<LABEL_WIDTH$}{text}");
}

/// The first line of the demo.
pub(crate) fn title(log: &str, partitions: u32) {
    let version = env!("CARGO_PKG_VERSION");
    println!(
        "clickstream {version} \u{b7} log {log} ({partitions} partitions) \u{b7} exactly-once"
    );
}

/// Lines of the input that are no requests.
pub(crate) fn rejected(lines: &[Rejected]) {
    if lines.is_empty() {
        return;
    }
    line("rejected", &format!("{} not parsed", plural(count(lines), "line")));
    for rejected in lines.iter().take(REJECTED_ROWS) {
        line("", &format!("line {}: {}", rejected.line, rejected.reason));
    }
    if lines.len() > REJECTED_ROWS {
        line("", &format!("and lines {}", ranges(lines[REJECTED_ROWS..].iter().map(|r| r.line))));
    }
}

/// Ascending numbers as `4, 7-9`.
fn ranges(numbers: impl Iterator<Item = u64>) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let text = |&(first, last): &(u64, u64)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// The results and what became of every click.
pub(crate) fn account(account: &Account) {
    table(account);
    let closed = plural(count(&account.closed), "closed window");
    let open = plural(account.open_windows, "window");
    let rows = [
        (format!("counted in {closed}"), account.in_closed),
        (format!("counted in {open} still open"), account.in_open),
        ("late, left out".to_owned(), account.late),
        ("bots, filtered".to_owned(), account.filtered),
        ("written".to_owned(), account.written),
    ];
    println!();
    for (what, number) in rows {
        println!(" {what:<64} {:>9}", grouped(number));
    }
    println!();
    let verdict = if account.is_exact() { "verified" } else { "NOT EXACT" };
    println!(
        "{verdict}: {} written \u{b7} {} counted \u{b7} {} bots filtered \u{b7} {} late \u{b7} {} lost \u{b7} {} twice",
        grouped(account.written),
        grouped(account.in_closed + account.in_open),
        grouped(account.filtered),
        grouped(account.late),
        grouped(account.lost),
        grouped(account.twice),
    );
    if account.misplaced > 0 {
        println!("  {} closed too early or not in time", plural(account.misplaced, "window"));
    }
}

/// The first windows.
fn table(account: &Account) {
    println!("\n {:<17} {:<PAGE_WIDTH$} {:>9}", "minute (UTC)", "page", "clicks");
    for (window, count) in account.closed.iter().take(ROWS) {
        let page = printable(&window.page);
        println!(" {:<17} {page:<PAGE_WIDTH$} {:>9}", minute(window), grouped(*count));
    }
    let more = account.closed.len().saturating_sub(ROWS);
    if more > 0 {
        println!(" and {}", plural(u64::try_from(more).unwrap_or(u64::MAX), "more window"));
    }
}

/// A page as it fits the table; a log may hold anything, also what would move the cursor.
fn printable(page: &str) -> String {
    let clean: String = page.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if clean.chars().count() <= PAGE_WIDTH {
        return clean;
    }
    let start: String = clean.chars().take(PAGE_WIDTH - 1).collect();
    format!("{start}\u{2026}")
}

/// `1 line`, `2 lines`.
fn plural(number: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// What to try next.
pub(crate) fn next(log: &str) {
    let command = if log == "./data" {
        "cargo run --example clickstream --".to_owned()
    } else {
        format!("STREAMS_LOG={log} cargo run --example clickstream --")
    };
    println!("next:  {command} tail page-counts");
    println!("       {command} topology");
    println!("       {command} run");
}

/// `1234567` as `1 234 567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

fn write_rate(state: &ProgressState, out: &mut dyn std::fmt::Write) {
    let per_second = format!("{:.0}", state.per_sec()).parse().unwrap_or(0);
    // A rate that cannot be shown is no reason to stop.
    out.write_str(&format!("{} rec/s", grouped(per_second))).ok();
}

/// `number` things in `took`, as a rate.
pub(crate) fn rate(number: u64, took: Duration) -> String {
    let micros = took.as_micros().max(1);
    let per_second = u128::from(number) * 1_000_000 / micros;
    format!("{} rec/s", grouped(u64::try_from(per_second).unwrap_or(u64::MAX)))
}

fn count<T>(items: &[T]) -> u64 {
    u64::try_from(items.len()).unwrap_or(u64::MAX)
}

fn minute(window: &Window) -> String {
    match jiff::Timestamp::from_millisecond(window.start) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M").to_string(),
        Err(_) => window.start.to_string(),
    }
}
