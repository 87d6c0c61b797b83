//! The demo: write the clicks, run the job in a child process, kill it twice, let it finish, verify.
//!
//! ```text
//!   prepare -> write -> [count -> SIGKILL] x 2 -> count to the end -> verify
//! ```
//!
//! Why a child process: SIGKILL leaves no chance to tidy up, as a crash does not. Each kill comes after
//! a random number of bytes of the child's progress, so that it falls anywhere in the work.
//!
//! Invariants
//! * the input is opened before anything is replaced;
//! * a child ends when this process does: nobody reads its progress any more;
//! * the log is closed while the child runs: one process owns a log directory.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use core_log::{
    BatchBuilder, Clock, Durability, Log, NO_HEADERS, SystemClock, Topic, TopicSettings,
};

use crate::directory::{self, DEMO};
use crate::error::Error;
use crate::generator::{PARTITIONS, Placed, Random};
use crate::input::{self, Input, Source};
use crate::report::{self, Step, grouped, rate};
use crate::verifier;

const KILL_SEED_VARIABLE: &str = "DEMO_SEED";
const KILLS: u32 = 2;
/// A kill falls into the first quarter of a run, so that there is work left for the next one.
const KILL_BEFORE_SHARE: u64 = 4;
/// What `run --progress` prints at least for that many records.
const PROGRESS_LINE_BYTES: u64 = 40;
const PROGRESS_LINE_RECORDS: u64 = 2_500;
/// How its lines begin.
const COUNTS: &[u8] = b"read=";
const BATCH_BYTES: usize = 64 << 10;

/// Runs the demo in `dir`; true if every click is accounted for, once.
///
/// # Errors
///
/// What kept the demo from its end; a wrong account is not an error but `false`.
pub(crate) fn run(dir: &Path, source: &Source) -> Result<bool, Error> {
    let input = input::open(source)?;
    let shown = dir.display().to_string();
    let replaced = directory::replace_earlier_demo(dir)?;
    let log = directory::open_log(dir)?;
    report::title(&shown, PARTITIONS);
    if replaced {
        report::line("replaced", "the data of an earlier demo in this directory");
    }
    let written = write(&log, input)?;
    log.close()?;
    let seed = kill_seed();
    let mut random = Random::new(seed);
    let mut done = 0;
    for _kill in 0..KILLS {
        count(dir, written, &mut done, Some(kill_after(written, &mut random)))?;
    }
    count(dir, written, &mut done, None)?;
    let log = directory::open_log(dir)?;
    let account = verifier::verify(&log)?;
    log.close()?;
    report::account(&account);
    let exact = account.is_exact() && account.written == written;
    if exact {
        report::next(&shown);
    } else {
        report::line("wrong", &format!("{} clicks were written", grouped(written)));
        report::line("again", &format!("{KILL_SEED_VARIABLE}={seed} kills at the same bytes"));
    }
    Ok(exact)
}

/// Writes the input to topic `clicks`; returns how many clicks it had.
fn write(log: &Log, input: Input) -> Result<u64, Error> {
    // Event times may be years old: what the demo wrote must not expire before it is looked at.
    let kept =
        |partitions| TopicSettings { partitions, retention_ms: None, ..TopicSettings::default() };
    log.create_topic(DEMO, kept(1))?;
    let clicks = log.create_topic("clicks", kept(PARTITIONS))?;
    log.create_topic("page-counts", kept(PARTITIONS))?;
    let clock = SystemClock::new();
    let started = clock.monotonic();
    let step = Step::start("writing", &input.text, input.total);
    let written = append(log, &clicks, input.clicks, &step)?;
    let speed = rate(written, clock.monotonic().saturating_sub(started));
    match input.total {
        Some(_) => step.finish(&speed),
        None => step.finish(&format!("{} clicks \u{b7} {speed}", grouped(written))),
    }
    report::rejected(&input.rejected.borrow());
    Ok(written)
}

