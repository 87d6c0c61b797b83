//! `run`: the job, watched until it ends, falls idle or is interrupted.
//!
//! ```text
//!   running --- Ctrl-C, SIGTERM, idle ---> stopping (finish the transaction, flush) ---> exit 0
//!                                             `--- Ctrl-C again ---> exit 130, at once
//! ```
//!
//! With `--progress` the job belongs to the process that reads its output: it stops when that is gone.
//!
//! A stop at once is as safe as a crash: the next start goes on from the last commit.

use std::io::{self, IsTerminal};
use std::time::Duration;

use core_log::{Clock, SystemClock, Timestamp};

use super::args::Run;
use super::hint::{Quiet, s001};
use super::table::grouped;
use super::{Ended, interrupt, print};
use crate::app::{App, Handle};
use crate::error::Result;
use crate::runtime::Progress;

/// How often the counters are looked at, for a script and for a person.
const SCRIPT_TICK: Duration = Duration::from_millis(1);
const PERSON_TICK: Duration = Duration::from_millis(20);
/// `--progress`: a line once that many more records have been read, and after a commit.
const LINE_RECORDS: u64 = 1_000;
/// The status line, refreshed in place or one after the other.
const REFRESH: Duration = Duration::from_millis(250);
const LINE_EVERY: Duration = Duration::from_secs(10);
/// How often silent partitions are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Runs the job until it ends.
pub(super) fn run(app: App, options: &Run) -> Result<Ended> {
    let app = match options.threads {
        Some(threads) => app.threads(threads),
        None => app,
    };
    let interrupted = interrupt::listen()?;
    let clock = SystemClock::new();
    let mut status = Status::new(options.progress, clock.monotonic());
    let banner = format!(
        "{} \u{b7} exactly-once \u{b7} log {} (embedded)",
        app.id(),
        app.log_dir().display()
    );
    let handle = app.start()?;
    // Must be AFTER the start: whoever reads it may count on the job to own the log.
    if !options.progress {
        status.note(&banner)?;
    }
    for line in handle.recovery() {
        status.note(&format!("recovered: {line}"))?;
    }
    let mut stopping = false;
    while !handle.wait_timeout(if options.progress { SCRIPT_TICK } else { PERSON_TICK }) {
        let idle = options.until_idle.is_some_and(|limit| handle.is_idle_for(limit));
        if !stopping && (idle || interrupted.get() || status.is_abandoned()) {
            stopping = true;
            handle.stop();
        }
        status.show(&handle.progress(), clock.monotonic(), clock.now_ms())?;
        if !options.progress && !stopping {
            status.wonder(&handle, clock.monotonic())?;
        }
    }
    let progress = handle.wait()?;
    status.end(&progress)
}

/// What is shown while the job runs.
struct Status {
    script: bool,
    in_place: bool,
    shown: Progress,
    shown_at: Duration,
    /// Nobody reads any more.
    closed: bool,
    quiet: Quiet,
    looked_at: Duration,
}

impl Status {
    fn new(script: bool, now: Duration) -> Self {
        let in_place = !script && io::stdout().is_terminal();
        Self {
            script,
            in_place,
            shown: Progress::default(),
            shown_at: now,
            closed: false,
            quiet: Quiet::new(now),
            looked_at: now,
        }
    }

    /// Whether the script that started the job is gone. A person may close the pipe and let it run.
    fn is_abandoned(&self) -> bool {
        self.script && self.closed
    }

    fn note(&mut self, text: &str) -> Result<()> {
        self.write(&format!("{text}\n"))
    }

    fn show(&mut self, progress: &Progress, now: Duration, now_ms: Timestamp) -> Result<()> {
        let passed = now.saturating_sub(self.shown_at);
        let text = if self.script {
            let has_read = progress.records_read >= self.shown.records_read + LINE_RECORDS;
            if !has_read && progress.commits == self.shown.commits {
                return Ok(());
            }
            script_line(progress)
        } else {
            if passed < if self.in_place { REFRESH } else { LINE_EVERY } {
                return Ok(());
            }
            let line = person_line(&self.shown, progress, passed, now_ms);
            if self.in_place { format!("\r{line}\x1b[K") } else { format!("{line}\n") }
        };
        self.shown = *progress;
        self.shown_at = now;
        self.write(&text)
    }

    /// Says why nothing comes out, when that has been so for a while and nothing is wrong.
    fn wonder(&mut self, handle: &Handle, now: Duration) -> Result<()> {
        if now.saturating_sub(self.looked_at) < LOOK_EVERY {
            return Ok(());
        }
        self.looked_at = now;
        let looked = handle.look();
        let due = self.quiet.is_due(handle.progress().records_out, now);
        let status = match (looked, due) {
            (Ok(()), Some(_)) => handle.status(),
            // A hint is not worth a failure: what is wrong shows in the job itself.
            _ => return Ok(()),
        };
        let quiet_ms = due.and_then(|quiet| i64::try_from(quiet.as_millis()).ok());
        let Some(hint) = status.ok().and_then(|status| s001(&status, quiet_ms)) else {
            return Ok(());
        };
        let start = if self.in_place { "\r\x1b[K" } else { "" };
        self.write(&format!("{start}{hint}"))
    }

