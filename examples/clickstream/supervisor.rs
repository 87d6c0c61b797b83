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
//! * only a directory that holds an earlier demo and nothing else is ever replaced;
//! * the log is closed while the child runs: one process owns a log directory.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use core_log::{
    BatchBuilder, Clock, Durability, Log, NO_HEADERS, SystemClock, Topic, TopicSettings,
};

use crate::access_log;
use crate::generator::{CLICKS, PARTITIONS, Placed, Random, generate};
use crate::report::{self, Step, grouped, rate};
use crate::verifier;

/// Where the clicks come from.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// The seeded generator.
    Generated,
    /// An access log in the combined log format.
    AccessLog(PathBuf),
}

/// Why the demo could not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Streams(#[from] streams::Error),
    #[error(transparent)]
    Verifier(#[from] verifier::Error),
    #[error("cannot read {}: {source}", path.display())]
    Input { path: PathBuf, source: io::Error },
    #[error("{} holds `{found}`, which no demo wrote; nothing was changed", dir.display())]
    NotADemo { dir: PathBuf, found: String },
    #[error("cannot {what}: {source}")]
    System { what: &'static str, source: io::Error },
    #[error("the job failed ({status}); its own words stand above")]
    Job { status: String },
    #[error("a click cannot be written as JSON: {0}")]
    Encode(#[from] serde_json::Error),
}

impl From<core_log::Error> for Error {
    fn from(error: core_log::Error) -> Self {
        Self::Streams(error.into())
    }
}

/// The topic that says that a directory is a demo's own.
const DEMO: &str = "clickstream-demo";
/// All that may lie in such a directory.
const TOPICS: [&str; 5] = [
    DEMO,
    "clicks",
    "page-counts",
    "clickstream-clicks-per-page-repartition",
    "clickstream-clicks-per-page-changelog",
];
/// Files of the log and of the job's state; what they begin with.
const OWN_FILES: [&str; 7] = [
    ".lock",
    ".owner.sock",
    "meta.properties",
    "topics.checkpoint",
    "clean-shutdown",
    "__commits-",
    "state",
];
const CLICKS_SEED: u64 = 42;
const KILL_SEED_VARIABLE: &str = "DEMO_SEED";
const KILLS: u32 = 2;
/// A kill falls into the first quarter of a run, so that there is work left for the next one.
const KILL_BEFORE_SHARE: u64 = 4;
/// What `run --progress` prints at least for that many records.
const PROGRESS_LINE_BYTES: u64 = 40;
const PROGRESS_LINE_RECORDS: u64 = 2_500;
const BATCH_BYTES: usize = 64 << 10;

/// Runs the demo in `dir`; true if every click is accounted for, once.
///
/// # Errors
///
/// What kept the demo from its end; a wrong account is not an error but `false`.
pub(crate) fn run(dir: &Path, input: &Input) -> Result<bool, Error> {
    let shown = dir.display().to_string();
    report::title(&shown, PARTITIONS);
    replace_earlier_demo(dir)?;
    let written = write(dir, input)?;
    let seed = kill_seed();
    let mut random = Random::new(seed);
    let mut done = 0;
    for _kill in 0..KILLS {
        count(dir, written, &mut done, Some(kill_after(written, &mut random)))?;
    }
    count(dir, written, &mut done, None)?;
    let log = Log::open(dir)?;
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

/// Empties a directory that holds an earlier demo; refuses one that holds anything else.
fn replace_earlier_demo(dir: &Path) -> Result<(), Error> {
    let names = match list(dir) {
        Ok(names) => names,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(system("list the log directory", source)),
    };
    if let Some(found) = what_no_demo_wrote(&names) {
        let dir = dir.to_owned();
        return Err(Error::NotADemo { dir, found });
    }
    if !names.iter().any(|name| is_partition_of(name, DEMO)) {
        return Ok(());
    }
    // A job may be running on it; whatever else is wrong with the log goes away with it.
    if let Err(locked @ core_log::Error::DirectoryLocked { .. }) = Log::open(dir) {
        return Err(locked.into());
    }
    // The demo's mark goes last: what an interruption leaves is still known as a demo's.
    let (mark, others): (Vec<_>, Vec<_>) =
        names.iter().partition(|name| is_partition_of(name, DEMO));
    for name in others.into_iter().chain(mark) {
        let path = dir.join(name);
        let removed = match path.is_dir() {
            true => fs::remove_dir_all(&path),
            false => fs::remove_file(&path),
        };
        match removed {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(system("remove the earlier demo", e));
            }
            _ => {}
        }
    }
    report::line("replaced", "the data of an earlier demo in this directory");
    Ok(())
}

fn list(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// The first name that makes a directory somebody else's: anything unknown, or topics without the
/// demo's mark.
fn what_no_demo_wrote(names: &[String]) -> Option<String> {
    let of_log = |name: &str| OWN_FILES.iter().any(|own| name.starts_with(own));
    let of_demo = |name: &str| TOPICS.iter().any(|topic| is_partition_of(name, topic));
    let marked = names.iter().any(|name| is_partition_of(name, DEMO));
    names.iter().find(|name| !(of_log(name) || marked && of_demo(name))).cloned()
}

fn is_partition_of(name: &str, topic: &str) -> bool {
    let partition = name.strip_prefix(topic).and_then(|rest| rest.strip_prefix('-'));
    partition.is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

/// Writes the input to topic `clicks`; returns how many clicks it had.
fn write(dir: &Path, input: &Input) -> Result<u64, Error> {
    let log = Log::open(dir)?;
    // Event times may be years old: what the demo wrote must not expire before it is looked at.
    let kept =
        |partitions| TopicSettings { partitions, retention_ms: None, ..TopicSettings::default() };
    log.create_topic(DEMO, kept(1))?;
    let clicks = log.create_topic("clicks", kept(PARTITIONS))?;
    log.create_topic("page-counts", kept(PARTITIONS))?;
    let clock = SystemClock::new();
    let started = clock.monotonic();
    let written = match input {
        Input::Generated => {
            let text = format!("{} clicks", grouped(u64::from(CLICKS)));
            let step = Step::start("writing", &text, Some(u64::from(CLICKS)));
            let clicks_of_seed = generate(CLICKS_SEED, CLICKS).map(Ok);
            let written = append(&log, &clicks, clicks_of_seed, &step)?;
            step.finish(&rate(written, clock.monotonic().saturating_sub(started)));
            written
        }
        Input::AccessLog(path) => {
            let step = Step::start("writing", &format!("requests of {}", path.display()), None);
            let unreadable = |source| Error::Input { path: path.clone(), source };
            #[expect(clippy::disallowed_methods, reason = "the user's own file is no log of ours")]
            let file = fs::File::open(path).map_err(unreadable)?;
            let mut rejected = Vec::new();
            let requests = access_log::read(BufReader::new(file)).filter_map(|line| match line {
                Ok(Ok(placed)) => Some(Ok(placed)),
                Ok(Err(no_request)) => {
                    rejected.push(no_request);
                    None
                }
                Err(e) => Some(Err(unreadable(e))),
            });
            let written = append(&log, &clicks, requests, &step)?;
            step.finish(&format!("{} clicks", grouped(written)));
            report::rejected(&rejected);
            written
        }
    };
    log.close()?;
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
    /// Records read, whether or not they were committed.
    read: u64,
    /// Records committed.
    committed: u64,
    /// What it did to recover, not yet shown.
    recovered: Vec<String>,
}

impl Progress {
    fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                self.take_line(&String::from_utf8_lossy(&line));
            } else {
                self.line.push(byte);
            }
        }
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
    let mut left = kill_after.unwrap_or(u64::MAX);
    if let Some(mut pipe) = child.stdout.take() {
        let mut buffer = [0; 4096];
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let got = pipe.read(&mut buffer[..most]).map_err(|e| system("read progress", e))?;
            if got == 0 {
                break;
            }
            left -= u64::try_from(got).unwrap_or(left);
            progress.take(&buffer[..got]);
            for what in progress.recovered.drain(..) {
                step.note("recover", &what);
            }
            step.at(*done + progress.read);
        }
    }
    if left == 0 {
        child.kill().map_err(|e| system("kill the job", e))?;
    }
    let status = child.wait().map_err(|e| system("wait for the job", e))?;
    let at = grouped(*done + progress.read);
    *done += progress.committed;
    match kill_after {
        Some(bytes) if left == 0 => step.finish(&format!(
            "killed (SIGKILL on purpose) near record {at}, at byte {bytes} of its progress"
        )),
        _ if !status.success() => return Err(Error::Job { status: status.to_string() }),
        Some(_) => step.finish("finished before it could be killed"),
        None => step.finish("done"),
    }
    Ok(())
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
