//! The process that is killed, and the end of the pipe that its killer holds.
//!
//! ```text
//!   this test binary                          this test binary again, with CRASH_CHILD set
//!   ----------------                          -------------------------------------------
//!   Child::spawn            ------------->    the one test below: opens the directory, runs the job
//!   Child::wait_for(line)   <-- stdout ---    started, read=.. in=.. commits=.., stopping, done
//!   Child::stop             --- stdin ---->   closed: a clean stop
//!   Child::kill             -- SIGKILL -->
//! ```
//!
//! Why the same binary: topologies are code, and a cargo test has no other executable of its own.
//!
//! Invariants
//! * whoever drops a `Child` leaves no process behind.
//! * nothing here sleeps: a pause is a wait for the pipe to end, with a deadline.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use core_log::{Clock, SystemClock};
use streams::prelude::*;
use streams::testing::{Limits, Mistake};

use crate::jobs::{Click, Job, clickstream_with_grace, ponder};
use crate::replay::ReplaySpec;

const VARIABLE: &str = "CRASH_CHILD";
const TEST: &str = "child::the_child_process_does_what_its_environment_says";
/// How long a child may say nothing before the test gives it up.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_millis(300);

/// A deliberately broken runtime.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Broken {
    SkipsChangelogRecord,
    StoresBeforeCommit,
}

/// What a child is to do, as JSON in its environment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) dir: PathBuf,
    pub(crate) job: String,
    pub(crate) commit_ms: u64,
    /// Whether the log and RocksDB clear up all the time.
    pub(crate) small: bool,
    /// Whether a click takes its time, so that a commit covers few.
    pub(crate) ponders: bool,
    /// Whether it stays until its parent has closed the pipe, however idle it is.
    pub(crate) stays: bool,
    /// At which click it says so and waits until its parent has closed the pipe.
    pub(crate) waits_at: Option<u64>,
    /// Whether records that do not decode become dead letters.
    pub(crate) sets_aside: bool,
    /// A broken variant of the runtime, for the red witnesses.
    pub(crate) broken: Option<Broken>,
    /// Instead of the job: what to write, see `aborted.rs`.
    pub(crate) write_share: Option<usize>,
    /// Instead of running the job: to run it again, see `replay.rs`.
    pub(crate) replay: Option<ReplaySpec>,
}

impl Spec {
    /// The job with the settings that a user gets, until it is idle or asked to stop.
    pub(crate) fn new(dir: &Path, job: Job) -> Self {
        Self {
            dir: dir.to_owned(),
            job: job.id().to_owned(),
            commit_ms: 100,
            small: false,
            ponders: false,
            stays: false,
            waits_at: None,
            sets_aside: false,
            broken: None,
            write_share: None,
            replay: None,
        }
    }

    /// The job that takes its time, and commits, flushes and rolls as often as it can.
    pub(crate) fn busy(dir: &Path, job: Job, commit_ms: u64) -> Self {
        Self { commit_ms, small: true, ponders: true, ..Self::new(dir, job) }
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([TEST, "--exact", "--nocapture", "--test-threads=1"]);
        command.env(VARIABLE, serde_json::to_string(self).unwrap());
        command
    }

    pub(crate) fn spawn(&self) -> Child {
        Child::spawn(&mut self.command())
    }

    fn app(&self) -> App {
        let job = Job::named(&self.job);
        let work = match (&self.replay, self.waits_at, self.ponders) {
            (Some(_), ..) => crate::replay::counted,
            (None, Some(_), _) => wait_in_the_middle,
            (None, None, true) => ponder,
            (None, None, false) => |_: &Click| true,
        };
        let grace = self.replay.as_ref().and_then(|replay| replay.grace);
        let topology = move |t: &mut Topology| match grace {
            Some(grace) => clickstream_with_grace(t, work, grace),
            None => job.topology(work)(t),
        };
        let mut app = App::new(job.id(), topology)
            .log(&self.dir)
            .threads(2)
            // However long a kill takes, no partition counts as silent: the output is compared.
            .idle_after(hours(24 * 365))
            .commit_every(millis(self.commit_ms));
        if self.small {
            app = app.limits(Limits {
                dirty_rows_max: 64,
                write_buffer_bytes: 64 << 10,
                commits_bytes_max: 16 << 10,
                held_bytes_max: 4 << 10,
            });
        }
        if self.sets_aside {
            app = app.on_error(OnError::DeadLetter);
        }
        match self.broken {
            None => app,
            Some(Broken::SkipsChangelogRecord) => app.mistake(Mistake::SkipChangelogRecord),
            Some(Broken::StoresBeforeCommit) => app.mistake(Mistake::StoreBeforeCommit),
        }
    }
}

/// Not a test of its own: what the children of the other tests run. Without the variable it is done.
#[test]
fn the_child_process_does_what_its_environment_says() {
    let Some(text) = std::env::var_os(VARIABLE) else { return };
    let spec: Spec = serde_json::from_str(text.to_str().unwrap()).unwrap();
    let done = match (spec.write_share, &spec.replay) {
        (Some(share), _) => {
            crate::aborted::write_share(&spec.dir, share);
            Ok(())
        }
        (None, Some(replay)) => crate::replay::replay(spec.app(), replay),
        (None, None) => run(&spec),
    };
    if let Err(error) = done {
        say(&format!("error[{}]: {error}", error.code()));
        std::process::exit(1);
    }
}