    fn end(&mut self, progress: &Progress) -> Result<Ended> {
        let text = if self.script { script_line(progress) } else { last_line(progress) };
        let start = if self.in_place { "\r\x1b[K" } else { "" };
        self.write(&format!("{start}{text}"))?;
        Ok(if self.closed { Ended::OutputClosed } else { Ended::Done })
    }

    fn write(&mut self, text: &str) -> Result<()> {
        if !self.closed {
            let ended = print::output(|out| out.write_all(text.as_bytes()))?;
            self.closed = ended == Ended::OutputClosed;
        }
        Ok(())
    }
}

/// `read` counts records taken in, `in` those whose transaction is committed.
fn script_line(p: &Progress) -> String {
    format!(
        "read={} in={} out={} filtered={} late={} skipped={} dead_letters={} commits={} restored={}\n",
        p.records_read,
        p.records_in,
        p.records_out,
        p.filtered,
        p.late,
        p.skipped,
        p.dead_letters,
        p.commits,
        p.restored_records
    )
}

fn person_line(before: &Progress, now: &Progress, passed: Duration, now_ms: Timestamp) -> String {
    let per_second = |before: u64, now: u64| {
        let millis = passed.as_millis().max(1);
        u128::from(now.saturating_sub(before)) * 1000 / millis
    };
    let time = match jiff::Timestamp::from_millisecond(now_ms) {
        Ok(time) => time.strftime("%H:%M:%SZ").to_string(),
        Err(_) => now_ms.to_string(),
    };
    let not_taken = not_taken(now).map_or_else(String::new, |text| format!("  {text}"));
    format!(
        "{time}  in {}/s  out {}/s  total {}  filtered {}  late {}{not_taken}  commits {}",
        per_second(before.records_in, now.records_in),
        per_second(before.records_out, now.records_out),
        now.records_in,
        now.filtered,
        now.late,
        now.commits,
    )
}

fn last_line(p: &Progress) -> String {
    let mut text = format!(
        "stopped: {} records in, {} out, {} filtered, {} late, {} commits\n",
        grouped(p.records_in),
        grouped(p.records_out),
        grouped(p.filtered),
        grouped(p.late),
        grouped(p.commits)
    );
    if let Some(not_taken) = not_taken(p) {
        text.push_str(&format!("  not taken: {not_taken}\n"));
    }
    if p.null_keys + p.null_values > 0 {
        text.push_str(&format!(
            "  left out: {} without a key, {} without a value\n",
            grouped(p.null_keys),
            grouped(p.null_values)
        ));
    }
    text
}

/// Records that a step could not take, where there are any.
fn not_taken(p: &Progress) -> Option<String> {
    let any = p.skipped + p.dead_letters > 0;
    any.then(|| format!("{} skipped, {} dead letters", grouped(p.skipped), grouped(p.dead_letters)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_counted_since_the_line_before() {
        let before = Progress { records_in: 1_000, records_out: 10, ..Progress::default() };
        let now = Progress { records_in: 6_000, records_out: 30, late: 2, ..before };
        let line = person_line(&before, &now, Duration::from_millis(500), 0);
        assert_eq!(
            line,
            "00:00:00Z  in 10000/s  out 40/s  total 6000  filtered 0  late 2  commits 0"
        );
    }

    #[test]
    fn records_that_were_not_taken_are_told_where_there_are_any() {
        let some = Progress { skipped: 2, dead_letters: 1, ..Progress::default() };
        assert!(last_line(&some).contains("\n  not taken: 2 skipped, 1 dead letters\n"));
        let many = Progress { records_in: 200_000, ..some };
        assert!(last_line(&many).starts_with("stopped: 200 000 records in, 0 out, "));
        let line = person_line(&some, &some, REFRESH, 0);
        assert!(line.contains("late 0  2 skipped, 1 dead letters  commits 0"), "{line}");
        assert!(script_line(&some).contains(" skipped=2 dead_letters=1 commits=0 "));
        assert!(!last_line(&Progress::default()).contains("not taken"));
    }

    #[test]
    fn nothing_left_out_is_not_mentioned() {
        assert!(!last_line(&Progress::default()).contains("left out"));
        let one = Progress { null_keys: 1, ..Progress::default() };
        assert!(last_line(&one).contains("1 without a key, 0 without a value"));
    }
}
