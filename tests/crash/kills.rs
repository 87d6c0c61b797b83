//! Killed at random, again and again: the output equals that of a run that was never killed.
//!
//! ```text
//!   spawn ---- open, recover, restore ---- process, commit, flush ---- close ---- done
//!     kill after a time of 0 to two           after n records, or n       after the request to
//!     usual opening times                     commits, and a moment       stop, and a moment
//! ```
//!
//! Now and then the directory is looked at between two runs: stores, changelogs and positions must be
//! one cut through the job, and the next run must restore what lies behind the checkpoints, no more.
//!
//! Invariants
//! * a kill counts only if the child had not come to its end; one that had gets more input.
//! * the last run finds input that is not yet committed, so every kill came before the job had
//!   finished.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use core_log::{Clock, SystemClock};

use crate::child::{Child, Spec, number};
use crate::compare::verify;
use crate::directory::{create, extend, open};
use crate::jobs::{ALL_JOBS, Clicks, Job, Placed, last_clicks};
use crate::random::Random;
use crate::stores::{Inspection, inspect, unaccounted};

/// Kills of one directory before it is left alone and compared.
const KILLS: u64 = 22;
const KILLS_VARIABLE: &str = "CRASHES";
const SEED_VARIABLE: &str = "CRASH_SEED";

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    /// The clickstream example, as it is built for users.
    Example,
    /// This binary, with commits, flushes and new segments all the time.
    Busy,
}

/// One directory from its first input to its last comparison.
#[derive(Clone, Copy, Debug)]
struct Round {
    job: Job,
    program: Program,
    seed: u64,
    kills: u64,
}

/// What happened to it.
#[derive(Debug, Default)]
struct Killed {
    /// Children that came to the end of their input before they were killed; they got more.
    too_late: u64,
    kills: u64,
    opening: u64,
    working: u64,
    closing: u64,
    inspections: u64,
    /// Of those, how many found rows on disk and a changelog that goes on behind them.
    mid_flush: u64,
    restored: u64,
}

impl Round {
    /// Clicks that one run may read before it is killed.
    fn share(self) -> u64 {
        match self.program {
            Program::Example => 100_000,
            Program::Busy => 30_000,
        }
    }

    /// Clicks that are written whenever the job has read all that there are.
    fn chunk(self) -> usize {
        usize::try_from(self.share() * 3).unwrap()
    }

    fn spawn(self, dir: &Path, random: &mut Random) -> Child {
        match self.program {
            Program::Example => Child::spawn(
                Command::new(example())
                    .args(["run", "--until-idle", "300ms", "--progress", "--threads", "2"])
                    .env("STREAMS_LOG", dir)
                    .env_remove("RUST_LOG"),
            ),
            Program::Busy => Spec::busy(dir, self.job, 1 + random.below(12)).spawn(),
        }
    }

    fn stop(self, child: &mut Child) {
        match self.program {
            Program::Example => child.interrupt(),
            Program::Busy => child.stop(),
        }
    }

    fn run(self) -> Killed {
        let dir = tempfile::tempdir().unwrap();
        let mut clicks = Clicks::of_seed(self.seed);
        let mut input = clicks.more(self.chunk());
        create(dir.path(), self.job, &input, self.program == Program::Busy);
        let mut random = Random::new(self.seed ^ 0x5eed);
        let mut killed = Killed::default();
        let mut opening = Duration::from_millis(80);
        let mut tail = None;
        while killed.kills < self.kills {
            let mut child = self.spawn(dir.path(), &mut random);
            let phase = self.disturb(&mut child, &mut random, &mut opening);
            child.kill();
            self.check_restored(&child, tail.take());
            match phase {
                _ if child.is_done() => {
                    killed.too_late += 1;
                    assert!(killed.too_late < 4 * self.kills, "{self:?}: {killed:?}");
                    let more = clicks.more(self.chunk());
                    extend(dir.path(), &more);
                    input.extend(more);
                    continue;
                }
                Phase::Opening => killed.opening += 1,
                Phase::Working => killed.working += 1,
                Phase::Closing => killed.closing += 1,
            }
            killed.kills += 1;
            killed.restored += child.last("restored");
            if random.below(3) == 0 {
                killed.inspections += 1;
                let found = self.look(dir.path(), &input);
                killed.mid_flush +=
                    u64::from(0 < found.tail && found.tail < found.changelog_records);
                tail = Some(found.tail);
            }
        }
        let rest = last_clicks(&input);
        extend(dir.path(), &rest);
        input.extend(rest);
        self.finish(dir.path(), &input);
        killed
    }

    /// Lets the child come to a random point of its life.
    fn disturb(self, child: &mut Child, random: &mut Random, opening: &mut Duration) -> Phase {
        let clock = SystemClock::new();
        let moment = Duration::from_micros(random.below(6_000));
        match random.below(10) {
            0 | 1 => {
                let most = u64::try_from(opening.as_micros()).unwrap() * 2;
                child.let_run(Duration::from_micros(random.below(most)));
                return Phase::Opening;
            }
            2..=5 => {
                let commits = 1 + random.below(if self.program == Program::Busy { 20 } else { 2 });
                child.wait_for(|line| number(line, "commits").is_some_and(|n| n >= commits));
            }
            _ => {
                let records = 1 + random.below(self.share());
                let started = clock.monotonic();
                child.wait_for(|line| {
                    if line == "started" {
                        *opening = clock.monotonic().saturating_sub(started);
                    }
                    number(line, "read").is_some_and(|n| n >= records)
                });
            }
        }
        child.let_run(moment);
        if random.below(5) > 0 {
            return Phase::Working;
        }
        self.stop(child);
        child.let_run(Duration::from_micros(random.below(60_000)));
        Phase::Closing
    }