fn run(spec: &Spec) -> streams::Result<()> {
    CLICKS_LEFT.store(spec.waits_at.unwrap_or(u64::MAX), Ordering::Relaxed);
    let asked = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&asked);
    std::thread::spawn(move || {
        wait_for_end_of_input();
        GATE.get_or_init(|| ());
        seen.store(true, Ordering::Release);
    });
    say("opening");
    let handle = spec.app().start()?;
    say("started");
    handle.recovery().iter().for_each(|line| say(&format!("recovered: {line}")));
    let mut shown = handle.progress();
    let mut stopping = false;
    while !handle.wait_timeout(millis(1)) {
        let (idle, asked) = (handle.is_idle_for(IDLE), asked.load(Ordering::Acquire));
        let due = if spec.stays { idle && asked } else { idle || asked };
        if !stopping && due {
            stopping = true;
            say("stopping");
            handle.stop();
        }
        let progress = handle.progress();
        if progress != shown {
            say(&line_of(&progress));
            shown = progress;
        }
    }
    let progress = handle.wait()?;
    say(&line_of(&progress));
    say("done");
    Ok(())
}

/// How many clicks there are before the one that waits.
static CLICKS_LEFT: AtomicU64 = AtomicU64::new(u64::MAX);
/// Set once the parent has closed the pipe.
static GATE: OnceLock<()> = OnceLock::new();

/// Takes its time, as `ponder` does, and at one click as long as the parent likes.
fn wait_in_the_middle(click: &Click) -> bool {
    if CLICKS_LEFT.fetch_sub(1, Ordering::Relaxed) == 1 {
        say("waiting");
        GATE.wait();
    }
    ponder(click)
}

/// The same words as `run --progress` of a job's binary.
fn line_of(p: &streams::Progress) -> String {
    format!(
        "read={} in={} out={} filtered={} late={} commits={} restored={} restarts={}",
        p.records_read,
        p.records_in,
        p.records_out,
        p.filtered,
        p.late,
        p.commits,
        p.restored_records,
        p.restarts
    )
}

/// Tells the parent, at once.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).unwrap();
}

/// Blocks until the parent closes the pipe, or is gone.
pub(crate) fn wait_for_end_of_input() {
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// The number behind `name=` in a line of progress.
pub(crate) fn number(line: &str, name: &str) -> Option<u64> {
    let pairs = line.split(' ').filter_map(|part| part.split_once('='));
    pairs.filter(|(key, _)| *key == name).find_map(|(_, value)| value.parse().ok())
}

/// A running child process.
pub(crate) struct Child {
    process: std::process::Child,
    stdin: Option<ChildStdin>,
    said: Receiver<String>,
    clock: SystemClock,
    /// All that it has said.
    pub(crate) lines: Vec<String>,
}

impl Child {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let stdout = process.stdout.take().unwrap();
        let (tell, said) = channel();
        std::thread::spawn(move || {
            // Ends with the pipe, or when nobody listens any more.
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    break;
                }
            }
        });
        let stdin = process.stdin.take();
        Self { process, stdin, said, clock: SystemClock::new(), lines: Vec::new() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The largest number that it has said under a name.
    pub(crate) fn last(&self, name: &str) -> u64 {
        self.lines.iter().filter_map(|line| number(line, name)).max().unwrap_or(0)
    }

    /// Whether it had come to its own end.
    pub(crate) fn is_done(&mut self) -> bool {
        self.process.wait().unwrap().success()
    }

    /// Reads on until a line is as wanted; false when the child has ended before.
    pub(crate) fn wait_for(&mut self, mut wanted: impl FnMut(&str) -> bool) -> bool {
        loop {
            match self.said.recv_timeout(SILENCE_MAX) {
                Ok(line) => {
                    let found = wanted(&line);
                    self.lines.push(line);
                    if found {
                        return true;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => panic!("silent for too long: {:?}", self.lines),
            }
        }
    }

    /// Lets it go on for that long, or to its end, and takes in what it has said by then.
    pub(crate) fn let_run(&mut self, time: Duration) {
        let until = self.clock.monotonic() + time;
        loop {
            let left = until.saturating_sub(self.clock.monotonic());
            match self.said.recv_timeout(left) {
                Ok(line) => self.lines.push(line),
                Err(_) => return,
            }
        }
    }

    /// Asks for a clean stop.
    pub(crate) fn stop(&mut self) {
        self.stdin = None;
    }

    /// Asks a job's binary for a clean stop, as Ctrl-C does.
    pub(crate) fn interrupt(&self) {
        let pid = self.pid().to_string();
        // It may have ended by itself, and then there is no such process.
        Command::new("kill").args(["-INT", &pid]).stderr(Stdio::null()).status().unwrap();
    }

    /// SIGKILL, wherever it is.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        while self.wait_for(|_| false) {}
    }

    /// Waits for its own end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        while self.wait_for(|_| false) {}
        self.process.wait().unwrap()
    }

    /// Waits for its own end, which must be a good one.
    pub(crate) fn succeed(mut self) -> Vec<String> {
        let status = self.wait();
        assert!(status.success(), "{status}: {:#?}", self.lines);
        std::mem::take(&mut self.lines)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended long ago.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