/// Appends clicks in batches of one partition each, stamped with the time of writing.
fn append(
    log: &Log,
    topic: &Topic,
    input: impl Iterator<Item = Result<Placed, Error>>,
    step: &Step,
) -> Result<u64, Error> {
    let clock = SystemClock::new();
    // The log is closed, which syncs everything, before anyone relies on it.
    let mut producer = log.producer(Durability::Os)?;
    let mut batches: BTreeMap<u32, BatchBuilder> = BTreeMap::new();
    let mut written = 0;
    let mut json = Vec::new();
    for placed in input {
        let placed = placed?;
        json.clear();
        serde_json::to_writer(&mut json, &placed.click)?;
        let batch = batches.entry(placed.partition).or_default();
        batch.push(clock.now_ms(), None, Some(&json), NO_HEADERS).map_err(core_log::Error::from)?;
        written += 1;
        if batch.len_bytes() >= BATCH_BYTES {
            producer.append(topic, placed.partition, batch)?;
            batch.clear();
            step.at(written);
        }
    }
    for (partition, mut batch) in batches {
        if !batch.is_empty() {
            producer.append(topic, partition, &mut batch)?;
        }
    }
    Ok(written)
}

fn kill_seed() -> u64 {
    let given = std::env::var(KILL_SEED_VARIABLE).ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| SystemClock::new().now_ms().unsigned_abs())
}

/// After how many bytes of progress the next child is killed.
fn kill_after(written: u64, random: &mut Random) -> u64 {
    let lines = (written / KILL_BEFORE_SHARE / PROGRESS_LINE_RECORDS).max(1);
    1 + random.below(lines * PROGRESS_LINE_BYTES)
}

/// What a child has said on its pipe.
#[derive(Debug, Default)]
struct Progress {
    line: Vec<u8>,
    /// Bytes of lines that count records; what recovery says comes before them.
    bytes: u64,
    /// Records read, whether or not they were committed.
    read: u64,
    /// Records committed.
    committed: u64,
    /// What it did to recover, not yet shown.
    recovered: Vec<String>,
}

impl Progress {
    /// Takes what came on the pipe; whether `limit` bytes of progress have come.
    fn take(&mut self, bytes: &[u8], limit: u64) -> bool {
        for &byte in bytes {
            self.line.push(byte);
            if self.line.starts_with(COUNTS) {
                // The first bytes of a line count once it is known what it is.
                self.bytes += if self.line == COUNTS { count_of(COUNTS) } else { 1 };
            }
            if byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                self.take_line(String::from_utf8_lossy(&line).trim_end());
            }
            if self.bytes >= limit {
                return true;
            }
        }
        false
    }

    fn take_line(&mut self, line: &str) {
        if let Some(what) = line.strip_prefix("recovered: ") {
            self.recovered.push(what.to_owned());
        }
        for (name, number) in line.split(' ').filter_map(|part| part.split_once('=')) {
            match (name, number.parse()) {
                ("read", Ok(number)) => self.read = number,
                ("in", Ok(number)) => self.committed = number,
                _ => {}
            }
        }
    }
}

/// Runs the job in a child process, to its end or until it has printed `kill_after` bytes. Adds what it
/// committed to `done`.
fn count(dir: &Path, written: u64, done: &mut u64, kill_after: Option<u64>) -> Result<(), Error> {
    let step = Step::start("counting", "clicks -> page-counts", Some(written));
    let mut child = spawn(dir)?;
    let mut progress = Progress::default();
    let limit = kill_after.unwrap_or(u64::MAX);
    let mut is_due = false;
    if let Some(mut pipe) = child.stdout.take() {
        let mut buffer = [0; 256];
        while !is_due {
            let got = pipe.read(&mut buffer).map_err(|e| system("read progress", e))?;
            if got == 0 {
                break;
            }
            is_due = progress.take(&buffer[..got], limit);
            for what in progress.recovered.drain(..) {
                step.note("recover", &what);
            }
            step.at(*done + progress.read);
        }
    }
    if is_due {
        child.kill().map_err(|e| system("kill the job", e))?;
    }
    let status = child.wait().map_err(|e| system("wait for the job", e))?;
    let at = grouped(*done + progress.read);
    *done += progress.committed;
    match kill_after {
        Some(bytes) if is_due => step.finish(&format!(
            "killed (SIGKILL on purpose) near record {at}, at byte {bytes} of its progress"
        )),
        _ if !status.success() => return Err(Error::Job { status: status.to_string() }),
        Some(_) => step.finish("finished before it could be killed"),
        None => step.finish("done"),
    }
    Ok(())
}

fn count_of(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn spawn(dir: &Path) -> Result<Child, Error> {
    let program = std::env::current_exe().map_err(|e| system("find this program", e))?;
    Command::new(program)
        .args(["run", "--until-idle", "500ms", "--progress"])
        .env("STREAMS_LOG", dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| system("start the job", e))
}

fn system(what: &'static str, source: io::Error) -> Error {
    Error::System { what, source }
}