    /// A run restores the tail behind the checkpoints, whatever happened before.
    fn check_restored(self, child: &Child, tail: Option<u64>) {
        let told = child.lines.iter().filter_map(|line| number(line, "restored")).next_back();
        if let (Some(told), Some(tail)) = (told, tail)
            && child.last("commits") > 0
        {
            assert_eq!(told, tail, "{self:?}: restored another part than the tail");
        }
    }

    /// Looks at the directory of a killed run.
    fn look(self, dir: &Path, input: &[Placed]) -> Inspection {
        let log = open(dir);
        let found = inspect(dir, &log, self.job);
        assert!(found.problems.is_empty(), "{self:?}: {:#?}", found.problems);
        let wrong = unaccounted(&log, self.job, input);
        assert_eq!(wrong, None, "{self:?}: clicks are missing or counted twice");
        log.close().unwrap();
        found
    }

    /// The last run comes to its end; then everything is compared.
    fn finish(self, dir: &Path, input: &[Placed]) {
        self.spawn(dir, &mut Random::new(0)).succeed();
        let log = open(dir);
        assert_eq!(unaccounted(&log, self.job, input), None, "{self:?}");
        log.close().unwrap();
        verify(dir, self.job, input, &format!("{self:?}"));
    }
}

/// Where in its life a child was killed.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Opening,
    Working,
    Closing,
}

/// The example's binary, built if it is not there or older than its sources.
pub(crate) fn example() -> PathBuf {
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--example", "clickstream", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .status()
        .unwrap();
    assert!(status.success(), "the example does not build");
    let here = std::env::current_exe().unwrap();
    here.parent().and_then(Path::parent).unwrap().join("examples").join("clickstream")
}

#[expect(clippy::print_stderr, reason = "shown when the test fails, and in long runs")]
fn tell(text: &str) {
    eprintln!("{text}");
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

pub(crate) fn seed() -> u64 {
    variable(SEED_VARIABLE).unwrap_or_else(|| SystemClock::new().now_ms().unsigned_abs())
}

/// Kills a job `CRASHES` times (22 if not said), in directories of 22 kills each.
fn kill(job: Job, program: Program) {
    let wanted = variable(KILLS_VARIABLE).unwrap_or(KILLS);
    let seed = seed();
    let (mut kills, mut all) = (0, Vec::new());
    while kills < wanted {
        let round = Round { job, program, seed: seed + kills, kills: KILLS };
        tell(&format!("{round:?}"));
        let killed = round.run();
        assert!(killed.kills >= 20 && killed.working >= 5, "{round:?}: {killed:?}");
        kills += killed.kills;
        tell(&format!("{killed:?}"));
        all.push(killed);
    }
    let restored: u64 = all.iter().map(|killed| killed.restored).sum();
    assert!(restored > 0, "no run had anything to restore");
}

/// Topics, column families and the first positions come into being in the first start, each of them
/// once.
#[test]
fn jobs_killed_in_their_first_starts_begin_as_if_they_had_not_been() {
    let seed = seed();
    let mut random = Random::new(seed);
    let mut kills = 0;
    while kills < variable(KILLS_VARIABLE).unwrap_or(12) {
        let job = ALL_JOBS[usize::try_from(random.below(4)).unwrap()];
        let dir = tempfile::tempdir().unwrap();
        let mut input = Clicks::of_seed(random.next()).more(500);
        input.extend(last_clicks(&input));
        create(dir.path(), job, &input, false);
        for _ in 0..4 {
            let mut child = Spec { commit_ms: 1, ..Spec::new(dir.path(), job) }.spawn();
            child.let_run(Duration::from_micros(random.below(80_000)));
            child.kill();
            kills += 1;
        }
        Spec::new(dir.path(), job).spawn().succeed();
        verify(dir.path(), job, &input, &format!("{job:?}, {SEED_VARIABLE}={seed}, kill {kills}"));
    }
}

#[test]
fn the_clickstream_example_killed_at_random_writes_what_it_writes_undisturbed() {
    kill(Job::Clickstream, Program::Example);
}

#[test]
fn the_clickstream_job_killed_between_frequent_commits_and_flushes_loses_and_doubles_nothing() {
    kill(Job::Clickstream, Program::Busy);
}

#[test]
fn two_repartitions_in_a_row_killed_at_random_lose_and_double_nothing() {
    kill(Job::TwoHops, Program::Busy);
}

#[test]
fn joins_with_a_table_and_with_a_stream_killed_at_random_lose_and_double_nothing() {
    kill(Job::Joins, Program::Busy);
}

#[test]
fn a_join_by_foreign_key_killed_at_random_loses_and_doubles_nothing() {
    kill(Job::ForeignKeys, Program::Busy);
}
